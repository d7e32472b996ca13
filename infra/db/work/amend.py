"""What a person decides about the history: undo what was applied, settle one version by hand, adopt what is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from infra.db import catalogue, database, errors, losses, plan, verify
from infra.db.work import throwaway

if TYPE_CHECKING:
    from infra.db.database import Database
    from infra.db.migration import Migration
    from infra.db.migrator import Migrator
    from infra.db.session import Session


def rollback(session: Session, *, steps: str, to: str | None, plan_only: bool, yes: bool) -> None:
    """Show what going back undoes and what is lost by it, ask, and do it."""
    if not steps.isdecimal() or int(steps) < 1 or (to is not None and steps != "1"):
        raise errors.HowFar
    migrator = session.migrator()
    connected = session.running() if plan_only else session.ready()
    state = migrator.compare(connected.history(), busy=connected.holder() is not None)
    versions = plan.newest(state.entries, count=int(steps), to=to)
    scripts = migrator.undo(connected, state, versions)
    lost = [(script, losses.count(connected, script.text.sql or "")) for script in scripts]
    session.console.way_back(lost, session.where)
    if not scripts:
        return
    if plan_only:
        session.console.done("Nothing was changed.", ("invoke migrate-rollback", "do it"))
        return
    database.refuse_unfit(connected.facts(), session.settings)
    session.confirm(f"This undoes {', '.join(script.label for script in scripts)}.", "migrate-rollback", yes=yes)
    began = time.monotonic()
    try:
        migrator.rollback(connected, versions)
    finally:
        session.console.slow(session.migrations)
    session.console.undone(len(scripts), time.monotonic() - began, session.where)


def settle(session: Session, version: str, *, applied: bool, pending: bool) -> plan.Entry:
    """Record a version as applied as its file stands, or forget it; the entry as it was before."""
    if applied == pending:
        raise errors.SayWhich(version)
    migrator, connected = session.migrator(), session.running()
    database.refuse_unfit(connected.facts(), session.settings)
    with connected.run_lock(session.waiting):
        entry = plan.find(migrator.compare(connected.history()).entries, version)
        if applied:
            if entry.file is None:
                raise errors.NoFile(entry.label)
            connected.record([entry.file], "applied")
        elif entry.row is None:
            raise errors.NotApplied(entry.label)
        else:
            connected.forget(entry.row.version)
        return entry


def adopt(session: Session, to: str | None, *, anyway: bool) -> list[Migration]:
    """Record what is pending as applied without running it, when the database is what the files would make."""
    migrator, connected = session.migrator(), session.running()
    database.refuse_unfit(connected.facts(), session.settings)
    with connected.run_lock(session.waiting):
        state = migrator.compare(connected.history())
        files = plan.steps(state.entries, to=to, out_of_order=False, folder=session.migrations)
        if files:
            _compare_with(session, connected, migrator, files[-1], anyway=anyway)
            connected.record(files, "baseline")
        return list(files)


def _compare_with(session: Session, connected: Database, migrator: Migrator, last: Migration, *, anyway: bool) -> None:
    """Refuse, or only show, where the database is not what the files up to one would make."""
    session.console.step(f"Comparing the database with what the files up to {last.version} make")
    made = [file for file in migrator.files if file.number <= last.number]
    with throwaway.applied(session, connected, "migrate-baseline", made) as other:
        wanted = verify.look(other.programs, other.database)
    live, roles = verify.look(session.server, connected), frozenset({session.settings.user})
    if differences := verify.compare(wanted, live, run_time=verify.patterns(made), roles=roles).differences:
        error = errors.NotTheSame(
            last.version, made[-2].version if made[1:] else "", len(differences), catalogue.by_table(differences)
        )
        if not anyway:
            raise error
        session.console.say(f"{error.what}\n{error.where}", "yellow")
