"""Where a Docker engine may answer: what the user named, else the places where engines put their sockets.

In the order of the Docker CLI: DOCKER_HOST, DOCKER_CONTEXT, the current context of its config.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from infra.db import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Endpoint(NamedTuple):
    """Where an engine may answer.

    Attributes:
        url: like `unix:///var/run/docker.sock`.
        origin: who named it, in words.
        certificates: the folder of ca.pem, cert.pem and key.pem; None without TLS.
        verify: whether the engine's certificate is checked.

    """

    url: str
    origin: str
    certificates: Path | None = None
    verify: bool = True

    @property
    def host(self) -> str:
        """The machine the engine runs on, as this one reaches it."""
        parts = urlsplit(self.url)
        is_here = parts.scheme not in ("tcp", "http", "https", "ssh") or parts.hostname in ("localhost", "::1")
        return "127.0.0.1" if is_here else parts.hostname or "127.0.0.1"

    @property
    def variables(self) -> dict[str, str]:
        """What leads the `docker` program to it."""
        if self.certificates is None:
            return {"DOCKER_HOST": self.url}
        tls = "DOCKER_TLS_VERIFY" if self.verify else "DOCKER_TLS"
        return {"DOCKER_HOST": self.url, "DOCKER_CERT_PATH": str(self.certificates), tls: "1"}

    def __str__(self) -> str:
        return f"{self.url} ({self.origin})"


def named(environment: Mapping[str, str]) -> Endpoint | None:
    """Return the engine that DOCKER_HOST, DOCKER_CONTEXT or the current context names; None when none does.

    Raises:
        EngineUnavailable: the context that is named is not there.

    """
    if host := environment.get("DOCKER_HOST"):
        folder = environment.get("DOCKER_CERT_PATH") or (environment.get("DOCKER_TLS_VERIFY") and _config(environment))
        url = f"unix://{host}" if host.startswith("/") else host
        verify = bool(environment.get("DOCKER_TLS_VERIFY"))
        return Endpoint(url, "DOCKER_HOST", Path(folder) if folder else None, verify)
    if name := environment.get("DOCKER_CONTEXT"):
        return _context(name, f"DOCKER_CONTEXT={name}", environment)
    if (name := _current_context(environment)) and name != "default":
        return _context(name, f"current Docker context {name}", environment)
    return None


def _context(name: str, origin: str, environment: Mapping[str, str]) -> Endpoint:
    """Read a context where the Docker CLI keeps it; the SDK takes the default socket for one that it cannot find."""
    if name == "default":
        usual = "npipe:////./pipe/docker_engine" if os.name == "nt" else "unix:///var/run/docker.sock"
        return Endpoint(usual, origin)
    identifier = hashlib.sha256(name.encode()).hexdigest()
    contexts = _config(environment) / "contexts"
    try:
        meta = json.loads((contexts / "meta" / identifier / "meta.json").read_text(encoding="utf-8"))
        endpoint = meta["Endpoints"]["docker"]
        certificates = contexts / "tls" / identifier / "docker"
        return Endpoint(
            endpoint["Host"],
            origin,
            certificates if certificates.is_dir() else None,
            verify=not endpoint.get("SkipTLSVerify"),
        )
    except FileNotFoundError:
        reason = "there is no such context; see  docker context ls"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"the context cannot be read: {error}"
    raise errors.EngineUnavailable([(origin, reason)]) from None


def _current_context(environment: Mapping[str, str]) -> str:
    try:
        said = json.loads((_config(environment) / "config.json").read_text(encoding="utf-8"))
        return str(said.get("currentContext") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _config(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("DOCKER_CONFIG") or _home(environment) / ".docker")


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or environment.get("USERPROFILE") or Path.home())


def usual(environment: Mapping[str, str]) -> Iterator[Endpoint]:
    """Yield where engines put their sockets: Docker, Desktop, rootless, OrbStack, Colima, Rancher, Podman."""
    if os.name == "nt":
        for pipe in ("docker_engine", "dockerDesktopLinuxEngine", "podman-machine-default"):
            if os.path.exists(rf"\\.\pipe\{pipe}"):  # noqa: PTH110 - pathlib resolves, and a pipe is no file
                yield Endpoint(f"npipe:////./pipe/{pipe}", "usual place")
        return
    home = _home(environment)
    runtime = Path(environment.get("XDG_RUNTIME_DIR") or "/nonexistent")
    for path in (
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        runtime / "docker.sock",
        home / ".orbstack/run/docker.sock",
        Path(environment.get("COLIMA_HOME") or home / ".colima") / "default/docker.sock",
        home / ".rd/docker.sock",
        runtime / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
        home / ".local/share/containers/podman/machine/podman.sock",
    ):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(path.stat().st_mode):
                yield Endpoint(f"unix://{path}", "usual place")
