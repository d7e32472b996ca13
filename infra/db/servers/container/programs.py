"""Programs in the container, and the files that they need there."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tarfile
import tempfile
import time
from typing import TYPE_CHECKING, Any

from infra.db import errors, staging
from infra.db.servers import Address, libpq
from infra.db.servers.container.checkout import PORT
from infra.db.servers.container.engine import asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container as DockerContainer

    from infra.db.servers.container.checkout import Checkout

SOCKETS = "/var/run/postgresql"  # the image lets clients in there without a password
FILE = "file"  # the name in the container of what is copied in beside a folder
STREAMS = {1: "stdout", 2: "stderr"}

# $1 is the folder that was copied in, or empty; the rest is the program. The folder goes when the program ends, also
# when nobody waits for it any more.
WRAPPER = """\
folder=$1; shift
[ -z "$folder" ] || cd "$folder" || exit 126
"$@"; code=$?
[ -z "$folder" ] || { cd /; rm -rf "$folder"; }
exit $code
"""


class ContainerProcess:
    """A program in a container."""

    def __init__(
        self,
        client: DockerClient,
        container: DockerContainer,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        program: str,
    ) -> None:
        """Start it.

        Args:
            client: the SDK's.
            container: where.
            argv: the program and its arguments; no secret belongs here.
            env: its variables, on top of the container's.
            program: what to call it in an error.

        """
        self._api = client.api
        self._container = container.name or ""
        self._program = program
        self._last = b""
        self._id: str = self._api.exec_create(container.id or "", list(argv), environment=dict(env))["Id"]
        sock: Any = self._api.exec_start(self._id, socket=True)
        getattr(sock, "_sock", sock).settimeout(None)  # the client's own limit would end a quiet statement
        self._response = sock._response  # noqa: SLF001 - the SDK keeps it there against the garbage collector

    def sources(self) -> Sequence[Iterator[tuple[str, bytes]]]:
        """Both streams in one iterator."""
        return [self._frames()]

    def _frames(self) -> Iterator[tuple[str, bytes]]:
        """Yield the engine's frames: one byte for the stream, four for the length, then the data.

        They are read through the buffer that read the response's head. The SDK's own reader (`stream=True`) goes round
        it, to the socket, and loses what arrived together with the head: seen with 7.2 when the client was held up.
        """
        buffer = self._response.raw._fp.fp  # noqa: SLF001 - where the SDK finds the socket, one level further out
        with asking(f"read what {self._program} says", self._container), contextlib.closing(self._response):
            while len(head := buffer.read(8)) == 8:
                kind, size = struct.unpack(">BxxxL", head)
                self._last = buffer.read(size)
                yield STREAMS.get(kind, "stderr"), self._last

    def wait(self) -> int:
        """Return the exit code.

        Raises:
            ProgramMissing: it was never started.
            EngineFailed: the container is gone.

        """
        with asking(f"see how {self._program} ended", self._container):
            while (state := self._api.exec_inspect(self._id))["Running"]:
                time.sleep(0.02)
        code = state["ExitCode"]
        if code in (126, 127):
            reason = " ".join(self._last.decode("utf-8", "replace").split())
            raise errors.ProgramMissing(self._program, self._container, reason)
        return 137 if code is None else int(code)


def start(
    here: Checkout, container: DockerContainer, argv: Sequence[str], program: str, env: Mapping[str, str] | None = None
) -> ContainerProcess:
    """Start a program, connected to the server beside it by PG* variables.

    Args:
        here: whose settings to connect with.
        container: where.
        argv: the program and its arguments; no secret belongs here.
        program: what to call it in an error.
        env: further environment variables.

    Raises:
        EngineFailed: it could not be started.

    """
    variables = {
        "LC_ALL": "C",  # psql's own words (LINE, DETAIL, HINT) are read by us
        **libpq.connection(here.settings, Address(SOCKETS, PORT)),
        **(env or {}),
    }
    with asking(f"run {program} in container {container.name}", container.name or ""):
        return ContainerProcess(here.engine.client, container, argv, env=variables, program=program)


def ask(here: Checkout, container: DockerContainer, argv: list[str]) -> tuple[int, str, str]:
    """Run a short program to its end; its exit code, output and error output."""
    process = start(here, container, argv, argv[0])
    said = {"stdout": b"", "stderr": b""}
    for source in process.sources():
        for stream, data in source:
            said[stream] += data
    return process.wait(), said["stdout"].decode("utf-8", "replace"), said["stderr"].decode("utf-8", "replace")


def by_docker_exec(
    here: Checkout, container: DockerContainer, program: str, *, at_terminal: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the beginning of an argv, and the environment for it; only the names of variables are in the argv."""
    docker = shutil.which("docker", path=here.settings.environment.get("PATH", ""))
    if docker is None:
        raise errors.NoShell(program, container.name or "")
    variables = libpq.connection(here.settings, Address(SOCKETS, PORT))
    names = [word for name in variables for word in ("--env", name)]
    modes = ["--interactive", *(["--tty"] if at_terminal else [])]
    own = {name: text for name, text in here.settings.environment.items() if not name.startswith("DOCKER_")}
    argv = [docker, "exec", *modes, *names, container.id or "", program]
    return argv, {**own, **here.engine.endpoint.variables, **variables}


def copy_in(container: DockerContainer, folder: Path, beside: Sequence[Path]) -> None:
    """Copy a folder into the container's /tmp, by way of a temporary file: a dump may be larger than the memory.

    Args:
        container: where to.
        folder: what is copied, under its own name.
        beside: a further file, which is put into the copy.

    """

    def readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644  # Windows has no modes of its own
        return member

    with tempfile.TemporaryFile() as file, asking(f"copy files into container {container.name}", container.name or ""):
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(folder, arcname=folder.name, filter=readable)
            for each in beside:
                tar.add(each.resolve(), arcname=f"{folder.name}/{FILE}", filter=readable)
        file.seek(0)
        container.put_archive("/tmp", file)  # noqa: S108 - in the container; a file is streamed


def read(container: DockerContainer, path: str) -> str:
    """Return a small text file of a container, running or not; empty when there is none."""
    from docker.errors import NotFound  # noqa: PLC0415

    with asking(f"read a file of container {container.name}", container.name or ""), contextlib.suppress(NotFound):
        pieces, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            return file.read().decode("utf-8", "replace") if file else ""
    return ""


def remove_leftovers(container: DockerContainer) -> None:
    """Remove what a run that died with its container left there; a later one may have nothing to do, and no psql.

    Nobody's files are in use: none are copied in before the server is ready.
    """
    from docker.errors import DockerException  # noqa: PLC0415

    with contextlib.suppress(DockerException):  # it has ended again, which is told elsewhere
        container.exec_run(["sh", "-c", f"cd /tmp && rm -rf {' '.join(staging.names())}"])
