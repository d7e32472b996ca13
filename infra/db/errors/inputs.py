"""What was typed or written, and makes no sense: settings, answers, the files of the migrations."""

from __future__ import annotations

from infra.db.errors.base import Refused, UsageError


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


class DotenvNotUtf8(UsageError):
    """The settings file is in another encoding (Windows PowerShell's > writes UTF-16)."""

    def __init__(self) -> None:
        """Say which file."""
        super().__init__(
            "The settings file .env is not UTF-8.",
            consequence="Nothing was started or changed.",
            next="Save .env as UTF-8, then run the same command again.",
        )


class PackageMissing(UsageError):
    """A package that the tasks are made with is not installed."""

    MEND = "python -m pip install -e ."

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"The Python package {name} is not installed.", consequence="Nothing was changed.", next=self.MEND
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
            f"{name} cannot get another number: it is no NNN_name.sql in the folder of the migrations.",
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


class GitFailed(Refused):
    """Git did not move or remove files that it tracks."""

    def __init__(self, folder: str, command: str) -> None:
        """Say what it was asked for."""
        super().__init__(
            f"Git refused: git {command}, in {folder}.",
            consequence="Nothing was changed.",
            next="See why (another git at work?):  git status\nThen run the same command again.",
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


class UpToWhich(UsageError):
    """migrate-squash without its flag."""

    def __init__(self) -> None:
        """Show it."""
        super().__init__(
            "Say up to which version the files are to become one.",
            consequence="Nothing was changed.",
            next="invoke migrate-squash --to 010",
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
