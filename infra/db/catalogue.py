r"""A database's schema as text, object by object, and what differs between two of them.

pg_dump writes the text; what is not schema (versions, its `\restrict` key, the history of migrations, where files lie)
is left out. Everything but `read` is pure.
"""

from __future__ import annotations

import difflib
import enum
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.db import errors, history
from infra.db.servers.process import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from infra.db.database import Database
    from infra.db.servers import Programs

OWN_SCHEMA = "_rehearsal"  # what a rehearsal puts into its copy
Schema = dict[str, str]  # what an object is called -> what makes it, in pg_dump's order

ARGUMENTS = (
    "--schema-only",
    "--no-tablespaces",  # where files lie is the server's business
    "--no-table-access-method",
    "--no-subscriptions",  # only a superuser may read them
    f"--exclude-table={history.TABLE}",
    f"--exclude-schema={OWN_SCHEMA}",
)
TICK = 0.25  # seconds
LONGEST_DIFF = 40  # lines of one table that are shown where many tables are
NAMED = 6  # objects of one table that are named
# The table that an object belongs to: in what it is called, or, for an index, in what makes it.
TABLE_OF = re.compile(
    r"(?:(?:COMMENT|GRANTS) ON )?(?:TABLE(?: ATTACH)? (\S+)|COLUMN ([^.\s]+\.[^.\s]+)"
    r"|(?:(?:CHECK |FK )?CONSTRAINT|TRIGGER|POLICY|DEFAULT|ROW SECURITY) (\S+))|INDEX .*? ON (?:ONLY )?(\S+)",
    re.DOTALL,
)
HEADER = re.compile(
    r"^--\n-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*); Owner: (?P<owner>.*)\n--\n",
    re.MULTILINE,
)
END = "\n--\n-- PostgreSQL database dump complete\n"
NOT_VALID = "-- It is not valid: PostgreSQL does not use it."
ABOUT = {"COMMENT": "COMMENT ON", "ACL": "GRANTS ON", "SECURITY LABEL": "SECURITY LABEL ON"}
# pg_dump leaves out an index that is not valid: what a failed CREATE INDEX CONCURRENTLY left, or one still being built.
INVALID = """
SELECT n.nspname, c.relname, pg_get_indexdef(i.indexrelid)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1, 2
"""


class Kind(enum.StrEnum):
    """How an object differs; the words are those of the JSON output."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not the same in both.

    Attributes:
        object: what it is called: `TABLE public.faces`, `POLICY public.faces tenant_isolation`, `GRANTS ON TABLE ...`.
        kind: missing, extra or changed in what was found, against what was wanted.
        diff: a unified diff of its text, from what was wanted (`-`) to what was found (`+`).

    """

    object: str
    kind: Kind
    diff: str


def read(programs: Programs, database: Database) -> Schema:
    """Read the schema of a database.

    Args:
        programs: run pg_dump on it.
        database: a connection to the same database.

    Raises:
        SchemaUnread: with what pg_dump said.

    """
    schema = split(dump(programs, database, ARGUMENTS))
    for place, name, definition in database.rows(INVALID):
        schema[f"INDEX {place}.{name}"] = f"{definition};\n{NOT_VALID}\n"
    return schema


def split(dump: str) -> Schema:
    """Return the objects of pg_dump's text, each under the name in the comment that pg_dump puts before it."""
    schema: Schema = {}
    text = dump.partition(END)[0]
    headers = list(HEADER.finditer(text))
    for header, follows in itertools.zip_longest(headers, headers[1:]):
        body = text[header.end() : follows.start() if follows else len(text)].strip("\n") + "\n"
        name = identity(header["type"], header["schema"], header["name"])
        schema[name] = schema.get(name, "") + re.sub(r"\n{3,}", "\n\n", body)
    return schema


def identity(kind: str, place: str, name: str) -> str:
    """Return what an object is called, from the words of pg_dump's comment.

    Args:
        kind: its type, like `TABLE`, `ACL`.
        place: its schema; `-` for none.
        name: its name; with its table's before it where it belongs to one, with its type's where it is about one.

    """
    inside = "" if place == "-" else f"{place}."
    if kind in ABOUT:
        what, _, which = name.partition(" ")
        return f"{ABOUT[kind]} {what} {inside}{which}"
    return f"{kind} {inside}{name}"


def compare(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """Return what differs, in the order of `wanted`, then what there is beyond it."""
    names = [*wanted, *(name for name in found if name not in wanted)]
    return [
        Difference(name, _kind(name, wanted, found), _unified(wanted.get(name, ""), found.get(name, "")))
        for name in names
        if wanted.get(name) != found.get(name)
    ]


def readable(differences: Iterable[Difference], *, wanted: str, found: str) -> str:
    """Return differences as one text: a heading for each object, and its diff.

    Args:
        differences: from `compare`.
        wanted: what the lines with `-` are of, in words.
        found: what the lines with `+` are of, in words.

    """
    parts = [f"{each.kind.value}: {each.object}\n{each.diff}" for each in differences]
    return "\n".join([f"--- {wanted}", f"+++ {found}", *parts])


def by_table(differences: Iterable[Difference]) -> str:
    """Return differences as one text that goes from table to table: how it differs, then what of its objects do."""
    groups: dict[str, list[Difference]] = {}
    for each in differences:
        found = TABLE_OF.match(f"{each.object}\n{each.diff}")
        groups.setdefault(next(filter(None, found.groups())) if found else "other objects", []).append(each)
    return "\n".join(line for name in sorted(groups) for line in (f"  {name}", *_lines(groups[name])))


def _lines(group: list[Difference]) -> Iterator[str]:
    tables = [
        each for each in group if each.object.startswith("TABLE ") and not each.object.startswith("TABLE ATTACH ")
    ]
    comments = [each for each in group if each.object.startswith("COMMENT ON ")]
    for each in tables:
        yield f"    {each.kind}: the table"
        if each.kind is Kind.CHANGED:
            changes = [line for line in each.diff.split("\n") if line.startswith(("-", "+"))]
            yield from (f"      {line}" for line in changes[:LONGEST_DIFF])
            if len(changes) > LONGEST_DIFF:
                yield f"      ... and {len(changes) - LONGEST_DIFF} lines more"
    for kind in Kind:
        names = [each.object for each in group if each.kind is kind and each not in (*tables, *comments)]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"    {kind}: {', '.join(names[:NAMED])}{more}"
    if comments:
        yield f"    {len(comments)} of the comments"


def _kind(name: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Kind:
    if name not in found:
        return Kind.MISSING
    return Kind.CHANGED if name in wanted else Kind.EXTRA


def _unified(wanted: str, found: str) -> str:
    lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), n=2, lineterm="")
    return "\n".join(list(lines)[2:])


def dump(programs: Programs, database: Database, arguments: Sequence[str]) -> str:
    """Return what pg_dump writes.

    Args:
        programs: run it on the database.
        database: for its name.
        arguments: what to write.

    Raises:
        SchemaUnread: with what pg_dump said.

    """
    process = programs.execute("pg_dump", arguments)
    said = {"stdout": b"", "stderr": b""}
    for item in chunks(process, tick=TICK):
        if item:
            said[item[0]] += item[1]
    if process.wait() != 0:
        raise errors.SchemaUnread(database.settings.name, said["stderr"].decode("utf-8", "replace").strip())
    return said["stdout"].decode("utf-8", "replace").replace("\r\n", "\n")
