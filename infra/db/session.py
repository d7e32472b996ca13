"""What one task works with: the server, the files and the connection, each made when it is first needed."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from infra.db import database, errors, migration
from infra.db.history import History
from infra.db.migrator import Migrator, State
from infra.db.servers import choice
from infra.db.settings import THIS_MACHINE

if TYPE_CHECKING:
    from infra.db.console import Console
    from infra.db.database import Backend, Database
    from infra.db.servers import Server
    from infra.db.settings import Settings

LOOK_EVERY = 0.2  # seconds


class Session:
    """One task's work on one database.

    Attributes:
        console: where words go.
        given: the settings as they were read, for what needs no server: the others choose one.
        database: the connection, once there is one.

    """

    def __init__(self, console: Console, settings: Settings) -> None:
        """Keep what it works with; nothing is chosen, read or started yet."""
        self.console = console
        self.given = settings
        self.database: Database | None = None

    @cached_property
    def server(self) -> Server:
        """Where PostgreSQL is; chosen when it is first needed, because files can be written without one."""
        return choice.choose(self.given, self.console.say, self.console.pulling)

    @cached_property
    def settings(self) -> Settings:
        """What it runs with: TLS is for somebody else's server; ours answer on this machine only, without it."""
        return self.given if self.server.kind == "external" else self.given.without_tls()

    def close(self) -> None:
        """Let go of the connection."""
        if self.database:
            self.database.close()

    @property
    def where(self) -> str:
        """The database in words, for summaries."""
        answered = self.database.address if self.database else None
        address = f"{self.settings.host}:{answered.port if answered else self.settings.port}"
        place = self.server.place()
        return f"{self.settings.name} ({place if address in place else f'{place}, {address}'})"

    @property
    def migrations(self) -> str:
        """The folder of the files, as people type it."""
        return self.given.shown(self.given.migrations_dir)

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
        self.database = connected
        return connected

    def files(self) -> tuple[migration.Migration, ...]:
        """Read the files; needs no server."""
        try:
            return migration.read_folder(self.given.migrations_dir, self.migrations)
        except errors.FilesError as error:
            raise self._with_history(error) from None

    def migrator(self) -> Migrator:
        """Read the files."""
        return Migrator(self.server, self.settings, self.files(), self.console.event)

    def _with_history(self, error: errors.FilesError) -> errors.FilesError:
        """Add to two files of one number which of them was applied, as far as it can be known without starting."""
        from infra.db import scaffold  # noqa: PLC0415 - only where something is wrong

        if not error.same:
            return error
        try:
            rows = self.history().rows
        except errors.ToolError:
            return errors.NumberTaken(error, [(name, "") for names in error.same for name in names], asked=False)
        folder = self.given.migrations_dir
        known = [(name, scaffold.applied(folder / name, rows)) for names in error.same for name in names]
        return errors.NumberTaken(error, known, asked=True)

    def history(self) -> History:
        """Return the history of a server that answers, or nothing for one that was never created; starts nothing."""
        if self.server.address() is None and not self.server.exists():
            return History()
        return self.running().history()

    def look(self) -> State:
        """Compare files and history without starting anything; what was never created has an empty history."""
        migrator = self.migrator()
        if self.server.address() is None and not self.server.exists():
            return migrator.compare(History())
        try:
            connected = self.running()
            busy = connected.holder() is not None
            state = migrator.compare(connected.history(), busy=busy)
            return state if state.history.rows else state._replace(unrecorded=connected.unrecorded())
        except errors.DatabaseMissing:
            if self.server.kind != "embedded":  # which makes it when it is needed
                raise
            return migrator.compare(History())

    def confirm(self, danger: str, command: str, *, yes: bool) -> None:
        """Ask before something is lost; on another machine by the database's name, which no habit types."""
        if self.settings.host not in THIS_MACHINE:
            self.console.confirm(danger, command, self.settings.name)
        elif not yes:
            self.console.confirm(danger, command)

    def waiting(self, holder: Backend | None) -> None:
        """Say which other run is waited for."""
        if holder:
            self.console.step(f"Waiting for another run: {database.describe(holder)}")
