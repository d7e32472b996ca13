"""Throw-away databases, and what was found out on one: rehearsal, verification, baseline, squash."""

from __future__ import annotations

from infra.db.errors.base import Interrupted, MigrationFailed, Refused, ServerError


class NoScratch(ServerError):
    """A throw-away database could not be made."""

    def __init__(self, user: str, said: str, *, may_not: bool) -> None:
        """Say why.

        Args:
            user: the role that wanted it.
            said: what the server said.
            may_not: it lacks the right, rather than the server something.

        """
        super().__init__(
            f"The role {user} may not create databases, and this works on a throw-away one."
            if may_not
            else "The throw-away database that this works on could not be made.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="The original was only read; nothing was changed.",
            next=f'As a superuser:  ALTER ROLE "{user}" CREATEDB;  or set DB_USER to a role that has it.'
            if may_not
            else "Mend what it says, then run the same command again.",
        )


class CopyFailed(ServerError):
    """The database could not be copied."""

    def __init__(self, said: str) -> None:
        """Say what pg_dump, pg_restore or the system said."""
        super().__init__(
            "The database could not be copied into a throw-away one.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="The copy is gone again. The original was only read.",
            next="Mend what it says; without the rows it needs less:  invoke migrate-rehearse --schema-only",
        )


class SchemaUnread(ServerError):
    """pg_dump could not read the schema."""

    def __init__(self, database: str, said: str) -> None:
        """Say what pg_dump said."""
        super().__init__(
            f"The schema of the database {database} could not be read.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="Nothing was changed.",
            next="Run it as the owner of everything in it (DB_USER), or as a superuser.",
        )


class TrialFailed(MigrationFailed):
    """A file that is applied could not be applied to a throw-away database."""

    def __init__(self, failure: MigrationFailed) -> None:
        """Say that it was a trial."""
        super().__init__(
            version=failure.version,
            name=failure.name,
            file=failure.file,
            line=failure.line,
            message=failure.message,
            sqlstate=failure.sqlstate,
            detail=failure.detail,
            hint=failure.hint,
            consequence="It was tried on a throw-away database, which is gone again; nothing else was changed.",
        )
        self.what = f"On a throw-away database, {self.what}"
        self.next = (
            "Files must be able to run on a new database of this server. Roles and tablespaces\n"
            "belong to the whole server, so a file makes them only when they are missing\n"
            "(IF to_regrole('...') IS NULL in a DO block)."
        )


class NotTheSame(Refused):
    """A database that is to be adopted, and is not what the files would make."""

    def __init__(self, last: str, older: str, count: int, differences: str) -> None:
        """Show what differs.

        Args:
            last: the last version that it is compared with.
            older: the one before it; empty for none.
            count: of the objects that differ.
            differences: table by table.

        """
        way = f"Compare with an older version, if it stands at one:  invoke migrate-baseline --to {older}\n"
        super().__init__(
            f"This database is not what the files up to {last} make"
            f" ({count} object{'s differ' if count > 1 else ' differs'}).",
            where=f"{differences}\n  (missing: the files make it; extra: only the database has it;"
            " - as the files make it, + as it is)",
            consequence="Recording the files as applied would hide this, so nothing was changed.",
            next=(
                f"{way if older else ''}Change the database until they agree,"
                " or record it with the difference:  invoke migrate-baseline --anyway"
            ),
        )


class SquashDiffers(Refused):
    """The one file does not make what the single ones make."""

    def __init__(self, differences: str) -> None:
        """Show what differs."""
        super().__init__(
            "One file in their place would not make the same database, as a trial on a throw-away one shows.",
            where=differences,
            consequence="Nothing was changed.",
            next="Squash up to a version before the one that makes what differs; invoke migrate-status lists them.",
        )


class SqlGone(Refused):
    """What was applied is nowhere to be had."""

    def __init__(self, labels: list[str]) -> None:
        """Say of which versions."""
        super().__init__(
            "What some versions did is neither in the folder nor, because it is long, in the history.",
            where="\n".join(f"  {label}" for label in labels),
            consequence="So it cannot be known what the schema should be. Nothing was changed.",
            next="Bring the files back as they were when they were applied (git knows):  invoke migrate-status",
        )


class NotRebuilt(Refused):
    """The applied files do not run on an empty database."""

    def __init__(self, failure: MigrationFailed) -> None:
        """Say which one, and why."""
        super().__init__(
            f"The applied files do not make their schema anew: {failure.what}",
            where=failure.where,
            consequence="So the live schema has nothing to be compared with. The database itself was only read.",
            next="A new database meets the same failure. Make the file run on an empty one, and accept the edit:\n"
            f"  invoke migrate-resolve {failure.version} --applied",
        )


class SchemaDiffers(Refused):
    """The live schema is not the one that the applied files make."""

    def __init__(self, count: int, where: str) -> None:
        """Say how much of it."""
        objects = "One object is" if count == 1 else f"{count} objects are"
        super().__init__(
            f"{objects} not as the applied files make {'it' if count == 1 else 'them'}: {where}.",
            consequence="Somebody changed the database by hand, or a file did something that depends on the day."
            " The database was only read.",
            next="Keep a change by writing it down:  invoke migrate-new NAME\n"
            "or take it back by hand (invoke db.shell), then:  invoke migrate-verify",
        )


class RehearsalFailed(Refused):
    """A file failed on the copy, or a way back did not lead back."""

    def __init__(self, sentences: list[str], failure: MigrationFailed | None) -> None:
        """Say what did.

        Args:
            sentences: the verdict.
            failure: of the file that failed.

        """
        super().__init__(
            "The rehearsal found what should be mended before this is run for real.",
            where="\n".join(
                [*(f"  {sentence}" for sentence in sentences), *([failure.what, failure.where] if failure else [])]
            ),
            consequence="The copy is gone again. The database itself was only read.",
            next="Mend the files, then:  invoke migrate-rehearse",
        )


class RehearsalStopped(Interrupted):
    """Ctrl-C or SIGTERM in the middle of a rehearsal."""

    def __init__(self) -> None:
        """Say that nothing is left."""
        super().__init__(
            "Interrupted.",
            consequence="The copy is gone again. The database itself was only read.",
            next="invoke migrate-rehearse",
        )
