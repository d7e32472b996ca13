"""Which PostgreSQL process serves a data folder, judged by its `postmaster.pid`, and who has a port.

The file outlives a killed server or a reboot, and its process id may have been given to another program since; so the
process must be a PostgreSQL, and either name this folder or have been started when the file says.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

FILE = "postmaster.pid"
READY = frozenset({"ready", "standby"})
CLOCKS_DIFFER = 3.0  # seconds between the system's and PostgreSQL's idea of a start; both count whole seconds or ticks
NO_PROCESS = 2**31 - 1  # above every system's largest process id


class Postmaster(NamedTuple):
    """What `postmaster.pid` says (PostgreSQL's source: miscadmin.h, LOCK_FILE_LINE_*).

    Attributes:
        pid: its process.
        started: when, in seconds since 1970.
        port: its TCP port, 0 while it is not known yet.
        status: `starting`, `stopping`, `ready` or `standby`.

    """

    pid: int
    started: int
    port: int
    status: str

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self.status in READY


def read(folder: Path) -> Postmaster | None:
    """Read the file, whoever its process is; None without one."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    numbers = [int(line) if line.strip().isdecimal() else 0 for line in [*lines, *[""] * 8][:8]]
    status = lines[7].strip() if len(lines) > 7 else "starting"
    return Postmaster(pid=numbers[0], started=numbers[2], port=numbers[3], status=status) if numbers[0] else None


def running(folder: Path) -> Postmaster | None:
    """Return the server process of a data folder; None when it is not running, whatever is left of it."""
    found = read(folder)
    return found if found and _is_alive(found, folder) else None


def _is_alive(found: Postmaster, folder: Path) -> bool:
    try:
        process = psutil.Process(found.pid)
        data = data_folder(process)
        started = process.create_time()
    except psutil.Error:  # gone, a zombie, or another account's and so not ours
        return False
    if data is None:
        return False
    return data == folder or abs(started - found.started) <= CLOCKS_DIFFER


def data_folder(process: psutil.Process) -> Path | None:
    """Return the data folder that a postmaster was started with; None when the process is something else."""
    words = process.cmdline()
    if not words or not Path(words[0]).name.startswith("postgres") or "-D" not in words[:-1]:
        return None
    return Path(words[words.index("-D") + 1]).resolve()


def disown(folder: Path) -> None:
    """Take another program's process id out of the file, which PostgreSQL itself would take for a running server's.

    The rest of the file stays: PostgreSQL reads in it whether memory of the killed server is still in use.
    """
    found = read(folder)
    if found and psutil.pid_exists(found.pid) and not _is_alive(found, folder):
        file = folder / FILE
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        file.write_text("".join([f"{NO_PROCESS}\n", *lines[1:]]), encoding="utf-8", newline="\n")


def port_in_the_way(port: int) -> OSError | None:
    """Return the error of opening a port on 127.0.0.1, None when it is free."""
    with socket.socket() as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as PostgreSQL does: old connections are no bar
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def listener(port: int) -> str:
    """Return the program that listens on a port of this machine, as far as this account may know it; else nothing."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone, or another account's
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN and each.laddr.port == port:
                    return f"the program {process.name()} (process {process.pid})"
    return ""


def holder(port: int) -> str:
    """Return the data folder of another embedded server on that port, as far as it can be known; else nothing."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "-p" in words[:-1] and words[words.index("-p") + 1] == str(port) and (data := data_folder(process)):
                return str(data)
        except psutil.Error:
            continue
    return ""
