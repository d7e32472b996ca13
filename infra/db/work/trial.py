"""Tried elsewhere: what is pending on a copy of the database, what is applied against the live schema."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.db import clone, errors, findings, layout, lint, plan, rehearse, scratch, verify
from infra.db.work import throwaway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.db.database import Database
    from infra.db.migration import Migration
    from infra.db.scratch import Scratch
    from infra.db.session import Session

PRIVATE = "a private server of this machine"


def verify_schema(session: Session) -> None:
    """Compare the live schema with the one that the applied files make, and show what differs.

    Raises:
        SchemaDiffers: something does.

    """
    migrator, connected = session.migrator(), session.running()
    with connected.run_lock(session.waiting):
        files, roles = verify.ran(connected, migrator.files)
        live = verify.look(session.server, connected)
    session.console.step(f"Applying {len(files)} files to a throw-away database")
    made = verify.build(connected, session.server, files, lambda: throwaway.elsewhere(session, connected, files))
    found = verify.compare(made, live, run_time=verify.patterns(files), roles=roles | {session.settings.user})
    session.console.verified(found, session.server.kind, session.settings.name, session.where)
    if found.differences:
        raise errors.SchemaDiffers(len(found.differences), session.where)


def rehearse_pending(session: Session, *, to: str | None, data: bool) -> None:
    """Try what is pending on a copy, and show what it does.

    Raises:
        RehearsalFailed: something of it should be mended first.
        RehearsalStopped: Ctrl-C or SIGTERM.

    """
    try:
        report, place = _rehearsed(session, to=to, data=data)
    except (KeyboardInterrupt, errors.Interrupted):
        raise errors.RehearsalStopped from None
    session.console.rehearsed(report, session.server.kind, session.settings.name, session.where, place)
    if not report.is_good:
        raise errors.RehearsalFailed(findings.verdict(report), report.failed)


def _rehearsed(session: Session, *, to: str | None, data: bool) -> tuple[findings.Report, str]:
    migrator, connected = session.migrator(), session.ready()
    for left in scratch.leftovers(connected):
        session.console.left_behind(left)
    roles: set[str] = set()
    with contextlib.ExitStack() as copy:
        copy.callback(_drop_roles, session, connected, roles)
        with connected.run_lock(session.waiting):
            state = migrator.compare(connected.history())
            if not state.history.rows:
                plan.refuse_unrecorded(connected.unrecorded())
            steps = plan.steps(state.entries, to=to, folder=session.migrations, recorded=connected.kept_sql)
            if not steps:
                return replace(findings.NOTHING, data=data), ""
            lint.refuse_what_cannot_work(steps, session.migrations)
            made, place = _workshop(session, copy, connected, steps, data=data)
            what = "" if data else "the schema of "
            session.console.step(f"Copying {what}{session.settings.name} into a throw-away database on {place}")
            here, there = (session.server, connected), (made.programs, made.database)
            clone.copy(here, there, data=data, progress=lambda size: session.console.working(layout.size(size)))
        trial = rehearse.Rehearsal(
            made=made,
            files=migrator.files,
            steps=steps,
            estimates=rehearse.estimates(connected),
            data=data,
            tell=session.console.event,
            roles=None if place == PRIVATE else roles,
        )
        return trial.run(), place


def _drop_roles(session: Session, connected: Database, roles: set[str]) -> None:
    """Take back what a rehearsal made outside of its copy."""
    for role in scratch.drop_roles(connected, roles) if roles else ():
        session.console.say(f"The role {role} was made by this and stays: somebody else uses it by now.", "yellow")


def _workshop(
    session: Session, copy: contextlib.ExitStack, connected: Database, steps: Sequence[Migration], *, data: bool
) -> tuple[Scratch, str]:
    """Make the database for a copy, and say where: never with the rows on a server that somebody else runs."""
    is_external = session.server.kind == "external"
    if not (is_external and data) and not scratch.beyond_database(steps):
        try:
            made = copy.enter_context(scratch.database(connected, session.server, tool="migrate-rehearse"))
        except errors.NoScratch:
            if not is_external:
                raise
        else:
            return made, "the same server"
    other, programs = copy.enter_context(throwaway.elsewhere(session, connected, ()))
    return copy.enter_context(scratch.database(other, programs, tool="migrate-rehearse")), PRIVATE
