"""Folders for the files that a program is handed; they go with the task, and those of killed ones with a later one."""

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

KINDS = ("migrate", "copy", "restore")  # what they are for; a sweep in a container is for one kind (`Server.sweep`)
OLD = 24 * 3600  # seconds; what shares this folder may not share our process ids (containers), so age counts as well


@contextlib.contextmanager
def folder(kind: str = "migrate") -> Iterator[Path]:
    """Make a folder that only this account may enter, named after this process, for as long as the block lasts."""
    _sweep()
    ours = {"prefix": f"invoke-{kind}-", "suffix": f".{os.getpid()}"}
    with tempfile.TemporaryDirectory(**ours, ignore_cleanup_errors=True) as name:
        yield Path(name)


def names() -> list[str]:
    """Return the patterns of their names."""
    return [f"invoke-{kind}-*.*" for kind in KINDS]


def _sweep() -> None:
    """Remove what killed tasks of this account left more than a day ago."""
    here = Path(tempfile.gettempdir())
    for left in (left for pattern in names() for left in here.glob(pattern)):
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
