"""The branches of the tree, each with its exit code."""

from __future__ import annotations

IN_SETTINGS = "in the environment or in .env"


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


class MigrationFailed(ToolError):
    """A migration failed.

    Attributes:
        version: of the migration; None when it is not known which one is to blame.
        name: of the migration, likewise.
        file: as people type it, likewise.
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
        version: str | None,
        name: str | None,
        file: str | None,
        line: int | None,
        message: str,
        consequence: str,
        sqlstate: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        excerpt: str = "",
        undo: bool = False,
        is_marked: bool = False,
    ) -> None:
        """Keep the parts and build the sentence; `is_marked`: the history says `failed`, which stops the next run."""
        said = [message, *(f"{word}: {text}" for word, text in (("Detail", detail), ("Hint", hint)) if text)]
        what = f"{'Undoing ' if undo else ''}{version}_{name}" if version else "The COMMIT of all files"
        place = f"{file}:{line}" if line else file
        super().__init__(
            f"{what} failed{f' (SQLSTATE {sqlstate})' if sqlstate else ''}: " + "\n".join(said),
            where=(f"  {place}" + (f"\n{excerpt}" if excerpt else "")) if place else "",
            consequence=consequence,
            next=(
                f"Mend the down script and accept it:  invoke migrate-resolve {version} --applied\n"
                "Then go on:  invoke migrate-rollback"
                if undo
                else f"Mend the file, and what it left behind, then:\n"
                f"  invoke migrate-resolve {version} --pending\n  invoke migrate"
                if is_marked
                else "Mend the file, then:  invoke migrate"
                if version
                else "Find the file to mend: without --single a run stops at it, and those before it stay applied:\n"
                "  invoke migrate"
            ),
        )
        self.version, self.name, self.file, self.line = version, name, file, line
        self.message, self.sqlstate, self.detail, self.hint = message, sqlstate, detail, hint


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
