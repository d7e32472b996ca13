"""The container, its network, its volumes and its image: made from the compose file, and started."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from infra.db import errors
from infra.db.servers.container import troubles
from infra.db.servers.container.checkout import COMPOSE, MADE_BY, bound_port
from infra.db.servers.container.engine import asking, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from docker.models.containers import Container as DockerContainer

    from infra.db.servers import compose
    from infra.db.servers.container.checkout import Checkout

    Tell = Callable[[str], None]
    Progress = Callable[[int, int], None]

TAKEN = re.compile(r"address already in use|port is already allocated|ports are not available", re.IGNORECASE)
NAME_IN_USE = re.compile(r"name .* is already in use", re.IGNORECASE)


def create(here: Checkout, service: compose.Service, tell: Tell, progress: Progress | None) -> DockerContainer:
    """Create the container with all that it needs; or return the one that another run of ours was quicker to create.

    Args:
        here: for which checkout.
        service: what the compose file says of it.
        tell: called with a short line for each step that takes time.
        progress: told (bytes done, bytes known so far) while an image is pulled; without it, lines are told.

    Raises:
        ServerError: the image cannot be had, or the name belongs to somebody else.

    """
    from docker.errors import APIError  # noqa: PLC0415

    here.refuse_others(service)
    image = _image(here, service.image, tell, progress)
    tell(f"Creating container {service.container_name}")
    with asking(f"create container {service.container_name}"):
        network = _network(here, service)
        for volume in service.volumes:
            if here.volume(volume.name) is None:
                labels = _labels(service, {"volume": volume.key, "project.working_dir": here.folder})
                here.engine.client.volumes.create(volume.name, labels=labels)
        try:
            return here.engine.client.containers.create(**_arguments(here, service, image, network))
        except APIError as error:
            if not NAME_IN_USE.search(str(error)):
                raise
    if found := here.found():
        return found
    raise errors.NameConflict(service.container_name)


def create_again(here: Checkout, container: DockerContainer, tell: Tell, progress: Progress | None) -> DockerContainer:
    """Replace a stopped container by one on the port that DB_PORT says, on the same volume."""
    service = here.service(container.labels[f"{COMPOSE}project"])
    tell(f"Creating container {container.name} again for port {here.settings.port}; its volume keeps the data")
    with asking(f"remove container {container.name}", container.name or ""):
        container.remove()
    service = replace(service, container_name=container.name or service.container_name)
    return create(here, service, tell, progress)


def start(here: Checkout, container: DockerContainer) -> None:
    """Start the container; one of ours that has never run is not left behind when its port is taken."""
    from docker.errors import APIError  # noqa: PLC0415

    with asking(f"start container {container.name}", container.name or ""):
        try:
            container.start()
        except APIError as error:
            if not TAKEN.search(str(error)):
                raise
            error_of_port = troubles.taken(here, bound_port(container) or here.settings.port, container.id)
            if container.status == "created" and MADE_BY in container.labels:
                container.remove()
            raise error_of_port from None
        container.reload()


def _arguments(here: Checkout, service: compose.Service, image: str, network: str) -> dict[str, Any]:
    """Return what the SDK creates the container from.

    Source of the labels: docker/compose, pkg/api/labels.go. Without `config-hash`, v2 does not see the container;
    it cannot be computed here, so that the next `up` of compose creates the container again, on the same volume.
    """
    labels = {
        "service": service.name,
        "container-number": "1",
        "oneoff": "False",
        "config-hash": "sdk",
        "image": image,
        "project.config_files": os.path.realpath(here.file),
        "project.working_dir": here.folder,
    }
    check = service.healthcheck
    endpoint = here.engine.client.api.create_endpoint_config(aliases=[service.name])
    return {
        "image": service.image,
        "command": list(service.command) or None,
        "name": service.container_name,
        "environment": dict(service.environment),
        "labels": {**service.labels, **_labels(service, labels)},
        "ports": {f"{each.container}/tcp": (each.ip, each.host or None) for each in service.ports},
        "volumes": {each.name: {"bind": each.target, "mode": each.mode} for each in service.volumes},
        "healthcheck": None
        if check is None
        else {
            "test": list(check.test),
            "interval": check.interval,
            "timeout": check.timeout,
            "retries": check.retries,
            "start_period": check.start_period,
        },
        "shm_size": service.shm_size or None,
        "restart_policy": {"Name": service.restart} if service.restart not in ("", "no") else None,
        "network": network,
        "networking_config": {network: endpoint},
    }


def _labels(service: compose.Service, labels: Mapping[str, str]) -> dict[str, str]:
    said = {"project": service.project, "version": "2.0.0", **labels}
    return {MADE_BY: platform.node(), **{f"{COMPOSE}{name}": value for name, value in said.items()}}


def _network(here: Checkout, service: compose.Service) -> str:
    name = f"{service.project}_default"
    if not any(each.name == name for each in here.engine.client.networks.list(names=[name])):
        labels = _labels(service, {"network": "default", "project.working_dir": here.folder})
        here.engine.client.networks.create(name, driver="bridge", labels=labels)
    return name


def _image(here: Checkout, name: str, tell: Tell, progress: Progress | None) -> str:
    """Return the image's id; pull it when it is not here."""
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    client = here.engine.client
    try:
        with contextlib.suppress(ImageNotFound):
            return str(client.images.get(name).id)
        tell(f"Pulling image {name}")
        tenths = 0
        for done, known in pulled(client.api.pull(*_repository_and_tag(name), stream=True, decode=True)):
            if progress:
                progress(done, known)
            elif done * 10 // known > tenths:
                tenths = done * 10 // known
                tell(f"Pulling image {name}: {tenths * 10} %")
        return str(client.images.get(name).id)
    except (DockerException, RequestException, PullError) as error:
        raise errors.ImageMissing(name, reason(error)) from None


class PullError(Exception):
    """What an engine says in the middle of a pull."""


def pulled(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Turn an engine's events of a pull into (bytes done, bytes known so far), summed over the layers.

    Raises:
        PullError: the engine gave up.

    """
    layers: dict[str, tuple[int, int]] = {}
    for event in events:
        if "error" in event:
            raise PullError(event["error"])
        layer, detail = event.get("id", ""), event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and detail.get("total"):
            layers[layer] = (detail.get("current", 0), detail["total"])
        elif event.get("status") == "Download complete" and layer in layers:
            layers[layer] = (layers[layer][1], layers[layer][1])
        else:
            continue
        yield sum(done for done, _ in layers.values()), sum(total for _, total in layers.values())


def _repository_and_tag(image: str) -> tuple[str, str | None]:
    """Split `registry:5000/name:tag`; a digest stays with the name, and the SDK takes `latest` for nothing."""
    if "@" in image:
        return image, None
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")
