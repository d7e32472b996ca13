"""A database copied into an empty one, by pg_dump and pg_restore and a file between them.

A file, because a program's standard input is always empty here (see `servers.process`). The original is only read: a
dump sees it as it was at one moment, and holds up nobody but those who alter or drop a table meanwhile.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from infra.db import errors, history, staging
from infra.db.servers.process import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from infra.db.database import Database
    from infra.db.servers import Programs

DUMP = ("--format=custom", "--compress=1", "--no-subscriptions")
FILE = "database.dump"
TICK = 0.25  # seconds


def copy(
    source: tuple[Programs, Database], target: tuple[Programs, Database], *, data: bool, progress: Callable[[int], None]
) -> None:
    """Copy a database.

    Args:
        source: the programs and a connection of the one that is read.
        target: the same of the empty one.
        data: whether rows are copied too; those of the history always are.
        progress: called with the number of bytes of the dump so far.

    Raises:
        CopyFailed: with what pg_dump, pg_restore or the system said.

    """
    with staging.folder("copy") as folder:
        try:
            with (folder / FILE).open("wb") as file:

                def write(data: bytes) -> None:
                    file.write(data)
                    progress(file.tell())

                _run(source, "pg_dump", DUMP if data else (*DUMP, "--schema-only"), write=write)
        except OSError as error:
            raise errors.CopyFailed(f"{folder}: {error.strerror}") from None
        _run(target, "pg_restore", (f"--dbname={_conninfo(target[1])}", "--exit-on-error", FILE), folder=folder)
    if data:
        target[1].do("ANALYZE")
    elif source[1].history().exists:
        _copy_history(source[1], target[1])


def _run(
    where: tuple[Programs, Database],
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path | None = None,
    write: Callable[[bytes], object] = lambda _: None,
) -> None:
    """Run a program to its end; when we do not get there, end its session, which outlives it in a container."""
    programs, database = where
    application = f"invoke copy {secrets.token_hex(4)}"
    process = programs.execute(program, arguments, folder=folder, env={"PGAPPNAME": application})
    said = b""
    try:
        for stream, data in filter(None, chunks(process, tick=TICK)):
            if stream == "stdout":
                write(data)
            else:
                said += data
    except BaseException:
        with contextlib.suppress(errors.ServerError), contextlib.closing(database.again()) as fresh:
            fresh.terminate(application)
        raise
    if process.wait() != 0:
        raise errors.CopyFailed(said.decode("utf-8", "replace").strip() or f"{program} ended without a word")


def _copy_history(source: Database, target: Database) -> None:
    with (
        source.connection.cursor().copy(f"COPY {history.TABLE} TO STDOUT") as rows,
        target.connection.cursor().copy(f"COPY {history.TABLE} FROM STDIN") as into,
    ):
        for data in rows:
            into.write(data)


def _conninfo(database: Database) -> str:
    """Return the database as pg_restore wants to be told it: without, it would write SQL instead."""
    escaped = database.settings.name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
