"""What the database holds, from its catalogue: values for other programs; for people, psql itself shows it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.db.errors import LookBlocked, NoSuchTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.db.database import Database

KIND = """
    CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
                   WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' END"""
# A table that was never analysed has no estimate (reltuples -1).
ABOUT = f"""
    'schema', n.nspname, 'name', c.relname, 'kind', {KIND},
    'rows_estimate', nullif(c.reltuples, -1)::int8, 'size_bytes', pg_table_size(c.oid),
    'comment', obj_description(c.oid, 'pg_class')"""
# As psql's \dt: what is found without naming its schema, and is nobody's but the users'.
TABLES = f"""
    SELECT json_build_object({ABOUT})
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
     ORDER BY n.nspname, c.relname"""
RELATIONS = """
    SELECT c.oid, n.nspname, c.relname, pg_table_is_visible(c.oid), quote_ident(n.nspname), quote_ident(c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
     ORDER BY n.nspname, c.relname"""
# The columns of a constraint or of what it refers to, in its own order.
NAMES = """
    SELECT json_agg(a.attname ORDER BY u.position) FROM unnest({keys}) WITH ORDINALITY AS u(number, position)
      JOIN pg_attribute a ON a.attrelid = {table} AND a.attnum = u.number"""
COLUMNS = """
    SELECT json_agg(json_build_object(
               'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'nullable', NOT a.attnotnull,
               'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
               'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
               'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
               'comment', col_description(c.oid, a.attnum)) ORDER BY a.attnum)
      FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""
PRIMARY_KEY = f"""
    SELECT json_build_object('name', k.conname, 'columns', ({NAMES.format(keys="k.conkey", table="k.conrelid")}))
      FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'"""
INDEXES = """
    SELECT json_agg(json_build_object(
               'name', r.relname, 'unique', i.indisunique, 'primary', i.indisprimary, 'valid', i.indisvalid,
               'definition', pg_get_indexdef(r.oid), 'comment', obj_description(r.oid, 'pg_class'))
                    ORDER BY NOT i.indisprimary, r.relname)
      FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid WHERE i.indrelid = c.oid"""
FOREIGN_KEY = f"""
    'columns', ({NAMES.format(keys="k.conkey", table="k.conrelid")}),
    'referenced_schema', nt.nspname, 'referenced_table', t.relname,
    'referenced_columns', ({NAMES.format(keys="k.confkey", table="k.confrelid")}),
    'definition', pg_get_constraintdef(k.oid)"""
# A key of a partitioned table is repeated on its partitions, with the first as its parent: only the first is shown.
REFERENCES = """
      FROM pg_constraint k
      JOIN pg_class s ON s.oid = k.conrelid JOIN pg_namespace ns ON ns.oid = s.relnamespace
      JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace nt ON nt.oid = t.relnamespace
     WHERE k.contype = 'f' AND k.conparentid = 0"""
FOREIGN_KEYS = f"""
    SELECT json_agg(json_build_object('name', k.conname, {FOREIGN_KEY}) ORDER BY k.conname)
    {REFERENCES} AND k.conrelid = c.oid"""
REFERENCED_BY = f"""
    SELECT json_agg(json_build_object('name', k.conname, 'schema', ns.nspname, 'table', s.relname, {FOREIGN_KEY})
                    ORDER BY ns.nspname, s.relname, k.conname)
    {REFERENCES} AND k.confrelid = c.oid"""
CHECKS = """
    SELECT json_agg(json_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid)) ORDER BY k.conname)
      FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'"""
TRIGGERS = """
    SELECT json_agg(json_build_object('name', t.tgname, 'enabled', t.tgenabled <> 'D',
                                      'definition', pg_get_triggerdef(t.oid)) ORDER BY t.tgname)
      FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"""
POLICIES = """
    SELECT json_agg(json_build_object(
               'name', p.polname, 'permissive', p.polpermissive,
               'command', CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                                        WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' END,
               'roles', (SELECT json_agg(coalesce(r.rolname, 'public') ORDER BY r.rolname)
                           FROM unnest(p.polroles) AS o(id) LEFT JOIN pg_roles r ON r.oid = o.id),
               'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
                    ORDER BY p.polname)
      FROM pg_policy p WHERE p.polrelid = c.oid"""
PARTITION_OF = """
    SELECT json_build_object('schema', pn.nspname, 'table', r.relname, 'bound', pg_get_expr(c.relpartbound, c.oid))
      FROM pg_inherits h JOIN pg_class r ON r.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = r.relnamespace
     WHERE h.inhrelid = c.oid AND c.relispartition"""
PARTITIONS = """
    SELECT json_agg(json_build_object('schema', pn.nspname, 'name', r.relname,
                                      'bound', pg_get_expr(r.relpartbound, r.oid)) ORDER BY pn.nspname, r.relname)
      FROM pg_inherits h JOIN pg_class r ON r.oid = h.inhrelid JOIN pg_namespace pn ON pn.oid = r.relnamespace
     WHERE h.inhparent = c.oid AND r.relispartition"""
EMPTY = "'[]'::json"
DESCRIPTION = f"""
    SELECT json_build_object({ABOUT},
               'columns', coalesce(({COLUMNS}), {EMPTY}), 'primary_key', ({PRIMARY_KEY}),
               'indexes', coalesce(({INDEXES}), {EMPTY}), 'foreign_keys', coalesce(({FOREIGN_KEYS}), {EMPTY}),
               'referenced_by', coalesce(({REFERENCED_BY}), {EMPTY}), 'checks', coalesce(({CHECKS}), {EMPTY}),
               'triggers', coalesce(({TRIGGERS}), {EMPTY}), 'policies', coalesce(({POLICIES}), {EMPTY}),
               'partition_key', pg_get_partkeydef(c.oid), 'partition_of', ({PARTITION_OF}),
               'partitions', coalesce(({PARTITIONS}), {EMPTY}),
               'row_security', json_build_object('enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view.

    Attributes:
        oid: PostgreSQL's number for it.
        schema: where it is.
        name: its name, as it is stored.
        is_visible: whether it is found without naming its schema.
        quoted_schema: the schema as SQL writes it, with quotes where it needs them.
        quoted: the name, likewise.

    """

    oid: int
    schema: str
    name: str
    is_visible: bool
    quoted_schema: str
    quoted: str

    @property
    def forms(self) -> list[str]:
        """What people may call it, the usual form first: shells eat quotes, so the stored name will do."""
        alone = [self.quoted, self.name] if self.is_visible else []
        return [*alone, f"{self.quoted_schema}.{self.quoted}", f"{self.schema}.{self.name}"]


def tables(database: Database) -> list[dict[str, Any]]:
    r"""Return what `\dt+` shows.

    Raises:
        LookBlocked: another session has locked one of them for longer than DB_LOCK_TIMEOUT.

    """
    return [about for (about,) in _patiently(database, TABLES)]


def read(database: Database) -> list[Relation]:
    """Return all tables and views of the users."""
    return [Relation(*row) for row in database.rows(RELATIONS)]


def description(database: Database, relation: Relation) -> dict[str, Any]:
    r"""Return what `\d+` shows.

    Raises:
        LookBlocked: another session has locked it for longer than DB_LOCK_TIMEOUT.
        NoSuchTable: it has gone.

    """
    for (about,) in _patiently(database, DESCRIPTION, relation.oid):
        return dict(about)
    raise NoSuchTable(relation.forms[0], [])


def _patiently(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask for what needs a table's lock, such as its size: behind a migration that would wait without a word."""
    from psycopg.errors import LockNotAvailable  # noqa: PLC0415 - not every task connects

    try:
        with database.connection.transaction():
            database.do("SELECT set_config('lock_timeout', %s, true)", database.settings.lock_timeout)
            return database.rows(query, *values)
    except LockNotAvailable:
        raise LookBlocked(database.settings.lock_timeout) from None


def find(typed: str, known: Sequence[Relation]) -> Relation:
    """Return the relation that somebody means: the name exactly as typed, else in lower case, as SQL reads it.

    Raises:
        NoSuchTable: with the nearest names.

    """
    for wanted in (typed, typed.lower()):
        for relation in known:
            if wanted in relation.forms:
                return relation
    usual = {form: relation.forms[0] for relation in reversed(known) for form in relation.forms}
    near = difflib.get_close_matches(typed.lower(), usual, n=3)
    raise NoSuchTable(typed, list(dict.fromkeys(usual[form] for form in near)))
