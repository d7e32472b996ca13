"""What one task works with: the server, the files and the connection, each made when it is first needed."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import re
import shutil
import time
import urllib.parse
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

# Each task is in need of a few more modules; they are imported where they are used, so that the others need not wait.
from infra.db import database, errors, migration, plan, psql, staging
from infra.db.history import History
from infra.db.migrator import Migrator, State
from infra.db.servers import choice, process
from infra.db.settings import THIS_MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from infra.db import findings, scaffold, scratch
    from infra.db.backup import Backup
    from infra.db.console import Console
    from infra.db.database import Backend, Database
    from infra.db.restore import Dump, Holdings
    from infra.db.servers import Address, Server
    from infra.db.settings import Settings

LOOK_EVERY = 0.2  # seconds
SQUASHED_AT_LEAST = 2
PRIVATE = "a private server of this machine"
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a tab may stay
LONGEST_DIFF = 20  # lines of stale documentation that are shown


class Session:
    """One task's work on one database.

    Attributes:
        console: where words go.

    """

    def __init__(self, console: Console, settings: Settings) -> None:
        """Keep what it works with; nothing is chosen, read or started yet."""
        self.console = console
        self._given = settings
        self._database: Database | None = None

    @cached_property
    def server(self) -> Server:
        """Where PostgreSQL is; chosen when it is first needed, because files can be written without one."""
        return choice.choose(self._given, self.console.say, self.console.pulling)

    @cached_property
    def settings(self) -> Settings:
        """What it runs with: TLS is for somebody else's server; ours answer on this machine only, without it."""
        return self._given if self.server.kind == "external" else self._given.without_tls()

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
        return self._given.shown(self._given.migrations_dir)

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

    def files(self) -> tuple[migration.Migration, ...]:
        """Read the files; needs no server."""
        try:
            return migration.read_folder(self._given.migrations_dir, self.migrations)
        except errors.FilesError as error:
            raise self._with_history(error) from None

    def migrator(self) -> Migrator:
        """Read the files."""
        return Migrator(self.server, self.settings, self.files(), self.console.event)

    def _with_history(self, error: errors.FilesError) -> errors.FilesError:
        """Add to two files of one number which of them was applied, as far as it can be known without starting."""
        from infra.db import scaffold

        if not error.same:
            return error
        try:
            rows = self._history().rows
        except errors.ToolError:
            return errors.NumberTaken(error, [(name, "") for names in error.same for name in names], asked=False)
        known = [(name, scaffold.applied(name, names, rows)) for names in error.same for name in names]
        return errors.NumberTaken(error, known, asked=True)

    def _history(self) -> History:
        """Return the history of a server that answers, or nothing for one that was never created; starts nothing."""
        if self.server.address() is None and not self.server.exists():
            return History()
        return self.running().history()

    def new(self, name: str, *, transaction: bool) -> tuple[str, ...]:
        """Create the next pair of files; their names."""
        from infra.db import scaffold

        folder, words = self._given.migrations_dir, scaffold.snake_case(name)
        elsewhere = scaffold.elsewhere(folder)
        version = scaffold.next_version(folder, elsewhere)
        self._tell_taken(folder, elsewhere)
        made = scaffold.create(folder, f"{version}_{words}", transaction=transaction)
        return tuple(self._given.shown(path) for path in made)

    def renumber(self, name: str) -> list[str]:
        """Move a pair that is not applied to the next free number; what became of each file."""
        from infra.db import scaffold

        folder = self._given.migrations_dir
        name = name.replace("\\", "/").rpartition("/")[2]
        if since := scaffold.applied(name, scaffold.same_number(folder, name), self._history().rows):
            raise errors.AppliedAlready(name, since)
        elsewhere = scaffold.elsewhere(folder)
        self._tell_taken(folder, elsewhere)
        moved = scaffold.renumber(folder, name, scaffold.next_version(folder, elsewhere))
        return [f"{self._given.shown(old)} is now {new.name}" for old, new in moved]

    def squash(self, to: str) -> tuple[str, int]:
        """Put one file in the place of all up to a version, proven to make the same; its name, and how many went."""
        from infra.db import catalogue, git, squash

        migrator, folder = self.migrator(), self.settings.migrations_dir
        last = plan.find(migrator.compare(History()).entries, to)
        files = [file for file in migrator.files if file.number <= int(last.version)]
        if len(files) < SQUASHED_AT_LEAST:
            raise errors.NothingToSquash(last.label)
        names = [path.name for file in files for path in (file.path, file.down_path) if path]
        if lost := git.uncommitted(folder, names):
            raise errors.NotCommitted(lost, self.migrations)
        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings)
        made = folder / f"{files[-1].version}_{squash.NAME}.sql"
        with staging.folder() as here:
            trial = here / made.name
            with self._scratch(connected, "migrate-squash", files) as one:
                wanted = catalogue.dump(one.programs, one.database, squash.ARGUMENTS)
                roles, major = squash.roles(one.database), one.database.facts().version // 10000
                trial.write_text(squash.compose(files, wanted, roles, major), encoding="utf-8", newline="\n")
            with self._scratch(
                connected, "migrate-squash", migration.read_folder(trial.parent, self.migrations)
            ) as other:
                found = catalogue.dump(other.programs, other.database, squash.ARGUMENTS)
            if differences := catalogue.compare(catalogue.split(wanted), catalogue.split(found)):
                raise errors.SquashDiffers(catalogue.readable(differences, wanted="single files", found="one file"))
            git.git(folder, "rm", "--quiet", "--", *names)
            shutil.copyfile(trial, made)
            git.git(folder, "add", "--", made.name)
        return self.settings.shown(made), len(files)

    @contextlib.contextmanager
    def _scratch(
        self, connected: Database, tool: str, files: Sequence[migration.Migration]
    ) -> Iterator[scratch.Scratch]:
        """Make a throw-away database and apply files to it: beside the real one, unless they would reach beyond it."""
        from infra.db import scratch

        with contextlib.ExitStack() as trial:
            original, programs = connected, self.server
            if scratch.beyond_database(files):
                original, programs = trial.enter_context(self._elsewhere(connected, files))
            made = trial.enter_context(scratch.database(original, programs, tool=tool))
            try:
                Migrator(made.programs, made.settings, files, lambda _: None).migrate(made.database)
            except errors.MigrationFailed as error:
                raise errors.TrialFailed(error) from None
            yield made

    def _tell_taken(self, folder: Path, elsewhere: list[scaffold.Taken]) -> None:
        """Say which branches took the numbers that are skipped."""
        from infra.db import scaffold

        free = int(scaffold.next_version(folder, ()))
        for taken in elsewhere:
            if int(taken.name.partition("_")[0]) >= free:
                self.console.say(f"{taken.name} is taken on the branch {taken.branch}.", "yellow")

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

    def lint(self, *, every: bool) -> None:
        """Show what the pending files (or all) would lock or break; starts nothing, and works without a server.

        Raises:
            LintFindings: something of it is an error.

        """
        from infra.db import review

        files = self.files()
        try:
            connected = self.running()
            todo = plan.pending(plan.compare(files, connected.history().rows))
            files = files if every else todo
            report = review.look(
                files,
                pending=todo,
                folder=self.migrations,
                server_version=connected.facts().version,
                ask=partial(review.sizes, connected),
            )
        except errors.ServerError as error:
            self.console.say(f"{error.what} {review.UNKNOWN}", "yellow")
            every, report = True, review.look(files, folder=self.migrations)
        self.console.findings(report, len(files), every=every)
        if report.errors:
            raise errors.LintFindings(report.errors)

    def migrate(self, *, to: str | None, out_of_order: bool, single: bool, with_backup: bool) -> None:
        """Apply what is pending and show how it went, on success and on failure."""
        migrator: Migrator | None = None
        try:
            migrator = self.migrator()
            connected = self.ready()
            database.refuse_unfit(connected.facts(), self.settings)
            began = time.monotonic()
            with self._slow_ones():
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

    @contextlib.contextmanager
    def _slow_ones(self) -> Iterator[None]:
        """Show which statements took long at the end of a run, however it ends."""
        try:
            yield
        finally:
            self.console.slow(self.migrations)

    def backup(self, out: Path | None = None) -> Backup:
        """Take a backup and say where it is; the run's lock is held."""
        from infra.db import backup

        self.console.step("Taking a backup")
        taken = backup.take(self.server, self._connected(), self.settings, self.console.working, out=out)
        self.console.step(f"Backup: {self.settings.shown(taken.file)} ({taken.size / 1e6:,.1f} MB), read back.")
        if taken.removed:
            names = ", ".join(file.name for file in taken.removed)
            self.console.step(f"Removed, to keep the newest {self.settings.backup_keep} (BACKUP_KEEP): {names}.")
        return taken

    def save(self, out: str) -> str:
        """Take a backup under the run's lock; how its file is typed."""
        from infra.db import backup

        connected = self.running()
        if connected.facts().is_pooled:
            raise errors.PoolerInBetween(f"{self.settings.host}:{self.settings.port}")
        with connected.run_lock(self._waiting, name=backup.APPLICATION):
            return self._typed(self.backup(Path(out).resolve() if out else None).file)

    def restore(self, name: str, *, yes: bool) -> Dump:
        """Replace what is in the database by a backup, after a question where there is something to lose."""
        from infra.db import backup, restore

        file = next((each for each in (Path(name), self.settings.root / name) if each.exists()), Path(name)).resolve()
        typed = self._typed(file)
        if not restore.refuse_other_files(file, typed):
            self.console.step(f"There is no {backup.record_path(file).name} beside it, so nothing proves it unchanged.")
        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings, needs_public=False)
        with connected.run_lock(self._waiting):  # which also keeps others from sweeping what is copied in
            held = restore.contents(self.server, file, typed)
        restore.refuse_newer(held, connected, typed)
        asked = False
        while True:
            there = restore.holdings(connected)
            asked = asked or self._confirmed_restore(typed, held, there, yes=yes)
            self.console.step(f"Replacing {there} in {self.where}" if there.objects else f"Restoring into {self.where}")
            emptied = there.objects > 0 or not connected.facts().has_public
            if restore.put_back(self.server, connected, held, self.console.working, emptied=emptied):
                return held
            connected.wait_for_lock(time.monotonic() + self.settings.wait_timeout, self._waiting)

    def _confirmed_restore(self, typed: str, held: Dump, there: Holdings, *, yes: bool) -> bool:
        """Ask before something is lost; False when there is nothing to lose, so that it is asked if that changes."""
        if not there.objects:
            return False
        self.confirm(
            f"This replaces everything in {self.where}, now {there},\n"
            f"by the backup of {held.database} of {held.made_at}: {held.tables} tables.\n"
            "What is there is lost, unless you keep it first:  invoke db.backup",
            f"db.restore {typed}",
            yes=yes,
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
        from infra.db import reset

        connected = self.ready()
        database.refuse_unfit(connected.facts(), self.settings, needs_public=False)
        with connected.run_lock(self._waiting, name="invoke migrate-reset"):
            if with_backup:
                self.backup()
            return reset.empty(connected, self.settings.lock_timeout)

    def rollback(self, *, steps: str, to: str | None, plan_only: bool, yes: bool) -> None:
        """Show what going back undoes and what is lost by it, ask, and do it."""
        from infra.db import losses

        if not steps.isdecimal() or int(steps) < 1 or (to is not None and steps != "1"):
            raise errors.HowFar
        migrator = self.migrator()
        connected = self.running() if plan_only else self.ready()
        state = migrator.compare(connected.history(), busy=connected.holder() is not None)
        versions = plan.newest(state.entries, count=int(steps), to=to)
        scripts = migrator.undo(connected, state, versions)
        lost = [(script, losses.count(connected, script.text.sql or "")) for script in scripts]
        self.console.way_back(lost, self.where)
        if plan_only or not scripts:
            return
        database.refuse_unfit(connected.facts(), self.settings)
        self.confirm(f"This undoes {', '.join(script.label for script in scripts)}.", "migrate-rollback", yes=yes)
        began = time.monotonic()
        with self._slow_ones():
            migrator.rollback(connected, versions)
        self.console.undone(len(scripts), time.monotonic() - began, self.where)

    def confirm(self, danger: str, command: str, *, yes: bool) -> None:
        """Ask before something is lost; on another machine by the database's name, which no habit types."""
        if self.settings.host not in THIS_MACHINE:
            self.console.confirm(danger, command, self.settings.name)
        elif not yes:
            self.console.confirm(danger, command)

    def verify(self) -> None:
        """Compare the live schema with the one that the applied files make, and show what differs."""
        from infra.db import verify

        migrator, connected = self.migrator(), self.running()
        with connected.run_lock(self._waiting):
            files, roles = verify.ran(connected, migrator.files)
            live = verify.look(self.server, connected)
        self.console.step(f"Applying {len(files)} files to a throw-away database")
        made = verify.build(connected, self.server, files, lambda: self._elsewhere(connected, files))
        found = verify.compare(made, live, run_time=verify.patterns(files), roles=roles | {self.settings.user})
        self.console.verified(found, self.server.kind, self.settings.name, self.where)
        if found.differences:
            raise errors.SchemaDiffers(len(found.differences), self.where)

    def rehearse(self, *, to: str | None, data: bool) -> None:
        """Try what is pending on a copy, and show what it does."""
        from infra.db import findings

        try:
            report, place = self._rehearsed(to=to, data=data)
        except (KeyboardInterrupt, errors.Interrupted):
            raise errors.RehearsalStopped from None
        self.console.rehearsed(report, self.server.kind, self.settings.name, self.where, place)
        if not report.is_good:
            raise errors.RehearsalFailed(findings.verdict(report), report.failed)

    def _rehearsed(self, *, to: str | None, data: bool) -> tuple[findings.Report, str]:
        from infra.db import clone, findings, lint, rehearse, scratch

        migrator, connected = self.migrator(), self.ready()
        for left in scratch.leftovers(connected):
            self.console.left_behind(left)
        roles: set[str] = set()
        with contextlib.ExitStack() as copy:
            copy.callback(self._drop_roles, connected, roles)
            with connected.run_lock(self._waiting):
                state = migrator.compare(connected.history())
                if not state.history.rows:
                    plan.refuse_unrecorded(connected.tables())
                steps = plan.steps(state.entries, to=to, folder=self.migrations, recorded=connected.kept_sql)
                if not steps:
                    return replace(findings.NOTHING, data=data), ""
                lint.refuse_what_cannot_work(steps, self.migrations)
                made, place = self._workshop(copy, connected, steps, data=data)
                what = "" if data else "the schema of "
                self.console.step(f"Copying {what}{self.settings.name} into a throw-away database on {place}")
                here, there = (self.server, connected), (made.programs, made.database)
                clone.copy(here, there, data=data, progress=self._copied)
            trial = rehearse.Rehearsal(
                made=made,
                files=migrator.files,
                steps=steps,
                estimates=rehearse.estimates(connected),
                data=data,
                tell=self.console.event,
                roles=None if place == PRIVATE else roles,
            )
            return trial.run(), place

    def _copied(self, size: int) -> None:
        self.console.working(f"{size / 1e6:,.1f} MB")

    def _drop_roles(self, connected: Database, roles: set[str]) -> None:
        """Take back what a rehearsal made outside of its copy."""
        from infra.db import scratch

        for role in scratch.drop_roles(connected, roles) if roles else ():
            self.console.say(f"The role {role} was made by this and stays: somebody else uses it by now.", "yellow")

    def _workshop(
        self,
        copy: contextlib.ExitStack,
        connected: Database,
        steps: Sequence[migration.Migration],
        *,
        data: bool,
    ) -> tuple[scratch.Scratch, str]:
        """Make the database for a copy, and say where: never with the rows on a server that somebody else runs."""
        from infra.db import scratch

        is_external = self.server.kind == "external"
        if not (is_external and data) and not scratch.beyond_database(steps):
            try:
                made = copy.enter_context(scratch.database(connected, self.server, tool="migrate-rehearse"))
            except errors.NoScratch:
                if not is_external:
                    raise
            else:
                return made, "the same server"
        other, programs = copy.enter_context(self._elsewhere(connected, ()))
        return copy.enter_context(scratch.database(other, programs, tool="migrate-rehearse")), PRIVATE

    @contextlib.contextmanager
    def _elsewhere(
        self, connected: Database, files: Sequence[migration.Migration]
    ) -> Iterator[tuple[Database, Server]]:
        """Start a private server for a moment, with the roles that files expect; a connection to it."""
        from infra.db import scratch

        self.console.step("Starting a private PostgreSQL for a moment")
        with choice.throwaway(self.settings) as (server, settings):
            address = server.start(self.console.step)
            with contextlib.closing(database.wait_until_ready(server, settings, address, self.console.step)) as other:
                ours, theirs = (each.facts().version // 10000 for each in (connected, other))
                if ours != theirs:
                    self.console.say(f"It is PostgreSQL {theirs}, the real one {ours}; what depends on that differs.")
                scratch.copy_roles(connected, other, files)
                yield other, server

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

    def adopt(self, to: str | None, *, anyway: bool) -> list[migration.Migration]:
        """Record what is pending as applied without running it, when the database is what the files would make."""
        migrator, connected = self.migrator(), self.running()
        database.refuse_unfit(connected.facts(), self.settings)
        with connected.run_lock(self._waiting):
            state = migrator.compare(connected.history())
            files = plan.steps(state.entries, to=to, out_of_order=False, folder=self.migrations)
            if files:
                self._compare_with(connected, migrator, files[-1], anyway=anyway)
                connected.record(files, "baseline")
            return list(files)

    def _compare_with(
        self, connected: Database, migrator: Migrator, last: migration.Migration, *, anyway: bool
    ) -> None:
        """Refuse, or only show, where the database is not what the files up to one would make."""
        from infra.db import catalogue

        self.console.step(f"Comparing the database with what the files up to {last.version} make")
        made = [file for file in migrator.files if file.number <= last.number]
        with self._scratch(connected, "migrate-baseline", made) as other:
            wanted = catalogue.read(other.programs, other.database)
        differences = catalogue.compare(wanted, catalogue.read(self.server, connected))
        if differences:
            error = errors.NotTheSame(last.version, len(differences), catalogue.by_table(differences))
            if not anyway:
                raise error
            self.console.say(f"{error.what}\n{error.where}", "yellow")

    def document(self, *, check: bool) -> str:
        """Write the descriptions of the live schema into the README of the migrations, or compare; its name."""
        from infra.db import docs

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

    def shell(self, command: str) -> int:
        """Hand over to psql: what is typed, piped in, or one command; its exit code."""
        self.running().close()  # the right server answers, or our own words say why not
        at_terminal = self.console.at_terminal
        return self.server.foreground("psql", psql.shell(command, at_terminal=at_terminal), at_terminal=at_terminal)

    def logs(self, *, follow: bool, tail: str) -> int:
        """Write the server's log; 130 when it was followed until Ctrl-C, the usual way to end that."""
        if tail and not tail.isdecimal():
            raise errors.NotACount("--tail", tail)
        log = self.server.logs(tail=int(tail) if tail else None, follow=follow)
        try:
            self.console.lines(self._readable(item[1]) for item in process.lines(log) if item)
        except KeyboardInterrupt:
            if not follow:
                raise
            return errors.Cancelled.exit_code
        return 0

    def _readable(self, line: str) -> str:
        """Take out the password, and what would not be text on a terminal."""
        secret = self.settings.password
        if secret not in ("", "postgres"):  # the documented default is no secret, and is also the name of the program
            line = line.replace(secret.replace("'", "''"), "********").replace(secret, "********")
        return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", line)

    def tables(self, *, as_json: bool) -> None:
        """Show the tables."""
        from infra.db import relations

        found = relations.tables(self.running())
        if as_json:
            self.console.object({"database": self.settings.name, "tables": found})
        elif found:
            self._list(r"\dt+")
        else:
            self.console.done(f"There are no tables in {self.where}.", ("invoke migrate", "make them"))

    def describe(self, name: str, *, as_json: bool) -> None:
        """Show one table."""
        from infra.db import relations

        connected = self.running()
        relation = relations.find(name, relations.read(connected))
        values = relations.description(connected, relation)
        if as_json:
            self.console.object(values)
        else:
            self._list(psql.describe(relation.schema, relation.name))

    def _list(self, command: str) -> None:
        running = self.server.execute("psql", psql.listing(command, width=self.console.width))
        said: dict[str, list[str]] = {"stdout": [], "stderr": []}
        for stream, line in filter(None, process.lines(running)):
            said[stream].append(line)
        if running.wait():
            raise errors.ListingFailed("\n".join(said["stderr"]))
        self.console.lines(said["stdout"])

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


def diagnose(console: Console, root: Path, read: Callable[[], Settings]) -> int:
    """Check everything that a run needs, and show it; works also where no Session can be made.

    Args:
        console: where words go.
        root: the project's top folder.
        read: reads the settings.

    Returns:
        The exit code: the first fault's, 0 without one.

    """
    from infra.db import check
    from infra.db.doctor import Doctor

    def choose(settings: Settings) -> Server:
        console.secret = settings.password
        return choice.choose(settings, lambda _line: None, console.pulling)

    with contextlib.closing(Doctor(root, read, choose)) as doctor:
        checks = []
        for found in doctor.checks():
            checks.append(found)
            console.check(found)
    code = next((each.exit_code for each in checks if each.verdict is check.Verdict.FAULT), 0)
    console.diagnosis(doctor.kind, checks, code)
    return code
