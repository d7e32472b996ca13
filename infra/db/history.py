"""The history table: its SQL, its rows as values, its fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

TABLE = "public.schema_migrations"

# `running` is only ever seen for a file without a transaction: it is recorded before it starts, because
# nothing can roll its statements back.
CREATE = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
  version     text        NOT NULL PRIMARY KEY,
  name        text        NOT NULL,
  status      text        NOT NULL CHECK (status IN ('applied', 'baseline', 'running', 'failed')),
  checksum    text        NOT NULL,
  sql         text,
  down_sql    text,
  applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_by  text        NOT NULL DEFAULT session_user,
  duration_ms integer
);
COMMENT ON TABLE {TABLE} IS 'What invoke migrate has applied here; written in the transaction of each file.';
"""
COLUMNS = ("version", "name", "status", "checksum", "sql", "down_sql", "applied_at", "applied_by", "duration_ms")

# The same expression is asked for when the plan is made, under the lock, and after each file. XOR needs no
# order, so one scan does. xmin and ctid tell one version of a row from every other, so that a change of any column
# shows; hashing them alone costs a fifth of hashing what the columns say, which counts where there are many rows. A
# xid becomes a number by its distance from the first one, 3 (casting it by way of text takes as long as all the rest):
# both ages are counted from one and the same transaction, and each of them may wrap at 32 bits.
XMIN = "(age('3'::xid)::bigint - age(xmin)) & 4294967295"
ROW_HASH = f"hashtidextended(ctid, {XMIN})"
DIGEST = f"(SELECT coalesce(bit_xor({ROW_HASH}), 0) FROM {TABLE})"

READ = (
    f"SELECT version, name, status, checksum, applied_at, applied_by, duration_ms, {DIGEST}"
    f" FROM {TABLE} ORDER BY version::numeric"
)


class Applied(NamedTuple):
    """One row of the history.

    Attributes:
        version: as in the file name it was applied from.
        name: likewise.
        status: `applied`, `baseline` (recorded without running), `running` or `failed` (no transaction).
        checksum: of the text that ran.
        applied_at: when it was done.
        applied_by: the role that did it.
        duration_ms: how long it took; None when it did not run.

    """

    version: str
    name: str
    status: str
    checksum: str
    applied_at: datetime
    applied_by: str
    duration_ms: int | None

    @property
    def number(self) -> int:
        """The place in the order."""
        return int(self.version)

    @property
    def since(self) -> str:
        """When and by whom, for messages."""
        return f"{self.applied_at:%Y-%m-%d %H:%M} by {self.applied_by}"

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"{self.version}_{self.name}"


class History(NamedTuple):
    """All rows, in order, and what proves that they are still the same later.

    Attributes:
        rows: in the order of their numbers.
        digest: the XOR of the rows' hashes, as the server computed it; 0 for no rows.
        exists: whether the table is there.

    """

    rows: tuple[Applied, ...] = ()
    digest: int = 0
    exists: bool = False
