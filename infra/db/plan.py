"""Files against history: the status of each, and what a run would do. Pure."""

from __future__ import annotations

import difflib
import enum
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.db.errors import CannotUndo, DriftError, HistoryMoved, InsideSquash, Refused, UsageError
from infra.db.migration import kept_text, undoing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.db.history import Applied
    from infra.db.migration import Migration


LONGEST_DIFF = 40  # lines; enough to recognise an edit


class Status(enum.StrEnum):
    """How a file and its row in the history agree; the words are those of the JSON output."""

    APPLIED = "applied"
    BASELINE = "baseline"
    PENDING = "pending"
    EDITED = "edited"
    MISSING = "missing"
    OUT_OF_ORDER = "out-of-order"
    FAILED = "failed"


DONE = (Status.APPLIED, Status.BASELINE)
DRIFT = (Status.EDITED, Status.MISSING, Status.OUT_OF_ORDER, Status.FAILED)


class Entry(NamedTuple):
    """One version.

    Attributes:
        status: how file and row agree.
        file: the migration; None when it is missing.
        row: the history's row; None when it was never applied.

    """

    status: Status
    file: Migration | None
    row: Applied | None

    @property
    def version(self) -> str:
        """The file's digits, or the row's."""
        return self.file.version if self.file else self.row.version if self.row else ""

    @property
    def name(self) -> str:
        """The file's words, or the row's."""
        return self.file.name if self.file else self.row.name if self.row else ""

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"{self.version}_{self.name}"


def compare(files: Sequence[Migration], rows: Sequence[Applied], *, busy: bool = False) -> list[Entry]:
    """Return an entry for every file and every row, in the order of their numbers; one for both where they are one.

    Args:
        files: all migrations.
        rows: the history.
        busy: whether a run is at work, so that a row which is `running` has not failed.

    """
    file_of = {file.number: file for file in files}
    row_of = {row.number: row for row in rows}
    for file in files:
        if file.directives.replaces:
            row_of = _squashed(file, row_of)
    newest = max(row_of, default=-1)
    return [
        Entry(_status(file, row, newest, busy=busy), file, row)
        for number in sorted(file_of.keys() | row_of.keys())
        for file, row in _pairs(file_of.get(number), row_of.get(number))
    ]


def _pairs(file: Migration | None, row: Applied | None) -> list[tuple[Migration | None, Applied | None]]:
    """Tell the file and the row of a number apart when nothing makes them one: two git branches may both have it."""
    if file and row and file.name != row.name and file.text.checksum != row.checksum:
        return [(None, row), (file, None)]
    return [(file, row)]


def _squashed(file: Migration, row_of: dict[int, Applied]) -> dict[int, Applied]:
    """Return the rows with those of the files that were squashed into one file taken as one row of that file.

    They are, when each ran as it was squashed: all of them, or those after an earlier squash. Otherwise they stay.
    """
    own = row_of.get(file.number)
    if own is None or own.name == file.name:
        return row_of
    listed = [(each.number, each.checksum) for each in file.directives.replaces]
    there = {number: row_of[number].checksum for number in sorted(row_of) if number <= file.number}
    first = next(iter(there.items()))
    # After the file of a number comes the earlier squash that took its place and all before it.
    starts = {listed[0], *(now for before, now in itertools.pairwise(listed) if before[0] == now[0])}
    whole = first in starts and {number for number, _ in listed if number >= first[0]} == set(there)
    if not whole or not there.items() <= set(listed):
        return row_of
    one = own._replace(name=file.name, checksum=file.text.checksum)
    return {**{number: row for number, row in row_of.items() if number > file.number}, file.number: one}


def _status(file: Migration | None, row: Applied | None, newest: int, *, busy: bool) -> Status:
    if row is None:
        return Status.OUT_OF_ORDER if file is not None and file.number < newest else Status.PENDING
    if row.status == "running" and busy:
        return Status.PENDING
    if row.status in ("failed", "running"):
        return Status.FAILED
    if file is None:
        return Status.MISSING
    if file.text.checksum != row.checksum:
        return Status.EDITED
    return Status(row.status)


def pending(entries: Sequence[Entry]) -> tuple[Migration, ...]:
    """Return the files that were never applied, in order, whatever stands in the way of a run."""
    waiting = (Status.PENDING, Status.OUT_OF_ORDER)
    return tuple(entry.file for entry in entries if entry.file and entry.status in waiting)


def steps(
    entries: Sequence[Entry],
    *,
    to: str | None = None,
    out_of_order: bool = False,
    folder: str = "",
    recorded: Callable[[str], str | None] | None = None,
) -> tuple[Migration, ...]:
    """Return the migrations to run, in order.

    Args:
        entries: from `compare`.
        to: the last version to apply; None for all.
        out_of_order: also run files older than the newest applied one.
        folder: where the files are, as people type it, for messages.
        recorded: returns the SQL that the history keeps of a version, to show an edit as a diff.

    Raises:
        UsageError: there is no version `to`.
        DriftError: files and history disagree, so that no run is safe.

    """
    _refuse_inside_squash(entries)
    excused = (Status.OUT_OF_ORDER,) if out_of_order else ()
    if drift := [entry for entry in entries if entry.status in DRIFT and entry.status not in excused]:
        diffs = "\n".join(_diff(entry, recorded) for entry in drift if entry.status is Status.EDITED and recorded)
        raise DriftError([(entry.status.value, entry.label, _since(entry)) for entry in drift], folder, diffs)
    last = None if to is None else int(find(entries, to).version)
    return tuple(
        entry.file
        for entry in entries
        if entry.file and entry.status in (Status.PENDING, *excused) and (last is None or entry.file.number <= last)
    )


def _refuse_inside_squash(entries: Sequence[Entry]) -> None:
    """Stop where a database has some of the files that were squashed into one, but not all, or not as they were."""
    for squash in (entry.file for entry in entries if entry.file and entry.file.directives.replaces):
        inside = [entry for entry in entries if entry.row and int(entry.version) <= squash.number]
        if any(entry.row and entry.row.name != squash.name for entry in inside):
            replaced = squash.directives.replaces
            labels = [entry.row.label for entry in inside if entry.row]
            raise InsideSquash(squash.label, (replaced[0].label, replaced[-1].label), labels)


def find(entries: Sequence[Entry], version: str) -> Entry:
    """Return the entry of a version, with or without its leading zeros.

    Raises:
        UsageError: there is none.

    """
    for entry in entries:
        if version.isdecimal() and int(version) == int(entry.version):
            return entry
    known = f"{entries[0].version} to {entries[-1].version}" if entries else "none at all"
    raise UsageError(
        f"There is no migration {version!r}.",
        where=f"Known versions: {known}.",
        consequence="Nothing was changed.",
        next="invoke migrate-status",
    )


def newest(entries: Sequence[Entry], *, count: int = 1, to: str | None = None) -> list[str]:
    """Return the versions to undo, newest first.

    Args:
        entries: from `compare`.
        count: how many; all there are, when there are fewer.
        to: instead of a count, the version that stays the newest; 0 stands for none.

    Raises:
        UsageError: there is no version `to`.

    """
    applied = [entry for entry in reversed(entries) if entry.row]
    if to is None:
        return [entry.version for entry in applied[:count]]
    last = 0 if to == "0" else int(find(entries, to).version)
    return [entry.version for entry in applied if int(entry.version) > last]


def undo(
    entries: Sequence[Entry], versions: Sequence[str], *, copy: Callable[[str], str | None], folder: str
) -> tuple[Migration, ...]:
    """Return the down scripts of those of the versions that are applied, newest first.

    The script beside the file is used when it says what the history's copy says; the copy, when the script is gone.

    Args:
        entries: from `compare`.
        versions: to undo; the newest ones.
        copy: returns the down script that the history keeps of a version.
        folder: where the files are, as people type it, for messages.

    Raises:
        DriftError: one of them is half done.
        HistoryMoved: something newer has been applied since they were chosen.
        CannotUndo: one has no down script, or another one than when it was applied.

    """
    chosen = [entry for entry in reversed(entries) if entry.row and entry.version in versions]
    if half := [entry for entry in chosen if entry.status is Status.FAILED]:
        raise DriftError([(entry.status.value, entry.label, _since(entry)) for entry in half], folder)
    oldest = min((int(entry.version) for entry in chosen), default=0)
    if newer := [
        entry.label
        for entry in entries
        if chosen and entry.row and int(entry.version) > oldest and entry.version not in versions
    ]:
        raise HistoryMoved(newer)
    scripts, problems = [], []
    for entry, row in ((entry, entry.row) for entry in chosen if entry.row):
        squashed = entry.file and entry.file.directives.replaces  # the row's script undoes the last of them only
        kept = None if squashed else copy(row.version)
        beside = entry.file.down if entry.file else None
        if beside is None and kept is None:
            problems.append((entry.label, bool(entry.file), ""))
        elif beside and beside.sql != kept:
            problems.append((entry.label, True, _difference(kept or "", beside.sql or "", f"{entry.label}.down.sql")))
        else:
            path = entry.file.down_path if entry.file else None
            scripts.append(undoing(row.version, row.name, beside or kept_text(kept or ""), path))
    if problems:
        raise CannotUndo(problems, folder)
    return tuple(scripts)


def _diff(entry: Entry, recorded: Callable[[str], str | None]) -> str:
    """Show an edit against what was applied; nothing when the history does not keep it (a very large file)."""
    old = recorded(entry.row.version) if entry.row else None
    new = entry.file.text.sql if entry.file else None
    if old is None or new is None:
        return ""
    return _difference(old, new, f"{entry.label}.sql")


def _difference(old: str, new: str, name: str) -> str:
    names = f"{name} as applied", f"{name} now"
    lines = list(difflib.unified_diff(old.split("\n"), new.split("\n"), *names, n=1, lineterm=""))
    more = [f"... and {len(lines) - LONGEST_DIFF} lines more"] if len(lines) > LONGEST_DIFF else []
    return "\n".join(f"    {line}" for line in lines[:LONGEST_DIFF] + more)


def _since(entry: Entry) -> str:
    return entry.row.since if entry.row else ""


def refuse_unrecorded(tables: Sequence[str]) -> None:
    """Stop before a database without a history, but with tables, is migrated from the start.

    Args:
        tables: the user's tables that are there.

    Raises:
        Refused: there are some.

    """
    if not tables:
        return
    some = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more" if len(tables) > 5 else "")
    raise Refused(
        "This database has tables, but no history of migrations.",
        where=f"  tables: {some}",
        consequence="Other means made it (the old scripts?), so running every file again would fail or harm."
        " Nothing was changed.",
        next=(
            "Keep the data and record the files as applied:  invoke migrate-baseline\n"
            "Or empty the database (takes a backup first):    invoke migrate-reset"
        ),
    )


def entry_object(entry: Entry) -> dict[str, Any]:
    """Return an entry as in the JSON output; fields without a value are null."""
    row = entry.row
    return {
        "version": entry.version,
        "name": entry.name,
        "status": entry.status.value,
        "checksum": row.checksum if row else entry.file.text.checksum if entry.file else None,
        "applied_at": row.applied_at.isoformat() if row else None,
        "applied_by": row.applied_by if row else None,
        "duration_ms": row.duration_ms if row else None,
    }
