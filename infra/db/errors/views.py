"""What is looked at: tables, the server's log, the description of the schema."""

from __future__ import annotations

from infra.db.errors.base import LockError, Refused, ServerError, UsageError


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


class NotACount(UsageError):
    """A flag wants a number."""

    def __init__(self, flag: str, text: str) -> None:
        """Say what was given."""
        super().__init__(
            f"{flag} wants a whole number of 0 or more, like 100; it was given {text!r}.",
            next=f"invoke db.logs {flag} 100",
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


class NoReadme(UsageError):
    """There is no README beside the migrations to write into."""

    def __init__(self, file: str) -> None:
        """Say where it was looked for."""
        super().__init__(
            f"There is no {file} to write the tables' description into.",
            consequence="Nothing was changed.",
            next="Create it with the two lines  <!-- db.docs:begin -->  and  <!-- db.docs:end -->",
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
