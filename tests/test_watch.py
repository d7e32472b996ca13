"""A slow statement is noticed from outside: by what runs at each look, and by what psql reports."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest

from infra.db import errors, psql, watch
from infra.db.database import Statement
from infra.db.events import Finished, Slow
from tests.values import NOON, migration, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.db.database import Database
    from infra.db.events import Event
    from infra.db.migration import Migration

FILE = migration("001_a", "SELECT 0;\nSELECT slow();\nSELECT quick();\nSELECT slow();\n")
NEXT = migration("002_b", "SELECT slow();\n")


class Clock:
    """Ours and the server's, which agree here."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Backend:
    """A database whose session runs what it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.running: tuple[float, str] | None = None
        self.asked = self.questions = 0
        self.is_lost = False

    def statement(self, _application: str) -> Statement | None:
        self.asked += 1
        if self.is_lost:
            raise errors.ServerLost("gone")
        if not self.running:
            return None
        began, text = self.running
        return Statement(NOON + timedelta(seconds=began), self.clock.now - began, text)

    def blockers(self, _application: str) -> list[object]:
        self.questions += 1
        return []

    def progress(self, _application: str) -> str:
        return ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch, "time", made)
    return made


@pytest.fixture
def backend(clock: Clock) -> Backend:
    return Backend(clock)


def events(backend: Backend, script: list[str | tuple[float, str] | None]) -> list[Event]:
    """Play what psql writes (START), what the session begins to run, and silent ticks of 250 ms (None)."""

    def output() -> Iterator[tuple[str, str] | None]:
        for item in script:
            if item is None:
                backend.clock.now += 0.25
                yield None
            elif isinstance(item, str):
                yield "stdout", f"tok {item}"
            else:
                backend.running = item

    steps = [step for step in (FILE, NEXT) if step is FILE or any("002" in str(item) for item in script)]
    run = watch.Run(steps, single=False)
    looks = watch.Watch(cast("Database", backend), "invoke migrate x")
    return list(watch.follow(output(), psql.Reader("tok"), looks, run))


def slow(found: list[Event]) -> list[tuple[int | None, object]]:
    return [(event.line, event.seconds) for event in found if isinstance(event, Slow)]


def test_a_statement_that_is_followed_by_another_ended_when_that_began(backend: Backend) -> None:
    ticks: list[None] = [None] * 8
    script = [
        "START",
        (1000.0, "SELECT slow();"),
        *ticks,
        (1001.9, "SELECT quick();"),
        None,
        "DONE 001 2000",
        "END",
    ]
    found = events(backend, script)
    assert slow(found) == [(2, pytest.approx(1.9))]
    assert isinstance(found[-1], Finished)


def test_a_statement_at_the_end_of_a_file_ended_when_psql_says_so(backend: Backend) -> None:
    script = ["START", (1000.0, "SELECT slow();"), *[None] * 6, "DONE 001 1500", "END"]
    assert slow(events(backend, script)) == [(2, pytest.approx(1.5))]


def test_a_statement_that_was_running_when_psql_ended_is_told_too(backend: Backend) -> None:
    assert slow(events(backend, ["START", (1000.0, "SELECT slow();"), *[None] * 5])) == [(2, pytest.approx(1.25))]


def test_a_statement_of_less_than_a_second_is_not_told(backend: Backend) -> None:
    script = ["START", (1000.0, "SELECT slow();"), *[None] * 3, "DONE 001 750", "END"]
    assert slow(events(backend, script)) == []


def test_the_same_words_again_are_another_line_and_another_file_begins_anew(backend: Backend) -> None:
    script = [
        *("START", (1000.0, "SELECT slow();"), *[None] * 5),
        *((1001.2, "SELECT slow();"), *[None] * 5, "DONE 001 2500"),
        *((1002.5, "SELECT slow();"), *[None] * 5, "DONE 002 1250", "END"),
    ]
    assert [line for line, _ in slow(events(backend, script))] == [2, 4, 1]


def test_what_is_not_in_the_file_has_no_line(backend: Backend) -> None:
    assert slow(events(backend, ["START", (1000.0, "COMMIT;"), *[None] * 5])) == [(None, pytest.approx(1.25))]


def test_a_quick_file_is_never_looked_at_and_a_long_one_is_asked_for_blockers_once_a_second(backend: Backend) -> None:
    events(backend, ["START", "DONE 001 3", "DONE 002 3", "END"])
    assert backend.asked == 0
    events(backend, ["START", (1000.0, "SELECT slow();"), *[None] * 40])
    assert (backend.asked, backend.questions) == (40, 10)


@pytest.mark.parametrize(
    ("known", "applied", "done", "running"),
    [
        pytest.param(FILE, ["001"], ["001"], NEXT, id="the second had begun, unheard"),
        pytest.param(FILE, [], [], FILE, id="all was heard"),
        pytest.param(NEXT, ["001", "002"], ["001", "002"], None, id="all was done"),
    ],
)
def test_how_far_an_interrupted_psql_came_is_known_from_the_history(
    known: Migration, applied: list[str], done: list[str], running: Migration | None
) -> None:
    run = watch.Run((FILE, NEXT), single=False, running=known)
    run.settle([row(f"{version}_x") for version in applied])
    assert (run.done, run.running) == (done, running)


@pytest.mark.parametrize(
    ("applied", "done", "running"),
    [
        pytest.param(["000"], ["001"], NEXT, id="none of it is there: what was heard says which file it was"),
        pytest.param(["000", "001", "002"], ["001", "002"], None, id="all of it is there"),
    ],
)
def test_of_a_single_transaction_the_history_knows_all_or_nothing(
    applied: list[str], done: list[str], running: Migration | None
) -> None:
    run = watch.Run((FILE, NEXT), single=True, running=NEXT, done=["001"])
    run.settle([row(f"{version}_x") for version in applied])
    assert (run.done, run.running) == (done, running)


def test_a_lost_connection_ends_the_watching_and_not_the_run(backend: Backend) -> None:
    backend.is_lost = True
    found = events(backend, ["START", *[None] * 9, "DONE 001 2250", "END"])
    assert [type(event).__name__ for event in found] == ["Started", "Finished"]
    assert backend.asked == 1
