"""What an engine has of this checkout, found by its labels. Looks only: nothing is made, changed or removed here."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db import errors
from infra.db.servers import Address, compose
from infra.db.servers.container.engine import asking, find_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.models.containers import Container as DockerContainer
    from docker.models.volumes import Volume as DockerVolume

    from infra.db.servers.container.engine import Engine
    from infra.db.settings import Settings

SERVICE = "postgres"
PORT = 5432  # inside the container
DATA = "/var/lib/postgresql"
COMPOSE = "com.docker.compose."
MADE_BY = "mordeaux.made-by"  # on what these tasks created, not compose; its value is the machine they ran on


class Checkout:
    """What there is of one checkout, and where.

    Attributes:
        settings: whose database.
        file: the compose file.
        folder: the compose file's, with all links followed, as compose writes it into a label.
        name: the container's, as soon as it is known.

    """

    def __init__(self, settings: Settings, engine: Engine | None) -> None:
        """Remember where to look; asks no engine yet, and finds one itself when none is given."""
        self.settings = settings
        self._engine = engine
        self.file = settings.root / "infra" / "docker-compose.yml"
        self.folder = os.path.realpath(self.file.parent)
        self.name = ""

    @property
    def engine(self) -> Engine:
        """The engine in use.

        Raises:
            EngineUnavailable: none answers.

        """
        if self._engine is None:
            self._engine = find_engine(self.settings)
        return self._engine

    def service(self, project: str = "") -> compose.Service:
        """Return the service as the compose file describes it, in the project of the container that is there."""
        environment = self.settings.environment
        return compose.read(self.file, {**environment, "COMPOSE_PROJECT_NAME": project} if project else environment)

    def place(self) -> str:
        """Return the container's name, as soon as it is known."""
        return f"container {self.name}" if self.name else "container of infra/docker-compose.yml"

    def found(self) -> DockerContainer | None:
        """Return this checkout's container whatever its project is called: a running one first, then the newest."""
        ours = [each for each in self._listed() if self.is_here(each.labels)]
        ours.sort(key=lambda each: (each.status in ("running", "paused"), each.attrs["Created"]))
        if not ours:
            return None
        self.name = ours[-1].name or ""
        return ours[-1]

    def running(self) -> DockerContainer:
        """Return the container.

        Raises:
            ServerError: it is not there, does not run, or is paused.

        """
        container = self.found()
        if container is None or container.status not in ("running", "paused"):
            raise errors.NotRunning(self.place())
        if container.status == "paused":
            raise errors.ContainerPaused(container.name or "")
        return container

    def _listed(self, *labels: str) -> list[DockerContainer]:
        with asking("list its containers"):
            listed = self.engine.client.containers.list(
                all=True, filters={"label": [f"{COMPOSE}service={SERVICE}", *labels]}, ignore_removed=True
            )
        return [each for each in listed if each.labels.get(f"{COMPOSE}oneoff", "").lower() != "true"]

    def is_here(self, labels: Mapping[str, str]) -> bool:
        """Tell whether it belongs to this checkout: made in its folder, or in one that has been moved or deleted since.

        The second only for what these tasks made on this very machine, under this checkout's project name.
        """
        folder = labels.get(f"{COMPOSE}project.working_dir", "")
        if not folder:
            return False
        if os.path.normcase(os.path.realpath(folder)) == os.path.normcase(self.folder):
            return True
        is_orphan = labels.get(MADE_BY) == platform.node() and not Path(folder).exists()
        return is_orphan and labels.get(f"{COMPOSE}project") == self.service().project

    def refuse_others(self, service: compose.Service) -> None:
        """Raise OtherCheckout when a project of this name belongs to another checkout."""
        for each in self._listed(f"{COMPOSE}project={service.project}"):
            if not self.is_here(each.labels):
                folder = each.labels.get(f"{COMPOSE}project.working_dir", "its folder is not known")
                raise errors.OtherCheckout(each.name or "", folder, service.project)

    def address(self, container: DockerContainer) -> Address:
        """Return where a container is published.

        Raises:
            ServerError: on no port, or on one that only the engine's own machine reaches.

        """
        if container.attrs["HostConfig"].get("NetworkMode") == "host":
            return Address(self.engine.endpoint.host, PORT)
        bindings = (container.attrs["NetworkSettings"].get("Ports") or {}).get(f"{PORT}/tcp") or []
        if not bindings:
            raise errors.PortDiffers(container.name or "", None, self.settings.port)
        host = self.engine.endpoint.host
        if host != "127.0.0.1" and all(each["HostIp"] in ("127.0.0.1", "::1") for each in bindings):
            raise errors.EngineElsewhere(str(self.engine.endpoint), container.name or "")
        return Address(host, int(bindings[0]["HostPort"]))

    def fits(self, container: DockerContainer) -> bool:
        """Tell whether a container is published where DB_PORT says, if it says so; a running one is not changed for it.

        Raises:
            PortDiffers: it is running.

        """
        host = container.attrs["HostConfig"]
        bindings = (host.get("PortBindings") or {}).get(f"{PORT}/tcp") or []
        ports = {int(each.get("HostPort") or 0) for each in bindings}
        is_wanted = "DB_PORT" not in self.settings.environment or self.settings.port in ports
        if host.get("NetworkMode") == "host" or (ports and is_wanted):
            return True
        service = self.service(container.labels[f"{COMPOSE}project"])
        keeps_data = {volume.name for volume in service.volumes} == set(mounted(container))
        if container.status not in ("exited", "created") or not keeps_data:
            raise errors.PortDiffers(container.name or "", max(ports, default=0) or None, self.settings.port)
        return False

    def volume(self, name: str) -> DockerVolume | None:
        """Return a volume; None when there is none of the name."""
        from docker.errors import NotFound  # noqa: PLC0415

        with asking(f"look at volume {name}"), contextlib.suppress(NotFound):
            return self.engine.client.volumes.get(name)
        return None


def addresses(container: DockerContainer) -> list[str]:
    """Return the IP addresses that the engine gave to a container."""
    networks = (container.attrs["NetworkSettings"].get("Networks") or {}).values()
    return [each[key] for each in networks for key in ("IPAddress", "GlobalIPv6Address") if each.get(key)]


def mounted(container: DockerContainer) -> list[str]:
    """Return the names of its volumes."""
    return [each["Name"] for each in container.attrs.get("Mounts") or [] if each.get("Type") == "volume"]


def data_volume(container: DockerContainer) -> str:
    """Return the name of the volume with the data."""
    mounts = container.attrs.get("Mounts") or []
    return next((each["Name"] for each in mounts if each.get("Name") and each["Destination"].startswith(DATA)), "")


def bound_port(container: DockerContainer) -> int:
    """Return the port of the engine's machine that a container asks for, running or not; 0 for none."""
    bindings = (container.attrs["HostConfig"].get("PortBindings") or {}).get(f"{PORT}/tcp") or [{}]
    return int(bindings[0].get("HostPort") or 0)
