"""What one task works with: the server, the files and the connection, each made when it is first needed."""

from __future__ import annotations

import difflib
import itertools
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db import backup, database, docs, errors, migration, plan, reset, restore
from infra.db.history import History
from infra.db.migrator import Migrator, State
from infra.db.servers import choice

if TYPE_CHECKING:
    from infra.db.backup import Backup
    from infra.db.console import Console
    from infra.db.database import Backend, Database
    from infra.db.restore import Dump, Holdings
    from infra.db.servers import Address
    from infra.db.settings import Settings

LOOK_EVERY = 0.2  # seconds
LONGEST_DIFF = 20  # lines of stale documentation that are shown


class Session:
    """One task's work on one database.

    Attributes:
        console: where words go.
        settings: what it runs with.
        server: where PostgreSQL is.

    """

    def __init__(self, console: Console, settings: Settings) -> None:
        """Choose the server; nothing is read or started yet."""
        self.console = console
        self.server = choice.choose(settings, console.say, console.pulling)
        # TLS is for somebody else's server; ours answer on this machine only, without it.
        self.settings = settings if self.server.kind == "external" else settings.without_tls()
        self._database: Database | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._database:
            self._database.close()

    @property
    def where(self) -> str:
        """The database in words, for summaries."""
        answered = self._database.address if self._database else None
        address = f"{self.settings.host}:{answered.port if answered else self.settings.port}"
        place = self.server.place()
        return f"{self.settings.name} ({place if address in place else f'{place}, {address}'})"

    @property
    def migrations(self) -> str:
        """The folder of the files, as people type it."""
        return self.settings.shown(self.settings.migrations_dir)

    @property
    def backups(self) -> str:
        """The folder of the backups, as people type it."""
        return self.settings.shown(self.settings.backup_dir)

    def ready(self) -> Database:
        """Start or find the server, wait until it is ready, refuse what it cannot carry."""
        address = self.server.start(self.console.step)
        return self._use(database.wait_until_ready(self.server, self.settings, address, self.console.step))

    def when_ready(self) -> Database:
        """Wait for a server that somebody else starts."""
        deadline = time.monotonic() + self.settings.wait_timeout
        while (address := self.server.address()) is None:
            if time.monotonic() > deadline:
                raise errors.NotRunning(self.server.place())
            time.sleep(LOOK_EVERY)
        return self._use(database.wait_until_ready(self.server, self.settings, address, self.console.step))

    def running(self) -> Database:
        """Connect to the server as it is, once; starts nothing."""
        address = self.server.address()
        if address is None:
            raise errors.NotRunning(self.server.place())
        return self._use(database.connect(self.server, self.settings, address))

    def _use(self, connected: Database) -> Database:
        self._database = connected
        return connected

    def migrator(self) -> Migrator:
        """Read the files."""
        files = migration.read_folder(self.settings.migrations_dir, self.migrations)
        return Migrator(self.server, self.settings, files, self.console.event)

    def look(self) -> State:
        """Compare files and history without starting anything; what was never created has an empty history."""
        migrator = self.migrator()
        if self.server.address() is None and not self.server.exists():
            return migrator.compare(History())
        try:
            connected = self.running()
            busy = connected.holder() is not None
            return migrator.compare(connected.history(), busy=busy)
        except errors.DatabaseMissing:
            if self.server.kind != "embedded":  # which makes it when it is needed
                raise
            return migrator.compare(History())

    def pending(self, *, to: str | None, out_of_order: bool) -> tuple[migration.Migration, ...]:
        """Return what a run would do, without starting anything."""
        state = self.look()
        if not state.history.rows and self._database:
            plan.refuse_unrecorded(self._database.tables())
        recorded = self._database.kept_sql if self._database else None
        return plan.steps(state.entries, to=to, out_of_order=out_of_order, folder=self.migrations, recorded=recorded)

    def migrate(self, *, to: str | None, out_of_order: bool, single: bool, with_backup: bool) -> None:
        """Apply what is pending and show how it went, on success and on failure."""
        migrator: Migrator | None = None
        try:
            migrator = self.migrator()
            connected = self.ready()
            database.refuse_unfit(connected.facts(), self.settings)
            began = time.monotonic()
            rows = migrator.migrate(
                connected,
                to=to,
                out_of_order=out_of_order,
                single=single,
                before=self.backup if with_backup else None,
            )
        except errors.ToolError as error:
            self.console.outcome(migrator.applied if migrator else (), error)
            raise
        self.console.outcome(rows, None)
        self.console.applied(rows, time.monotonic() - began, self.where)

    def backup(self, out: Path | None = None) -> Backup:
        """Take a backup and say where it is; the run's lock is held."""
        self.console.step("Taking a backup")
        taken = backup.take(self.server, self._connected(), self.settings, self.console.working, out=out)
        self.console.step(f"Backup: {self.settings.shown(taken.file)} ({taken.size / 1e6:,.1f} MB), read back.")
        if taken.removed:
            names = ", ".join(file.name for file in taken.removed)
            self.console.step(f"Removed, to keep the newest {self.settings.backup_keep} (BACKUP_KEEP): {names}.")
        return taken

    def save(self, out: str) -> str:
        """Take a backup under the run's lock; how its file is typed."""
        connected = self.running()
        if connected.facts().is_pooled:
            raise errors.PoolerInBetween(f"{self.settings.host}:{self.settings.port}")
        with connected.run_lock(self._waiting, name=backup.APPLICATION):
            return self._typed(self.backup(Path(out).resolve() if out else None).file)

    def restore(self, name: str, *, yes: bool) -> Dump:
        """Replace what is in the database by a backup, after a question where there is something to lose."""
        file = next((each for each in (Path(name), self.settings.root / name) if each.exists()), Path(name)).resolve()
        typed = self._typed(file)
        if not restore.refuse_other_files(file, typed):
            self.console.step(f"There is no {backup.record_path(file).name} beside it, so nothing proves it unchanged.")
        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings, needs_public=False)
        with connected.run_lock(self._waiting):  # which also keeps others from sweeping what is copied in
            held = restore.contents(self.server, file, typed)
        restore.refuse_newer(held, connected, typed)
        while True:
            there = restore.holdings(connected)
            yes = yes or self._confirmed_restore(typed, held, there)
            self.console.step(f"Replacing {there} in {self.where}" if there.objects else f"Restoring into {self.where}")
            emptied = there.objects > 0 or not connected.facts().has_public
            if restore.put_back(self.server, connected, held, self.console.working, emptied=emptied):
                return held
            connected.wait_for_lock(time.monotonic() + self.settings.wait_timeout, self._waiting)

    def _confirmed_restore(self, typed: str, held: Dump, there: Holdings) -> bool:
        """Ask before something is lost; False when there is nothing to lose, so that it is asked if that changes."""
        if not there.objects:
            return False
        self.console.confirm(
            f"This replaces everything in {self.where}, now {there},\n"
            f"by the backup of {held.database} of {held.made_at}: {held.tables} tables.\n"
            "What is there is lost, unless you keep it first:  invoke db.backup",
            f"db.restore {typed}",
        )
        return True

    def _typed(self, file: Path) -> str:
        """Return a file as it is typed in a command."""
        shown = self.settings.shown(file)
        return f'"{shown}"' if " " in shown else shown

    def _connected(self) -> Database:
        return self._database or self.running()

    def empty(self, *, with_backup: bool) -> list[str]:
        """Drop everything, under the run's lock, after a backup; the names of what was dropped."""
        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings, needs_public=False)
        with connected.run_lock(self._waiting, name="invoke migrate-reset"):
            if with_backup:
                self.backup()
            return reset.empty(connected, self.settings.lock_timeout)

    def settle(self, version: str, *, applied: bool, pending: bool) -> plan.Entry:
        """Record a version as applied as its file stands, or forget it; the entry as it was before."""
        if applied == pending:
            raise errors.SayWhich(version)
        migrator, connected = self.migrator(), self.running()
        with connected.run_lock(self._waiting):
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

    def adopt(self, to: str | None) -> list[migration.Migration]:
        """Record what is pending as applied without running it."""
        migrator, connected = self.migrator(), self.running()
        with connected.run_lock(self._waiting):
            state = migrator.compare(connected.history())
            files = plan.steps(state.entries, to=to, out_of_order=False, folder=self.migrations)
            connected.record(files, "baseline")
            return list(files)

    def document(self, *, check: bool) -> str:
        """Write the descriptions of the live schema into the README of the migrations, or compare; its name."""
        file = self.settings.migrations_dir / "README.md"
        shown = self.settings.shown(file)
        if not file.is_file():
            raise errors.NoReadme(shown)
        old = file.read_text(encoding="utf-8")
        new = docs.replace(old, docs.describe(self.running().connection), file=shown)
        if check and new != old:
            changed = difflib.unified_diff(old.split("\n"), new.split("\n"), "written", "live", n=0, lineterm="")
            raise errors.DocsStale(shown, "\n".join(f"  {line}" for line in itertools.islice(changed, LONGEST_DIFF)))
        if new != old:
            file.write_text(new, encoding="utf-8", newline="\n")
        return shown

    def _waiting(self, holder: Backend | None) -> None:
        if holder:
            self.console.step(f"Waiting for another run: {database.describe(holder)}")

    def url(self, *, show_password: bool) -> str:
        """Return the connection URL."""
        quote = urllib.parse.quote
        password = quote(self.settings.password, safe="") if show_password else "***"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        user, name = quote(self.settings.user, safe=""), quote(self.settings.name, safe="")
        return f"postgresql://{user}:{password}@{host}:{self._port()}/{name}"

    def _port(self) -> int:
        address: Address | None = self.server.address()
        return address.port if address else self.settings.port
