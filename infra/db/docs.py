"""The tables in words and as a picture, from the comments in the database: Markdown, with a Mermaid diagram."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.db.errors import NoMarkers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from psycopg import Connection

BEGIN = "<!-- db.docs:begin -->"
END = "<!-- db.docs:end -->"
SHORT = {"timestamp with time zone": "timestamptz"}

# Our own tables: not the history, not partitions (they are their table's), not what an extension brings.
TABLES = """
    SELECT c.oid, c.relname FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
    AND c.relname <> 'schema_migrations'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"""
COMMENTS = f"SELECT relname, obj_description(oid, 'pg_class') FROM ({TABLES}) AS t"
COLUMNS = f"""
    SELECT t.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
        col_description(t.oid, a.attnum),
        EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
                WHERE k.conrelid = t.oid AND k.contype = 'p' AND a.attnum = ANY (k.conkey)),
        EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
                WHERE k.conrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0 AND a.attnum = ANY (k.conkey))
    FROM ({TABLES}) AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY t.relname, a.attnum"""
# An index without a comment is one that a function made for a single tenant: no part of the schema.
INDEXES = f"""
    SELECT t.relname, c.relname, pg_get_indexdef(c.oid), obj_description(c.oid, 'pg_class')
    FROM ({TABLES}) AS t JOIN pg_catalog.pg_index AS i ON i.indrelid = t.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    WHERE obj_description(c.oid, 'pg_class') IS NOT NULL
    ORDER BY t.relname, NOT i.indisprimary, c.relname"""
REFERENCES = f"""
    SELECT t.relname, k.confrelid::regclass::text, a.attname, k.confdeltype = 'c'
    FROM ({TABLES}) AS t JOIN pg_catalog.pg_constraint AS k ON k.conrelid = t.oid AND k.contype = 'f'
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.conkey[cardinality(k.conkey)]
    WHERE k.conparentid = 0
    ORDER BY t.relname, k.conname"""
FUNCTIONS = """
    SELECT format('%s(%s)', p.oid::regproc, pg_get_function_identity_arguments(p.oid)),
        obj_description(p.oid, 'pg_proc')
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'app' ORDER BY p.oid::regprocedure::text"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        type: its type, as short as people write it.
        nullable: whether it may be empty.
        meaning: its comment.
        in_key: whether it is part of the primary key.
        refers: whether it is part of a foreign key.

    """

    name: str
    type: str
    nullable: bool
    meaning: str
    in_key: bool
    refers: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its name, what it is made of, and the queries that it serves."""

    name: str
    made_of: str
    serves: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: the table that is referred to, by which column, and whether rows go when theirs does."""

    table: str
    column: str
    cascades: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with everything that is said about it."""

    name: str
    meaning: str
    columns: Sequence[Column]
    indexes: Sequence[Index]
    references: Sequence[Reference]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the schema `app`: its signature and its comment."""

    signature: str
    meaning: str


def describe(connection: Connection[tuple[Any, ...]]) -> str:
    """Return the description of the database's tables and functions as Markdown."""
    return render(read_tables(connection), read_functions(connection))


def read_tables(connection: Connection[tuple[Any, ...]]) -> list[Table]:
    """Read all tables with their comments; those that are referred to come before those that refer to them."""
    columns, indexes, references = defaultdict(list), defaultdict(list), defaultdict(list)
    for table, name, kind, nullable, meaning, in_key, refers in connection.execute(COLUMNS):
        columns[table].append(
            Column(
                name=name,
                type=SHORT.get(kind, kind),
                nullable=nullable,
                meaning=meaning or "",
                in_key=in_key,
                refers=refers,
            )
        )
    for table, name, definition, serves in connection.execute(INDEXES):
        indexes[table].append(Index(name, made_of(definition), serves))
    for table, other, column, cascades in connection.execute(REFERENCES):
        references[table].append(Reference(other, column, cascades))
    tables = [
        Table(
            name=name, meaning=meaning or "", columns=columns[name], indexes=indexes[name], references=references[name]
        )
        for name, meaning in connection.execute(COMMENTS)
    ]
    return list(in_order(tables))


def read_functions(connection: Connection[tuple[Any, ...]]) -> list[Function]:
    """Read the functions of the schema `app`."""
    return [
        Function(re.sub("|".join(SHORT), lambda found: SHORT[found[0]], signature), meaning or "")
        for signature, meaning in connection.execute(FUNCTIONS)
    ]


def made_of(definition: str) -> str:
    """Shorten `CREATE UNIQUE INDEX x ON public.t USING btree (a) WHERE (b)` to `unique btree (a) WHERE (b)`."""
    head, _, rest = definition.replace("::text", "").partition(" USING ")
    return f"unique {rest}" if " UNIQUE " in head else rest


def in_order(tables: Iterable[Table]) -> Iterator[Table]:
    """Yield tables after those that they refer to, unrelated ones last, by name where that leaves a choice."""
    tables = list(tables)
    referred = {to.table for table in tables for to in table.references}
    left = sorted(tables, key=lambda table: (not table.references and table.name not in referred, table.name))
    done: set[str] = set()
    while left:
        ready = (table for table in left if all(to.table in done | {table.name} for to in table.references))
        table = next(ready, left[0])  # tables that refer to each other in a circle: any of them first
        left.remove(table)
        done.add(table.name)
        yield table


def render(tables: Sequence[Table], functions: Sequence[Function]) -> str:
    """Return the Markdown: a diagram of the keys, each table with columns and indexes, the functions."""
    parts = [diagram(tables), *(_table(table) for table in tables)]
    if functions:
        parts.append(
            "### Functions\n\n"
            + _grid(("function", "what it does"), [(_code(f.signature), f.meaning) for f in functions])
        )
    return "\n\n".join(parts)


def diagram(tables: Sequence[Table]) -> str:
    """Return a Mermaid diagram, as GitHub draws it: the keys of each table and who belongs to whom."""
    lines = ["```mermaid", "erDiagram"]
    for table in tables:
        lines += [
            f'    {to.table} ||--o{{ {table.name} : "{"has, and takes along" if to.cascades else "has"}"'
            for to in table.references
        ]
    for table in tables:
        keys = [column for column in table.columns if column.in_key or column.refers]
        lines += [f"    {table.name} {{", *(f"        {_mermaid(column)}" for column in keys), "    }"]
    return "\n".join([*lines, "```"])


def _mermaid(column: Column) -> str:
    marks = ", ".join(mark for mark, is_so in (("PK", column.in_key), ("FK", column.refers)) if is_so)
    return f"{re.sub(r'[^A-Za-z0-9_()]', '_', column.type)} {column.name} {marks}"


def _table(table: Table) -> str:
    columns = [
        (_code(column.name), _code(column.type) + (" or null" if column.nullable else ""), column.meaning)
        for column in table.columns
    ]
    indexes = [(_code(index.name), _code(index.made_of), index.serves) for index in table.indexes]
    parts = [f"### {table.name}", table.meaning, _grid(("column", "type", "meaning"), columns)]
    return "\n\n".join([*filter(None, parts), _grid(("index", "made of", "serves"), indexes)])


def _grid(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Keep a text within its cell; GitHub wants | escaped even in code."""
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"


def replace(text: str, generated: str, *, file: str = "infra/migrations/README.md") -> str:
    """Put the generated part between the two markers of a text, in place of what was there.

    Args:
        text: the whole file.
        generated: what `describe` returned.
        file: its name, for the message.

    Raises:
        NoMarkers: the markers are not there once each and in order.

    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise NoMarkers(file, BEGIN, END)
    return f"{head}{BEGIN}\n\n{generated}\n\n{END}{tail}"
