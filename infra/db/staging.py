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

# Linux keeps this in memory: making a small file costs a tenth there, and the disk is left to the server. It is used in
# the place of the usual folder only, never of one that somebody chose (TMPDIR).
MEMORY, USUAL = Path("/dev/shm"), Path("/tmp")  # noqa: S108 - a folder of our own is made in it
MOST_IN_MEMORY = 8 << 20  # bytes
KINDS = ("migrate", "copy", "restore")  # what they are for; a sweep in a container is for one kind (`Server.sweep`)
OLD = 24 * 3600  # seconds; what shares this folder may not share our process ids (containers), so age counts as well


@contextlib.contextmanager
def folder(kind: str = "migrate", *, size: int = 0) -> Iterator[Path]:
    """Make a folder that only this account may enter, named after this process, for as long as the block lasts.

    Args:
        kind: one of `KINDS`.
        size: bytes that it is going to hold, if that is known.

    """
    _sweep()
    here, *others = places()
    ours = {"prefix": f"invoke-{kind}-", "suffix": f".{os.getpid()}"}
    in_memory = others and 0 < size <= MOST_IN_MEMORY and os.access(MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(**ours, dir=MEMORY if in_memory else here, ignore_cleanup_errors=True) as name:
        yield Path(name)


def places() -> list[Path]:
    """Return where such folders are made."""
    here = Path(tempfile.gettempdir())
    return [here, MEMORY] if here == USUAL else [here]


def names() -> list[str]:
    """Return the patterns of their names."""
    return [f"invoke-{kind}-*.*" for kind in KINDS]


def _sweep() -> None:
    """Remove what killed tasks of this account left more than a day ago."""
    for left in (left for here in places() for pattern in names() for left in here.glob(pattern)):
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
