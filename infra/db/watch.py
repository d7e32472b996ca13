"""One psql, followed: what it says on its output, and what another connection sees of it while it is quiet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.db import errors, psql
from infra.db.database import describe
from infra.db.events import Doing, Finished, Said, Slow, Started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.db.database import Database, Statement
    from infra.db.events import Event
    from infra.db.history import Applied
    from infra.db.migration import Migration

WATCH_AFTER = 0.2  # seconds that a file may take before the server is asked what it is doing
WATCH_EVERY = 1.0  # seconds between questions for blockers and progress
SLOW = 1.0  # seconds; a statement that takes longer is listed at the end of a run
SHOWN_OUTPUT = 10  # lines of a file's own query results that are passed on


@dataclass(slots=True)
class Run:
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

    @property
    def undoes(self) -> bool:
        """Whether it goes back."""
        return self.steps[0].undo

    @property
    def is_stale(self) -> bool:
        """Whether to plan anew: the history has changed, or another run swept our files away before psql read them."""
        swept = self.error is not None and not self.error.version and "No such file or directory" in self.error.text
        return self.ended == "STALE" or swept

    def settle(self, rows: Sequence[Applied]) -> bool:
        """Take from the history how far psql really came, when it was ended before all that it said was read.

        Returns:
            Whether all of it is there.

        """
        there = {row.number for row in rows if row.status == "applied" or self.undoes}
        rest = [step for step in self.steps if (step.number in there) == step.undo]
        if self.single and rest:
            return False  # all or nothing: only what was heard tells at which file it was
        self.done = [step.version for step in self.steps if step not in rest]
        if self.running not in rest:
            self.running = next(iter(rest), None)
        return not rest


@dataclass(slots=True)
class Watch:
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

    def look(self, run: Run) -> Iterator[Event]:
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

    def over(self, run: Run) -> Iterator[Event]:
        """Say that the last statement of a file was slow: the file is over, or psql is."""
        if run.running:
            yield from self._ended(run.running, None)

    def _question(self, run: Run, migration: Migration) -> Iterator[Event]:
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


def follow(output: Iterator[tuple[str, str] | None], reader: psql.Reader, watch: Watch, run: Run) -> Iterator[Event]:
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


def _begin(run: Run) -> Iterator[Event]:
    """Note which file runs now: psql goes from one to the next without a word."""
    run.running = run.steps[len(run.done)] if len(run.done) < len(run.steps) else None
    if run.running:
        run.shown, run.blockers = 0, ()
        yield Started(run.running)


def _note(item: psql.Marker | psql.Message | str, run: Run) -> Iterator[Event]:
    match item:
        case psql.Marker("START", ()):
            yield from _begin(run)
        case psql.Marker("DONE", (version, duration)):
            run.done.append(version)
            yield Finished(run.steps[len(run.done) - 1], int(duration))
            yield from _begin(run)
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
