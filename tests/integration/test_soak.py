"""A few rounds of the soak; `python -m tests.soak --rounds 200` plays many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests import soak
from tests.systems import needs_sigkill

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

SEED = 7
ROUNDS = 4


@needs_sigkill
def test_whatever_is_killed_nothing_is_half_done_and_the_next_run_finishes(anywhere: Project, tmp_path: Path) -> None:
    for name, sql in soak.FILES.items():
        anywhere.write(name, sql)
    temporary = tmp_path / "temporary"  # for what a killed tool leaves
    temporary.mkdir()
    base = replace(anywhere, settings={**anywhere.settings, "TMPDIR": str(temporary)})
    clean = soak.undisturbed(base)
    for number in range(1, ROUNDS + 1):
        soak.play(base, clean, SEED, number)
