"""What is kept and what is lost: a backup, a restore, an emptied database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db import backup, database, errors, layout, reset, restore

if TYPE_CHECKING:
    from infra.db.backup import Backup
    from infra.db.restore import Dump, Holdings
    from infra.db.session import Session


def back_up(session: Session, out: Path | None = None) -> Backup:
    """Take a backup and say where it is; the run's lock is held."""
    session.console.step("Taking a backup")
    connected = session.database or session.running()
    taken = backup.take(session.server, connected, session.settings, session.console.working, out=out)
    session.console.step(f"Backup: {session.settings.shown(taken.file)} ({layout.size(taken.size)}), read back.")
    if taken.removed:
        names = ", ".join(file.name for file in taken.removed)
        session.console.step(f"Removed, to keep the newest {session.settings.backup_keep} (BACKUP_KEEP): {names}.")
    return taken


def save(session: Session, out: str) -> str:
    """Take a backup under the run's lock; how its file is typed."""
    connected = session.running()
    if connected.facts().is_pooled:
        raise errors.PoolerInBetween(f"{session.settings.host}:{session.settings.port}")
    with connected.run_lock(session.waiting, name=backup.APPLICATION):
        return _typed(session, back_up(session, Path(out).resolve() if out else None).file)


def put_back(session: Session, name: str, *, yes: bool) -> Dump:
    """Replace what is in the database by a backup, after a question where there is something to lose."""
    file = next((each for each in (Path(name), session.settings.root / name) if each.exists()), Path(name)).resolve()
    typed = _typed(session, file)
    if not restore.refuse_other_files(file, typed):
        session.console.step(f"There is no {backup.record_path(file).name} beside it, so nothing proves it unchanged.")
    connected = session.ready()
    database.refuse_unfit(connected.facts(), session.settings, needs_public=False)
    with connected.run_lock(session.waiting):  # which also keeps others from sweeping what is copied in
        held = restore.contents(session.server, file, typed)
    restore.refuse_newer(held, connected, typed)
    asked = False
    while True:
        there = restore.holdings(connected)
        asked = asked or _confirmed(session, typed, held, there, yes=yes)
        session.console.step(
            f"Replacing {there} in {session.where}" if there.objects else f"Restoring into {session.where}"
        )
        emptied = there.objects > 0 or not there.has_public
        if restore.put_back(session.server, connected, held, session.console.working, emptied=emptied):
            return held
        connected.wait_for_lock(time.monotonic() + session.settings.wait_timeout, session.waiting)


def _confirmed(session: Session, typed: str, held: Dump, there: Holdings, *, yes: bool) -> bool:
    """Ask before something is lost; False when there is nothing to lose, so that it is asked if that changes."""
    if not there.objects:
        return False
    session.confirm(
        f"This replaces everything in {session.where}, now {there},\n"
        f"by the backup of {held.database} of {held.made_at}: {held.tables} tables.\n"
        "What is there is lost, unless you keep it first:  invoke db.backup",
        f"db.restore {typed}",
        yes=yes,
    )
    return True


def _typed(session: Session, file: Path) -> str:
    """Return a file as it is typed in a command."""
    shown = session.settings.shown(file)
    return f'"{shown}"' if " " in shown else shown


def empty(session: Session, *, with_backup: bool) -> list[str]:
    """Drop everything, under the run's lock, after a backup; the names of what was dropped."""
    connected = session.ready()
    database.refuse_unfit(connected.facts(), session.settings, needs_public=False)
    with connected.run_lock(session.waiting, name="invoke migrate-reset"):
        if with_backup:
            back_up(session)
        return reset.empty(connected, session.settings.lock_timeout)
