"""The environment of libpq's programs: the one way a password travels, and nothing of the caller's by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.db.servers import Address
    from infra.db.settings import Settings

# What the user may say about security; anything else in PG* would quietly lead to another server or session.
KEPT = ("PGSSL", "PGGSS", "PGKRB", "PGCHANNELBINDING", "PGREQUIREAUTH", "PGREQUIREPEER", "PGPASSFILE", "PGSYSCONFDIR")


def connection(settings: Settings, address: Address) -> dict[str, str]:
    """Return the PG* variables that lead to the configured database as the configured user."""
    variables = {
        "PGHOST": address.host,
        "PGPORT": str(address.port),
        "PGDATABASE": settings.name,
        "PGUSER": settings.user,
        "PGCLIENTENCODING": "UTF8",
    }
    if settings.password:  # without one, libpq looks into its password file
        variables["PGPASSWORD"] = settings.password
    return variables


def environment(settings: Settings, address: Address, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment for a libpq program of this machine that we listen to."""
    own = _without(settings.environment, KEPT)
    # LC_ALL=C: psql's own words (LINE, DETAIL, HINT) are read by us.
    return {**own, "LC_ALL": "C", **connection(settings, address), **(extra or {})}


def foreground(
    settings: Settings, address: Address, *, at_terminal: bool, kept: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the whole environment for a libpq program of this machine that people use: it speaks their language.

    Args:
        settings: whose variables, and which database.
        address: where the server answers.
        at_terminal: psql takes the encoding from the terminal, unless it is told one.
        kept: the beginnings of those PG* names that the user's own values are kept of.

    """
    variables = connection(settings, address)
    if at_terminal:
        del variables["PGCLIENTENCODING"]
    own = _without(settings.environment, kept)
    return {**{name: value for name, value in own.items() if not name.startswith("DB_")}, **variables}


def _without(environment: Mapping[str, str], kept: tuple[str, ...]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if not name.startswith("PG") or name.startswith(kept)}
