"""What a rehearsal showed: values, what follows from them in sentences, and their JSON. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.db import catalogue, layout, locks
from infra.db.catalogue import Difference, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from infra.db.catalogue import Schema
    from infra.db.errors import MigrationFailed
    from infra.db.migration import Migration

LONG = 1.0  # seconds that others may be held up without being worth a word
TABLES = ("r", "p", "m")
INDEXES = ("i", "I")
NAMED = 6  # objects that are named in a line


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or an index at one moment.

    Attributes:
        name: with its schema.
        kind: `pg_class.relkind`.
        node: which file on the disk it is; another one when it was written anew.
        size: in bytes.
        rows: as the server estimates; of a table.
        table: the oid of the table that an index is of.
        inserted: rows so far.
        updated: rows so far.
        deleted: rows so far.

    """

    name: str
    kind: str
    node: int
    size: int
    rows: int
    table: int
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Picture:
    """The copy at one moment: its schema, and its tables and indexes by oid."""

    schema: Schema
    relations: Mapping[int, Relation]


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a table that was there before.

    Attributes:
        table: its name.
        mode: `ACCESS EXCLUSIVE`, ...
        seconds: for how long it was held, at most.
        rows: how many the table has.
        rewritten: whether the table was written anew under it.

    """

    table: str
    mode: str
    seconds: float
    rows: int
    rewritten: bool


@dataclass(frozen=True, slots=True)
class Sized:
    """A table that was written anew, or an index that was built; its size in bytes.

    Attributes:
        name: its name.
        table: of an index, its table; of a table, itself.
        size: in bytes.

    """

    name: str
    table: str
    size: int


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of a table changed."""

    table: str
    inserted: int
    updated: int
    deleted: int


class Back(enum.StrEnum):
    """What came of going back, or of going forth again; the words are those of the JSON output."""

    SAME = "same"
    DIFFERS = "differs"
    FAILED = "failed"
    NO_SCRIPT = "no down script"
    NOT_TRIED = "not tried"


BACK = {
    Back.SAME: "the schema is as before",
    Back.DIFFERS: "the schema is not as before",
    Back.FAILED: "the down script fails",
    Back.NO_SCRIPT: "there is no down script",
    Back.NOT_TRIED: "not tried",
}


@dataclass(frozen=True, slots=True)
class Return:
    """Whether a schema came back.

    Attributes:
        result: whether it did.
        differences: where it did not.
        said: why it failed.
        seconds: how long it took; None when it did not run to its end.

    """

    result: Back = Back.NOT_TRIED
    differences: tuple[Difference, ...] = ()
    said: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one file did.

    Attributes:
        migration: the file.
        seconds: how long it took.
        locks: stronger than ROW EXCLUSIVE, on tables that were there before.
        rewritten: tables that were written anew.
        indexes: that were built, or built anew, on tables that were there before or not.
        rows: tables whose rows changed.
        created: objects.
        altered: objects.
        dropped: objects.
        back: what its down script did.

    """

    migration: Migration
    seconds: float
    locks: tuple[Lock, ...]
    rewritten: tuple[Sized, ...]
    indexes: tuple[Sized, ...]
    rows: tuple[Rows, ...]
    created: tuple[str, ...]
    altered: tuple[str, ...]
    dropped: tuple[str, ...]
    back: Return = Return()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal showed.

    Attributes:
        tried: each file that ran, in order.
        failed: why the next one did not.
        again: whether going back and forth again gives the same.
        data: whether the copy had the rows.
        roles: that files made and that stay, because roles belong to the whole server.

    """

    tried: tuple[Tried, ...]
    failed: MigrationFailed | None
    again: Return
    data: bool
    roles: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether every file ran, and every down script that is there brought the schema back."""
        ends = [self.again, *(each.back for each in self.tried)]
        return self.failed is None and not any(each.result in (Back.DIFFERS, Back.FAILED) for each in ends)


WITHOUT_ROWS = "No table that has rows is written anew; how long it takes shows only with the rows."
NOTHING = Report(tried=(), failed=None, again=Return(), data=True)


def tried(
    step: Migration,
    seconds: float,
    held: Sequence[locks.Held],
    pictures: tuple[Picture, Picture],
    *,
    estimates: Mapping[str, int],
) -> Tried:
    """Put together what a file did.

    Args:
        step: the file.
        seconds: how long it took.
        held: the locks it held.
        pictures: the copy before and after it.
        estimates: how many rows the tables of the original have.

    """
    before, after = pictures
    rewritten = tuple(_rewritten(before, after))
    names = {each.name for each in rewritten}
    tables = {oid: each for oid, each in before.relations.items() if each.kind in TABLES}
    differences = catalogue.compare(before.schema, after.schema)
    return Tried(
        migration=step,
        seconds=seconds,
        locks=tuple(
            Lock(
                table.name,
                each.mode,
                min(each.seconds, seconds) if step.directives.transaction else each.seconds,
                max(table.rows, estimates.get(table.name, 0)),
                after.relations[each.relation].name in names if each.relation in after.relations else False,
            )
            for each in held
            if (table := tables.get(each.relation))
        ),
        rewritten=rewritten,
        indexes=tuple(_built(before, after)),
        rows=tuple(_changed_rows(before, after)),
        created=tuple(each.object for each in differences if each.kind is Kind.EXTRA),
        altered=tuple(each.object for each in differences if each.kind is Kind.CHANGED),
        dropped=tuple(each.object for each in differences if each.kind is Kind.MISSING),
    )


def _rewritten(before: Picture, after: Picture) -> Iterator[Sized]:
    """Tables that were there and are another file now; one that was only emptied (TRUNCATE) has nothing in it."""
    for oid, now in after.relations.items():
        old = before.relations.get(oid)
        if old and now.kind in TABLES and old.node != now.node and (now.size or not old.size):
            yield Sized(now.name, now.name, now.size)


def _built(before: Picture, after: Picture) -> Iterator[Sized]:
    for oid, now in after.relations.items():
        old = before.relations.get(oid)
        if now.kind in INDEXES and now.node and (old is None or old.node != now.node):
            yield Sized(now.name, after.relations[now.table].name, now.size)


def _changed_rows(before: Picture, after: Picture) -> Iterator[Rows]:
    for oid, now in after.relations.items():
        old = before.relations.get(oid)
        counts = [
            getattr(now, name) - (getattr(old, name) if old else 0) for name in ("inserted", "updated", "deleted")
        ]
        if now.kind in TABLES and any(count > 0 for count in counts):
            yield Rows(now.name, *counts)


def lines(each: Tried) -> Iterator[str]:
    """Yield what a file did, in lines for people."""
    for lock in each.locks:
        yield f"{lock.mode:<22} on {short(lock.table)} for {duration(lock.seconds)} ({count(lock.rows)})"
    for table in each.rewritten:
        yield f"writes anew {short(table.name)} ({layout.size(table.size)})"
    for index in each.indexes:
        yield f"builds {short(index.name)} on {short(index.table)} ({layout.size(index.size)})"
    for rows in each.rows:
        yield f"rows of {short(rows.table)}: {rows.inserted:,} new, {rows.updated:,} changed, {rows.deleted:,} deleted"
    for word, objects in (("creates", each.created), ("alters", each.altered), ("drops", each.dropped)):
        if objects:
            more = f" and {len(objects) - NAMED} more" if len(objects) > NAMED else ""
            yield f"{word} {', '.join(objects[:NAMED])}{more}"
    took = f" in {duration(each.back.seconds)}" if each.back.seconds is not None else ""
    yield f"back: {BACK[each.back.result]}{took}"


def verdict(report: Report) -> list[str]:
    """Return what follows from a rehearsal, in sentences."""
    sentences = [sentence for each in report.tried for sentence in _sentences(each, data=report.data)]
    if report.failed:
        sentences.append(f"{report.failed.version} fails: mend it first.")
    if report.again.result is Back.DIFFERS:
        names = ", ".join(each.object for each in report.again.differences[:NAMED])
        sentences.append(
            f"Going back and forth again gives another schema: {_count(report.again.differences)} ({names})."
        )
    if report.again.result is Back.FAILED:
        sentences.append(f"After going back, the files do not run again: {report.again.said}")
    sentences += [
        f"The role {role} was made by this and stays, because roles belong to the whole server."
        for role in report.roles
    ]
    if not sentences:
        sentences.append("Nothing here holds up others for long." if report.data else WITHOUT_ROWS)
    if report.tried and all(each.back.result is Back.SAME for each in report.tried) and report.is_good:
        sentences.append("Every down script brings the schema back, and going forth again gives the same.")
    return sentences


def _sentences(each: Tried, *, data: bool) -> Iterator[str]:
    version = each.migration.version
    for lock in _worst(each.locks):
        what = f"on {short(lock.table)}"
        if data and lock.seconds >= LONG:
            rewrite = ", rewrite" if lock.rewritten else ""
            yield (
                f"{version} holds {lock.mode} {what} for {duration(lock.seconds)} ({count(lock.rows)}{rewrite}):"
                " plan a window or split it."
            )
        elif not data and lock.rewritten and lock.rows:
            yield (
                f"{version} holds {lock.mode} {what} while it writes it anew ({count(lock.rows)}): rehearse it with"
                " the rows to know for how long."
            )
    match each.back.result:
        case Back.DIFFERS:
            yield f"The down script of {version} does not bring the schema back: {_count(each.back.differences)}."
        case Back.FAILED:
            yield f"The down script of {version} fails."
        case Back.NO_SCRIPT:
            yield f"{version} has no down script, so there is no way back from it and from what came before it."


def _worst(held: Sequence[Lock]) -> list[Lock]:
    """Return the strongest lock of each table, of those that hold up others."""
    holding = [lock for lock in held if lock.mode in locks.STOPS_WRITING]
    by_strength = sorted(holding, key=lambda lock: locks.STOPS_WRITING.index(lock.mode))
    return list({lock.table: lock for lock in by_strength}.values())


def _count(differences: Sequence[Difference]) -> str:
    return "one object differs" if len(differences) == 1 else f"{len(differences)} objects differ"


def short(name: str) -> str:
    """Return a table as people call it."""
    return name.removeprefix("public.")


def duration(seconds: float) -> str:
    """Return a time as people say it: `12 ms`, `1.4 s`, `38 s`, `3 min 20 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def count(rows: int) -> str:
    """Return a number of rows as people say it: `1 row`, `1,200 rows`, `12 M rows`."""
    if rows >= 10_000_000:
        return f"{rows / 1e6:.0f} M rows"
    return "1 row" if rows == 1 else f"{rows:,} rows"


def report_object(report: Report, *, server: str, database: str, place: str) -> dict[str, Any]:
    """Return a report as in the JSON output, but for the failure."""
    return {
        "server": server,
        "database": database,
        "rehearsed_on": place or None,
        "data": report.data,
        "ok": report.is_good,
        "verdict": verdict(report),
        "migrations": [_tried_object(each) for each in report.tried],
        "again": _return_object(report.again),
    }


def _tried_object(each: Tried) -> dict[str, Any]:
    return {
        "version": each.migration.version,
        "name": each.migration.name,
        "duration_ms": round(each.seconds * 1000),
        "locks": [
            {
                "table": lock.table,
                "mode": lock.mode,
                "held_ms": round(lock.seconds * 1000),
                "rows": lock.rows,
                "rewritten": lock.rewritten,
            }
            for lock in each.locks
        ],
        "rewritten": [{"table": table.name, "bytes": table.size} for table in each.rewritten],
        "indexes": [{"index": index.name, "table": index.table, "bytes": index.size} for index in each.indexes],
        "rows": [
            {"table": rows.table, "inserted": rows.inserted, "updated": rows.updated, "deleted": rows.deleted}
            for rows in each.rows
        ],
        "created": list(each.created),
        "altered": list(each.altered),
        "dropped": list(each.dropped),
        "rollback": {
            **_return_object(each.back),
            "duration_ms": None if each.back.seconds is None else round(each.back.seconds * 1000),
        },
    }


def _return_object(back: Return) -> dict[str, Any]:
    return {
        "result": back.result.value,
        "message": back.said or None,
        "differences": [
            {"object": each.object, "kind": each.kind.value, "diff": each.diff} for each in back.differences
        ],
    }
