"""A run forward: what is pending, shown or applied."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from infra.db import database, errors, plan

if TYPE_CHECKING:
    from infra.db.migration import Migration
    from infra.db.migrator import Migrator
    from infra.db.session import Session


def pending(session: Session, *, to: str | None, out_of_order: bool) -> tuple[Migration, ...]:
    """Return what a run would do, without starting anything."""
    state, connected = session.look(), session.database
    plan.refuse_unrecorded(state.unrecorded)
    recorded = connected.kept_sql if connected else None
    return plan.steps(state.entries, to=to, out_of_order=out_of_order, folder=session.migrations, recorded=recorded)


def migrate(session: Session, *, to: str | None, out_of_order: bool, single: bool, with_backup: bool) -> None:
    """Apply what is pending and show how it went, on success and on failure."""
    migrator: Migrator | None = None
    try:
        migrator = session.migrator()
        connected = session.ready()
        database.refuse_unfit(connected.facts(), session.settings)
        began = time.monotonic()
        try:
            rows = migrator.migrate(
                connected,
                to=to,
                out_of_order=out_of_order,
                single=single,
                before=partial(_back_up, session) if with_backup else None,
            )
        finally:
            session.console.slow(session.migrations)
    except errors.ToolError as error:
        session.console.outcome(migrator.applied if migrator else (), error)
        raise
    session.console.outcome(rows, None)
    session.console.applied(rows, time.monotonic() - began, session.where)


def _back_up(session: Session) -> None:
    from infra.db.work import keep  # noqa: PLC0415 - few runs take a backup, and the others need not wait for it

    keep.back_up(session)
