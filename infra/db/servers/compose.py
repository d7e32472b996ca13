"""The compose file -> one frozen Service, by compose's own rules for names and variables.

Only what a database needs is understood; anything else in the service is refused by name, never
ignored, because a container made without it would not be the one that the file describes.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.db import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The spellings that mean the same to compose and to expandvars. ${X-default} and ${X:=default} do not.
VARIABLE = re.compile(r"\$(?:\$|[A-Za-z_]\w*|\{[A-Za-z_]\w*(?::[-?][^{}]*)?\})", re.ASCII)
DOLLAR = "\0"  # stands for a $$ while variables are replaced: no environment variable can hold it
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
PORT = re.compile(r"(?:(?:(?P<ip>\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):)?(?P<host>\d+)?:)?(?P<container>\d+)(?:/tcp)?")
VOLUME = re.compile(r"(?P<key>[\w][\w.-]*):(?P<target>/[^:]*)(?::(?P<mode>ro|rw))?", re.ASCII)


class Port(NamedTuple):
    """A published port.

    Attributes:
        ip: the address of this machine it is published on; empty for all of them.
        host: the port on this machine; 0 lets the engine choose.
        container: the port inside.

    """

    ip: str
    host: int
    container: int


class Volume(NamedTuple):
    """A named volume.

    Attributes:
        key: its name in the file.
        name: its name in the engine.
        target: where it is mounted.
        mode: `rw` or `ro`.

    """

    key: str
    name: str
    target: str
    mode: str = "rw"


class Healthcheck(NamedTuple):
    """How the engine looks whether the service is well; durations in nanoseconds, 0 for the engine's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, ready to be created.

    Attributes:
        project: the compose project.
        name: the service's key in the file.
        container_name: what its container is called.
        image: the image to run.
        environment: the container's variables; holds the password, hence never shown.
        ports: what is published.
        volumes: what is kept.
        command: instead of the image's own; empty for that one.
        healthcheck: None for the image's own.
        labels: the file's own labels, compose's not among them.
        shm_size: of /dev/shm, like `1gb`; empty for the engine's default.
        restart: the restart policy's name; empty for none.

    """

    project: str
    name: str
    container_name: str
    image: str
    environment: Mapping[str, str]
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    labels: Mapping[str, str]
    shm_size: str = ""
    restart: str = ""

    def __repr__(self) -> str:
        return f"Service({self.project}/{self.name}, {self.image})"


def read(path: Path, environment: Mapping[str, str], *, name: str = "postgres") -> Service:
    """Read one service of a compose file.

    Args:
        path: the file; its folder names the project when nothing else does.
        environment: what its variables stand for.
        name: the service.

    Raises:
        ComposeFileError: the file is missing, is no compose file, or wants what we cannot create.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise errors.ComposeFileError(f"cannot be read: {reason}") from None
    return parse(text, folder=path.parent.resolve().name, environment=environment, name=name)


def parse(text: str, *, folder: str, environment: Mapping[str, str], name: str = "postgres") -> Service:
    """Read one service of a compose file's text; see `read`."""
    import yaml  # noqa: PLC0415 - only needed when a container is created

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise errors.ComposeFileError(f"is not YAML: {' '.join(str(error).split())}") from None
    document = _mapping("", document)
    _refuse_unknown("", document, {"services", "volumes", "name", "version"})
    services = _mapping("services", document.get("services"))
    if name not in services:
        raise errors.ComposeFileError(f"has no service {name}")
    project = project_name(document.get("name"), folder=folder, environment=environment)
    volumes = _mapping("volumes", document.get("volumes"))
    return _service(
        project,
        name,
        interpolate(services[name], environment, key=f"services.{name}"),
        interpolate(volumes, environment, key="volumes"),
        environment,
    )


def project_name(name: object, *, folder: str, environment: Mapping[str, str]) -> str:
    """Return the project's name as compose spells it: COMPOSE_PROJECT_NAME, else the file's `name:`, else the folder's.

    Source of the rule: docker-compose 1.29 (`get_project_name`) and compose-go (`NormalizeProjectName`).
    """
    given = interpolate(name, environment, key="name")
    chosen = environment.get("COMPOSE_PROJECT_NAME") or (str(given) if given else folder)
    normal = re.sub(r"[^-_a-z0-9]", "", chosen.lower()).lstrip("-_")
    if not normal:
        raise errors.ComposeFileError(f"gets no project name from {chosen!r}; set COMPOSE_PROJECT_NAME to a word")
    return normal


def interpolate(value: Any, environment: Mapping[str, str], *, key: str) -> Any:  # noqa: ANN401 - what YAML holds
    """Replace the variables in all strings of a parsed value; what they stand for is taken as it is, `$` and all."""
    if isinstance(value, dict):
        return {name: interpolate(each, environment, key=_below(key, name)) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, environment, key=key) for each in value]
    return _interpolated(value, environment, key) if isinstance(value, str) else value


def _interpolated(text: str, environment: Mapping[str, str], key: str) -> str:
    import expandvars  # noqa: PLC0415

    if "$" in VARIABLE.sub("", text):
        raise errors.ComposeFileError(
            f"{key} holds a $ that these tasks cannot read:"
            " write ${NAME}, ${NAME:-default}, ${NAME:?message}, or $$ for a $"
        )
    try:
        plain = text.replace("$$", DOLLAR)
        return str(expandvars.expand(plain, environ=environment, escape_char=None)).replace(DOLLAR, "$")
    except expandvars.ParameterNullOrNotSet as error:
        raise errors.ComposeFileError(f"{key} needs a variable that is not set: {error.args[0]}") from None


def _service(
    project: str,
    name: str,
    service: Any,  # noqa: ANN401 - what YAML holds
    volumes: Mapping[str, Any],
    environment: Mapping[str, str],
) -> Service:
    key = f"services.{name}"
    service = _mapping(key, service)
    if not service.get("image"):
        raise errors.ComposeFileError(f"{key} names no image")
    readers: dict[str, Callable[[str, Any], Any]] = {
        "image": _text,
        "environment": lambda at, value: _pairs(at, value, environment),
        "ports": lambda at, value: tuple(_port(at, each) for each in _list(at, value)),
        "volumes": lambda at, value: tuple(_volume(at, each, project, volumes) for each in _list(at, value)),
        "command": _command,
        "healthcheck": _healthcheck,
        "labels": lambda at, value: _pairs(at, value, {}),
        "shm_size": _text,
        "restart": _text,
        "container_name": _text,
    }
    _refuse_unknown(key, service, readers)
    said = {each: reader(_below(key, each), service[each]) for each, reader in readers.items() if service.get(each)}
    defaults = {"environment": {}, "labels": {}, "container_name": f"{project}-{name}-1"}
    return Service(project=project, name=name, **{**defaults, **said})


def _port(key: str, value: object) -> Port:
    match = PORT.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None:
        raise errors.ComposeUnsupported(f"{key} ({value})")
    return Port(
        ip=(match["ip"] or "").strip("[]"),
        host=int(match["host"] or 0),
        container=int(match["container"]),
    )


def _volume(key: str, value: object, project: str, volumes: Mapping[str, Any]) -> Volume:
    match = VOLUME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise errors.ComposeUnsupported(f"{key} ({value})")
    if match["key"] not in volumes:
        raise errors.ComposeFileError(f"{key} names {match['key']}, which is not under the top-level volumes")
    at = f"volumes.{match['key']}"
    definition = _mapping(at, volumes[match["key"]])
    _refuse_unknown(at, definition, {"name"})
    name = definition.get("name") or f"{project}_{match['key']}"
    return Volume(key=match["key"], name=str(name), target=match["target"], mode=match["mode"] or "rw")


def _healthcheck(key: str, value: Any) -> Healthcheck:  # noqa: ANN401 - what YAML holds
    value = _mapping(key, value)
    _refuse_unknown(key, value, {"test", "interval", "timeout", "start_period", "retries"})
    test = value.get("test") or []
    times = {
        name: _nanoseconds(_below(key, name), str(value[name]))
        for name in ("interval", "timeout", "start_period")
        if name in value
    }
    return Healthcheck(
        test=("CMD-SHELL", test) if isinstance(test, str) else tuple(str(each) for each in _list(key, test)),
        retries=_number(_below(key, "retries"), value.get("retries", 0)),
        **times,
    )


def _number(key: str, value: object) -> int:
    if not str(value).isdecimal():
        raise errors.ComposeFileError(f"{key} is not a number: {value}")
    return int(str(value))


def _nanoseconds(key: str, text: str) -> int:
    match = DURATION.fullmatch(text)
    if match is None or not text:
        raise errors.ComposeFileError(f"{key} is not a duration like 1m30s: {text}")
    hours, minutes, seconds, milliseconds = (float(each or 0) for each in match.groups())
    return round((hours * 3600 + minutes * 60 + seconds) * 1e9 + milliseconds * 1e6)


def _command(key: str, value: object) -> tuple[str, ...]:
    return tuple(shlex.split(value)) if isinstance(value, str) else tuple(str(each) for each in _list(key, value))


def _pairs(key: str, value: object, environment: Mapping[str, str]) -> dict[str, str]:
    """Read a mapping, or a list of NAME=value; a NAME alone is passed on from the environment where it is set."""
    if isinstance(value, list):
        value = {name: text if given else None for name, given, text in (str(each).partition("=") for each in value)}
    said = {str(name): text for name, text in _mapping(key, value).items()}
    pairs = {name: environment.get(name) if text is None else text for name, text in said.items()}
    return {name: _scalar(text) for name, text in pairs.items() if text is not None}


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(key: str, value: object) -> str:
    if isinstance(value, dict | list):
        raise errors.ComposeFileError(f"{key} is not one word")
    return str(value)


def _mapping(key: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.ComposeFileError(f"{key or 'the whole file'} is not a mapping")
    return value


def _list(key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise errors.ComposeFileError(f"{key} is not a list")
    return value


def _refuse_unknown(key: str, value: Mapping[str, Any], known: Any) -> None:  # noqa: ANN401 - any container
    for name in value:
        if name not in known and not str(name).startswith("x-"):
            raise errors.ComposeUnsupported(_below(key, name))


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
