"""The doctor's visit: every check, shown as it is made. The one task that is given no Session, which it may lack."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from infra.db import check
from infra.db.doctor import Doctor
from infra.db.servers import choice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infra.db.console import Console
    from infra.db.servers import Server
    from infra.db.settings import Settings


def diagnose(console: Console, root: Path, read: Callable[[], Settings]) -> int:
    """Check everything that a run needs, and show it; works also where no Session can be made.

    Args:
        console: where words go.
        root: the project's top folder.
        read: reads the settings.

    Returns:
        The exit code: the first fault's, 0 without one.

    """

    def choose(settings: Settings) -> Server:
        console.secret = settings.password
        return choice.choose(settings, lambda _line: None, console.pulling)

    with contextlib.closing(Doctor(root, read, choose)) as doctor:
        checks = []
        for found in doctor.checks():
            checks.append(found)
            console.check(found)
    code = next((each.exit_code for each in checks if each.verdict is check.Verdict.FAULT), 0)
    console.diagnosis(doctor.kind, checks, code)
    return code
