"""The doctor's looks at the engine, the image, the container and the port."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from infra.db import check, errors
from infra.db.servers import Examination, health, postmaster
from infra.db.servers.container import programs, troubles
from infra.db.servers.container.checkout import DATA, PORT, bound_port, data_volume
from infra.db.servers.container.engine import asking

if TYPE_CHECKING:
    from infra.db.check import Check
    from infra.db.servers.container.checkout import Checkout


def examine(here: Checkout) -> Examination:
    """Look at the engine, the image, the container and the port; see the Protocol."""
    checks = list(
        check.in_turn(
            {
                "Docker endpoint": lambda: check.ok("Docker endpoint", str(here.engine.endpoint)),
                "Docker engine": lambda: _engine_check(here),
                "compose file": lambda: _file_check(here),
            }
        )
    )
    why = check.see(checks)
    inside = health.Inside()
    if not why:
        with contextlib.suppress(errors.ToolError):  # what is wrong with the container is for its own check
            inside = _inside(here)
    looks = {
        "image": lambda: _image_check(here, inside),
        "container": lambda: _container_check(here),
        "port": lambda: _port_check(here),
    }
    checks += check.each(looks, why=why)
    find = "find /tmp -maxdepth 1 -name 'invoke-*' -mtime +0 -exec rm -rf {} +"
    mend = f'docker exec {here.name} sh -c "{find}"'
    space = {f"{place} in the container": count for place, count in inside.space.items()}
    return Examination(tuple(checks), space, {f"{each} in container {here.name}": mend for each in inside.left})


def _engine_check(here: Checkout) -> Check:
    with asking("say its version"):
        return health.engine(here.engine.client.version())


def _file_check(here: Checkout) -> Check:
    service = here.service()
    return check.ok("compose file", f"infra/docker-compose.yml, project {service.project}")


def _inside(here: Checkout) -> health.Inside:
    """Ask a running container; of a stopped one, read only which PostgreSQL made its data."""
    container = here.found()
    if container is None:
        return health.Inside()
    if container.status == "running":
        return health.inside(programs.ask(here, container, ["sh", "-c", health.LOOK, "sh", DATA])[1])
    variables = dict(line.split("=", 1) for line in container.attrs["Config"].get("Env") or [] if "=" in line)
    made_by = programs.read(container, f"{variables.get('PGDATA', DATA)}/PG_VERSION").strip()
    return health.Inside(majors=(made_by,) if made_by else ())


def _image_check(here: Checkout, inside: health.Inside) -> Check:
    from docker.errors import ImageNotFound  # noqa: PLC0415

    name, container, has = here.service().image, here.found(), None
    with asking(f"look at image {name}"), contextlib.suppress(ImageNotFound):
        has = health.major(here.engine.client.images.get(name).attrs["Config"].get("Env") or [])
    return health.image(name, has, inside.majors, volume=data_volume(container) if container else "")


def _container_check(here: Checkout) -> Check:
    container = here.found()
    if container is None:
        service = here.service()
        here.refuse_others(service)
        with asking("list its containers"):
            if here.engine.client.containers.list(all=True, filters={"name": f"^/{service.container_name}$"}):
                raise errors.NameConflict(service.container_name)
        return check.warning("container", f"{service.container_name} is not there yet.", "invoke db.up")
    found = health.container(container.name or "", container.attrs["State"])
    if found is None and (trouble := troubles.death(here)):
        raise trouble
    return found or check.ok("container", f"{container.name} runs")


def _port_check(here: Checkout) -> Check:
    container, service = here.found(), here.service()
    if container is not None and container.status in ("running", "paused"):
        address = here.address(container)
        here.fits(container)
        return check.ok("port", f"{address.port}, published by container {container.name}")
    port = next((each.host for each in service.ports if each.container == PORT), 0) or here.settings.port
    if container is not None and here.fits(container):
        port = bound_port(container) or port
    if here.engine.endpoint.host == "127.0.0.1" and postmaster.port_in_the_way(port):
        raise troubles.taken(here, port)
    return check.ok("port", f"{port} is free")
