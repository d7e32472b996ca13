"""A run's own folder goes with it; what killed runs left goes a day later, and nothing else ever does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from infra.db import staging

if TYPE_CHECKING:
    from pathlib import Path

YESTERDAY = time.time() - staging.OLD - 60


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def dead() -> int:
    """The process id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def left(here: Path, name: str, at: float = YESTERDAY) -> Path:
    """Leave a folder with a file in it, as a killed run does."""
    folder = here / name
    folder.mkdir()
    (folder / "001.sql").write_text("SELECT 1;")
    os.utime(folder, (at, at))
    return folder


def test_a_folder_is_ours_alone_and_goes_with_its_block(here: Path) -> None:
    with staging.folder("copy") as folder:
        assert folder.parent == here
        assert folder.name.startswith("invoke-copy-")
        assert folder.name.endswith(f".{os.getpid()}")
        assert "-" not in folder.name.removeprefix("invoke-copy-")  # what `Container.sweep` counts on
        assert sys.platform == "win32" or stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "driver.sql").touch()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "in_memory"), [(1, True), (staging.MOST_IN_MEMORY, True), (staging.MOST_IN_MEMORY + 1, False), (0, False)]
)
def test_what_is_known_to_be_small_is_kept_in_memory_where_there_is_such_a_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, size: int, in_memory: object
) -> None:
    memory = here / "memory"
    monkeypatch.setattr(staging, "MEMORY", memory)
    monkeypatch.setattr(staging, "USUAL", here)
    with staging.folder(size=size) as folder:
        assert folder.parent == here
    memory.mkdir()
    with staging.folder(size=size) as folder:
        assert folder.parent == (memory if in_memory else here)
    assert list(here.rglob("*")) == [memory]
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(memory))  # somebody's choice
    with staging.folder(size=size) as folder:
        assert folder.parent == memory


def test_what_a_killed_task_left_in_memory_goes_too(here: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MEMORY", here / "memory")
    monkeypatch.setattr(staging, "USUAL", here)
    staging.MEMORY.mkdir()
    left(staging.MEMORY, f"invoke-migrate-abc.{dead}")
    with staging.folder():
        pass
    assert list(staging.MEMORY.iterdir()) == []


@pytest.mark.parametrize("kind", staging.KINDS)
def test_what_a_killed_task_left_a_day_ago_is_removed(here: Path, dead: int, kind: str) -> None:
    left(here, f"invoke-{kind}-abc.{dead}")
    with staging.folder():
        pass
    assert list(here.iterdir()) == []


def test_what_may_be_in_use_or_is_not_ours_stays(here: Path, dead: int) -> None:
    elsewhere = left(here, "elsewhere")
    left(here, f"invoke-migrate-young.{dead}", time.time())
    left(here, f"invoke-migrate-alive.{os.getpid()}")
    left(here, "invoke-migrate-nobodys.folder")
    left(here, "invoke-migrate-none")
    (here / f"invoke-migrate-file.{dead}").touch()
    os.utime(here / f"invoke-migrate-file.{dead}", (YESTERDAY, YESTERDAY))
    (here / f"invoke-migrate-link.{dead}").symlink_to(elsewhere)
    if os.utime in os.supports_follow_symlinks:  # not on Windows
        os.utime(here / f"invoke-migrate-link.{dead}", (YESTERDAY, YESTERDAY), follow_symlinks=False)
    before = sorted(here.rglob("*"))
    with staging.folder():
        pass
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there, each account has a temporary folder of its own")
def test_what_another_account_left_stays(here: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left(here, f"invoke-migrate-abc.{dead}")
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with staging.folder():
        pass
    assert folder.exists()
