"""From looks at what is held to how long it was held: never shorter than it was."""

from __future__ import annotations

import pytest

from infra.db import locks
from infra.db.locks import Held, Watch

TABLE = (7, "AccessExclusiveLock")
INDEX = (8, "ShareLock")


def watched(*looks: tuple[float, list[tuple[int, str]]], noted: list[tuple[int, str]] | None = None) -> list[Held]:
    watch = Watch()
    for now, found in looks:
        watch.look(found, now)
    watch.finish(noted or [], 0.5)
    return watch.held


def test_a_lock_is_held_from_the_look_before_the_first_until_the_look_after_the_last() -> None:
    held = watched((1, []), (2, [TABLE]), (3, [TABLE, INDEX]), (4, []), (5, []))
    assert held == [Held(7, "ACCESS EXCLUSIVE", 3), Held(8, "SHARE", 2)]


def test_of_a_lock_that_is_taken_again_the_longest_time_counts() -> None:
    assert watched((1, []), (2, [TABLE]), (3, []), (5, [TABLE]), (9, [TABLE]), (10, [])) == [
        Held(7, "ACCESS EXCLUSIVE", 7)
    ]


def test_a_lock_that_no_look_saw_was_held_for_no_longer_than_between_two() -> None:
    held = watched((1, []), (2, [INDEX]), (3, []), noted=[TABLE, INDEX])
    assert held == [Held(7, "ACCESS EXCLUSIVE", 0.5), Held(8, "SHARE", 2)]


@pytest.mark.parametrize(("elapsed", "seconds"), [(0, 0.01), (1, 0.01), (5, 0.05), (3600, 0.25)])
def test_the_longer_it_takes_the_less_often_it_is_looked_at(elapsed: float, seconds: float) -> None:
    assert locks.pause(elapsed) == pytest.approx(seconds)
