"""Git, where the folder of the migrations is in a checkout; a machine without it just knows less."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TIME_LIMIT = 20  # seconds


def git(folder: Path, *words: str) -> str | None:
    """Return what git says in a folder; None when there is no git, no checkout, or it refuses."""
    program = shutil.which("git")
    if program is None or not folder.is_dir():
        return None
    done = subprocess.run(
        [program, *words],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=TIME_LIMIT,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def uncommitted(folder: Path, names: list[str]) -> list[str]:
    """Return those of the files of a folder that git does not keep as they are: new, edited, or no checkout at all."""
    kept = git(folder, "ls-files", "-z", "--", *names)
    changed = git(folder, "status", "--porcelain", "-z", "--", *names)
    if kept is None or changed is None or git(folder, "rev-parse", "--verify", "HEAD") is None:
        return names
    dirty = {entry[3:].rpartition("/")[2] for entry in changed.split("\0")}
    return [name for name in names if name in dirty or name not in kept.split("\0")]
