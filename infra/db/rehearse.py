"""What is pending, tried on a copy: how long it takes, what it locks against others, and whether there is a way back.

Each file runs by itself, as `migrate` runs it. Before and after it, the copy's schema and tables are looked at; the
difference tells what it made, changed and dropped, which tables were written anew (their file on the disk is another
one; this also shows what no event trigger does: CLUSTER, VACUUM FULL), which indexes were built, how many rows changed.
Then the down scripts run, newest first; after each, the schema must be the one from before the file. Then all files run
again, and must end in the same schema.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from infra.db import catalogue, errors, findings, history, locks
from infra.db.events import Finished
from infra.db.findings import Back, Picture, Relation, Report, Return, Tried
from infra.db.migrator import Migrator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from infra.db.database import Database
    from infra.db.events import Event
    from infra.db.migration import Migration
    from infra.db.scratch import Scratch

GONE_WITHIN = 5.0  # seconds; a session's counters are final when it has gone
RELATIONS = """
SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind, c.relfilenode,
       pg_relation_size(c.oid) + CASE c.reltoastrelid WHEN 0 THEN 0 ELSE pg_relation_size(c.reltoastrelid) END,
       greatest(c.reltuples, 0)::bigint, coalesce(i.indrelid, 0),
       coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
 WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', %s) AND n.nspname !~ '^pg_temp_'
   AND c.relkind IN ('r', 'p', 'm', 'i', 'I') AND %s::regclass NOT IN (c.oid, coalesce(i.indrelid, 0))
"""
AT_WORK = """
SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'invoke migrate %'
"""
ESTIMATES = """
SELECT format('%I.%I', n.nspname, c.relname), greatest(c.reltuples, s.n_live_tup, 0)::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_user_tables s ON s.relid = c.oid
"""
ROLES = "SELECT rolname FROM pg_roles"
# Roles made in the transaction that also wrote the history: nobody else's.
OWN_ROLES = f"SELECT a.rolname FROM pg_authid a JOIN {history.TABLE} m ON m.xmin = a.xmin"


@dataclass(slots=True)
class Rehearsal:
    """Files on their way through a copy.

    Attributes:
        made: the copy.
        files: all files of the folder.
        steps: those to try, in order.
        estimates: how many rows the tables of the original have.
        data: whether the copy has the rows.
        tell: called with each event of the first time through.
        roles: where to put the names of the roles that the files made and that this role may know for certain; None on
            a server of its own, with which they go.

    """

    made: Scratch
    files: Sequence[Migration]
    steps: Sequence[Migration]
    estimates: Mapping[str, int]
    data: bool
    tell: Callable[[Event], None]
    roles: set[str] | None
    _took: dict[str, int] = field(default_factory=dict)

    def run(self) -> Report:
        """Go forth, back, and forth again."""
        locks.prepare(self.made.database)
        before = self._all_roles()
        pictures = [self.look()]
        tried: list[Tried] = []
        failed = None
        for step in self.steps:
            try:
                tried.append(self._forth(step, pictures))
                self._note_roles(before)
            except errors.MigrationFailed as error:
                failed = error
                break
        again = Return()
        if failed is None and tried:
            tried = self._back(tried, pictures)
            again = self._again(tried, pictures)
        return Report(
            tried=tuple(tried), failed=failed, again=again, data=self.data, roles=tuple(sorted(self._left(before)))
        )

    def look(self) -> Picture:
        """Look at the copy; sessions whose counters are not final yet are waited for."""
        deadline = time.monotonic() + GONE_WITHIN
        while self.made.database.rows(AT_WORK) and time.monotonic() < deadline:
            time.sleep(locks.SHORTEST)
        rows = self.made.database.rows(RELATIONS, catalogue.OWN_SCHEMA, history.TABLE)
        schema = catalogue.read(self.made.programs, self.made.database)
        return Picture(schema, {row[0]: Relation(*row[1:]) for row in rows})

    def _forth(self, step: Migration, pictures: list[Picture]) -> Tried:
        with locks.watching(self.made.database, step.version) as watch:
            self._migrator(self.tell).migrate(self.made.database, to=step.version)
        pictures.append(self.look())
        seconds = self._took[step.version] / 1000
        return findings.tried(step, seconds, watch.held, (pictures[-2], pictures[-1]), estimates=self.estimates)

    def _back(self, forth: Sequence[Tried], pictures: Sequence[Picture]) -> list[Tried]:
        """Undo file after file, as long as the schema comes back: otherwise the next one would start elsewhere."""
        ways: list[Return] = []
        for each, wanted in zip(reversed(forth), reversed(pictures[:-1]), strict=True):
            if ways and ways[-1].result is not Back.SAME:
                ways.append(Return())
            elif each.migration.down is None:
                ways.append(Return(Back.NO_SCRIPT))
            else:
                ways.append(self._undo(each.migration, wanted))
        return [replace(each, back=way) for each, way in zip(forth, reversed(ways), strict=True)]

    def _undo(self, step: Migration, wanted: Picture) -> Return:
        try:
            self._migrator(lambda _: None).rollback(self.made.database, [step.version])
        except (errors.MigrationFailed, errors.Refused) as error:
            return Return(Back.FAILED, said=_words(error))
        return _return(wanted, self.look(), seconds=self._took[step.version] / 1000)

    def _again(self, forth: Sequence[Tried], pictures: Sequence[Picture]) -> Return:
        ends = [each.back.result for each in forth]
        if Back.SAME not in ends or Back.DIFFERS in ends or Back.FAILED in ends:
            return Return()
        try:
            last = self.steps[-1].version
            self._migrator(lambda _: None).migrate(self.made.database, to=last)
        except (errors.MigrationFailed, errors.Refused) as error:
            return Return(Back.FAILED, said=_words(error))
        return _return(pictures[-1], self.look())

    def _migrator(self, tell: Callable[[Event], None]) -> Migrator:
        def noting(event: Event) -> None:
            self._note(event)
            tell(event)

        return Migrator(self.made.programs, self.made.settings, self.files, noting)

    def _note(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._took[event.migration.version] = event.duration_ms

    def _all_roles(self) -> set[str]:
        return {name for (name,) in self.made.database.rows(ROLES)}

    def _note_roles(self, before: set[str]) -> None:
        """Remember the roles that the last file made, as far as this role may know it: only a superuser may."""
        import psycopg  # noqa: PLC0415 - see database

        if self.roles is not None:
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                self.roles |= {name for (name,) in self.made.database.rows(OWN_ROLES)} - before

    def _left(self, before: set[str]) -> set[str]:
        """Return further roles that are new and that the files could have made: others make roles, too."""
        if self.roles is None:
            return set()
        sql = "\n".join(step.text.sql or "" for step in self.steps)
        return {name for name in self._all_roles() - before - self.roles if name in sql}


def _return(wanted: Picture, found: Picture, *, seconds: float | None = None) -> Return:
    differences = tuple(catalogue.compare(wanted.schema, found.schema))
    return Return(Back.DIFFERS if differences else Back.SAME, differences, seconds=seconds)


def _words(error: errors.ToolError) -> str:
    return "\n".join(part for part in (error.what, error.where) if part)


def estimates(original: Database) -> dict[str, int]:
    """Return how many rows the tables of the original have, as its server estimates."""
    return dict(original.rows(ESTIMATES))
