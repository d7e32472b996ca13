"""The container stopped; the container, its network and its volumes removed, as far as they are this checkout's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from infra.db import errors
from infra.db.servers.container.checkout import COMPOSE, mounted
from infra.db.servers.container.engine import asking, reason

if TYPE_CHECKING:
    from docker.models.volumes import Volume as DockerVolume

    from infra.db.servers.container.checkout import Checkout

STOP_WITHIN = 60  # seconds; a fast shutdown writes a checkpoint, then the engine kills


def stop(here: Checkout) -> bool:
    """Stop the container; see the Protocol."""
    container = here.found()
    if container is None or container.status not in ("running", "paused", "restarting"):
        return False
    with asking(f"stop container {container.name}", container.name or ""):
        if container.status == "paused":
            container.unpause()
        container.stop(timeout=STOP_WITHIN)
    return True


def destroy(here: Checkout) -> list[str]:
    """Remove the container, its network when nobody else is in it, and its volumes; see the Protocol."""
    container = here.found()
    service = None if container else here.service()
    project = container.labels[f"{COMPOSE}project"] if container else service.project if service else ""
    if service is not None:
        here.refuse_others(service)
    names = mounted(container) if container else [each.name for each in service.volumes] if service else []
    volumes = [volume for volume in map(here.volume, names) if volume and _owns(here, volume, project)]
    gone = []
    if container is not None:
        stop(here)
        with asking(f"remove container {container.name}", container.name or ""):
            container.remove(force=True, v=True)
        gone.append(f"container {container.name}")
    gone += _remove_network(here, project)
    return gone + [_remove_volume(volume) for volume in volumes]


def _owns(here: Checkout, volume: DockerVolume, project: str) -> bool:
    """Tell whether a volume is the compose file's own: of its project, and not made by another checkout."""
    labels = volume.attrs.get("Labels") or {}
    is_named = volume.name.startswith(f"{project}_") if not labels else labels.get(f"{COMPOSE}project") == project
    return is_named and (f"{COMPOSE}project.working_dir" not in labels or here.is_here(labels))


def _remove_volume(volume: DockerVolume) -> str:
    from docker.errors import APIError  # noqa: PLC0415

    with asking(f"remove volume {volume.name}"):
        try:
            volume.remove()
        except APIError as error:
            if "in use" not in str(error):
                raise
            raise errors.InUse(volume.name, reason(error)) from None
    return f"volume {volume.name}"


def _remove_network(here: Checkout, project: str) -> list[str]:
    from docker.errors import APIError  # noqa: PLC0415

    name = f"{project}_default"
    gone = []
    with asking(f"remove network {name}"):
        for network in here.engine.client.networks.list(names=[name]):
            labels = network.attrs.get("Labels") or {}
            if network.name == name and labels.get(f"{COMPOSE}project") == project:
                with contextlib.suppress(APIError):  # somebody else is in it: it stays
                    network.remove()
                    gone.append(f"network {name}")
    return gone
