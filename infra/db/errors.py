"""Every failure that is expected, with its words and its exit code.

    ToolError
    |-- UsageError          2    settings, arguments or files that make no sense
    |-- MigrationFailed     3    a file failed; it was rolled back, or is marked failed
    |-- Refused             4    drift, out of order, a failed file to settle, findings
    |-- ServerError         5    the server could not be started, reached or made ready
    |-- LockError           6    another run, or a table lock, could not be waited out
    |-- CheckFailed         7    `--check`: pending or drifted
    `-- Interrupted       130    cancelled and rolled back

An error says four things: what happened, where, what follows from it, and what to type next. The
sentences of a kind of failure are built in its class, so that one place holds the words.
"""

from __future__ import annotations


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


class Refused(ToolError):  # noqa: N818
    """What was asked for would go wrong, so nothing was changed."""

    exit_code = 4


class ServerError(ToolError):
    """The server could not be started, reached or made ready."""

    exit_code = 5


class LockError(ToolError):
    """Another run, or a session that holds a table, did not let go in time."""

    exit_code = 6


class CheckFailed(ToolError):  # noqa: N818
    """`--check` found something pending or drifted."""

    exit_code = 7


class Interrupted(ToolError):  # noqa: N818
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
