"""A few rounds of the soak; `python -m tests.soak --rounds 200` plays many."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import soak

if TYPE_CHECKING:
    from tests.project import Project


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL; the server's side is the same")
@pytest.mark.parametrize("number", range(1, 5))
def test_whatever_is_killed_nothing_is_half_done_and_the_next_run_finishes(anywhere: Project, number: int) -> None:
    for name, sql in soak.FILES.items():
        anywhere.write(name, sql)
    soak.play(replace(anywhere, settings={**anywhere.settings, "DB_NAME": "postgres"}), seed=7, number=number)
