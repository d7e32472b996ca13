"""Which server a task works on: what DB_SERVER says, or what is there."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.db import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.db.servers import Server
    from infra.db.settings import Settings


def choose(settings: Settings, tell: Callable[[str], None], progress: Callable[[int, int], None]) -> Server:
    """Return the server, without starting anything.

    `auto` means: a DB_HOST that is not this machine is somebody else's server; otherwise Docker, if an engine
    answers; otherwise the embedded PostgreSQL.

    Args:
        settings: what DB_SERVER and DB_HOST say.
        tell: called with the one line that says why the embedded server was taken.
        progress: called with the bytes done and in all while an image is pulled.

    Raises:
        ServerError: DB_SERVER=docker, and no engine answers.

    """
    # Each is imported only when it is meant: the Docker SDK alone costs as much as all the rest.
    if settings.server == "external" or (settings.server == "auto" and not settings.is_local):
        from infra.db.servers.external import External  # noqa: PLC0415

        return External(settings)
    unavailable: errors.EngineUnavailable | None = None
    if settings.server != "embedded":
        from infra.db.servers.container import Container, find_engine  # noqa: PLC0415

        try:
            return Container(settings, engine=find_engine(settings), progress=progress)
        except errors.EngineUnavailable as error:
            if settings.server == "docker":
                raise
            unavailable = error
            tell(f"{error.what} Using the embedded PostgreSQL in {settings.shown(settings.embedded_dir)}/ instead.")
    from infra.db.servers.embedded import Embedded  # noqa: PLC0415

    return Embedded(settings, instead_of=unavailable)


@contextlib.contextmanager
def throwaway(settings: Settings) -> Iterator[tuple[Server, Settings]]:
    """Give a private server for a moment, in a folder beside the embedded server's; deleted afterwards with its data.

    What runs that were killed left there is deleted first.

    Raises:
        NoEmbedded: its package is not installed.

    """
    import psutil  # noqa: PLC0415

    from infra.db.servers.embedded import Embedded  # noqa: PLC0415

    home = settings.embedded_dir
    for left in home.parent.glob(f"{home.name}.scratch-*"):
        if (pid := left.name.rpartition("-")[2]).isdecimal() and not psutil.pid_exists(int(pid)):
            Embedded(replace(settings, embedded_dir=left)).destroy()
    own = replace(
        settings.without_tls(),
        server="embedded",
        host="127.0.0.1",
        port=_free_port(),
        password=secrets.token_urlsafe(),
        embedded_dir=home.with_name(f"{home.name}.scratch-{os.getpid()}"),
    )
    server = Embedded(own)
    try:
        yield server, own
    finally:
        server.destroy()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
