"""PostgreSQL in a container: the only user of the Docker SDK.

The container is the postgres service of `infra/docker-compose.yml`. One that compose made is found by its labels
and used as it is; where there is none, it is created with the labels that let `docker compose ps`, `logs`, `exec`,
`stop` and `down` see it. What belongs to another checkout or another project is never touched.

The class Container is the door; behind it, each module imports from those before it only:
engine <- checkout <- programs <- troubles <- making, removing, examining.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db import errors
from infra.db.servers import clients, libpq
from infra.db.servers.container import making, programs, removing, troubles
from infra.db.servers.container.checkout import Checkout, addresses
from infra.db.servers.container.engine import Engine, asking, find_engine
from infra.db.servers.process import Recorded, foreground

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from docker.models.containers import Container as DockerContainer

    from infra.db.errors import ServerError
    from infra.db.servers import Address, Examination, Identity
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

__all__ = ["Container", "Engine", "find_engine"]

WHO = """\
SELECT system_identifier, to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
  FROM pg_control_system()
"""


class Container:
    """The postgres service of this checkout, in a container."""

    kind = "docker"

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Remember what to work with; asks no engine yet.

        Args:
            settings: whose database, and where the compose file is.
            engine: the one to use; found when it is first needed otherwise.
            progress: told (bytes done, bytes known so far) while an image is pulled; without it, lines are told.

        """
        self._here = Checkout(settings, engine)
        self._progress = progress

    def place(self) -> str:
        """Return the container's name, as soon as it is known."""
        return self._here.place()

    def address(self) -> Address | None:
        """Return where it is really published.

        Raises:
            ServerError: no engine answers, it is paused, or it is published on no port.

        """
        container = self._here.found()
        if container is None or container.status not in ("running", "paused"):
            return None
        if container.status == "paused":
            raise errors.ContainerPaused(container.name or "")
        return self._here.address(container)

    def exists(self) -> bool:
        """Tell whether the container, or its data without one, is there."""
        if self._here.found() is not None:
            return True
        service = self._here.service()
        with asking("list its volumes"):
            names = {volume.name for volume in self._here.engine.client.volumes.list()}
        return any(volume.name in names for volume in service.volumes)

    def start(self, tell: Callable[[str], None]) -> Address:
        """Find the container, or create it; start it; see the Protocol."""
        container = self._here.found()
        if container is not None and not self._here.fits(container):
            container = making.create_again(self._here, container, tell, self._progress)
        if container is None:
            container = making.create(self._here, self._here.service(), tell, self._progress)
        self._here.name = container.name or ""
        if container.status == "paused":
            raise errors.ContainerPaused(self._here.name)
        if container.status != "running":
            tell(f"Starting container {self._here.name}")
            has_run = container.status != "created"
            making.start(self._here, container)
            if has_run:
                programs.remove_leftovers(container)
        if container.status != "running" and (trouble := self.trouble()):
            raise trouble
        return self._here.address(container)

    def trouble(self) -> ServerError | None:
        """Say how the container has died, if it has."""
        return troubles.death(self._here)

    def explain(self, error: ServerError) -> ServerError:
        """Say why a connection was refused, by one exec that asks the server inside; see the Protocol."""
        return troubles.explain(self._here, error)

    def verify(self, identity: Identity) -> None:
        """Raise WrongServer unless the server that answered is the one in the container.

        An address that the engine gave to the container is proof enough, and costs no exec; otherwise (rootless
        engines, host networking) the server inside is asked when it was started.
        """
        container = self._here.running()
        if identity.address in addresses(container):
            return
        code, out, _ = programs.ask(self._here, container, ["psql", "-XAtqw", "-c", WHO])
        identifier, _, started_at = out.strip().partition("|")
        if code or started_at != identity.started_at or identity.system_identifier not in ("", identifier):
            raise errors.WrongServer(container.name or "", self._here.address(container).port)

    def execute(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        into: Sequence[str] | None = None,
    ) -> Process:
        """Start a program in the container, by one exec; see the Protocol."""
        container = self._here.running()
        inside = ""
        if folder is not None:
            inside = f"/tmp/{folder.name}"  # noqa: S108 - in the container, with a name that the caller made unique
            programs.copy_in(container, folder, [each for each in arguments if isinstance(each, Path)])
        argv = [program, *(each if isinstance(each, str) else programs.FILE for each in arguments)]
        if into:
            argv = ["sh", "-c", f"{shlex.join(argv)} | {shlex.join(['psql', *into])}"]
        return programs.start(self._here, container, ["sh", "-c", programs.WRAPPER, "sh", inside, *argv], program, env)

    def foreground(self, program: str, arguments: Sequence[str], *, at_terminal: bool) -> int:
        """Run a program of this machine over the published port; see the Protocol.

        A program here has the terminal as it is, on every system: line editing, Ctrl-C, the size of the window, the
        user's files. Through the engine all of this would have to be done again, and a pipe of Windows cannot even be
        closed in one direction. Where this machine has no such program, the one in the container is used, by the
        engine's own command-line program.
        """
        container, settings = self._here.running(), self._here.settings.without_tls()
        paths = [*clients.installed(program, settings.environment), *clients.of_wheel(program)]
        if found := clients.newest(paths):
            argv = [str(found[0][1])]
            env = libpq.foreground(settings, self._here.address(container), at_terminal=at_terminal)
        else:
            argv, env = programs.by_docker_exec(self._here, container, program, at_terminal=at_terminal)
        return foreground([*argv, *arguments], env=env, at_terminal=at_terminal)

    def logs(self, *, tail: int | None, follow: bool) -> Process:
        """Read what the engine keeps of both its output streams; see the Protocol."""
        container = self._here.found()
        if container is None:
            raise errors.NotRunning(self._here.place())
        with self._reading_log(container):
            log = container.logs(stream=True, follow=follow, tail="all" if tail is None else tail)
        return Recorded(self._log(container, log))

    def _log(self, container: DockerContainer, log: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        with self._reading_log(container):
            for data in log:
                yield "stdout", data

    @staticmethod
    def _reading_log(container: DockerContainer) -> contextlib.AbstractContextManager[None]:
        return asking(f"read the log of container {container.name}", container.name or "")

    def sweep(self, folder: Path) -> str:
        """Return how to remove the other folders of this kind from the container's /tmp (a run that died with it)."""
        kind = folder.name.rpartition("-")[0]
        return f'for d in /tmp/{kind}-*; do [ "$d" = /tmp/{folder.name} ] || rm -rf "$d"; done'

    def stop(self) -> bool:
        """Stop the container; see the Protocol."""
        return removing.stop(self._here)

    def destroy(self) -> list[str]:
        """Remove the container, its network when nobody else is in it, and its volumes; see the Protocol."""
        return removing.destroy(self._here)

    def examine(self) -> Examination:
        """Look at the engine, the image, the container and the port; see the Protocol."""
        from infra.db.servers.container import examining  # noqa: PLC0415 - only the doctor needs it, and what it loads

        return examining.examine(self._here)
