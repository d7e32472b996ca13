"""A backup, and what replaces or drops everything: restore, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.db.errors.base import Interrupted, LockError, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class BackupFailed(Refused):
    """No backup could be taken, so what was to come after it did not happen."""

    def __init__(self, said: str) -> None:
        """Say what pg_dump or the system said."""
        super().__init__(
            "The backup could not be taken.",
            where=f"  {said}",
            consequence="No backup file was left, and nothing in the database was changed.",
            next="Take it as a superuser, or as a role that has BYPASSRLS and may read everything (DB_USER)."
            if "row-level security" in said
            else "Mend that, or set BACKUP_DIR to another folder, then run the same command again.",
        )


class BackupBlocked(LockError):
    """Another session holds a table that pg_dump wants to read."""

    def __init__(self, blockers: Sequence[str]) -> None:
        """Say who."""
        super().__init__(
            "The backup could not be taken: another session holds a table for itself.",
            where="\n".join(f"  {blocker}" for blocker in blockers),
            consequence="No backup file was left, and nothing in the database was changed.",
            next="Run the same command again when that session is done, or raise DB_WAIT_TIMEOUT.",
        )


class BackupExists(UsageError):
    """A backup never replaces a file."""

    def __init__(self, file: str) -> None:
        """Say which is there."""
        super().__init__(
            f"{file} is there already.",
            consequence="It was left as it is; no backup was taken.",
            next="Name another file with --out, or leave --out away: then the name has the time in it.",
        )


class NotABackup(UsageError):
    """The file to restore is something else, or is not there."""

    def __init__(self, file: str, why: str = "") -> None:
        """Say why it cannot be used; no reason: there is no such file."""
        super().__init__(
            f"{file} cannot be read as a backup in pg_dump's custom format." if why else f"There is no file {file}.",
            where="\n".join(f"  {line}" for line in why.splitlines()),
            consequence="Nothing was changed.",
            next="Name a file that invoke db.backup made. A file of SQL statements is for psql:  invoke db.shell",
        )


class BackupDamaged(Refused):
    """The file is not what was written."""

    def __init__(self, file: str, why: str) -> None:
        """Say how that is known."""
        super().__init__(
            f"{file} is damaged, or is not the file that was written.",
            where=f"  {why}",
            consequence="Nothing was changed.",
            next="Take another backup, or fetch this one again together with its .sha256 file.",
        )


class BackupTooNew(Refused):
    """The backup is of a newer server."""

    def __init__(self, file: str, made_on: str, has: int) -> None:
        """Say which versions."""
        super().__init__(
            f"{file} was made of PostgreSQL {made_on}; this server is PostgreSQL {has}, which is older.",
            consequence="Nothing was changed.",
            next="Restore it into a server of that version or a newer one.",
        )


class RestoreFailed(Refused):
    """A backup could not be put back."""

    MENDS = {  # noqa: RUF012 - never changed
        "42704": "A role that is missing (see above) belongs to the whole server and so is in no backup: create it,\n"
        '  invoke db.shell --command "CREATE ROLE ..."    then run the same command again.',
        "42501": "Run it as the owner of everything in the backup (DB_USER), or as a superuser.",
        "0A000": "Install on the server what is missing there (an extension?), then run the same command again.",
        "58P01": "Install on the server what is missing there (an extension?), then run the same command again.",
    }

    def __init__(self, said: str, sqlstate: str = "") -> None:
        """Say what pg_restore or the server said.

        Args:
            said: in their words.
            sqlstate: the server's code; empty when it was not the server.

        """
        super().__init__(
            "The backup could not be restored" + (f" (SQLSTATE {sqlstate})." if sqlstate else "."),
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="It was one transaction, and it was rolled back: everything is as before.",
            next=self.MENDS.get(sqlstate, "Mend that, or take another backup, then run the same command again."),
        )


class RestoreBlocked(LockError):
    """Somebody uses a table that was to be replaced."""

    def __init__(self, said: str) -> None:
        """Say what the server said."""
        super().__init__(
            "The database could not be emptied: another session uses a table.",
            where=f"  {said}",
            consequence="Nothing was restored; everything is as before.",
            next="End the other session (application, db.shell?), then run the same command again.",
        )


class RestoreInterrupted(Interrupted):
    """Ctrl-C or SIGTERM in the middle of a restore."""

    def __init__(self, *, is_done: bool) -> None:
        """Say how it ended."""
        super().__init__(
            "The restore was interrupted.",
            consequence="It had just been committed: the database has what the backup holds."
            if is_done
            else "It was one transaction, and it was rolled back: everything is as before.",
            next="invoke migrate-status",
        )


class ResetRefused(Refused):
    """Something could not be dropped."""

    def __init__(self, said: str) -> None:
        """Say what the server said."""
        super().__init__(
            "The database could not be emptied.",
            where=f"  {said}",
            consequence="It was one transaction, and it was rolled back: everything is as before.",
            next="Run it as the owner of everything in it (DB_USER), or as a superuser.",
        )


class ResetBlocked(LockError):
    """Somebody uses a table that was to be dropped."""

    def __init__(self, said: str) -> None:
        """Say what the server said."""
        super().__init__(
            "The database could not be emptied: another session uses a table.",
            where=f"  {said}",
            consequence="Everything is as before.",
            next="End the other session (application, db.shell?), then:  invoke migrate-reset",
        )
