"""The engine: which one answers, and what its refusals become."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.db import errors
from infra.db.servers import endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from infra.db.servers.endpoints import Endpoint
    from infra.db.settings import Settings

PROBE = 3  # seconds; for an engine of this machine, which answers in milliseconds or not at all
FAR_PROBE = 10  # seconds; for one that was named, perhaps over a network
PATIENCE = 120  # seconds; for an answer of an engine that is there


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
            tried.append((str(endpoint), reason(error)))
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


def reason(error: Exception) -> str:
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
def asking(doing: str, container: str = "") -> Iterator[None]:
    """Turn whatever the engine refuses, or a lost connection to it, into an error of ours."""
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        yield
    except (DockerException, RequestException) as error:
        raise errors.EngineFailed(doing, reason(error), container) from None
