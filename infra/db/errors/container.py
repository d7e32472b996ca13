"""Docker: its engine, the compose file, the container and its volume."""

from __future__ import annotations

from infra.db.errors.base import IN_SETTINGS, ServerError, UsageError


class ComposeFileError(UsageError):
    """The compose file makes no sense."""

    def __init__(self, problem: str) -> None:
        """Say what is wrong with it."""
        super().__init__(
            f"infra/docker-compose.yml {problem}.",
            consequence="Nothing was started or changed.",
            next="Mend the file, then run the same command again.",
        )


class ComposeUnsupported(UsageError):
    """The compose file wants what only compose itself can do."""

    def __init__(self, key: str) -> None:
        """Name what, and the way round."""
        super().__init__(
            f"infra/docker-compose.yml has {key}, which these tasks cannot create a container with.",
            consequence="Nothing was started or changed.",
            next="Start it with compose, then run the same command again; the container is found and used:\n"
            "  docker compose -f infra/docker-compose.yml up -d postgres",
        )


class EngineUnavailable(ServerError):
    """No Docker engine answers.

    Attributes:
        tried: (endpoint, reason) of each.

    """

    def __init__(self, tried: list[tuple[str, str]]) -> None:
        """Say where it was looked for, and what came back.

        Args:
            tried: (endpoint, reason) of each.

        """
        super().__init__(
            "No Docker engine answers.",
            where="\n".join(f"  {endpoint}: {reason}" for endpoint, reason in tried)
            or "  DOCKER_HOST and DOCKER_CONTEXT are not set, and there is no socket in the usual places.",
            consequence="Nothing was started or changed.",
            next="Start Docker: Docker Desktop, or on Linux:  sudo systemctl start docker\n"
            f"Or do without it: set DB_SERVER=embedded, {IN_SETTINGS}.",
        )
        self.tried = tried


class EngineElsewhere(ServerError):
    """The engine is on another machine, and its port cannot be reached from here."""

    def __init__(self, endpoint: str, container: str) -> None:
        """Say which."""
        super().__init__(
            f"The Docker engine {endpoint} runs on another machine,"
            f" and container {container} is published on that machine's 127.0.0.1.",
            consequence="It cannot be reached from here.",
            next="Use an engine of this machine: take DOCKER_HOST away, or:  docker context use default\n"
            "or reach it as an external server: set DB_SERVER=external and DB_HOST.",
        )


class EngineFailed(ServerError):
    """The engine refused something that we have no better words for."""

    def __init__(self, doing: str, reason: str, container: str = "") -> None:
        """Say what was tried and what the engine said."""
        see = f"  docker inspect {container}" if container else "  docker info"
        super().__init__(
            f"Docker could not {doing}.",
            where=f"  {reason}",
            next=f"See what Docker says:\n{see}\nOr do without it: set DB_SERVER=embedded, {IN_SETTINGS}.",
        )


class ImageMissing(ServerError):
    """The image is not here and could not be pulled."""

    def __init__(self, image: str, reason: str) -> None:
        """Say why."""
        super().__init__(
            f"The image {image} is not on this machine and could not be pulled.",
            where=f"  {reason}",
            consequence="No container was created.",
            next=f"When the network is back:  docker pull {image}\n"
            f"Or do without Docker: set DB_SERVER=embedded, {IN_SETTINGS}.",
        )


class PortTaken(ServerError):
    """Somebody else listens on the port."""

    def __init__(self, port: int, holder: str, program: str = "") -> None:
        """Say which port, and who has it where that is known.

        Args:
            port: the port of this machine.
            holder: a container's name; empty when it is none of this engine.
            program: a program's name and process; empty when that is not known.

        """
        another = program or "another program on this machine (a PostgreSQL of its own?)"
        who = f"container {holder}" if holder else another
        stop = f"stop the other one:  docker stop {holder}" if holder else "stop the other program."
        super().__init__(
            f"Port {port} is taken by {who}.",
            consequence="The container was not started; no data was touched.",
            next=f"Choose another port: set DB_PORT={other_port(port)}, {IN_SETTINGS},\n"
            f"then run the same command again; or {stop}",
        )


def other_port(port: int) -> int:
    """Return a port to try instead."""
    return port + 1 if port < 65535 else port - 1


class NameConflict(ServerError):
    """A container that is not ours has the name."""

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"A container named {name} exists, and it is not the one of this checkout's infra/docker-compose.yml.",
            consequence="It was left alone; nothing was started.",
            next="Give this checkout a project name of its own, in .env:\n  COMPOSE_PROJECT_NAME=mordeaux_2\n"
            f"or see what it is, and remove it if nobody needs it:  docker inspect {name}",
        )


class OtherCheckout(ServerError):
    """Another checkout uses the same project name."""

    def __init__(self, name: str, folder: str, project: str) -> None:
        """Say which one."""
        super().__init__(
            f"Container {name} of the project {project} belongs to another checkout.",
            where=f"  {folder}",
            consequence="It was left alone; nothing was started.",
            next="Give this checkout a project name and a port of its own, in .env:\n"
            f"  COMPOSE_PROJECT_NAME={project}_2\n  DB_PORT=5433\n"
            f"If that folder was moved here, remove the old container; the volume keeps the data:  docker rm -f {name}",
        )


class PortDiffers(ServerError):
    """The running container is published elsewhere than DB_PORT says."""

    def __init__(self, name: str, published: int | None, wanted: int) -> None:
        """Say where it is published, if at all."""
        really = f"is published on port {published}" if published else "is published on no port of this machine"
        use = f"; or use it as it is:\nset DB_PORT={published}, {IN_SETTINGS}" if published else ""
        super().__init__(
            f"Container {name} {really}, but DB_PORT is {wanted}.",
            consequence="It was left running; nothing was changed.",
            next="Create it again on the new port, with its data:  invoke db.down\n"
            f"then run the same command again{use}.",
        )


class ContainerExited(ServerError):
    """The container does not run."""

    def __init__(self, name: str, state: str, log: str) -> None:
        """Say how it ended and what it said last.

        Args:
            name: the container.
            state: in words, like `exited with code 1`.
            log: its last lines, without secrets.

        """
        super().__init__(
            f"Container {name} {state}.",
            where="\n".join(f"  {line}" for line in log.splitlines()) or "  It wrote nothing to its log.",
            consequence="PostgreSQL is not running; nothing was migrated.",
            next=f"The whole log:  docker logs {name}\nAfter mending what it says:  invoke db.up",
        )


class ContainerPaused(ServerError):
    """Somebody has paused the container."""

    def __init__(self, name: str) -> None:
        """Say which."""
        super().__init__(
            f"Container {name} is paused, so that PostgreSQL cannot answer.",
            consequence="Nothing was changed.",
            next=f"Let it go on:  docker unpause {name}",
        )


class HalfInitialised(ServerError):
    """The container was killed while it created its database."""

    def __init__(self, container: str, volume: str, missing: str) -> None:
        """Say what is missing."""
        super().__init__(
            f"The first start of container {container} was interrupted: {missing}.",
            where=f"  volume {volume}",
            consequence="The volume holds half a server and will not mend itself; there is no data of yours in it.",
            next="Remove it:  invoke db.down --volumes\nthen run the same command again.",
        )


class OtherPassword(ServerError):
    """The volume was made with another password."""

    def __init__(self, container: str, volume: str, user: str) -> None:
        """Say which volume."""
        super().__init__(
            f"The data in volume {volume} was made with another password for {user} than DB_PASSWORD says now.",
            consequence="Nothing was changed. DB_PASSWORD is only given to a server on its first start.",
            next="Set DB_PASSWORD to the old one, or set a new one by hand:\n"
            f"  docker exec -it {container} psql -U {user} -d postgres -c '\\password'\n"
            "Or, if the data is not needed, begin again:  invoke db.down --volumes",
        )


class OtherRole(ServerError):
    """The volume was made for another role."""

    def __init__(self, volume: str, user: str) -> None:
        """Say which role is missing."""
        super().__init__(
            f"The data in volume {volume} has no role {user}.",
            consequence="Nothing was changed. DB_USER is only created on a server's first start.",
            next="Set DB_USER to the role it was made for (the default is postgres),"
            "\nor, if the data is not needed, begin again:  invoke db.down --volumes",
        )


class OtherDatabase(ServerError):
    """The volume was made for another database."""

    def __init__(self, container: str, volume: str, user: str, database: str, there: list[str]) -> None:
        """Say which databases there are."""
        super().__init__(
            f"The data in volume {volume} has no database {database}; it has {', '.join(there)}.",
            consequence="Nothing was changed. DB_NAME is only created on a server's first start.",
            next=f"Set DB_NAME to one of them, or create it:  docker exec {container} createdb -U {user} {database}",
        )


class WrongServer(ServerError):
    """Somebody else answered on the published port."""

    def __init__(self, container: str, port: int) -> None:
        """Say where."""
        super().__init__(
            f"The server that answers on 127.0.0.1:{port} is not the one in container {container}.",
            consequence="Nothing was changed there.",
            next="Another PostgreSQL here has the same port: stop it, or give the container another port:\n"
            f"  invoke db.down\nthen set DB_PORT={other_port(port)}, {IN_SETTINGS}, and:  invoke migrate",
        )


class ProgramMissing(ServerError):
    """A program could not be started in the container."""

    def __init__(self, program: str, container: str, reason: str) -> None:
        """Say which, and what the engine or the shell said."""
        super().__init__(
            f"{program} could not be started in container {container}.",
            where=f"  {reason}" if reason else "",
            consequence="It ran nothing.",
            next=f"See whether the image has it:  docker exec {container} {program} --version",
        )


class InUse(ServerError):
    """Another container uses what was to be removed."""

    def __init__(self, volume: str, reason: str) -> None:
        """Say which."""
        super().__init__(
            f"Volume {volume} could not be removed.",
            where=f"  {reason}",
            consequence="Its data is still there.",
            next=f"See who uses it:  docker ps --all --filter volume={volume}",
        )


class NoShell(ServerError):
    """Neither a client program nor a way to the one in the container."""

    def __init__(self, program: str, container: str) -> None:
        """Say what was looked for."""
        super().__init__(
            f"{program} is not on this machine, nor the program docker, which would reach the one in {container}.",
            consequence="Nothing was changed.",
            next="Install PostgreSQL's client programs:\n"
            "  macOS: brew install libpq    Debian, Ubuntu: apt install postgresql-client\n"
            "  Fedora: dnf install postgresql    Windows: winget install PostgreSQL.PostgreSQL.18",
        )
