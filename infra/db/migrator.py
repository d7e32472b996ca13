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
import io
import random
import secrets
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from infra.db import errors, plan, psql, staging
from infra.db.database import LOCK_POLL, TRANSIENT, describe
from infra.db.servers.process import lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from infra.db.database import Backend, Database, Statement
    from infra.db.history import Applied, History
    from infra.db.migration import Migration
    from infra.db.servers import Programs
    from infra.db.settings import Settings

COPY_CHUNK = 1 << 20  # bytes
WATCH_AFTER = 0.2  # seconds that a file may take before the server is asked what it is doing
WATCH_EVERY = 1.0  # seconds between questions for blockers and progress
SLOW = 1.0  # seconds; a statement that takes longer is listed at the end of a run
FIRST_PAUSE = 0.5  # seconds before the first retry; doubled each time, with jitter
LONGEST_PAUSE = 10.0
LOCK_STATES = ("55P03", "40P01")  # lock_not_available, deadlock_detected: rolled back, worth another try
NOT_IN_TRANSACTION = "25001"  # active_sql_transaction: "... cannot run inside a transaction block"
MOST_ROUNDS = 1000  # of planning anew; each means that another run has changed the history, or a retry
CONNECTION = "connection"  # in the tries, beside the versions
SHOWN_OUTPUT = 10  # lines of a file's own query results that are passed on


@dataclass(frozen=True, slots=True)
class Started:
    """A file begins."""

    migration: Migration


@dataclass(frozen=True, slots=True)
class Finished:
    """A file is applied and recorded."""

    migration: Migration
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Said:
    """A file, or the server while it ran, said something: a notice, a warning, a query's result."""

    migration: Migration | None
    text: str


@dataclass(frozen=True, slots=True)
class Doing:
    """What a long statement is doing at this moment."""

    migration: Migration
    text: str


@dataclass(frozen=True, slots=True)
class Slow:
    """A statement took longer than `SLOW`.

    Attributes:
        migration: whose it is.
        line: where it begins in the file; None when it is not found there (our own COMMIT, a file that is not kept).
        seconds: how long it took, to about a quarter of a second.
        text: its first line.

    """

    migration: Migration
    line: int | None
    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another run holds the lock."""

    holder: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """A file met its lock_timeout and was rolled back; it is tried again after a pause."""

    migration: Migration
    blockers: tuple[str, ...]
    attempt: int
    pause: float


Event = Started | Finished | Said | Doing | Slow | Waiting | Retrying


@dataclass(frozen=True, slots=True)
class State:
    """Files and database, read at one moment.

    Attributes:
        entries: an entry for each version.
        history: the history they were compared with.

    """

    entries: list[plan.Entry]
    history: History

    def refuse_unless_done(self) -> None:
        """Raise CheckPending when something is pending or drifted."""
        words = [entry.status.value for entry in self.entries if entry.status not in plan.DONE]
        if words:
            raise errors.CheckPending([f"{words.count(word)} {word}" for word in dict.fromkeys(words)])


@dataclass(slots=True)
class _Run:
    """What one psql was given and what it has said so far."""

    steps: Sequence[Migration]
    single: bool
    running: Migration | None = None
    done: list[str] = field(default_factory=list)
    ended: str = ""  # END, BUSY, STALE, `ENDED 003`, `MEDDLED 003`; empty when psql stopped by itself
    error: psql.Message | None = None
    blockers: tuple[str, ...] = ()
    exit_code: int = 0
    shown: int = 0
    by_version: Mapping[str, Migration] = field(init=False)

    def __post_init__(self) -> None:
        """Make the steps easy to find: each is asked for twice."""
        self.by_version = {step.version: step for step in self.steps}

    @property
    def undoes(self) -> bool:
        """Whether it goes back."""
        return self.steps[0].undo

    @property
    def is_stale(self) -> bool:
        """Whether to plan anew: the history has changed, or another run swept our files away before psql read them."""
        swept = self.error is not None and not self.error.version and "No such file or directory" in self.error.text
        return self.ended == "STALE" or swept


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

    def _state(self, database: Database, deadline: float) -> State:
        """Read the history and compare.

        A file without a transaction is `running` in the history while another run is at it; only when nobody is at
        work and the history has not moved since has it failed.
        """
        history = self._read(database, deadline)
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
                plan.refuse_unrecorded(database.tables())
            return plan.steps(
                state.entries, to=to, out_of_order=out_of_order, folder=self._folder, recorded=database.kept_sql
            )

        begun = {row.version for row in self._read(database, deadline).rows}
        try:
            self._rounds(database, choose, single=single, before=before)
        finally:
            self.applied = [row for row in self._history_now(database) if row.version not in begun]
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
        self._rounds(database, lambda state: self.undo(database, state, versions), before=before)

    def undo(self, database: Database, state: State, versions: Sequence[str]) -> tuple[Migration, ...]:
        """Return the down scripts of versions, newest first."""
        return plan.undo(state.entries, versions, copy=database.kept_down, folder=self._folder)

    def _rounds(
        self,
        database: Database,
        choose: Callable[[State], Sequence[Migration]],
        *,
        single: bool = False,
        before: Callable[[], object] | None,
    ) -> None:
        """Plan and run until nothing is left, or something stops it."""
        deadline = time.monotonic() + self._settings.wait_timeout
        tries: dict[str, int] = {}
        saved: int | None = None  # the digest of the history that the backup has
        for _ in range(MOST_ROUNDS):
            state = self._state(database, deadline)
            steps = choose(state)
            if not steps:
                return
            self._refuse(steps, single=single)
            if before and state.history.digest != saved:
                # Under the lock: pg_dump never stands in the way of a migration that waits for a table.
                with database.run_lock(self._waiting, name="invoke migrate --backup"):
                    if database.history() != state.history:
                        continue
                    before()
                saved = state.history.digest
                deadline = time.monotonic() + self._settings.wait_timeout
            run = self._psql(database, steps, state.history, single=single)
            with _answering(run):
                database.revive()
            if run.ended == "BUSY":
                database.wait_for_lock(deadline, self._waiting)
            elif run.ended == "END" and run.exit_code == 0:
                _refuse_unrecorded(steps, database.history())
                return
            elif not run.is_stale:
                before = None  # what this run has applied needs no second backup
                self._after_failure(database, run, tries, deadline)

    def _history_now(self, database: Database) -> Sequence[Applied]:
        """Read the history for a report; a server that is gone has no more to say."""
        try:
            return database.history().rows
        except errors.ToolError:
            return ()

    def _refuse(self, steps: Sequence[Migration], *, single: bool) -> None:
        from infra.db import lint  # noqa: PLC0415 - a run with nothing to do needs none of it

        lint.refuse_what_cannot_work(steps, self._folder)
        if single and (alone := [step.label for step in steps if not step.directives.transaction]):
            raise errors.NotSingle(alone)

    def _waiting(self, holder: Backend | None) -> None:
        if holder:
            self._tell(Waiting(describe(holder)))

    def _psql(self, database: Database, steps: Sequence[Migration], expected: History, *, single: bool) -> _Run:
        """Run the steps by one psql and report what happens; returns when psql has ended."""
        facts = database.facts()
        token = secrets.token_hex(16)
        application = f"invoke migrate {token[:8]}"
        options = psql.session_options(
            lock_timeout=self._settings.lock_timeout, server_version=facts.version, server_is_windows=facts.is_windows
        )
        with staging.folder() as folder:
            sweep = self._server.sweep(folder)
            script = psql.driver(steps, token=token, expected=expected, single=single, sweep=sweep)
            _stage(folder, steps, token, script)
            process = self._server.execute(
                "psql", psql.ARGUMENTS, folder=folder, env={"PGAPPNAME": application, "PGOPTIONS": options}
            )
            run = _Run(steps, single)
            try:
                for event in _follow(lines(process), psql.Reader(token), _Watch(database, application), run):
                    self._tell(event)
            except (KeyboardInterrupt, errors.Interrupted):
                self._cancel(database, application, run)
                raise errors.Interrupted(
                    f"Interrupted{' in ' + run.running.label if run.running else ''}.",
                    consequence=_consequence(run),
                    next=f"Go on when you like:  invoke {'migrate-rollback' if run.undoes else 'migrate'}",
                ) from None
            run.exit_code = process.wait()
            return run

    def _cancel(self, database: Database, application: str, run: _Run) -> None:
        """End the backend and wait for its rollback; a server that is gone has rolled back by itself."""
        with contextlib.suppress(errors.ServerLost), contextlib.closing(database.again()) as fresh:
            fresh.terminate(application)
            if run.running and not run.running.directives.transaction:
                fresh.mark_failed(run.running.version)
            if run.done:
                fresh.flush()

    def _after_failure(self, database: Database, run: _Run, tries: dict[str, int], deadline: float) -> None:
        """Decide whether to try again (return) or to stop (raise), with what was applied safely on the disk."""
        step = run.running
        if step is None:
            self._wait_for_connection(database, run, tries, deadline)
            return
        with _answering(run):
            left = self._settle(database, run)
        if run.error and run.error.sqlstate in LOCK_STATES and step.directives.transaction:
            self._pause_or_give_up(step, run, tries)
            return
        raise self._failure(step, run, left)

    def _wait_for_connection(self, database: Database, run: _Run, tries: dict[str, int], deadline: float) -> None:
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

    def _settle(self, database: Database, run: _Run) -> list[str]:
        """Flush what was applied; mark a file that has no transaction; return the invalid indexes it left."""
        step = run.running
        if run.done:
            database.flush()
        if step is None or step.directives.transaction:
            return []
        database.mark_failed(step.version)
        return database.invalid_indexes()

    def _pause_or_give_up(self, step: Migration, run: _Run, tries: dict[str, int]) -> None:
        tries[step.version] = attempt = tries.get(step.version, 0) + 1
        if attempt > self._settings.lock_retries:
            raise errors.TableIsHeld(self._failed(step, run), list(run.blockers), attempt)
        pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        self._tell(Retrying(step, run.blockers, attempt, pause))
        time.sleep(pause)

    def _failure(self, step: Migration, run: _Run, left: list[str]) -> errors.ToolError:
        error = run.error
        lost = error and (
            error.sqlstate.startswith("57P") or (not error.sqlstate and run.exit_code == psql.CONNECTION_LOST)
        )
        if error and lost:
            return errors.ServerLost(f"{error.text} (while running {step.label})", _consequence(run))
        return self._failed(step, run, left)

    def _failed(self, step: Migration, run: _Run, left: Sequence[str] = ()) -> errors.MigrationFailed:
        """Put together what failed, where, and what state things are in."""
        consequence = _consequence(run)
        if left:
            consequence += f"\nInvalid indexes are left to be dropped: {', '.join(left)}."
        error, line = run.error, None
        if error and error.version == step.version:
            line = psql.locate(error, step.text.sql)
        message, hint = _own_words(error) if error else (_without_error(run), "")
        if error and not error.version:
            message = f"its statements ran, but it could not be recorded in the history: {message}"
        return errors.MigrationFailed(
            version=step.version,
            name=step.name,
            file=f"{self._folder}/{step.file_name}" + ("" if step.path else " (the history's copy)"),
            line=line,
            message=message,
            sqlstate=error.sqlstate or None if error else None,
            detail=error.detail or error.context or None if error else None,
            hint=hint or None,
            excerpt=_excerpt(error, step, line) if error else "",
            consequence=consequence,
            undo=step.undo,
        )


@dataclass(slots=True)
class _Watch:
    """Looks from the other connection at what a quiet psql is doing, at each tick of its silence.

    Which statement runs is only asked, never told: so a statement's end is known when another one, or nothing, runs at
    the next tick, or when psql reports the end of the file.
    """

    database: Database
    application: str
    next_look: float = 0.0
    next_question: float = 0.0
    seen: Statement | None = None
    seen_at: float = 0.0
    line: int = 0  # of the last slow statement

    def began(self) -> None:
        """Another file begins."""
        self.next_look = self.next_question = time.monotonic() + WATCH_AFTER
        self.line = 0

    def look(self, run: _Run) -> Iterator[Event]:
        """Say what it waits for or how far it is; a lost connection ends the watching, not the run."""
        now = time.monotonic()
        if run.running is None or now < self.next_look:
            return
        try:
            yield from self._ended(run.running, self.database.statement(self.application))
            if now >= self.next_question:
                self.next_question = now + WATCH_EVERY
                yield from self._question(run, run.running)
        except errors.ServerLost:
            self.next_look = float("inf")

    def over(self, run: _Run) -> Iterator[Event]:
        """Say that the last statement of a file was slow: the file is over, or psql is."""
        if run.running:
            yield from self._ended(run.running, None)

    def _question(self, run: _Run, migration: Migration) -> Iterator[Event]:
        blockers = tuple(describe(session) for session in self.database.blockers(self.application))
        run.blockers = blockers or run.blockers
        text = f"waits for a lock held by {blockers[0]}" if blockers else self.database.progress(self.application)
        if text:
            yield Doing(migration, text)

    def _ended(self, migration: Migration, current: Statement | None) -> Iterator[Event]:
        """Keep what runs now; say so when what ran before was slow."""
        last, since = self.seen, self.seen_at
        self.seen, self.seen_at = current, time.monotonic()
        if last is None or (current and current.since == last.since):
            return
        seconds = (current.since - last.since).total_seconds() if current else last.age + self.seen_at - since
        if seconds >= SLOW:
            line = psql.first_line(last.text, migration.text.sql, after=self.line)
            self.line = line or self.line
            yield Slow(migration, line, seconds, last.text.strip().split("\n")[0])


def _follow(output: Iterator[tuple[str, str] | None], reader: psql.Reader, watch: _Watch, run: _Run) -> Iterator[Event]:
    """Turn psql's output into events, and note in `run` what it means."""
    held: list[Event] = []  # in a single transaction nothing is finished before the end
    for line in output:
        for item in reader.flush() if line is None else reader.feed(*line):
            if isinstance(item, psql.Marker):
                yield from watch.over(run)
            for event in _note(item, run):
                if isinstance(event, Started):
                    watch.began()
                if run.single and isinstance(event, Finished):
                    held.append(event)
                else:
                    yield event
        if line is None:
            yield from watch.look(run)
    for message in reader.flush():
        yield from _note(message, run)
    yield from watch.over(run)
    if run.ended == "END":
        yield from held


def _note(item: psql.Marker | psql.Message | str, run: _Run) -> Iterator[Event]:
    match item:
        case psql.Marker("START", (version,)):
            run.running, run.shown, run.blockers = run.by_version[version], 0, ()
            yield Started(run.running)
        case psql.Marker("DONE", (version, duration)):
            run.running = None
            run.done.append(version)
            yield Finished(run.by_version[version], int(duration))
        case psql.Marker(word, rest):
            run.ended = " ".join((word, *rest))
        case psql.Message():
            if item.is_error:
                run.error = run.error or item
            else:
                yield Said(run.running, f"{item.severity.lower()}: {item.text}")
        case str():
            run.shown += 1
            if item.strip() and run.shown <= SHOWN_OUTPUT:
                yield Said(run.running, item)


def _refuse_unrecorded(steps: Sequence[Migration], after: History) -> None:
    done = {row.number for row in after.rows if row.status == "applied" or steps[0].undo}
    if wrong := [step.label for step in steps if (step.number in done) == step.undo]:
        raise errors.NotRecorded(wrong)


def _stage(folder: Path, steps: Sequence[Migration], token: str, script: Iterator[str]) -> None:
    """Put the driver and a fenced copy of each file into a folder; copied as a stream, whatever the size."""
    with (folder / "driver.sql").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(script)
    for step in steps:
        with _opened(step) as source, (folder / psql.staged_name(step)).open("wb") as target:
            target.write(psql.fence(token))
            first = source.read(COPY_CHUNK)
            target.write(first.removeprefix(codecs.BOM_UTF8))
            shutil.copyfileobj(source, target, COPY_CHUNK)


def _opened(step: Migration) -> BinaryIO:
    return step.path.open("rb") if step.path else io.BytesIO((step.text.sql or "").encode())


def _without_error(run: _Run) -> str:
    """Say why a run ended although nothing failed."""
    match run.ended.split(" ")[0]:
        case "ENDED":
            return "it ended the transaction it ran in (a COMMIT or ROLLBACK), so nothing protected the rest of it"
        case "MEDDLED":
            return "it changed the history of migrations itself"
    return f"psql stopped without an error message (exit code {run.exit_code})"


@contextlib.contextmanager
def _answering(run: _Run) -> Iterator[None]:
    """Say what a run came to when the server does not answer any more, so that nobody can look."""
    try:
        yield
    except errors.ServerLost as error:
        state = "undone" if run.undoes else "applied"
        unsure = f"\nWhether {_span(run.done)} stayed {state} shows when the server is back." if run.done else ""
        raise errors.ServerLost(error.where.strip(), f"{_consequence(run, sure=False)}{unsure}") from None


def _consequence(run: _Run, *, sure: bool = True) -> str:
    """Say what state the database is in: the failed file, those before it (if that is sure), those after it."""
    done = run.done if sure and not run.single else []
    parts = []
    if run.ended.startswith("ENDED"):
        parts.append("What it committed by itself stays, and it is not recorded as applied.")
    elif run.running and not run.running.directives.transaction:
        parts.append(
            f"{run.running.version} ran without a transaction: what it had done stays, and it is marked failed."
        )
    elif run.single:
        parts.append("All of it was rolled back; nothing of this run was applied.")
    elif run.running and run.undoes:
        parts.append(f"Its down script was rolled back, so {run.running.version} is still applied.")
    elif run.running:
        parts.append(f"{run.running.version} was rolled back.")
    if done:
        parts.append(f"{_span(done)} {'stays' if len(done) == 1 else 'stay'} {'undone' if run.undoes else 'applied'}.")
    tried = len(run.done) + (run.running is not None)
    if later := [step.version for step in run.steps[tried:]]:
        parts.append(f"{_span(later)} {'was' if len(later) == 1 else 'were'} not tried.")
    return " ".join(parts)


def _span(versions: Sequence[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def _own_words(error: psql.Message) -> tuple[str, str]:
    """Return message and hint, in our words where psql's or the server's leave somebody alone."""
    if "backslash commands are restricted" in error.text:
        return "a psql command (a line with a backslash) is not allowed in a migration", "Write it in plain SQL."
    if "\\restrict" in error.text:
        return (
            "this psql is too old to run files safely (it has no \\restrict)",
            "Use psql 18, 17.6, 16.10, 15.14 or newer.",
        )
    if error.sqlstate == NOT_IN_TRANSACTION:
        return (
            error.text,
            error.hint or "Put '-- migrate: no-transaction' at the top of the file, alone with this statement.",
        )
    return error.text, error.hint


def _excerpt(error: psql.Message, step: Migration, line: int | None) -> str:
    """Return the line that failed, with the caret where the server pointed."""
    if not error.version:
        return ""
    if error.excerpt and error.line:
        shown: Sequence[str] = error.excerpt
    elif line and step.text.sql:
        shown = step.text.sql.split("\n")[line - 1 : line]
    else:
        shown = ()
    return "\n".join(f"    {text}" for text in shown)
