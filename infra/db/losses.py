"""What a down script takes away, with the number of rows: read from its SQL, counted in the database.

The reading is for people who decide, not for the run: it knows DROP TABLE, DROP COLUMN, DROP SCHEMA, TRUNCATE and
DELETE as they are written in a script, not what a function or a DO block does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.db.database import Database

COUNTED = 100_000  # rows; beyond, the planner's estimate is shown instead of reading the whole table
LONGEST_COUNT = "5s"

NOISE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$", re.DOTALL)
NAME = r'(?:"(?:[^"]|"")+"|\w+)'
TABLE = rf"{NAME}(?:\s*\.\s*{NAME})?"
IF_EXISTS = r"(?:IF\s+EXISTS\s+)?"
DROP_TABLE = re.compile(rf"\bDROP\s+TABLE\s+{IF_EXISTS}(?P<names>{TABLE}(?:\s*,\s*{TABLE})*)", re.IGNORECASE)
DROP_SCHEMA = re.compile(rf"\bDROP\s+SCHEMA\s+{IF_EXISTS}(?P<names>{NAME}(?:\s*,\s*{NAME})*)", re.IGNORECASE)
TRUNCATE = re.compile(rf"\bTRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?(?P<names>{TABLE}(?:\s*,\s*{TABLE})*)", re.IGNORECASE)
DELETE = re.compile(rf"\bDELETE\s+FROM\s+(?:ONLY\s+)?(?P<table>{TABLE})(?P<which>[^;]*)", re.IGNORECASE)
ALTER_TABLE = re.compile(
    rf"\bALTER\s+TABLE\s+{IF_EXISTS}(?:ONLY\s+)?(?P<table>{TABLE})(?P<actions>[^;]*)", re.IGNORECASE
)
DROP_COLUMN = re.compile(
    rf"(?:^|,)\s*DROP\s+(?!CONSTRAINT\b)(?:COLUMN\s+)?{IF_EXISTS}(?P<column>{NAME})", re.IGNORECASE
)
EXISTS = """
SELECT CASE %s WHEN '' THEN to_regclass(%s) IS NOT NULL
            ELSE EXISTS (SELECT FROM pg_attribute
                          WHERE attrelid = to_regclass(%s) AND attname = (parse_ident(%s))[1]) END
"""
IN_SCHEMA = """
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
# A partitioned table has the sum of its partitions once it was analysed, too: rows are in the partitions only.
ESTIMATE = """
SELECT sum(reltuples)::bigint FROM pg_class
 WHERE (oid = %s::regclass OR oid IN (SELECT relid FROM pg_partition_tree(%s::regclass)))
   AND relkind <> 'p' AND reltuples >= 0
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that a script takes away.

    Attributes:
        does: `drops table`, `drops column`, `empties`, `deletes from`.
        table: the table, as written in the script.
        column: the column; empty when it is the whole table.
        rows: how many rows of it hold something; None when that cannot be told.
        exact: whether they were counted, not estimated.

    """

    does: str
    table: str
    column: str = ""
    rows: int | None = None
    exact: bool = True


def read(sql: str) -> Iterator[Loss]:
    """Yield what a script says it drops, in its order within each kind; schemas as `table`, unresolved. Pure."""
    bare = NOISE.sub(" ", sql)
    for does, pattern in (("drops schema", DROP_SCHEMA), ("drops table", DROP_TABLE), ("empties", TRUNCATE)):
        for found in pattern.finditer(bare):
            yield from (Loss(does, name) for name in re.findall(TABLE, found["names"]))
    for deleted in DELETE.finditer(bare):
        yield Loss("deletes from" if deleted["which"].strip() else "empties", deleted["table"])
    for altered in ALTER_TABLE.finditer(bare):
        for dropped in DROP_COLUMN.finditer(altered["actions"]):
            yield Loss("drops column", altered["table"], dropped["column"])


def count(database: Database, sql: str) -> list[Loss]:
    """Return what a script takes away of what is there now, with the rows that go.

    Args:
        database: the database it would run on; nothing in it is changed.
        sql: the script.

    """
    found = []
    for loss in read(sql):
        if loss.does == "drops schema":
            found += [_counted(database, Loss("drops table", name)) for (name,) in database.rows(IN_SCHEMA, loss.table)]
        elif database.rows(EXISTS, loss.column, loss.table, loss.table, loss.column)[0][0]:
            # Which rows a DELETE finds is not for us to try: its WHERE may call anything.
            found.append(loss if loss.does == "deletes from" else _counted(database, loss))
    return found


def _counted(database: Database, loss: Loss) -> Loss:
    """Count up to a limit; a table that is locked, or hidden by row security, is estimated."""
    import psycopg  # noqa: PLC0415 - see database

    where = f" WHERE {loss.column} IS NOT NULL" if loss.column else ""
    try:
        with database.connection.transaction():
            database.rows(
                "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '500ms', true),"
                " set_config('row_security', 'off', true)",
                LONGEST_COUNT,
            )
            query = f"SELECT count(*) FROM (SELECT FROM {loss.table}{where} LIMIT {COUNTED + 1}) AS rows"
            rows = database.rows(query)[0][0]
    except psycopg.Error:
        rows = None
    if rows is not None and rows <= COUNTED:
        return replace(loss, rows=rows)
    estimate = database.rows(ESTIMATE, loss.table, loss.table)[0][0]  # none of a table that was never analysed
    return replace(loss, rows=max(estimate or 0, rows or 0) or None, exact=False)
