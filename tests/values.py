"""Short ways to make the values that the pure modules take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from infra.db.history import Applied
from infra.db.migration import Directives, Migration, Text

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def text(sql: str | None, checksum: str = "v1:aa") -> Text:
    """Return what a file says."""
    return Text(checksum, sql, ())


def migration(
    label: str,
    sql: str | None = "SELECT 1;\n",
    *,
    checksum: str = "v1:aa",
    down: str | None = None,
    transaction: bool = True,
    lock_timeout: str | None = None,
    allow: tuple[tuple[str, str], ...] = (),
) -> Migration:
    """Return a migration, by default one that was read from a folder `/m`."""
    version, _, name = label.partition("_")
    return Migration(
        version=version,
        name=name,
        path=Path("/m") / f"{label}.sql",
        text=text(sql, checksum),
        directives=Directives(transaction=transaction, lock_timeout=lock_timeout, allow=allow),
        down_path=Path("/m") / f"{label}.down.sql" if down else None,
        down=text(down) if down else None,
    )


def row(
    label: str, status: str = "applied", *, checksum: str = "v1:aa", duration_ms: int | None = 12, at: datetime = NOON
) -> Applied:
    """Return a row of the history."""
    version, _, name = label.partition("_")
    return Applied(
        version=version,
        name=name,
        status=status,
        checksum=checksum,
        applied_at=at,
        applied_by="ann",
        duration_ms=duration_ms,
    )
