"""What is wrong with the container: it has died, it refuses its user, or its port is taken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from infra.db import errors
from infra.db.servers.container import programs
from infra.db.servers.container.checkout import SERVICE, addresses, data_volume
from infra.db.servers.container.engine import asking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.models.containers import Container as DockerContainer

    from infra.db.errors import ServerError
    from infra.db.servers.container.checkout import Checkout

LOG_LINES = 15
# What the server in the container says to the configured user over the network, then what it holds (the socket needs
# no password). A database postgres that nobody has used is not counted.
DIAGNOSE = """\
psql -XAtqw -h "$1" -c 'SELECT 1' >/dev/null; echo $?
psql -XAtqw -d postgres -c "
SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'
UNION ALL SELECT 'postgres' WHERE EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_') ORDER BY 1"
"""


def death(here: Checkout) -> ServerError | None:
    """Say how the container has died, if it has."""
    from docker.errors import NotFound  # noqa: PLC0415

    with asking("look at the container", here.name):
        try:
            container = here.engine.client.containers.get(here.name) if here.name else here.found()
        except NotFound:
            container = None
        if container is None:
            return errors.ContainerExited(here.name or SERVICE, "has been removed", "")
        if container.status == "running":
            return None
        if container.status == "paused":
            return errors.ContainerPaused(here.name)
        log = container.logs(tail=2000).decode("utf-8", "replace")
    if _was_interrupted(log):
        return errors.HalfInitialised(here.name, data_volume(container), "it was killed while it created its files")
    return errors.ContainerExited(here.name, _ending(container.attrs["State"]), _shown(log, here.settings.password))


def explain(here: Checkout, error: ServerError) -> ServerError:
    """Say why a connection was refused, by one exec that asks the server inside; see the Protocol."""
    refused = (
        errors.PasswordRefused,
        errors.RoleRefused,
        errors.DatabaseMissing,
        errors.NotAdmitted,
        errors.TlsRequired,
    )
    container = here.found() if isinstance(error, refused) else None
    reached = addresses(container) if container else []
    if container is None or container.status != "running" or not reached:
        return error
    _, out, said = programs.ask(here, container, ["sh", "-c", DIAGNOSE, "sh", reached[0]])
    accepted, *databases = out.splitlines() or [""]
    if accepted == "0":
        return errors.WrongServer(container.name or "", here.address(container).port)
    return _refusal(here, container, said, databases) or error


def _refusal(here: Checkout, container: DockerContainer, said: str, databases: list[str]) -> ServerError | None:
    name, volume, settings = container.name or "", data_volume(container), here.settings
    if re.search('role ".*" does not exist', said):
        return errors.OtherRole(volume, settings.user)
    if "password authentication failed" in said:
        return errors.OtherPassword(name, volume, settings.user)
    no_database = re.search('database ".*" does not exist', said)
    if no_database and databases:
        return errors.OtherDatabase(name, volume, settings.user, settings.name, databases)
    if no_database:
        return errors.HalfInitialised(name, volume, f"it has no database {settings.name} yet")
    if "no pg_hba.conf entry" in said and not databases:
        return errors.HalfInitialised(name, volume, "it lets nobody in over the network yet")
    return None


def taken(here: Checkout, port: int, but: str | None = None) -> errors.PortTaken:
    """Say who has a port: a container other than `but`, or a program of this machine."""
    for each in here.engine.client.api.containers():
        if each["Id"] != but and any(bound.get("PublicPort") == port for bound in each.get("Ports") or []):
            return errors.PortTaken(port, str(each["Names"][0]).lstrip("/"))
    from infra.db.servers import postmaster  # noqa: PLC0415 - loads psutil, which only this and the doctor need here

    is_here = here.engine.endpoint.host == "127.0.0.1"
    return errors.PortTaken(port, "", postmaster.listener(port) if is_here else "")


def _shown(log: str, secret: str) -> str:
    lines = "\n".join(log.splitlines()[-LOG_LINES:])
    # The documented default is no secret, and is also the name of the program.
    return lines.replace(secret, "********") if secret not in ("", "postgres") else lines


def _was_interrupted(log: str) -> bool:
    """Tell whether a container's first start was cut off and a later one went on with what was there.

    Source of the lines: initdb, and docker-entrypoint.sh of the official image.
    """
    return (
        "The files belonging to this database system will be owned by" in log
        and "init process complete" not in log
        and ("Skipping initialization" in log or "exists but is not empty" in log)
    )


def _ending(state: Mapping[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "was killed because it ran out of memory"
    verb = "keeps restarting, last" if state.get("Restarting") else "has"
    said = f"{verb} exited with code {state.get('ExitCode')}"
    return f"{said} ({state['Error']})" if state.get("Error") else said
