"""Lock, read, plan, apply, prove. Knows no terminal and no particular server.

A run, in order; the README links here for its guarantees:

1. Files are read and checked by name and content (`migration`), the server is proven ready and proven to be the
   right one (`database`), and what it cannot carry (a standby, a pooler, an old version) is refused.
2. The history is read and the plan is made (`plan`). Drift stops the run before anything is changed. Nothing to do:
   done, without starting psql at all.
3. What cannot work is refused before anything runs (`lint`).
4. One psql runs all pending files from a driver script (`psql`). It takes the run's lock for as long as it lives, makes
   sure that the history is still the one the plan was made from, and gives each file a transaction that also holds
   its history row: either both are there afterwards or neither is. A file that asks for no transaction is recorded
   as running before and as applied after.
5. A file that meets its lock_timeout is rolled back, its blocker is shown, and it is tried again, a bounded number of
   times.
6. Ctrl-C ends the backend by its unique application_name and waits until its transaction is rolled back.
   Going back runs down scripts by the same driver: the history row is deleted in the transaction of its script.
7. Success is what the history says afterwards, together with psql's exit code and the driver's END mark: never one
   alone.
8. Commits before the last of a run do not wait for the disk; the last one flushes them all. When a run stops early,
   one flushing commit is made before anything is reported.
"""

from __future__ import annotations

import codecs
import contextlib
import random
import secrets
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

from infra.db import errors, outcome, plan, psql, staging
from infra.db.database import LOCK_POLL, TRANSIENT, describe
from infra.db.events import Retrying, Said, Waiting
from infra.db.servers.process import lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from infra.db.database import Backend, Database
    from infra.db.events import Event
    from infra.db.history import Applied, History
    from infra.db.migration import Migration
    from infra.db.servers import Programs
    from infra.db.servers.process import Process
    from infra.db.settings import Settings
    from infra.db.watch import Run

COPY_CHUNK = 1 << 20  # bytes
FIRST_PAUSE = 0.5  # seconds before the first retry; doubled each time, with jitter
LONGEST_PAUSE = 10.0
LOCK_STATES = ("55P03", "40P01")  # lock_not_available, deadlock_detected: rolled back, worth another try
MOST_ROUNDS = 1000  # of planning anew; each means that another run has changed the history, or a retry
CONNECTION = "connection"  # in the tries, beside the versions


class State(NamedTuple):
    """Files and database, read at one moment.

    Attributes:
        entries: an entry for each version.
        history: the history they were compared with.
        unrecorded: tables that are there although nothing is in the history.

    """

    entries: list[plan.Entry]
    history: History
    unrecorded: Sequence[str] = ()

    def refuse_unless_done(self) -> None:
        """Raise CheckPending when something is pending or drifted."""
        words = [entry.status.value for entry in self.entries if entry.status not in plan.DONE]
        if words:
            raise errors.CheckPending([f"{words.count(word)} {word}" for word in dict.fromkeys(words)])


class Migrator:
    """Carries out plans on one database.

    Attributes:
        files: all migrations, in order.
        applied: the history rows that were added since the last call of `migrate`, also after it failed.

    """

    def __init__(
        self, server: Programs, settings: Settings, files: Sequence[Migration], tell: Callable[[Event], None]
    ) -> None:
        """Keep what it works with.

        Args:
            server: runs psql.
            settings: time limits and where the files are.
            files: all migrations, in order.
            tell: called with each event as it happens.

        """
        self._server = server
        self._settings = settings
        self.files = files
        self._tell = tell
        self._folder = settings.shown(settings.migrations_dir)
        self.applied: Sequence[Applied] = ()

    def compare(self, history: History, *, busy: bool = False) -> State:
        """Compare the files with a history; `busy` when a run is at work."""
        return State(plan.compare(self.files, history.rows, busy=busy), history)

    def _state(self, database: Database, history: History, deadline: float) -> State:
        """Compare the files with a history that was read, or with a newer one.

        A file without a transaction is `running` in the history while another run is at it; only when nobody is at
        work and the history has not moved since has it failed.
        """
        while any(row.status == "running" for row in history.rows):
            before = history.digest
            database.wait_for_lock(deadline, self._waiting)
            history = self._read(database, deadline)
            if history.digest == before:
                break
        return self.compare(history)

    def _read(self, database: Database, deadline: float) -> History:
        """Read the history; wait for a restore or a reset, which has it for itself."""
        while True:
            try:
                return database.history()
            except errors.HistoryIsHeld:
                if time.monotonic() > deadline:
                    raise
                database.wait_for_lock(deadline, self._waiting)

    def migrate(
        self,
        database: Database,
        *,
        to: str | None = None,
        out_of_order: bool = False,
        single: bool = False,
        before: Callable[[], object] | None = None,
    ) -> Sequence[Applied]:
        """Apply what is pending.

        Args:
            database: the watching connection.
            to: the last version to apply; None for all.
            out_of_order: also files older than the newest applied one.
            single: all of them in one transaction.
            before: takes a backup; called under the run's lock before the first psql, when there is something to do,
                and again only when another run came in between.

        Returns:
            The history rows of what was applied since the call, in order.

        Raises:
            ToolError: see `errors`; what was applied before the failure stays applied and is on the disk.

        """
        deadline = time.monotonic() + self._settings.wait_timeout

        def choose(state: State) -> Sequence[Migration]:
            if not state.history.rows:
                plan.refuse_unrecorded(database.unrecorded())
            return plan.steps(
                state.entries, to=to, out_of_order=out_of_order, folder=self._folder, recorded=database.kept_sql
            )

        history = self._read(database, deadline)
        begun = {row.version for row in history.rows}
        ended: History | None = None
        try:
            ended = self._rounds(database, history, choose, single=single, before=before)
        finally:
            rows = ended.rows if ended else self._history_now(database) or ()
            self.applied = [row for row in rows if row.version not in begun]
        return self.applied

    def rollback(
        self, database: Database, versions: Sequence[str], *, before: Callable[[], object] | None = None
    ) -> None:
        """Undo versions by their down scripts, newest first.

        Args:
            database: the watching connection.
            versions: the newest applied ones.
            before: as for `migrate`.

        Raises:
            ToolError: see `errors`; what was undone before the failure stays undone and is on the disk.

        """
        history = self._read(database, time.monotonic() + self._settings.wait_timeout)
        self._rounds(database, history, lambda state: self.undo(database, state, versions), before=before)

    def undo(self, database: Database, state: State, versions: Sequence[str]) -> tuple[Migration, ...]:
        """Return the down scripts of versions, newest first."""
        return plan.undo(state.entries, versions, copy=database.kept_down, folder=self._folder)

    def _rounds(
        self,
        database: Database,
        history: History,
        choose: Callable[[State], Sequence[Migration]],
        *,
        single: bool = False,
        before: Callable[[], object] | None,
    ) -> History:
        """Plan and run until nothing is left, or something stops it.

        Args:
            database: the watching connection.
            history: as it was read when this began.
            choose: returns what to run.
            single: all of it in one transaction.
            before: as for `migrate`.

        Returns:
            The history at the end.

        """
        deadline = time.monotonic() + self._settings.wait_timeout
        tries: dict[str, int] = {}
        saved: int | None = None  # the digest of the history that the backup has
        for _ in range(MOST_ROUNDS):
            state = self._state(database, history, deadline)
            steps = choose(state)
            if not steps:
                return state.history
            self._refuse(steps, single=single)
            if before and state.history.digest != saved:
                # Under the lock: pg_dump never stands in the way of a migration that waits for a table.
                with database.run_lock(self._waiting, name="invoke migrate --backup"):
                    history = database.history()
                    if history != state.history:
                        continue
                    before()
                saved = state.history.digest
                deadline = time.monotonic() + self._settings.wait_timeout
            run = self._psql(database, steps, state.history, single=single)
            with outcome.answering(run):
                database.revive()
            if run.ended == "BUSY":
                database.wait_for_lock(deadline, self._waiting)
            elif run.ended == "END" and run.exit_code == 0:
                history = database.history()
                _refuse_unrecorded(steps, history)
                return history
            elif not run.is_stale:
                before = None  # what this run has applied needs no second backup
                self._after_failure(database, run, tries, deadline)
            history = self._read(database, deadline)
        return history

    def _history_now(self, database: Database) -> Sequence[Applied] | None:
        """Read the history for the report of a failure; None: a server that is gone has no more to say."""
        try:
            return database.history().rows
        except errors.ToolError:
            return None

    def _refuse(self, steps: Sequence[Migration], *, single: bool) -> None:
        from infra.db import lint  # noqa: PLC0415 - a run with nothing to do needs none of it

        lint.refuse_what_cannot_work(steps, self._folder)
        if single and (alone := [step.label for step in steps if not step.directives.transaction]):
            raise errors.NotSingle(alone)

    def _waiting(self, holder: Backend | None) -> None:
        if holder:
            self._tell(Waiting(describe(holder)))

    def _psql(self, database: Database, steps: Sequence[Migration], expected: History, *, single: bool) -> Run:
        """Run the steps by one psql and report what happens; returns when psql has ended."""
        from infra.db.watch import Run, Watch, follow  # noqa: PLC0415 - a run with nothing to do needs none of it

        facts = database.facts()
        token = secrets.token_hex(16)
        application = f"invoke migrate {token[:8]}"
        options = psql.session_options(
            lock_timeout=self._settings.lock_timeout, server_version=facts.version, server_is_windows=facts.is_windows
        )
        texts = [step.text.sql for step in steps]
        size = 0 if None in texts else 2 * sum(len(text or "") for text in texts)  # once more for the history
        with staging.folder(size=size) as folder:
            sweep = self._server.sweep(folder)
            script = psql.driver(steps, token=token, expected=expected, single=single, sweep=sweep)
            _stage(folder, steps, token, script)
            process = self._server.execute(
                "psql", psql.ARGUMENTS, folder=folder, env={"PGAPPNAME": application, "PGOPTIONS": options}
            )
            run = Run(steps, single)
            try:
                for event in follow(lines(process), psql.Reader(token), Watch(database, application), run):
                    self._tell(event)
            except (KeyboardInterrupt, errors.Interrupted):
                self._cancel(database, application, run, process)
                raise errors.Interrupted(
                    f"Interrupted{' in ' + run.running.label if run.running else ''}.",
                    consequence=outcome.consequence(run),
                    next=f"Go on when you like:  invoke {'migrate-rollback' if run.undoes else 'migrate'}",
                ) from None
            run.exit_code = process.wait()
            return run

    def _cancel(self, database: Database, application: str, run: Run, process: Process) -> None:
        """End the backend and wait for its rollback; a server that is gone has rolled back by itself."""
        with contextlib.suppress(errors.ServerLost), contextlib.closing(database.again()) as fresh:
            fresh.terminate(application)
            if (rows := self._history_now(fresh)) is not None:
                run.settle(rows)
            if run.running and not run.running.directives.transaction:
                fresh.mark_failed(run.running.version)
            if run.done:
                fresh.flush()
            process.wait()  # psql has lost its session, so it ends

    def _after_failure(self, database: Database, run: Run, tries: dict[str, int], deadline: float) -> None:
        """Decide whether to try again (return) or to stop (raise), with what was applied safely on the disk."""
        if run.running is None and not run.done:
            self._wait_for_connection(database, run, tries, deadline)
            return
        with outcome.answering(run):
            # A commit may have succeeded although psql did not live to say so. Where no file runs, only this tells.
            rows = self._history_now(database) if run.running else self._read(database, deadline).rows
            is_complete = rows is not None and run.settle(rows)
            left = self._settle(database, run)
        if is_complete:
            return
        last = run.running or run.steps[-1]  # after which a single run commits
        if run.error and run.error.sqlstate in LOCK_STATES and last.directives.transaction:
            self._pause_or_give_up(last, run, tries)
            return
        raise outcome.failure(run.running, run, folder=self._folder, left=left)

    def _wait_for_connection(self, database: Database, run: Run, tries: dict[str, int], deadline: float) -> None:
        """Wait a little when psql found no free connection, a bounded time; what else kept it from a file is final."""
        said = run.error.text if run.error else f"psql ended with exit code {run.exit_code}"
        if "connection to server" not in said:
            raise errors.ServerLost(said)
        if not TRANSIENT.search(said) or time.monotonic() > deadline:
            raise database.refusal(said)
        if not tries.get(CONNECTION):
            self._tell(Said(None, "Waiting for a free connection for psql"))
        tries[CONNECTION] = 1
        time.sleep(LOCK_POLL)

    def _settle(self, database: Database, run: Run) -> list[str]:
        """Flush what was applied; mark a file that has no transaction; return the invalid indexes it left."""
        step = run.running
        if run.done:
            database.flush()
        if step is None or step.directives.transaction:
            return []
        database.mark_failed(step.version)
        return database.invalid_indexes()

    def _pause_or_give_up(self, step: Migration, run: Run, tries: dict[str, int]) -> None:
        tries[step.version] = attempt = tries.get(step.version, 0) + 1
        if attempt > self._settings.lock_retries:
            raise errors.TableIsHeld(outcome.failed(step, run, folder=self._folder), list(run.blockers), attempt)
        pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self._tell(Retrying(step, run.blockers, attempt, pause))
        time.sleep(pause)


def _refuse_unrecorded(steps: Sequence[Migration], after: History) -> None:
    done = {row.number for row in after.rows if row.status == "applied" or steps[0].undo}
    if wrong := [step.label for step in steps if (step.number in done) == step.undo]:
        raise errors.NotRecorded(wrong)


def _stage(folder: Path, steps: Sequence[Migration], token: str, script: Iterator[str]) -> None:
    """Put the driver and each file, fenced, into a folder; what is too large to be kept is copied as a stream."""
    with (folder / "driver.sql").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(script)
    for step in steps:
        with (folder / psql.staged_name(step)).open("wb") as target:
            target.write(psql.fence(token))
            if step.text.sql is not None:
                target.write(step.text.sql.encode())  # what is recorded is what runs, whoever saves the file meanwhile
            elif step.path:
                with step.path.open("rb") as source:
                    target.write(source.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8))
                    shutil.copyfileobj(source, target, COPY_CHUNK)
