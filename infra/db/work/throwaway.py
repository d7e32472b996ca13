"""Databases for a moment: beside the real one, or on a private server that is started for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from infra.db import database, errors, scratch
from infra.db.migrator import Migrator
from infra.db.servers import choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.db.database import Database
    from infra.db.migration import Migration
    from infra.db.scratch import Scratch
    from infra.db.servers import Server
    from infra.db.session import Session


@contextlib.contextmanager
def applied(session: Session, connected: Database, tool: str, files: Sequence[Migration]) -> Iterator[Scratch]:
    """Make a throw-away database and apply files to it: beside the real one, where that may be and they stay inside it.

    Raises:
        TrialFailed: one of the files cannot be applied to a new database.

    """
    with contextlib.ExitStack() as trial:
        made = None
        if not scratch.beyond_database(files):
            with contextlib.suppress(errors.NoScratch):
                made = trial.enter_context(scratch.database(connected, session.server, tool=tool))
        if made is None:
            original, programs = trial.enter_context(elsewhere(session, connected, files))
            made = trial.enter_context(scratch.database(original, programs, tool=tool))
        try:
            Migrator(made.programs, made.settings, files, lambda _: None).migrate(made.database)
        except errors.MigrationFailed as error:
            raise errors.TrialFailed(error) from None
        yield made


@contextlib.contextmanager
def elsewhere(session: Session, connected: Database, files: Sequence[Migration]) -> Iterator[tuple[Database, Server]]:
    """Start a private server for a moment, with the roles that files expect; a connection to it."""
    session.console.step("Starting a private PostgreSQL for a moment")
    with choice.throwaway(session.settings) as (server, settings):
        address = server.start(session.console.step)
        with contextlib.closing(database.wait_until_ready(server, settings, address, session.console.step)) as other:
            ours, theirs = (each.facts().version // 10000 for each in (connected, other))
            if ours != theirs:
                session.console.say(f"It is PostgreSQL {theirs}, the real one {ours}; what depends on that differs.")
            scratch.copy_roles(connected, other, files)
            yield other, server
