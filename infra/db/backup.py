"""A dump of the database in a file that is either complete or not there.

Beside it lies its record, `<file>.sha256`, in the format of `sha256sum`: what `db.restore` compares, and what
makes a file known as one of ours. Only such files are ever removed, and only the oldest ones of the same database.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import platform
import re
import secrets
import tempfile
import time
import urllib.parse
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

from infra.db import errors, layout, staging
from infra.db.database import describe
from infra.db.servers.process import chunks, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from infra.db.database import Database
    from infra.db.servers import Server
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

APPLICATION = "invoke db.backup"  # what its sessions are called; pg_dump's own is followed by a token
TICK = 0.25  # seconds
WATCH_EVERY = 1.0  # seconds between looks at whom a quiet pg_dump waits for
PARTIAL = ".partial"
STAMP = r"\d{8}T\d{6}\.\d{6}Z"
RECORD = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")
# What pg_dump dumps rows of.
TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# Whoever holds the run's lock knows that a pg_dump of ours is an orphan: its tool was killed.
ORPHANS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
 WHERE datname = current_database() AND starts_with(application_name, %s) AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup.

    Attributes:
        file: the dump.
        size: in bytes.
        removed: older ones that had to make room.

    """

    file: Path
    size: int
    removed: tuple[Path, ...] = ()


def take(
    server: Server, database: Database, settings: Settings, tell: Callable[[str], None], *, out: Path | None = None
) -> Backup:
    """Dump the whole database with the server's own pg_dump; the caller holds the run's lock.

    The file gets its name only when it is complete, on the disk, and read back by pg_restore from the first byte to
    the last; nobody but its owner may read it.

    Args:
        server: runs pg_dump and pg_restore.
        database: the connection that holds the lock; watches.
        settings: which database, where backups go, and how many stay there.
        tell: called with a few words on how far it is.
        out: another file; it must not exist, and is never removed later.

    Raises:
        BackupExists: `out` is there already.
        BackupFailed: and no file is left.
        BackupBlocked: another session holds a table; no file is left.

    """
    file = out or settings.backup_dir / f"{_stem(settings)}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.dump"
    for taken in (file, record_path(file)):
        if taken.exists():
            raise errors.BackupExists(settings.shown(taken))
    database.rows(ORPHANS, f"{APPLICATION} ")
    origin = _origin(database)
    unfinished = [file.with_name(f".{file.name}.{_node()}-{os.getpid()}{PARTIAL}"), record_path(file)]
    partial, record = unfinished
    try:
        outcome(server.execute("pg_dump", ["--version"]))  # what will not do is refused before anything is written
        file.parent.mkdir(parents=True, exist_ok=True)
        _sweep(file.parent)
        digest = _write(partial, server, database, tell)
        tell("reading it back")
        _verify(server, partial)
        with _private(record) as text:
            text.write(f"# {origin}\n{digest}  {file.name}\n".encode())
        partial.rename(file)
        unfinished.clear()
    except OSError as error:
        raise errors.BackupFailed(_words(error, settings)) from None
    except KeyboardInterrupt:
        raise errors.Interrupted(
            "The backup was interrupted.",
            consequence="No backup file was left, and nothing in the database was changed.",
            next="Run the same command again.",
        ) from None
    finally:
        for left in unfinished:
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return Backup(file, file.stat().st_size, () if out else _prune(settings, origin))


def record_path(file: Path) -> Path:
    """Return where the record of a dump is."""
    return file.with_name(f"{file.name}.sha256")


def check(file: Path, shown: str) -> bool:
    """Compare a dump with its record; False when it has none.

    Raises:
        BackupDamaged: they differ, or the record cannot be read.

    """
    record = record_path(file)
    if not record.is_file():
        return False
    expected = _recorded(record)
    if not expected:
        raise errors.BackupDamaged(shown, f"{record.name} holds no SHA-256 checksum")
    with file.open("rb") as dump:
        found = hashlib.file_digest(dump, "sha256").hexdigest()
    if found != expected["digest"]:
        raise errors.BackupDamaged(shown, f"its SHA-256 is {found}, and {record.name} says {expected['digest']}")
    return True


# --- the name ---


def _stem(settings: Settings) -> str:
    """Return the name of the database as a file may be called; two databases never have the same."""
    return urllib.parse.quote(settings.name, safe="")


def _node() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node())


def _origin(database: Database) -> str:
    """Return what the first line of a record says: whose backups it is that take each other's place."""
    identity, settings = database.facts().identity, database.settings
    server = identity.system_identifier or f"{settings.host}:{settings.port}"
    return f"made by invoke db.backup of server {server}"


# --- pg_dump ---


@dataclass(slots=True)
class _Dump:
    """A pg_dump at work: where its bytes go, how far it is, whom it waits for, what it said."""

    database: Database
    application: str
    process: Process
    output: Iterator[tuple[str, bytes] | None]
    tell: Callable[[str], None]
    size: int = 0
    tables: int = 0
    begun: int = 0
    doing: str = ""
    rest: bytes = b""
    complaint: list[bytes] = field(default_factory=list)
    blockers: Sequence[str] = ()
    blocked_since: float = 0.0
    next_look: float = 0.0

    def run(self, write: Callable[[bytes], object]) -> None:
        """Pass its output on until it ends.

        Raises:
            BackupFailed: it did not end well.
            BackupBlocked: another session held a table.

        """
        self.tables = self.database.rows(TABLES)[0][0]
        for item in self.output:
            if item is None:
                self._look()
            elif item[0] == "stdout":
                self.size += len(item[1])
                write(item[1])
            else:
                self._hear(item[1])
            self.tell(f"waits for {self.blockers[0]}" if self.blockers else f"{layout.size(self.size)}{self.doing}")
        if code := self.process.wait():
            raise self._failure(code)

    def _look(self) -> None:
        if time.monotonic() > self.next_look:
            self.next_look = time.monotonic() + WATCH_EVERY
            if not self.blockers:
                self.blocked_since = time.monotonic()
            self.blockers = [describe(each) for each in self.database.blockers(self.application)]

    def _hear(self, said: bytes) -> None:
        *whole, self.rest = (self.rest + said).split(b"\n")
        for line in whole:
            if self.complaint or line.startswith(b"pg_dump: error: "):
                self.complaint.append(line)
                continue
            self.blockers = ()  # it goes on
            if table := re.search(rb'dumping contents of table "(.*)"', line):
                self.begun += 1
                name = table[1].decode("utf-8", "replace")
                self.doing = f", table {self.begun} of {self.tables}: {name}"

    def _failure(self, code: int) -> errors.ToolError:
        """Say why it failed; that it gave up waiting shows in the time, as the server's words are in any language."""
        waited = time.monotonic() - self.blocked_since + WATCH_EVERY + 2 * TICK
        if self.blockers and waited >= self.database.settings.wait_timeout:
            return errors.BackupBlocked(self.blockers)
        said = b"\n".join([*self.complaint, self.rest]).decode("utf-8", "replace").strip()
        return errors.BackupFailed(said or f"pg_dump ended with exit code {code}")


def _write(partial: Path, server: Server, database: Database, tell: Callable[[str], None]) -> str:
    """Write the dump to the disk; its SHA-256."""
    application = f"{APPLICATION} {secrets.token_hex(4)}"
    patience = f"--lock-wait-timeout={round(database.settings.wait_timeout * 1000)}"
    digest = hashlib.sha256()
    with _private(partial) as file:

        def write(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        process = server.execute("pg_dump", ["--format=custom", "--verbose", patience], env={"PGAPPNAME": application})
        output = chunks(process, tick=TICK)
        try:
            _Dump(database, application, process, output, tell).run(write)
        except BaseException as error:
            _end(database, application)
            if isinstance(error, Exception):  # what it had still to say would keep it from ending
                collections.deque(output, maxlen=0)
                process.wait()
            raise
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _private(path: Path) -> BinaryIO:
    """Create a file that only its owner may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb")


def _end(database: Database, application: str) -> None:
    """End pg_dump by its session, wherever it runs; a server that is gone has ended it by itself."""
    with contextlib.suppress(errors.ServerLost), contextlib.closing(database.again()) as fresh:
        fresh.terminate(application)


def _verify(server: Server, file: Path) -> None:
    """Let pg_restore read all of it; its list alone would not see that the end is missing.

    Raises:
        BackupFailed: it cannot.

    """
    nowhere = "/dev/null" if server.kind == "docker" else os.devnull
    with staging.folder("restore") as folder:
        code, _, said = outcome(server.execute("pg_restore", [f"--file={nowhere}", file], folder=folder))
    if code:
        raise errors.BackupFailed(f"what was written cannot be read back: {said.strip() or f'exit code {code}'}")


def _words(error: OSError, settings: Settings) -> str:
    """Say where it happened; a write that fails has no name, and a container's copy goes through a temporary file."""
    folders = f"{settings.shown(settings.backup_dir)} (or the temporary folder {tempfile.gettempdir()})"
    return f"{settings.shown(Path(error.filename)) if error.filename else folders}: {error.strerror}"


# --- what is there already ---


def _sweep(folder: Path) -> None:
    """Remove what killed backups of this machine left behind: theirs is the pattern, and their process has ended."""
    pattern = re.compile(rf"\..+\.{_node()}-(?P<pid>\d+){re.escape(PARTIAL)}")
    for left in folder.iterdir() if folder.is_dir() else ():
        found = pattern.fullmatch(left.name)
        if found and left.is_file() and not psutil.pid_exists(int(found["pid"])):
            left.unlink(missing_ok=True)


def _prune(settings: Settings, origin: str) -> tuple[Path, ...]:
    """Remove the oldest backups of this database on this server beyond the number to keep; which."""
    pattern = re.compile(rf"{re.escape(_stem(settings))}-{STAMP}\.dump")
    names = sorted(file.name for file in settings.backup_dir.iterdir() if pattern.fullmatch(file.name))
    ours = [file for name in names if _is_ours(file := settings.backup_dir / name, origin)]
    gone = []
    for file in ours[: -settings.backup_keep]:
        with contextlib.suppress(OSError):  # somebody reads it (Windows): it goes next time
            file.unlink()
            record_path(file).unlink()
            gone.append(file)
    return tuple(gone)


def _is_ours(file: Path, origin: str) -> bool:
    """Tell whether a record beside the file says that we made it from this server, under this name."""
    record = record_path(file)
    found = _recorded(record) if record.is_file() and file.is_file() and not file.is_symlink() else None
    return found is not None and found["name"] == file.name and found.string.startswith(f"# {origin}\n")


def _recorded(record: Path) -> re.Match[str] | None:
    """Find the checksum in a record: ours, or one that `sha256sum` wrote."""
    try:
        return re.search(rf"^{RECORD.pattern}$", record.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
