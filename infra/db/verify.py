"""The live schema against the one that the applied files make in a throw-away database.

What the files make is what the history says ran, even where a file has been edited or is gone since. Four things may
differ from what the same files make today, and are no difference:

- Partitions come and go by the month. One more or one less of a range is none; but each must be made like one that the
  files make of the same table, with its indexes, triggers, policies and grants.
- What a function of the schema makes while the application runs, where a file says so at its top:
  `-- migrate: run-time INDEX public.faces_of_*`. It must be valid all the same.
- Who owns things, between the roles that have applied files here; what lets those use a schema; comments of extensions.
- The order of columns, where a file was applied after a newer one: it added its column after the newer one's.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.db import catalogue, errors, history, migration, scratch
from infra.db.catalogue import Difference, Kind
from infra.db.migrator import Migrator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from infra.db.catalogue import Schema
    from infra.db.database import Database
    from infra.db.migration import Migration
    from infra.db.servers import Programs

    Elsewhere = AbstractContextManager[tuple[Database, Programs]]

RAN = (
    f"SELECT version, name, checksum, sql, applied_by FROM {history.TABLE} WHERE status IN ('applied', 'baseline')"
    " ORDER BY version::numeric"
)
PARTITIONS = """
SELECT n.nspname, c.relname, pg_partition_root(c.oid)::regclass::text, p.partstrat = 'r',
       pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT',
       ARRAY(SELECT o.relname::text FROM pg_partition_ancestors(c.oid) a JOIN pg_class o ON o.oid = a.relid
              WHERE o.relispartition AND o.oid <> c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
 WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') ORDER BY length(c.relname) DESC, 1, 2
"""
# insufficient_privilege; duplicate_object: a role that a file makes without looking is there already.
ELSEWHERE = ("42501", "42710")
NOT_OURS = "COMMENT ON EXTENSION "
ORDERED = ("TABLE ", "TYPE ", "VIEW ", "MATERIALIZED VIEW ")  # what has columns or labels, line by line
MIGRATOR = "(whoever applies the files)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition of a table.

    Attributes:
        place: its schema.
        name: its name.
        root: the table that it is part of, as `public.events`.
        is_range: whether it holds a range (of time, say), rather than some values.
        is_default: whether it holds what no other one does.
        above: the partitions that it is in turn a part of.

    """

    place: str
    name: str
    root: str
    is_range: bool
    is_default: bool
    above: tuple[str, ...]

    @property
    def comes_and_goes(self) -> bool:
        """Whether it may be there on one day and not on another."""
        return self.is_range and not self.is_default

    @property
    def object(self) -> str:
        """What it is called among the differences."""
        return f"PARTITION {self.place}.{self.name}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A schema as it is at one moment.

    Attributes:
        schema: its objects.
        partitions: which of them are partitions.
        in_order: whether no file was applied after a newer one.

    """

    schema: Schema
    partitions: tuple[Partition, ...]
    in_order: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a comparison.

    Attributes:
        differences: what is not as the files make it; empty when all is.
        run_time: what is there beyond the files and may be: later partitions, objects made at run time.

    """

    differences: tuple[Difference, ...]
    run_time: tuple[str, ...]


def ran(database: Database, files: Sequence[Migration]) -> tuple[tuple[Migration, ...], frozenset[str]]:
    """Return what the history says was applied, in order, and by which roles.

    Args:
        database: whose history.
        files: the folder's, for what is too long for the history to keep.

    Raises:
        SqlGone: some of it is neither in the history nor in the folder.

    """
    beside = {file.text.checksum: file for file in files}
    found, gone, roles = [], [], set()
    for version, name, checksum, sql, role in database.rows(RAN) if database.history().exists else []:
        roles.add(role)
        if sql is not None:
            found.append(migration.remembered(version, name, sql))
        elif checksum in beside:
            found.append(beside[checksum])
        else:
            gone.append(f"{version}_{name}")
    if gone:
        raise errors.SqlGone(gone)
    return tuple(found), frozenset(roles)


def build(
    original: Database, programs: Programs, files: Sequence[Migration], elsewhere: Callable[[], Elsewhere]
) -> Picture:
    """Apply files to a throw-away database and look at it.

    On the same server, where versions, locales and extensions are the same; but elsewhere what changes more than a
    database, or what this role or the roles that are there do not let happen twice.

    Args:
        original: a connection to the database that it is for.
        programs: of its server.
        files: what to apply, in order.
        elsewhere: makes a whole server for a moment.

    Raises:
        NotRebuilt: the files do not run on an empty database.

    """
    if not scratch.beyond_database(files):
        try:
            return _build(original, programs, files)
        except errors.NoScratch:
            pass
        except errors.MigrationFailed as error:
            if error.sqlstate not in ELSEWHERE:
                raise errors.NotRebuilt(error) from None
    with elsewhere() as (other, programs_there):
        try:
            return _build(other, programs_there, files)
        except errors.MigrationFailed as error:
            raise errors.NotRebuilt(error) from None


def _build(original: Database, programs: Programs, files: Sequence[Migration]) -> Picture:
    with scratch.database(original, programs, tool="migrate-verify") as made:
        Migrator(made.programs, made.settings, files, lambda _: None).migrate(made.database)
        return look(made.programs, made.database)


def look(programs: Programs, database: Database) -> Picture:
    """Read a database's schema and partitions, and in which order its files were applied."""
    schema = catalogue.read(programs, database)
    found = [
        Partition(place=row[0], name=row[1], root=row[2], is_range=row[3], is_default=row[4], above=tuple(row[5]))
        for row in database.rows(PARTITIONS)
    ]
    times = [row.applied_at for row in database.history().rows]
    return Picture(schema, tuple(found), in_order=times == sorted(times))


def compare(wanted: Picture, found: Picture, *, run_time: Sequence[str], roles: frozenset[str]) -> Result:
    """Compare what was found with what is wanted.

    Args:
        wanted: what the files make.
        found: what there is.
        run_time: patterns of objects that may be there beyond it.
        roles: that have applied files here, and the one that made `wanted`.

    """
    made, live = (_comparable(each.schema, roles, in_order=found.in_order) for each in (wanted, found))
    odd, later = _partitions(wanted, found, made, live)
    differences = odd + catalogue.compare(made, live)
    excused = [each for each in differences if _is_excused(each, run_time)]
    return Result(
        tuple(each for each in differences if each not in excused),
        tuple([each.object for each in later] + [each.object for each in excused]),
    )


def _comparable(schema: Schema, roles: frozenset[str], *, in_order: bool) -> Schema:
    """Leave out what the files do not decide on."""
    role = "|".join(f'"?{re.escape(each)}"?' for each in sorted(roles))
    ours = {}
    for name, text in schema.items():
        if name.startswith("GRANTS ON SCHEMA "):  # what lets somebody apply files in the first place
            text = re.sub(rf"^GRANT .* TO (?:{role});\n", "", text, flags=re.MULTILINE)  # noqa: PLW2901
        elif len(roles) > 1:
            text = _without_owner(name, text, role)  # noqa: PLW2901
        if not in_order and name.startswith(ORDERED):
            text = "\n".join(sorted(line.rstrip(",") for line in text.split("\n")))  # noqa: PLW2901
        if text.strip() and not name.startswith(NOT_OURS):
            ours[name] = text
    return ours


def _partitions(
    wanted: Picture, found: Picture, made: Schema, live: Schema
) -> tuple[list[Difference], list[Partition]]:
    """Compare partitions by what they are made like, and take them out of both schemas.

    Returns:
        Those that are not made like any of the files', and those that the files do not make.

    """
    shapes: dict[str, list[str]] = {}
    for each in wanted.partitions:
        shapes.setdefault(each.root, []).append(_shape(made, each, take=each.comes_and_goes))
    there = {each.object for each in wanted.partitions}
    odd, later = [], []
    for each in found.partitions:
        if each.root not in shapes or (each.object in there and not each.comes_and_goes):
            continue
        shape = _shape(live, each, take=True)
        if shape not in shapes[each.root]:
            difference = catalogue.compare({"": shapes[each.root][0]}, {"": shape})[0]
            odd.append(Difference(each.object, Kind.CHANGED, difference.diff))
        elif each.object not in there:
            later.append(each)
    return odd, later


def _shape(schema: Schema, partition: Partition, *, take: bool) -> str:
    """Return the text of all that belongs to a partition, without its name and bounds.

    Args:
        schema: where it is.
        partition: which.
        take: whether to take it out of the schema: it has been dealt with.

    """
    named = _mentions(partition.name)
    own = {name: text for name, text in schema.items() if f" {partition.place}." in name and named.search(name)}
    if take:
        for name in own:
            del schema[name]
    above = [_mentions(name) for name in partition.above]
    texts = []
    for name, text in own.items():
        plain = named.sub("<partition>", f"-- {name}\n{text}")
        for each in above:
            plain = each.sub("<above>", plain)
        texts.append(re.sub(r"(?:FOR VALUES .*|DEFAULT);$", "<bounds>;", plain, flags=re.MULTILINE))
    return "".join(sorted(texts))


def _mentions(name: str) -> re.Pattern[str]:
    """Match a name, also where it begins the name of an index."""
    return re.compile(rf'(?<![^\W_])"?{re.escape(name)}"?(?![^\W_])')


def _is_excused(difference: Difference, patterns: Sequence[str]) -> bool:
    about = re.sub("^(COMMENT|GRANTS) ON ", "", difference.object)
    matches = any(fnmatch.fnmatchcase(about, pattern) for pattern in patterns)
    return matches and difference.kind is Kind.EXTRA and catalogue.NOT_VALID not in difference.diff


def _without_owner(name: str, text: str, role: str) -> str:
    """Put one word in the place of the roles that apply files: as owners, and where policies name CURRENT_USER."""
    text = re.sub(rf"(OWNER TO|FOR ROLE) (?:{role})(?=[; ])", rf"\1 {MIGRATOR}", text)
    return re.sub(rf"(?<=[ ,])(?:{role})(?=[ ,;])", MIGRATOR, text) if name.startswith("POLICY ") else text


def patterns(files: Sequence[Migration]) -> list[str]:
    """Return what files say that is made at run time."""
    return [pattern for file in files for pattern in file.directives.run_time]


def result_object(result: Result, *, server: str, database: str) -> Mapping[str, object]:
    """Return a result as in the JSON output."""
    return {
        "server": server,
        "database": database,
        "matches": not result.differences,
        "differences": [
            {"object": each.object, "kind": each.kind.value, "diff": each.diff} for each in result.differences
        ],
    }
