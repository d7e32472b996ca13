"""What the files would lock or break, judged by what the run and the server know: squawk's remarks in, findings out.

squawk knows one statement in one file. Whether it matters depends on more: the file's transaction, the tables that are
made in the same run (nobody uses them yet), and how many rows a table has on the server that is asked.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.db import lint, statements
from infra.db.rules import OFF, RULES, SAID_BETTER, TRANSACTION_CONTROL, UNCHECKED, UNREADABLE, Level, Matters, Rule
from infra.db.statements import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from infra.db.database import Database
    from infra.db.lint import Remark
    from infra.db.migration import Migration
    from infra.db.statements import Statement

# To read, index or rewrite so little takes about a tenth of a second: no longer than a page takes anyway.
SMALL_ROWS = 10_000
SMALL_BYTES = 16 << 20  # for rows that are wide
OLDEST = 150000  # without a server the oldest that the tool runs on is assumed: its locks are the worst
# A table's rows and bytes with those of its partitions; an index stands for its table. The planner's number of rows or
# the statistics', whichever is larger; a table that has neither and is not empty has an unknown number. Only the size
# on disk needs a lock (ACCESS SHARE), so it is not asked of a table that somebody has locked or wants to lock.
SIZES = """
WITH RECURSIVE wanted AS (
  SELECT w.schema, w.name, coalesce(i.indrelid, c.oid) AS root, coalesce(i.indrelid, c.oid) AS oid
    FROM unnest(%s::text[], %s::text[]) AS w (schema, name)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
   WHERE c.relkind IN ('r', 'p', 'm', 'i', 'I')
  UNION
  SELECT w.schema, w.name, w.root, h.inhrelid
    FROM wanted AS w JOIN pg_catalog.pg_inherits AS h ON h.inhparent = w.oid
), part AS (
  SELECT w.*, c.reltuples, coalesce(pg_catalog.pg_stat_get_live_tuples(c.oid), 0) AS live,
         CASE WHEN NOT l.locked THEN pg_catalog.pg_table_size(c.oid) END AS bytes,
         CASE WHEN NOT l.locked THEN pg_catalog.pg_relation_size(c.oid) END AS heap
    FROM wanted AS w JOIN pg_catalog.pg_class AS c USING (oid)
   CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
                                       WHERE relation = c.oid AND mode = 'AccessExclusiveLock') AS locked) AS l
)
SELECT p.schema, p.name, n.nspname, c.relname,
       CASE WHEN bool_and(coalesce(p.heap = 0, false) OR p.live > 0 OR p.reltuples >= 0)
            THEN sum(CASE WHEN p.heap = 0 THEN 0 ELSE greatest(p.reltuples, p.live) END)::bigint END,
       CASE WHEN bool_and(p.bytes IS NOT NULL) THEN sum(p.bytes)::bigint END
  FROM part AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.root
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 GROUP BY 1, 2, 3, 4
"""
UNKNOWN = (
    "So it is not known which files are pending and how large a table is: every file is looked at, and a table is"
    " taken to be large unless the same file makes it."
)
OTHER = Rule(Level.WARNING, Matters.ALWAYS)  # a rule that only a newer squawk has


@dataclass(frozen=True, slots=True)
class Size:
    """A table as the server has it.

    Attributes:
        table: its name.
        rows: about how many; None when the server does not know.
        bytes: on disk, without indexes; None when it could not be asked.

    """

    table: Table
    rows: int | None
    bytes: int | None

    @property
    def is_small(self) -> bool:
        """Whether all work on it is done before anybody notices the lock."""
        known = self.rows is not None and self.bytes is not None
        return known and (self.rows or 0) < SMALL_ROWS and (self.bytes or 0) <= SMALL_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a file would lock or break.

    Attributes:
        version: of the file.
        name: of the file.
        file: as people type it.
        line: where.
        rule: its name, for `-- migrate: allow`.
        level: how grave.
        message: what it locks or breaks.
        help: the safe way.
        table: whose; None when it is not known for sure, or it is about none.
        rows: about how many that has; None when that is not known.
        reason: why the file is excused from the rule; empty when it is not.

    """

    version: str
    name: str
    file: str
    line: int
    rule: str
    level: Level
    message: str
    help: str
    table: str | None
    rows: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a look at some files.

    Attributes:
        findings: in the order of files and lines.
        allowed: those that a file is excused from, with the reason.
        quiet: how many were left out because the table is new or small.

    """

    findings: list[Finding]
    allowed: list[Finding]
    quiet: int

    @property
    def errors(self) -> int:
        """How many findings stop a release."""
        return sum(finding.level is Level.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are to be thought about."""
        return len(self.findings) - self.errors


def sizes(database: Database, tables: Iterable[Table]) -> dict[Table, Size]:
    """Ask the server for the sizes of those tables, or of the tables of those indexes, that it has."""
    wanted = list(tables)
    rows = database.rows(SIZES, [table.schema for table in wanted], [table.name for table in wanted])
    return {Table(row[0], row[1]): Size(Table(row[2], row[3]), row[4], row[5]) for row in rows}


def look(
    files: Sequence[Migration],
    *,
    folder: str,
    pending: Sequence[Migration] = (),
    server_version: int = OLDEST,
    ask: Callable[[Iterable[Table]], Mapping[Table, Size]] | None = None,
) -> Report:
    """Return what some files would lock or break.

    Args:
        files: those to look at, in order.
        folder: where they are, as people type it.
        pending: those that the next run would apply, in order; none when no server says so.
        server_version: like 180004.
        ask: returns the size of each of these tables that the server has; None without a server.

    """
    texts = {file.version: lint.prepared(file.text.sql or "") for file in (*files, *pending)}
    parsed = {version: tuple(statements.split(text)) for version, text in texts.items()}
    named = {table for each in itertools.chain(*parsed.values()) for table in each.tables}
    scene = _Scene(
        folder,
        last_line={file.version: (file.text.sql or "").rstrip().count("\n") + 1 for file in files},
        parsed=parsed,
        makers=_makers(parsed),
        pending=[file.version for file in pending],
        sizes=ask(named) if ask else None,
    )
    judged = [scene.judge(file, remark) for file, remark in _remarks(files, texts, server_version)]
    found = [finding for finding in judged if finding]
    return Report(
        findings=[finding for finding in found if not finding.reason],
        allowed=[finding for finding in found if finding.reason],
        quiet=judged.count(None),
    )


def _makers(parsed: Mapping[str, Sequence[Statement]]) -> dict[Table, list[tuple[str, Statement]]]:
    """Return for each table that the files make the statements that do, with their versions."""
    makers: dict[Table, list[tuple[str, Statement]]] = {}
    for version, each in ((version, each) for version, every in parsed.items() for each in every):
        if each.creates:
            makers.setdefault(each.creates, []).append((version, each))
    return makers


def _remarks(
    files: Sequence[Migration], texts: Mapping[str, str], server_version: int
) -> Iterator[tuple[Migration, Remark]]:
    """Yield what squawk says of each file, in order, without what is said better by another rule."""
    said: dict[str, list[Remark]] = {
        file.file_name: [lint.Remark(file.file_name, 1, 0, 0, UNCHECKED, "", "")]
        for file in files
        if file.text.sql is None
    }
    for mode in (True, False):
        alike = [file for file in files if file.text.sql is not None and file.directives.transaction is mode]
        for remark in lint.remarks(
            {file.file_name: texts[file.version] for file in alike},
            in_transaction=mode,
            server_version=f"{server_version // 10000}.{server_version % 10000}",
        ):
            if remark.rule not in OFF:
                said.setdefault(remark.file, []).append(remark)
    for file in files:
        remarks = said.get(file.file_name, [])
        yield from ((file, remark) for remark in remarks if not _is_said_better(remark, remarks))


def _is_said_better(remark: Remark, others: Iterable[Remark]) -> bool:
    return remark.rule in SAID_BETTER and any(
        each.rule in SAID_BETTER[remark.rule] and remark.start <= each.start < remark.end for each in others
    )


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is known beside the statement: the other files, and the server's tables (None: nothing of them)."""

    folder: str
    last_line: Mapping[str, int]
    parsed: Mapping[str, Sequence[Statement]]
    makers: Mapping[Table, Sequence[tuple[str, Statement]]]
    pending: Sequence[str]
    sizes: Mapping[Table, Size] | None

    def judge(self, file: Migration, remark: Remark) -> Finding | None:
        """Return the finding, or None when the table is such that it does not matter."""
        rule = RULES.get(remark.rule, OTHER)
        at = self._statement(file, remark.start)
        named = at and (at.table or at.index)
        size = self.sizes.get(named) if self.sizes and named else None
        new = at and named and rule.matters is not Matters.ALWAYS and self._is_new(file, at, named)
        if new or (size and _is_harmless(rule, size)):
            return None
        table = size.table if size else at.table if at else None
        return Finding(
            version=file.version,
            name=file.name,
            file=f"{self.folder}/{file.file_name}",
            line=min(remark.line, self.last_line[file.version]),  # not of what was added for squawk
            rule=remark.rule,
            level=rule.level,
            message=_message(file, rule, remark, table, size),
            help=rule.help or remark.help,
            table=str(table) if table else None,
            rows=size.rows if size else None,
            reason=dict(file.directives.allow).get(remark.rule, ""),
        )

    def _statement(self, file: Migration, place: int) -> Statement | None:
        every = self.parsed[file.version]
        before = bisect.bisect_right(every, place, key=lambda each: each.start)
        return every[before - 1] if before and place < every[before - 1].end else None

    def _is_new(self, file: Migration, at: Statement, table: Table) -> bool:
        """Whether the table is made earlier in the file, or is made by the same run and is not there yet."""
        makers = self.makers.get(table, ())
        own = [each for version, each in makers if version == file.version and each.end <= at.start]
        if any(not each.maybe for each in own):
            return True
        if self.sizes is None or table in self.sizes or file.version not in self.pending:
            return False
        before = self.pending[: self.pending.index(file.version)]
        return bool(own) or any(version in before for version, _ in makers)


def _is_harmless(rule: Rule, size: Size) -> bool:
    return (rule.matters is Matters.LARGE and size.is_small) or (rule.matters is Matters.FILLED and size.rows == 0)


def _message(file: Migration, rule: Rule, remark: Remark, table: Table | None, size: Size | None) -> str:
    if remark.rule == TRANSACTION_CONTROL and not file.directives.transaction:
        return remark.message
    if remark.rule == UNREADABLE:
        return f"{rule.message}: {remark.message}"
    text = (rule.message or remark.message).replace("{table}", str(table or "the table"))
    return f"{text}; {table} has {_many(size.rows)}" if size and size.rows and table else text


def _many(rows: int) -> str:
    if rows < 1_000_000:
        return f"{rows:,} rows" if rows > 1 else "1 row"
    return f"{rows / 1e6:.1f} M rows".replace(".0 ", " ")


def report_object(report: Report) -> dict[str, Any]:
    """Return what was found, as in the JSON output."""
    return {
        "findings": [finding_object(finding) for finding in report.findings],
        "allowed": [{**finding_object(finding), "reason": finding.reason} for finding in report.allowed],
        "errors": report.errors,
        "warnings": report.warnings,
    }


def finding_object(finding: Finding) -> dict[str, Any]:
    """Return a finding as in the JSON output."""
    names = ("version", "name", "file", "line", "rule", "level", "message", "help", "table", "rows")
    return {name: getattr(finding, name) for name in names}
