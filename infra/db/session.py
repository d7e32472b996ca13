"""What one task works with: the server, the files and the connection, each made when it is first needed."""

from __future__ import annotations

import difflib
import itertools
import time
import urllib.parse
from typing import TYPE_CHECKING

from infra.db import backup, database, docs, errors, migration, plan, reset
from infra.db.history import History
from infra.db.migrator import Migrator, State
from infra.db.servers import choice

if TYPE_CHECKING:
    from pathlib import Path

    from infra.db.console import Console
    from infra.db.database import Backend, Database
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

    def backup(self) -> Path:
        """Take a backup and say where it is."""
        self.console.step("Taking a backup")
        file = backup.take(self.server, self.settings, self.console.bytes_so_far)
        self.console.say(f"Backup: {self.settings.shown(file)} ({file.stat().st_size / 1e6:,.1f} MB)")
        return file

    def empty(self, *, with_backup: bool) -> list[str]:
        """Drop everything, under the run's lock, after a backup; the names of what was dropped."""
        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings, needs_public=False)
        with connected.run_lock(self._waiting):
            if with_backup:
                self.backup()
            return reset.empty(connected, self.settings.lock_timeout)

    def settle(self, version: str, *, applied: bool, pending: bool) -> plan.Entry:
        """Record a version as applied as its file stands, or forget it; the entry as it was before."""
        if applied == pending:
            raise errors.SayWhich(version)
        migrator, connected = self.migrator(), self.running()
        database.refuse_unfit(connected.facts(), self.settings)
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
        database.refuse_unfit(connected.facts(), self.settings)
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
