"""PostgreSQL in a container: the only user of the Docker SDK.

The container is the postgres service of `infra/docker-compose.yml`. One that compose made is found by its labels
and used as it is; where there is none, it is created with the labels that let `docker compose ps`, `logs`, `exec`,
`stop` and `down` see it. What belongs to another checkout or another project is never touched.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shlex
import shutil
import socket
import struct
import tarfile
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.db import check, errors, staging
from infra.db.servers import Address, Examination, clients, compose, endpoints, health, libpq, postmaster
from infra.db.servers.process import Recorded, foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from docker import DockerClient
    from docker.models.containers import Container as DockerContainer
    from docker.models.volumes import Volume as DockerVolume

    from infra.db.check import Check
    from infra.db.errors import ServerError
    from infra.db.servers import Identity
    from infra.db.servers.endpoints import Endpoint
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

SERVICE = "postgres"
PORT = 5432  # inside the container
DATA = "/var/lib/postgresql"
SOCKETS = "/var/run/postgresql"  # the image lets clients in there without a password
COMPOSE = "com.docker.compose."
MADE_BY = "mordeaux.made-by"  # on what these tasks created, not compose; its value is the machine they ran on
PROBE = 3  # seconds; for an engine of this machine, which answers in milliseconds or not at all
FAR_PROBE = 10  # seconds; for one that was named, perhaps over a network
PATIENCE = 120  # seconds; for an answer of an engine that is there
STOP_WITHIN = 60  # seconds; a fast shutdown writes a checkpoint, then the engine kills
LOG_LINES = 15
TAKEN = re.compile(r"address already in use|port is already allocated|ports are not available", re.IGNORECASE)
NAME_IN_USE = re.compile(r"name .* is already in use", re.IGNORECASE)
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
# What the server in the container says to the configured user over the network, then what it holds (the socket needs
# no password). A database postgres that nobody has used is not counted.
DIAGNOSE = """\
psql -XAtqw -h "$1" -c 'SELECT 1' >/dev/null; echo $?
psql -XAtqw -d postgres -c "
SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'
UNION ALL SELECT 'postgres' WHERE EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_') ORDER BY 1"
"""
WHO = """\
SELECT system_identifier, to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
  FROM pg_control_system()
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers.

    Attributes:
        client: the SDK's.
        endpoint: which one was taken.

    """

    client: DockerClient = field(repr=False)
    endpoint: Endpoint


def find_engine(settings: Settings) -> Engine:
    """Return the engine that DOCKER_HOST, DOCKER_CONTEXT or the current context names, else one that answers here.

    What was named is never replaced by another one. Costs a look at a few paths where there is no Docker.

    Raises:
        EngineUnavailable: with each endpoint that was tried and its reason.

    """
    named = endpoints.named(settings.environment)
    tried: list[tuple[str, str]] = []
    for endpoint in [named] if named else endpoints.usual(settings.environment):
        try:
            return Engine(_connected(endpoint, FAR_PROBE if named else PROBE), endpoint)
        except Exception as error:  # noqa: BLE001 - docker, requests, ssl, paramiko and pywin32 each raise their own
            tried.append((str(endpoint), _reason(error)))
    raise errors.EngineUnavailable(tried)


def _connected(endpoint: Endpoint, timeout: int) -> DockerClient:
    if endpoint.url.startswith("unix://"):  # a socket that nobody listens on is not worth the import
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout)
            probe.connect(urlsplit(endpoint.url).netloc + urlsplit(endpoint.url).path)
    import docker  # noqa: PLC0415 - costs as much as invoke itself; not every task needs an engine

    tls: docker.tls.TLSConfig | bool = False
    if folder := endpoint.certificates:
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        tls = docker.tls.TLSConfig(
            client_cert=pair if Path(pair[0]).exists() else None,
            ca_cert=str(folder / "ca.pem") if endpoint.verify else None,
            verify=endpoint.verify,
        )
    client = docker.DockerClient(base_url=endpoint.url, tls=tls, timeout=timeout)  # asks for the API's version
    client.api.timeout = PATIENCE
    return client


def _reason(error: Exception) -> str:
    """Say why an engine did not answer, or what it answered, without the layers of libraries in between."""
    text = str(getattr(error, "explanation", None) or (repr(error) if isinstance(error, OSError) else error))
    known = {
        "PermissionError": "permission denied; let your user in:  sudo usermod -aG docker $USER  and log in again",
        "FileNotFoundError": "there is no such socket",
        "ConnectionRefusedError": "nobody listens there",
        "Connection refused": "nobody listens there",
        "timed out": "no answer in time",
    }
    for sign, words in known.items():
        if sign in text:
            return words
    return " ".join(text.removeprefix("Error while fetching server API version: ").split())


@contextlib.contextmanager
def _asking(doing: str, container: str = "") -> Iterator[None]:
    """Turn whatever the engine refuses, or a lost connection to it, into an error of ours."""
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        yield
    except (DockerException, RequestException) as error:
        raise errors.EngineFailed(doing, _reason(error), container) from None


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
        self._settings = settings
        self._engine = engine
        self._progress = progress
        self._file = settings.root / "infra" / "docker-compose.yml"
        self._folder = os.path.realpath(self._file.parent)
        self._name = ""

    @property
    def engine(self) -> Engine:
        """The engine in use.

        Raises:
            EngineUnavailable: none answers.

        """
        if self._engine is None:
            self._engine = find_engine(self._settings)
        return self._engine

    def service(self, project: str = "") -> compose.Service:
        """Return the service as the compose file describes it, in the project of the container that is there."""
        environment = self._settings.environment
        return compose.read(self._file, {**environment, "COMPOSE_PROJECT_NAME": project} if project else environment)

    def place(self) -> str:
        """Return the container's name, as soon as it is known."""
        return f"container {self._name}" if self._name else "container of infra/docker-compose.yml"

    def address(self) -> Address | None:
        """Return where it is really published.

        Raises:
            ServerError: no engine answers, it is paused, or it is published on no port.

        """
        container = self._found()
        if container is None or container.status not in ("running", "paused"):
            return None
        if container.status == "paused":
            raise errors.ContainerPaused(container.name or "")
        return self._address(container)

    def exists(self) -> bool:
        """Tell whether the container, or its data without one, is there."""
        if self._found() is not None:
            return True
        service = self.service()
        with _asking("list its volumes"):
            names = {volume.name for volume in self.engine.client.volumes.list()}
        return any(volume.name in names for volume in service.volumes)

    def start(self, tell: Callable[[str], None]) -> Address:
        """Find the container, or create it; start it; see the Protocol."""
        container = self._found()
        if container is not None and not self._fits(container):
            container = self._create_again(container, tell)
        if container is None:
            container = self._create(self.service(), tell)
        self._name = container.name or ""
        if container.status == "paused":
            raise errors.ContainerPaused(self._name)
        if container.status != "running":
            tell(f"Starting container {self._name}")
            has_run = container.status != "created"
            self._run(container)
            if has_run:
                _sweep(container)
        if container.status != "running" and (trouble := self.trouble()):
            raise trouble
        return self._address(container)

    def trouble(self) -> ServerError | None:
        """Say how the container has died, if it has."""
        from docker.errors import NotFound  # noqa: PLC0415

        with _asking("look at the container", self._name):
            try:
                container = self.engine.client.containers.get(self._name) if self._name else self._found()
            except NotFound:
                container = None
            if container is None:
                return errors.ContainerExited(self._name or SERVICE, "has been removed", "")
            if container.status == "running":
                return None
            if container.status == "paused":
                return errors.ContainerPaused(self._name)
            log = container.logs(tail=2000).decode("utf-8", "replace")
        if _was_interrupted(log):
            return errors.HalfInitialised(self._name, _volume(container), "it was killed while it created its files")
        return errors.ContainerExited(self._name, _ending(container.attrs["State"]), self._shown(log))

    def explain(self, error: ServerError) -> ServerError:
        """Say why a connection was refused, by one exec that asks the server inside; see the Protocol."""
        refused = (
            errors.PasswordRefused,
            errors.RoleRefused,
            errors.DatabaseMissing,
            errors.NotAdmitted,
            errors.TlsRequired,
        )
        container = self._found() if isinstance(error, refused) else None
        addresses = _addresses(container) if container else []
        if container is None or container.status != "running" or not addresses:
            return error
        _, out, said = self._ask(container, ["sh", "-c", DIAGNOSE, "sh", addresses[0]])
        accepted, *databases = out.splitlines() or [""]
        if accepted == "0":
            return errors.WrongServer(container.name or "", self._address(container).port)
        return self._refusal(container, said, databases) or error

    def _refusal(self, container: DockerContainer, said: str, databases: list[str]) -> ServerError | None:
        name, volume, settings = container.name or "", _volume(container), self._settings
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

    def verify(self, identity: Identity) -> None:
        """Raise WrongServer unless the server that answered is the one in the container.

        An address that the engine gave to the container is proof enough, and costs no exec; otherwise (rootless
        engines, host networking) the server inside is asked when it was started.
        """
        container = self._running()
        if identity.address in _addresses(container):
            return
        code, out, _ = self._ask(container, ["psql", "-XAtqw", "-c", WHO])
        identifier, _, started_at = out.strip().partition("|")
        if code or started_at != identity.started_at or identity.system_identifier not in ("", identifier):
            raise errors.WrongServer(container.name or "", self._address(container).port)

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
        container = self._running()
        inside = ""
        if folder is not None:
            inside = f"/tmp/{folder.name}"  # noqa: S108 - in the container, with a name that the caller made unique
            _copy_in(container, folder, [each for each in arguments if isinstance(each, Path)])
        argv = [program, *(each if isinstance(each, str) else FILE for each in arguments)]
        if into:
            argv = ["sh", "-c", f"{shlex.join(argv)} | {shlex.join(['psql', *into])}"]
        return self._exec(container, ["sh", "-c", WRAPPER, "sh", inside, *argv], program, env)

    def foreground(self, program: str, arguments: Sequence[str], *, at_terminal: bool) -> int:
        """Run a program of this machine over the published port; see the Protocol.

        A program here has the terminal as it is, on every system: line editing, Ctrl-C, the size of the window, the
        user's files. Through the engine all of this would have to be done again, and a pipe of Windows cannot even be
        closed in one direction. Where this machine has no such program, the one in the container is used, by the
        engine's own command-line program.
        """
        container, settings = self._running(), self._settings.without_tls()
        paths = [*clients.installed(program, settings.environment), *clients.of_wheel(program)]
        if found := clients.newest(paths):
            argv = [str(found[0][1])]
            env = libpq.foreground(settings, self._address(container), at_terminal=at_terminal)
        else:
            argv, env = self._docker_exec(container, program, at_terminal=at_terminal)
        return foreground([*argv, *arguments], env=env, at_terminal=at_terminal)

    def _docker_exec(
        self, container: DockerContainer, program: str, *, at_terminal: bool
    ) -> tuple[list[str], dict[str, str]]:
        """Return the beginning of an argv, and the environment for it; only the names of variables are in the argv."""
        docker = shutil.which("docker", path=self._settings.environment.get("PATH", ""))
        if docker is None:
            raise errors.NoShell(program, container.name or "")
        variables = libpq.connection(self._settings, Address(SOCKETS, PORT))
        names = [word for name in variables for word in ("--env", name)]
        modes = ["--interactive", *(["--tty"] if at_terminal else [])]
        own = {name: text for name, text in self._settings.environment.items() if not name.startswith("DOCKER_")}
        argv = [docker, "exec", *modes, *names, container.id or "", program]
        return argv, {**own, **self.engine.endpoint.variables, **variables}

    def logs(self, *, tail: int | None, follow: bool) -> Process:
        """Read what the engine keeps of both its output streams; see the Protocol."""
        container = self._found()
        if container is None:
            raise errors.NotRunning(self.place())
        with self._reading_log(container):
            log = container.logs(stream=True, follow=follow, tail="all" if tail is None else tail)
        return Recorded(self._log(container, log))

    def _log(self, container: DockerContainer, log: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        with self._reading_log(container):
            for data in log:
                yield "stdout", data

    @staticmethod
    def _reading_log(container: DockerContainer) -> contextlib.AbstractContextManager[None]:
        return _asking(f"read the log of container {container.name}", container.name or "")

    def sweep(self, folder: Path) -> str:
        """Return how to remove the other folders of this kind from the container's /tmp (a run that died with it)."""
        kind = folder.name.rpartition("-")[0]
        return f'for d in /tmp/{kind}-*; do [ "$d" = /tmp/{folder.name} ] || rm -rf "$d"; done'

    def stop(self) -> bool:
        """Stop the container; see the Protocol."""
        container = self._found()
        if container is None or container.status not in ("running", "paused", "restarting"):
            return False
        with _asking(f"stop container {container.name}", container.name or ""):
            if container.status == "paused":
                container.unpause()
            container.stop(timeout=STOP_WITHIN)
        return True

    def destroy(self) -> list[str]:
        """Remove the container, its network when nobody else is in it, and its volumes; see the Protocol."""
        container = self._found()
        service = None if container else self.service()
        project = container.labels[f"{COMPOSE}project"] if container else service.project if service else ""
        if service is not None:
            self._refuse_others(service)
        names = _volumes(container) if container else [each.name for each in service.volumes] if service else []
        volumes = [volume for volume in map(self._volume, names) if volume and self._owns(volume, project)]
        gone = []
        if container is not None:
            self.stop()
            with _asking(f"remove container {container.name}", container.name or ""):
                container.remove(force=True, v=True)
            gone.append(f"container {container.name}")
        gone += self._remove_network(project)
        return gone + [self._remove_volume(volume) for volume in volumes]

    # -- examining -----------------------------------------------------------------------------------------------------

    def examine(self) -> Examination:
        """Look at the engine, the image, the container and the port; see the Protocol."""
        checks = list(
            check.in_turn(
                {
                    "Docker endpoint": lambda: check.ok("Docker endpoint", str(self.engine.endpoint)),
                    "Docker engine": self._engine_check,
                    "compose file": self._file_check,
                }
            )
        )
        why = check.see(checks)
        inside = health.Inside()
        if not why:
            with contextlib.suppress(errors.ToolError):  # what is wrong with the container is for its own check
                inside = self._inside()
        looks = {
            "image": lambda: self._image_check(inside),
            "container": self._container_check,
            "port": self._port_check,
        }
        checks += check.each(looks, why=why)
        find = "find /tmp -maxdepth 1 -name 'invoke-*' -mtime +0 -exec rm -rf {} +"
        mend = f'docker exec {self._name} sh -c "{find}"'
        space = {f"{place} in the container": count for place, count in inside.space.items()}
        return Examination(tuple(checks), space, {f"{each} in container {self._name}": mend for each in inside.left})

    def _engine_check(self) -> Check:
        with _asking("say its version"):
            return health.engine(self.engine.client.version())

    def _file_check(self) -> Check:
        service = self.service()
        return check.ok("compose file", f"infra/docker-compose.yml, project {service.project}")

    def _inside(self) -> health.Inside:
        """Ask a running container; of a stopped one, read only which PostgreSQL made its data."""
        container = self._found()
        if container is None:
            return health.Inside()
        if container.status == "running":
            return health.inside(self._ask(container, ["sh", "-c", health.LOOK, "sh", DATA])[1])
        variables = dict(line.split("=", 1) for line in container.attrs["Config"].get("Env") or [] if "=" in line)
        made_by = _read(container, f"{variables.get('PGDATA', DATA)}/PG_VERSION").strip()
        return health.Inside(majors=(made_by,) if made_by else ())

    def _image_check(self, inside: health.Inside) -> Check:
        from docker.errors import ImageNotFound  # noqa: PLC0415

        name, container, has = self.service().image, self._found(), None
        with _asking(f"look at image {name}"), contextlib.suppress(ImageNotFound):
            has = health.major(self.engine.client.images.get(name).attrs["Config"].get("Env") or [])
        return health.image(name, has, inside.majors, volume=_volume(container) if container else "")

    def _container_check(self) -> Check:
        container = self._found()
        if container is None:
            service = self.service()
            self._refuse_others(service)
            with _asking("list its containers"):
                if self.engine.client.containers.list(all=True, filters={"name": f"^/{service.container_name}$"}):
                    raise errors.NameConflict(service.container_name)
            return check.warning("container", f"{service.container_name} is not there yet.", "invoke db.up")
        found = health.container(container.name or "", container.attrs["State"])
        if found is None and (trouble := self.trouble()):
            raise trouble
        return found or check.ok("container", f"{container.name} runs")

    def _port_check(self) -> Check:
        container, service = self._found(), self.service()
        if container is not None and container.status in ("running", "paused"):
            address = self._address(container)
            self._fits(container)
            return check.ok("port", f"{address.port}, published by container {container.name}")
        port = next((each.host for each in service.ports if each.container == PORT), 0) or self._settings.port
        if container is not None and self._fits(container):
            port = _bound_port(container) or port
        if self.engine.endpoint.host == "127.0.0.1" and postmaster.port_in_the_way(port):
            raise self._taken(port)
        return check.ok("port", f"{port} is free")

    # -- finding -------------------------------------------------------------------------------------------------------

    def _listed(self, *labels: str) -> list[DockerContainer]:
        with _asking("list its containers"):
            listed = self.engine.client.containers.list(
                all=True, filters={"label": [f"{COMPOSE}service={SERVICE}", *labels]}, ignore_removed=True
            )
        return [each for each in listed if each.labels.get(f"{COMPOSE}oneoff", "").lower() != "true"]

    def _found(self) -> DockerContainer | None:
        """Return this checkout's container whatever its project is called: a running one first, then the newest."""
        ours = [each for each in self._listed() if self._is_here(each.labels)]
        ours.sort(key=lambda each: (each.status in ("running", "paused"), each.attrs["Created"]))
        if not ours:
            return None
        self._name = ours[-1].name or ""
        return ours[-1]

    def _is_here(self, labels: Mapping[str, str]) -> bool:
        """Tell whether it belongs to this checkout: made in its folder, or in one that has been moved or deleted since.

        The second only for what these tasks made on this very machine, under this checkout's project name.
        """
        folder = labels.get(f"{COMPOSE}project.working_dir", "")
        if not folder:
            return False
        if os.path.normcase(os.path.realpath(folder)) == os.path.normcase(self._folder):
            return True
        is_orphan = labels.get(MADE_BY) == platform.node() and not Path(folder).exists()
        return is_orphan and labels.get(f"{COMPOSE}project") == self.service().project

    def _running(self) -> DockerContainer:
        container = self._found()
        if container is None or container.status not in ("running", "paused"):
            raise errors.NotRunning(self.place())
        if container.status == "paused":
            raise errors.ContainerPaused(container.name or "")
        return container

    def _refuse_others(self, service: compose.Service) -> None:
        for each in self._listed(f"{COMPOSE}project={service.project}"):
            if not self._is_here(each.labels):
                folder = each.labels.get(f"{COMPOSE}project.working_dir", "its folder is not known")
                raise errors.OtherCheckout(each.name or "", folder, service.project)

    def _address(self, container: DockerContainer) -> Address:
        if container.attrs["HostConfig"].get("NetworkMode") == "host":
            return Address(self.engine.endpoint.host, PORT)
        bindings = (container.attrs["NetworkSettings"].get("Ports") or {}).get(f"{PORT}/tcp") or []
        if not bindings:
            raise errors.PortDiffers(container.name or "", None, self._settings.port)
        host = self.engine.endpoint.host
        if host != "127.0.0.1" and all(each["HostIp"] in ("127.0.0.1", "::1") for each in bindings):
            raise errors.EngineElsewhere(str(self.engine.endpoint), container.name or "")
        return Address(host, int(bindings[0]["HostPort"]))

    def _fits(self, container: DockerContainer) -> bool:
        """Tell whether a container is published where DB_PORT says, if it says so; a running one is not changed for it.

        Raises:
            PortDiffers: it is running.

        """
        host = container.attrs["HostConfig"]
        bindings = (host.get("PortBindings") or {}).get(f"{PORT}/tcp") or []
        ports = {int(each.get("HostPort") or 0) for each in bindings}
        is_wanted = "DB_PORT" not in self._settings.environment or self._settings.port in ports
        if host.get("NetworkMode") == "host" or (ports and is_wanted):
            return True
        service = self.service(container.labels[f"{COMPOSE}project"])
        keeps_data = {volume.name for volume in service.volumes} == set(_volumes(container))
        if container.status not in ("exited", "created") or not keeps_data:
            raise errors.PortDiffers(container.name or "", max(ports, default=0) or None, self._settings.port)
        return False

    # -- making --------------------------------------------------------------------------------------------------------

    def _create_again(self, container: DockerContainer, tell: Callable[[str], None]) -> DockerContainer:
        """Replace a stopped container by one on the port that DB_PORT says, on the same volume."""
        service = self.service(container.labels[f"{COMPOSE}project"])
        tell(f"Creating container {container.name} again for port {self._settings.port}; its volume keeps the data")
        with _asking(f"remove container {container.name}", container.name or ""):
            container.remove()
        return self._create(replace(service, container_name=container.name or service.container_name), tell)

    def _create(self, service: compose.Service, tell: Callable[[str], None]) -> DockerContainer:
        from docker.errors import APIError  # noqa: PLC0415

        self._refuse_others(service)
        image = self._image(service.image, tell)
        tell(f"Creating container {service.container_name}")
        with _asking(f"create container {service.container_name}"):
            network = self._network(service)
            for volume in service.volumes:
                if self._volume(volume.name) is None:
                    labels = self._labels(service, {"volume": volume.key, "project.working_dir": self._folder})
                    self.engine.client.volumes.create(volume.name, labels=labels)
            try:
                return self.engine.client.containers.create(**self._arguments(service, image, network))
            except APIError as error:
                if not NAME_IN_USE.search(str(error)):
                    raise
        if found := self._found():  # another run of ours was quicker
            return found
        raise errors.NameConflict(service.container_name)

    def _arguments(self, service: compose.Service, image: str, network: str) -> dict[str, Any]:
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
            "project.config_files": os.path.realpath(self._file),
            "project.working_dir": self._folder,
        }
        check = service.healthcheck
        endpoint = self.engine.client.api.create_endpoint_config(aliases=[service.name])
        return {
            "image": service.image,
            "command": list(service.command) or None,
            "name": service.container_name,
            "environment": dict(service.environment),
            "labels": {**service.labels, **self._labels(service, labels)},
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

    def _labels(self, service: compose.Service, labels: Mapping[str, str]) -> dict[str, str]:
        said = {"project": service.project, "version": "2.0.0", **labels}
        return {MADE_BY: platform.node(), **{f"{COMPOSE}{name}": value for name, value in said.items()}}

    def _network(self, service: compose.Service) -> str:
        name = f"{service.project}_default"
        if not any(each.name == name for each in self.engine.client.networks.list(names=[name])):
            labels = self._labels(service, {"network": "default", "project.working_dir": self._folder})
            self.engine.client.networks.create(name, driver="bridge", labels=labels)
        return name

    def _image(self, name: str, tell: Callable[[str], None]) -> str:
        """Return the image's id; pull it when it is not here."""
        from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415

        client = self.engine.client
        try:
            with contextlib.suppress(ImageNotFound):
                return str(client.images.get(name).id)
            tell(f"Pulling image {name}")
            tenths = 0
            for done, known in pulled(client.api.pull(*_repository_and_tag(name), stream=True, decode=True)):
                if self._progress:
                    self._progress(done, known)
                elif done * 10 // known > tenths:
                    tenths = done * 10 // known
                    tell(f"Pulling image {name}: {tenths * 10} %")
            return str(client.images.get(name).id)
        except (DockerException, RequestException, PullError) as error:
            raise errors.ImageMissing(name, _reason(error)) from None

    def _run(self, container: DockerContainer) -> None:
        """Start the container; one of ours that has never run is not left behind when its port is taken."""
        from docker.errors import APIError  # noqa: PLC0415

        with _asking(f"start container {container.name}", container.name or ""):
            try:
                container.start()
            except APIError as error:
                if not TAKEN.search(str(error)):
                    raise
                error_of_port = self._taken(_bound_port(container) or self._settings.port, container.id)
                if container.status == "created" and MADE_BY in container.labels:
                    container.remove()
                raise error_of_port from None
            container.reload()

    def _taken(self, port: int, but: str | None = None) -> errors.PortTaken:
        """Say who has a port: a container other than `but`, or a program of this machine."""
        for each in self.engine.client.api.containers():
            if each["Id"] != but and any(bound.get("PublicPort") == port for bound in each.get("Ports") or []):
                return errors.PortTaken(port, str(each["Names"][0]).lstrip("/"))
        is_here = self.engine.endpoint.host == "127.0.0.1"
        return errors.PortTaken(port, "", postmaster.listener(port) if is_here else "")

    # -- removing ------------------------------------------------------------------------------------------------------

    def _volume(self, name: str) -> DockerVolume | None:
        from docker.errors import NotFound  # noqa: PLC0415

        with _asking(f"look at volume {name}"), contextlib.suppress(NotFound):
            return self.engine.client.volumes.get(name)
        return None

    def _owns(self, volume: DockerVolume, project: str) -> bool:
        """Tell whether a volume is the compose file's own: of its project, and not made by another checkout."""
        labels = volume.attrs.get("Labels") or {}
        is_named = volume.name.startswith(f"{project}_") if not labels else labels.get(f"{COMPOSE}project") == project
        return is_named and (f"{COMPOSE}project.working_dir" not in labels or self._is_here(labels))

    def _remove_volume(self, volume: DockerVolume) -> str:
        from docker.errors import APIError  # noqa: PLC0415

        with _asking(f"remove volume {volume.name}"):
            try:
                volume.remove()
            except APIError as error:
                if "in use" not in str(error):
                    raise
                raise errors.InUse(volume.name, _reason(error)) from None
        return f"volume {volume.name}"

    def _remove_network(self, project: str) -> list[str]:
        from docker.errors import APIError  # noqa: PLC0415

        name = f"{project}_default"
        gone = []
        with _asking(f"remove network {name}"):
            for network in self.engine.client.networks.list(names=[name]):
                labels = network.attrs.get("Labels") or {}
                if network.name == name and labels.get(f"{COMPOSE}project") == project:
                    with contextlib.suppress(APIError):  # somebody else is in it: it stays
                        network.remove()
                        gone.append(f"network {name}")
        return gone

    # -- running programs ----------------------------------------------------------------------------------------------

    def _exec(
        self, container: DockerContainer, argv: list[str], program: str, env: Mapping[str, str] | None = None
    ) -> ContainerProcess:
        variables = {
            "LC_ALL": "C",  # psql's own words (LINE, DETAIL, HINT) are read by us
            **libpq.connection(self._settings, Address(SOCKETS, PORT)),
            **(env or {}),
        }
        with _asking(f"run {program} in container {container.name}", container.name or ""):
            return ContainerProcess(self.engine.client, container, argv, env=variables, program=program)

    def _ask(self, container: DockerContainer, argv: list[str]) -> tuple[int, str, str]:
        """Run a short program to its end; its exit code, output and error output."""
        process = self._exec(container, argv, argv[0])
        said = {"stdout": b"", "stderr": b""}
        for source in process.sources():
            for stream, data in source:
                said[stream] += data
        return process.wait(), said["stdout"].decode("utf-8", "replace"), said["stderr"].decode("utf-8", "replace")

    def _shown(self, log: str) -> str:
        lines = "\n".join(log.splitlines()[-LOG_LINES:])
        secret = self._settings.password
        # The documented default is no secret, and is also the name of the program.
        return lines.replace(secret, "********") if secret not in ("", "postgres") else lines


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
        with _asking(f"read what {self._program} says", self._container), contextlib.closing(self._response):
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
        with _asking(f"see how {self._program} ended", self._container):
            while (state := self._api.exec_inspect(self._id))["Running"]:
                time.sleep(0.02)
        code = state["ExitCode"]
        if code in (126, 127):
            reason = " ".join(self._last.decode("utf-8", "replace").split())
            raise errors.ProgramMissing(self._program, self._container, reason)
        return 137 if code is None else int(code)


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


def _sweep(container: DockerContainer) -> None:
    """Remove what a run that died with its container left there; a later one may have nothing to do, and no psql.

    Nobody's files are in use: none are copied in before the server is ready.
    """
    from docker.errors import DockerException  # noqa: PLC0415

    with contextlib.suppress(DockerException):  # it has ended again, which is told elsewhere
        container.exec_run(["sh", "-c", f"cd /tmp && rm -rf {' '.join(staging.names())}"])


def _copy_in(container: DockerContainer, folder: Path, beside: Sequence[Path]) -> None:
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

    with tempfile.TemporaryFile() as file, _asking(f"copy files into container {container.name}", container.name or ""):
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(folder, arcname=folder.name, filter=readable)
            for each in beside:
                tar.add(each.resolve(), arcname=f"{folder.name}/{FILE}", filter=readable)
        file.seek(0)
        container.put_archive("/tmp", file)  # noqa: S108 - in the container; a file is streamed


def _read(container: DockerContainer, path: str) -> str:
    """Return a small text file of a container, running or not; empty when there is none."""
    from docker.errors import NotFound  # noqa: PLC0415

    with _asking(f"read a file of container {container.name}", container.name or ""), contextlib.suppress(NotFound):
        pieces, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            return file.read().decode("utf-8", "replace") if file else ""
    return ""


def _addresses(container: DockerContainer) -> list[str]:
    networks = (container.attrs["NetworkSettings"].get("Networks") or {}).values()
    return [each[key] for each in networks for key in ("IPAddress", "GlobalIPv6Address") if each.get(key)]


def _volumes(container: DockerContainer) -> list[str]:
    return [each["Name"] for each in container.attrs.get("Mounts") or [] if each.get("Type") == "volume"]


def _volume(container: DockerContainer) -> str:
    """Return the name of the volume with the data."""
    mounts = container.attrs.get("Mounts") or []
    return next((each["Name"] for each in mounts if each.get("Name") and each["Destination"].startswith(DATA)), "")


def _bound_port(container: DockerContainer) -> int:
    bindings = (container.attrs["HostConfig"].get("PortBindings") or {}).get(f"{PORT}/tcp") or [{}]
    return int(bindings[0].get("HostPort") or 0)


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
