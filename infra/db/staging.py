"""Folders for the files that a run hands to psql; they go with the run, and those of killed runs with a later one."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "invoke-migrate-"
OLD = 24 * 3600  # seconds; what shares this folder may not share our process ids (containers), so age counts as well


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that only this account may enter, named after this process, for as long as the block lasts."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX, suffix=f".{os.getpid()}", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _sweep() -> None:
    """Remove what killed runs of this account left more than a day ago."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*.*"):
        if _is_ours_and_old(left) and not _is_running(left.name.rpartition(".")[2]):
            shutil.rmtree(left, ignore_errors=True)


def _is_ours_and_old(left: Path) -> bool:
    try:
        found = left.lstat()
    except OSError:  # another run was quicker
        return False
    is_ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()  # Windows: each account has its own folder
    return is_ours and stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > OLD


def _is_running(pid: str) -> bool:
    import psutil  # noqa: PLC0415 - seldom needed

    return not pid.isdecimal() or psutil.pid_exists(int(pid))
