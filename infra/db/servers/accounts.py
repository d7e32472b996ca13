"""Under which account PostgreSQL runs: it refuses root, so root runs it as somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FALLBACK = "nobody"


class Account(NamedTuple):
    """An account of this machine."""

    name: str
    uid: int
    gid: int


def of(folder: Path) -> Account | None:
    """Return the account that has to run what uses a data folder; None for our own.

    For root, that is the owner of the folder, or of the folder it is in (a checkout that `sudo` was used in), or
    `nobody` when that owner is root as well.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - not on Windows

    for place in (folder, folder.parent):
        owner = place.stat().st_uid if place.exists() else 0
        if owner:
            try:
                entry = pwd.getpwuid(owner)
            except KeyError:  # an account of another machine or container; initdb wants one with a name
                continue
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    entry = pwd.getpwnam(FALLBACK)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def give(path: Path, account: Account | None) -> None:
    """Make a file or folder of ours the account's."""
    if sys.platform != "win32" and account:
        os.chown(path, account.uid, account.gid)


def closed(folder: Path, account: Account) -> Path | None:
    """Return the topmost folder on the way to `folder` that the account cannot enter; None when the way is open.

    Asked of the system itself, as that account, because mode bits are not all there is (ACLs, mounts).
    """
    if _may_enter(folder, account):
        return None
    way = [*reversed(folder.parents), folder]
    return next((each for each in way if not _may_enter(each, account)), None)


def _may_enter(folder: Path, account: Account) -> bool:
    asked = subprocess.run(
        ["test", "-x", str(folder)], user=account.uid, group=account.gid, extra_groups=[], check=False
    )
    return asked.returncode == 0
