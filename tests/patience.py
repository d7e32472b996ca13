"""Waiting for what must come, in tests that play with time: never for a number of seconds, but until it is so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from infra.db import psql

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.project import Project

PATIENCE = 60  # seconds until a test gives up waiting for what must come


def until(what: Callable[[], object]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def finish(started: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return exit code and output of a started command."""
    out, _ = started.communicate(timeout=PATIENCE)
    return started.returncode, out.decode()


def read_until(started: subprocess.Popen[bytes], words: bytes) -> None:
    """Read a started command's output up to a line with these words."""
    assert started.stdout
    said = b""
    while words not in said:
        said = started.stdout.readline()
        assert said, f"it ended without saying {words!r}"


def sleeping(project: Project) -> Callable[[], object]:
    """Tell whether a migration sleeps in the database."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND state = 'active' AND pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    return lambda: project.rows(query)


def no_run_is_left(project: Project) -> bool:
    """Tell whether no session of a run is left, and no lock of one."""
    return project.rows(
        "SELECT (SELECT count(*) FROM pg_stat_activity"
        "         WHERE application_name LIKE 'invoke migrate%%' AND datname = current_database()),"
        " (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        "   WHERE locktype = 'advisory' AND classid = %s AND datname = current_database())",
        psql.LOCK[0],
    ) == [(0, 0)]
