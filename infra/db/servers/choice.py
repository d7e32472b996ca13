"""Which server a task works on: what DB_SERVER says, or what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.db import errors

if TYPE_CHECKING:
    from collections.abc import Callable

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
