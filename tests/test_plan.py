"""Files against history: the status of each version, and what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.db import plan
from infra.db.errors import CannotUndo, DriftError, InsideSquash, Refused, UsageError
from infra.db.migration import Replaced
from infra.db.plan import Entry, Status
from tests.values import migration, row

if TYPE_CHECKING:
    from infra.db.history import Applied
    from infra.db.migration import Migration

A, B, C = migration("001_a"), migration("002_b"), migration("003_c")


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        pytest.param([], [], [], id="nothing at all"),
        pytest.param([A, B], [], ["001 pending", "002 pending"], id="empty history"),
        pytest.param([A, B], [row("001_a")], ["001 applied", "002 pending"], id="one applied"),
        pytest.param([A], [row("001_a", "baseline")], ["001 baseline"], id="adopted"),
        pytest.param([A], [row("001_a", checksum="v1:bb")], ["001 edited"], id="edited"),
        pytest.param([A], [row("001_a", "baseline", checksum="v1:bb")], ["001 edited"], id="edited after adopting"),
        pytest.param([], [row("001_a")], ["001 missing"], id="file gone"),
        pytest.param([B], [row("001_a"), row("002_b")], ["001 missing", "002 applied"], id="older file gone"),
        pytest.param([A, B], [row("002_b")], ["001 out-of-order", "002 applied"], id="older, never applied"),
        pytest.param(
            [A, C], [row("002_b", "baseline")], ["001 out-of-order", "002 missing", "003 pending"], id="mixed"
        ),
        pytest.param(
            [A, B], [row("002_b", "failed")], ["001 out-of-order", "002 failed"], id="older than a failed one"
        ),
        pytest.param([A], [row("001_a", "failed")], ["001 failed"], id="failed"),
        pytest.param([A], [row("001_a", "running")], ["001 failed"], id="died while running"),
        pytest.param([A], [row("001_a", "failed", checksum="v1:bb")], ["001 failed"], id="failed, then edited"),
        pytest.param([], [row("001_a", "failed")], ["001 failed"], id="failed, file gone"),
        pytest.param([migration("1_a")], [row("001_a")], ["1 applied"], id="other digits, same number"),
        pytest.param([migration("001_z")], [row("001_a")], ["001 applied"], id="renamed, same text"),
        pytest.param(
            [migration("001_z"), B],
            [row("001_a", checksum="v1:bb")],
            ["001 missing", "001 pending", "002 pending"],
            id="another branch's file of that number",
        ),
        pytest.param(
            [migration("10_j"), migration("9_i")], [row("9_i")], ["9 applied", "10 pending"], id="numbers, not letters"
        ),
    ],
)
def test_each_version_has_the_status_that_file_and_row_give_it(
    files: list[Migration], rows: list[Applied], expected: list[str]
) -> None:
    entries = plan.compare(files, rows)
    assert [f"{entry.version} {entry.status}" for entry in entries] == expected
    assert {entry.file for entry in entries if entry.file} == set(files)
    assert {entry.row for entry in entries if entry.row} == set(rows)


def test_an_entry_is_called_as_its_file_is_or_as_its_row_was() -> None:
    both, gone = plan.compare([migration("1_new")], [row("001_old"), row("002_gone")])
    assert (both.version, both.name, both.label) == ("1", "new", "1_new")
    assert (gone.version, gone.name, gone.label) == ("002", "gone", "002_gone")


@pytest.mark.parametrize(
    ("rows", "to", "out_of_order", "expected"),
    [
        pytest.param([], None, False, (A, B, C), id="all"),
        pytest.param([row("001_a")], None, False, (B, C), id="the rest"),
        pytest.param([row("001_a", "baseline")], "2", False, (B,), id="up to one, without its zeros"),
        pytest.param([row("001_a"), row("002_b")], "001", False, (), id="up to one that is applied"),
        pytest.param([row("001_a"), row("002_b"), row("003_c")], None, False, (), id="nothing to do"),
        pytest.param([row("002_b")], None, True, (A, C), id="out of order too"),
        pytest.param([row("002_b")], "001", True, (A,), id="out of order, up to one"),
        pytest.param([row("001_a")], None, True, (B, C), id="out of order where all is in order"),
    ],
)
def test_a_run_takes_what_is_pending_in_order(
    rows: list[Applied],
    to: str | None,
    out_of_order: bool,  # noqa: FBT001
    expected: tuple[Migration, ...],
) -> None:
    assert plan.steps(plan.compare([A, B, C], rows), to=to, out_of_order=out_of_order, folder="sql") == expected


DRIFT = {
    "edited": (
        "  001_a was edited after it was applied (2026-01-31 12:00 by ann)",
        "  001_a: undo the edit, or accept it:  invoke migrate-resolve 001 --applied",
    ),
    "missing": (
        "  002_b was applied, but its file is gone (2026-01-31 12:00 by ann)",
        "  002_b: bring its file back (another branch?),\n"
        "    or undo the newest, this one by the history's copy of its down script:  invoke migrate-rollback\n"
        "    or forget it:  invoke migrate-resolve 002 --pending",
    ),
    "out-of-order": (
        "  003_c was never applied, but newer files were",
        "  003_c: give it the next free number, or run it all the same:  invoke migrate --out-of-order",
    ),
    "failed": (
        "  004_d failed half-way, without a transaction (2026-01-31 12:00 by ann)",
        "  004_d: see what it left behind and mend it, then run it again:  invoke migrate-resolve 004 --pending\n"
        "    or, if it is complete now, say so:  invoke migrate-resolve 004 --applied",
    ),
}
DRIFTED = {
    "edited": Entry(Status.EDITED, A, row("001_a", checksum="v1:bb")),
    "missing": Entry(Status.MISSING, None, row("002_b")),
    "out-of-order": Entry(Status.OUT_OF_ORDER, C, None),
    "failed": Entry(Status.FAILED, migration("004_d"), row("004_d", "failed")),
}


def drift_text(*statuses: str) -> str:
    where, ways = ("\n".join(DRIFT[status][part] for status in statuses) for part in (0, 1))
    return f"The files in sql and the database's history disagree.\n{where}\nNothing was changed.\n{ways}"


@pytest.mark.parametrize(
    "statuses", [*(pytest.param([status], id=status) for status in DRIFT), pytest.param(list(DRIFT), id="all of them")]
)
def test_drift_stops_a_run_and_is_told_with_the_ways_out(statuses: list[str]) -> None:
    entries = [*(DRIFTED[status] for status in statuses), Entry(Status.PENDING, migration("009_i"), None)]
    with pytest.raises(DriftError) as caught:
        plan.steps(entries, folder="sql")
    assert str(caught.value) == drift_text(*statuses)


def test_only_out_of_order_is_excused_and_only_when_asked() -> None:
    with pytest.raises(DriftError) as caught:
        plan.steps(list(DRIFTED.values()), out_of_order=True, folder="sql")
    assert str(caught.value) == drift_text("edited", "missing", "failed")


def test_drift_beyond_the_last_version_asked_for_stops_the_run_too() -> None:
    with pytest.raises(DriftError):
        plan.steps(plan.compare([A, B, C], [row("001_a"), row("003_c", checksum="v1:bb")]), to="001", folder="sql")


def test_an_edit_is_shown_against_what_the_history_keeps() -> None:
    kept = {"001": "SELECT 1;\nSELECT 2;\n", "002": None}
    files = [migration("001_a", "SELECT 1;\nSELECT 3;\n"), B]
    entries = plan.compare(files, [row("001_a", checksum="v1:bb"), row("002_b", checksum="v1:bb")])
    with pytest.raises(DriftError) as caught:
        plan.steps(entries, folder="sql", recorded=kept.__getitem__)
    assert caught.value.where.rstrip("\n") == (
        "  001_a was edited after it was applied (2026-01-31 12:00 by ann)\n"
        "  002_b was edited after it was applied (2026-01-31 12:00 by ann)\n"
        "    --- 001_a.sql as applied\n"
        "    +++ 001_a.sql now\n"
        "    @@ -1,3 +1,3 @@\n"
        "     SELECT 1;\n"
        "    -SELECT 2;\n"
        "    +SELECT 3;\n"
        "     "
    ).rstrip("\n")


@pytest.mark.parametrize("version", [pytest.param("002", id="as written"), pytest.param("2", id="without zeros")])
def test_a_version_is_found_by_its_number(version: str) -> None:
    entries = plan.compare([A, B, C], [])
    assert plan.find(entries, version) is entries[1]


@pytest.mark.parametrize(
    ("files", "version", "known"),
    [
        pytest.param([A, B], "004", "001 to 002", id="unknown number"),
        pytest.param([A, B], "002_b", "001 to 002", id="a label"),
        pytest.param([A, B], "-1", "001 to 002", id="negative"),
        pytest.param([A, B], "", "001 to 002", id="nothing"),
        pytest.param([], "1", "none at all", id="no files"),
    ],
)
def test_a_version_that_is_not_there_is_told_with_those_that_are(
    files: list[Migration], version: str, known: str
) -> None:
    expected = (
        f"There is no migration {version!r}.\nKnown versions: {known}.\nNothing was changed.\ninvoke migrate-status"
    )
    with pytest.raises(UsageError) as caught:
        plan.find(plan.compare(files, []), version)
    assert str(caught.value) == expected
    with pytest.raises(UsageError) as caught:
        plan.steps(plan.compare(files, []), to=version, folder="sql")
    assert str(caught.value) == expected


def test_an_empty_database_needs_no_history() -> None:
    plan.refuse_unrecorded([])


@pytest.mark.parametrize(
    ("tables", "shown"),
    [
        pytest.param(list("ab"), "a, b", id="few"),
        pytest.param(list("abcde"), "a, b, c, d, e", id="five"),
        pytest.param(list("abcdefg"), "a, b, c, d, e and 2 more", id="many"),
    ],
)
def test_a_database_with_tables_but_no_history_is_told_with_the_ways_out(tables: list[str], shown: str) -> None:
    with pytest.raises(Refused) as caught:
        plan.refuse_unrecorded(tables)
    assert str(caught.value) == (
        "This database has tables, but no history of migrations.\n"
        f"  tables: {shown}\n"
        "Other means made it (the old scripts?), so running every file again would fail or harm. Nothing was changed.\n"
        "Keep the data and record the files as applied:  invoke migrate-baseline\n"
        "Or empty the database (takes a backup first):    invoke migrate-reset"
    )


def squashed(label: str, *replaced: tuple[str, str]) -> Migration:
    """Return a file that takes the place of others."""
    file = migration(label, checksum="v1:ss")
    return file._replace(directives=file.directives._replace(replaces=tuple(Replaced(*each) for each in replaced)))


ONE = squashed("002_ab", ("001_a", "v1:aa"), ("002_b", "v1:aa"))
TWO = squashed("003_abc", ("001_a", "v1:aa"), ("002_b", "v1:aa"), ("002_ab", "v1:ss"), ("003_c", "v1:aa"))


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        pytest.param([ONE, C], [], ["002 pending", "003 pending"], id="new database"),
        pytest.param([ONE, C], [row("001_a"), row("002_b")], ["002 applied", "003 pending"], id="old history"),
        pytest.param(
            [ONE, C], [row("001_a"), row("002_b"), row("003_c")], ["002 applied", "003 applied"], id="and more"
        ),
        pytest.param([ONE], [row("002_ab", checksum="v1:ss")], ["002 applied"], id="made by the squash"),
        pytest.param([ONE], [row("002_ab", checksum="v1:xx")], ["002 edited"], id="squash edited"),
        pytest.param(
            [TWO], [row("001_a"), row("002_b"), row("003_c")], ["003 applied"], id="squashed twice, oldest history"
        ),
        pytest.param(
            [TWO], [row("002_ab", checksum="v1:ss"), row("003_c")], ["003 applied"], id="squashed twice, squash"
        ),
    ],
)
def test_a_history_of_the_squashed_files_stands_for_the_squash(
    files: list[Migration], rows: list[Applied], expected: list[str]
) -> None:
    entries = plan.compare(files, rows)
    assert [f"{entry.version} {entry.status}" for entry in entries] == expected


@pytest.mark.parametrize(
    ("squash", "rows"),
    [
        pytest.param(ONE, [row("001_a")], id="some of them"),
        pytest.param(ONE, [row("002_b")], id="the last, without the first"),
        pytest.param(ONE, [row("001_a", checksum="v1:bb"), row("002_b")], id="another text"),
        pytest.param(TWO, [row("002_b"), row("003_c")], id="not from the start of either"),
        pytest.param(TWO, [row("002_ab", checksum="v1:ss")], id="the first squash only"),
    ],
)
def test_a_database_inside_the_squashed_range_is_refused(squash: Migration, rows: list[Applied]) -> None:
    entries = plan.compare([squash], rows)
    assert plan.Status.APPLIED not in [entry.status for entry in entries if entry.file]
    with pytest.raises(InsideSquash, match="nothing was changed"):
        plan.steps(entries)


def test_a_squash_is_not_undone_by_the_script_of_its_last_file() -> None:
    entries = plan.compare([ONE], [row("001_a"), row("002_b")])
    with pytest.raises(CannotUndo):
        plan.undo(entries, ["002"], copy=lambda _: "DROP TABLE b;", folder="sql")
