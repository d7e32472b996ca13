"""A dump of the database in a file that is either complete or not there."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from infra.db import errors
from infra.db.servers.process import chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infra.db.servers import Programs
    from infra.db.settings import Settings

ARGUMENTS = ("--format=custom",)
MAGIC = b"PGDMP"  # the first bytes of the custom format
TICK = 0.25  # seconds


def take(server: Programs, settings: Settings, progress: Callable[[int], None]) -> Path:
    """Dump the whole database with the server's own pg_dump.

    The file gets its name only when it is complete and on the disk; nobody but its owner may read it.

    Args:
        server: runs pg_dump.
        settings: which database, and where backups go.
        progress: called with the number of bytes so far.

    Returns:
        The file: `<database>-<utc time>.dump`.

    Raises:
        BackupFailed: and no file is left.

    """
    folder = settings.backup_dir
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', settings.name)}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.dump"
    partial = folder / f".{name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb"
        ) as file:
            _dump(server, file.write, progress)
            file.flush()
            os.fsync(file.fileno())
        with partial.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise errors.BackupFailed("pg_dump wrote something that is not a dump")
        return partial.rename(folder / name)
    except OSError as error:
        raise errors.BackupFailed(f"{settings.shown(folder)}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _dump(server: Programs, write: Callable[[bytes], int], progress: Callable[[int], None]) -> None:
    process = server.execute("pg_dump", ARGUMENTS)
    size, said = 0, b""
    for item in chunks(process, tick=TICK):
        if item is None:
            progress(size)
        elif item[0] == "stdout":
            size += write(item[1])
        else:
            said += item[1]
    if process.wait() != 0:
        raise errors.BackupFailed(said.decode("utf-8", "replace").strip() or "pg_dump ended without a word")
