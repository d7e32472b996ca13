"""What two looks at a copy mean, and the verdict in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.db import findings
from infra.db.catalogue import Difference, Kind
from infra.db.errors import MigrationFailed
from infra.db.findings import Back, Lock, Picture, Relation, Report, Return, Rows, Sized, Tried
from infra.db.locks import Held
from tests.values import migration

SAME = Return(Back.SAME)


def relation(name: str, kind: str = "r", **more: int) -> Relation:
    plain: dict[str, Any] = {
        "node": 1, "size": 8192, "rows": 10, "table": 0, "inserted": 0, "updated": 0, "deleted": 0
    }  # fmt: skip
    return Relation(name, kind, **{**plain, **more})


def tried(before: Picture, after: Picture, *held: Held, **estimates: int) -> Tried:
    return findings.tried(migration("013_x"), 2.0, held, (before, after), estimates=estimates)


def file(*held: Lock, back: Return = SAME) -> Tried:
    empty = Picture({}, {})
    return replace(tried(empty, empty), locks=held, back=back)


def lock(seconds: float, mode: str = "ACCESS EXCLUSIVE", *, rows: int = 12_000_000, rewritten: bool = False) -> Lock:
    return Lock("public.content", mode, seconds, rows, rewritten)


def report(*files: Tried, data: bool = True, again: Return = SAME, roles: tuple[str, ...] = ()) -> Report:
    return Report(tried=files, failed=None, again=again, data=data, roles=roles)


def test_locks_count_on_tables_that_were_there_before_and_not_on_new_ones_or_indexes() -> None:
    before = Picture({}, {1: relation("public.a"), 2: relation("public.a_i", "i", table=1)})
    after = Picture({}, {**before.relations, 3: relation("public.b")})
    held = [Held(number, "ACCESS EXCLUSIVE", 9.0) for number in (1, 2, 3, 4)]
    found = tried(before, after, *held, **{"public.a": 77})
    assert found.locks == (Lock("public.a", "ACCESS EXCLUSIVE", 2.0, 77, rewritten=False),)


def test_a_table_in_another_file_was_written_anew_but_not_one_that_was_emptied() -> None:
    before = Picture({}, {1: relation("a"), 2: relation("b"), 3: relation("c", size=0)})
    after = Picture(
        {}, {1: relation("a", node=9, size=5), 2: relation("b", node=9, size=0), 3: relation("c", node=9, size=0)}
    )
    found = tried(before, after, Held(1, "ACCESS EXCLUSIVE", 1.0))
    assert found.rewritten == (Sized("a", "a", 5), Sized("c", "c", 0))
    assert found.locks[0].rewritten


def test_a_table_that_was_dropped_was_locked_but_not_written_anew() -> None:
    found = tried(Picture({}, {1: relation("a")}), Picture({}, {}), Held(1, "ACCESS EXCLUSIVE", 1.0))
    assert (found.locks[0].rewritten, found.rewritten) == (False, ())


def test_indexes_that_are_new_or_in_another_file_were_built() -> None:
    table = relation("t")
    before = Picture({}, {1: table, 2: relation("i", "i", table=1), 3: relation("j", "i", table=1)})
    after = Picture(
        {}, {**before.relations, 2: relation("i", "i", table=1, node=5), 4: relation("k", "i", table=1, size=3)}
    )
    assert tried(before, after).indexes == (Sized("i", "t", 8192), Sized("k", "t", 3))


def test_rows_that_changed_are_counted_by_table() -> None:
    before = Picture({}, {1: relation("a", inserted=5), 2: relation("b")})
    after = Picture({}, {1: relation("a", inserted=7, deleted=1), 2: relation("b"), 3: relation("c", inserted=4)})
    assert tried(before, after).rows == (Rows("a", 2, 0, 1), Rows("c", 4, 0, 0))


def test_objects_are_created_altered_and_dropped() -> None:
    found = tried(Picture({"a": "1\n", "b": "1\n"}, {}), Picture({"b": "2\n", "c": "1\n"}, {}))
    assert (found.created, found.altered, found.dropped) == (("c",), ("b",), ("a",))


BACK = "Every down script brings the schema back, and going forth again gives the same."


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        pytest.param(
            report(file(lock(38, rewritten=True))),
            [
                "013 holds ACCESS EXCLUSIVE on content for 38 s (12 M rows, rewrite): plan a window or split it.",
                BACK,
            ],
            id="a long lock",
        ),
        pytest.param(
            report(file(lock(5, "SHARE", rows=1), lock(0.2), lock(9, "SHARE UPDATE EXCLUSIVE"))),
            ["Nothing here holds up others for long.", BACK],
            id="the strongest lock of a table counts, and one that stops nobody does not",
        ),
        pytest.param(
            report(file(lock(5, rewritten=True)), data=False),
            [
                "013 holds ACCESS EXCLUSIVE on content while it writes it anew (12 M rows): rehearse it with the rows"
                " to know for how long.",
                BACK,
            ],
            id="a rewrite without the rows",
        ),
        pytest.param(report(file(lock(5, rows=0)), data=False), [findings.WITHOUT_ROWS, BACK], id="without the rows"),
        pytest.param(
            report(file(back=Return(Back.DIFFERS, (Difference("t", Kind.EXTRA, ""),))), again=Return()),
            ["The down script of 013 does not bring the schema back: one object differs."],
            id="not back",
        ),
        pytest.param(
            report(file(back=Return(Back.FAILED, said="x")), again=Return()),
            ["The down script of 013 fails."],
            id="a failing down script",
        ),
        pytest.param(
            report(file(back=Return(Back.NO_SCRIPT)), again=Return()),
            ["013 has no down script, so there is no way back from it and from what came before it."],
            id="no down script",
        ),
        pytest.param(
            report(file(), again=Return(Back.DIFFERS, tuple(Difference(name, Kind.EXTRA, "") for name in "tu"))),
            ["Going back and forth again gives another schema: 2 objects differ (t, u)."],
            id="another schema",
        ),
        pytest.param(
            report(file(), again=Return(Back.FAILED, said="013_x failed: why")),
            ["After going back, the files do not run again: 013_x failed: why"],
            id="not again",
        ),
        pytest.param(
            report(file(), roles=("r",)),
            ["The role r was made by this and stays, because roles belong to the whole server.", BACK],
            id="a role",
        ),
    ],
)
def test_the_verdict_says_what_to_do(given: Report, sentences: list[str]) -> None:
    assert findings.verdict(given) == sentences


@pytest.mark.parametrize(
    ("given", "good"),
    [
        (report(file()), True),
        (report(file(back=Return(Back.NO_SCRIPT)), again=Return()), True),
        (report(file(back=Return(Back.DIFFERS))), False),
        (report(file(back=Return(Back.FAILED))), False),
        (report(file(), again=Return(Back.DIFFERS)), False),
        (report(file(), again=Return(Back.FAILED)), False),
    ],
)
def test_what_does_not_come_back_is_not_good_but_what_has_no_way_back_is_no_failure(
    given: Report,
    good: bool,  # noqa: FBT001
) -> None:
    assert given.is_good == good


def test_a_file_that_fails_is_not_good_and_is_named() -> None:
    failure = MigrationFailed(version="014", name="y", file="m/014_y.sql", line=1, message="no", consequence="")
    failed = replace(report(file(), again=Return()), failed=failure)
    assert (failed.is_good, findings.verdict(failed)) == (False, ["014 fails: mend it first."])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0124, "12 ms"), (1.44, "1.4 s"), (38.2, "38 s"), (200, "3 min 20 s")]
)
def test_times_as_people_say_them(seconds: float, words: str) -> None:
    assert findings.duration(seconds) == words


@pytest.mark.parametrize(
    ("rows", "words"), [(0, "0 rows"), (1, "1 row"), (1200, "1,200 rows"), (12_345_678, "12 M rows")]
)
def test_rows_as_people_say_them(rows: int, words: str) -> None:
    assert findings.count(rows) == words
