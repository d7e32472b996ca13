"""The only module that writes to the terminal: values in, words out.

Rich draws where there is a terminal; into a file or a pipe go plain lines, and Rich is not even imported.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from infra.db import migrator
from infra.db.errors import MigrationFailed, NotConfirmed, TableIsHeld
from infra.db.plan import DONE, Entry, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rich.console
    import rich.progress

    from infra.db.errors import ToolError
    from infra.db.history import Applied
    from infra.db.migration import Migration

STYLES = {
    Status.APPLIED: "green",
    Status.BASELINE: "green",
    Status.PENDING: "yellow",
    Status.EDITED: "bold red",
    Status.MISSING: "bold red",
    Status.OUT_OF_ORDER: "bold red",
    Status.FAILED: "bold red",
}


class Console:
    """Writes for people, or, for other programs, one JSON object."""

    def __init__(self, *, as_json: bool = False, only_result: bool = False) -> None:
        """Choose where words go.

        Args:
            as_json: standard output is for the JSON object alone, so words go to standard error.
            only_result: standard output is for one line that a script reads, likewise.

        """
        self._as_json = as_json
        self._out: TextIO = sys.stderr if as_json or only_result else sys.stdout
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a terminal that has only ASCII still gets all words
        fits = _encodes(self._out, "✓✗…")
        self._ok, self._bad, self._more = ("✓", "✗", "…") if fits else ("ok", "x", "...")
        self._rich: rich.console.Console | None = None
        self._live: rich.progress.Progress | None = None
        self._doing: rich.progress.TaskID | None = None
        self._label = ""

    def say(self, text: str, style: str = "") -> None:
        """Write a line."""
        self._write(self._out, text, style)

    def step(self, text: str) -> None:
        """Write that something which takes time begins."""
        self._end()
        self.say(f"{text} {self._more}" if not text.endswith(".") else text, "dim")

    def event(self, event: migrator.Event) -> None:
        """Show one event of a run."""
        match event:
            case migrator.Started(migration):
                self._begin(migration)
            case migrator.Finished(migration, duration):
                self._end()
                self.say(f"  {self._ok} {migration.label:<32} {_milliseconds(duration):>9}", "green")
            case migrator.Said(_, text):
                self.say("\n".join(f"      {line}" for line in text.split("\n")), "dim")
            case migrator.Doing(migration, text):
                self._update(migration, text)
            case migrator.Waiting(holder):
                self._end()
                self.say(f"Another run works on this database; waiting for it {self._more}\n  {holder}", "yellow")
            case migrator.Retrying(migration, blockers, attempt, pause):
                self._end()
                who = "".join(f"\n    held by {blocker}" for blocker in blockers)
                self.say(
                    f"  {migration.label} could not get a table lock and was rolled back;"
                    f" try {attempt + 1} follows in {pause:.1f} s{who}",
                    "yellow",
                )

    def _begin(self, migration: Migration) -> None:
        self._end()
        self._label = migration.label
        self._spin(self._label)

    def _spin(self, label: str) -> None:
        if self._out.isatty():
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._terminal(self._out), transient=True)
            self._doing = self._live.add_task(label)
            self._live.start()

    def _update(self, migration: Migration, text: str) -> None:
        if self._live and self._doing is not None:
            self._live.update(self._doing, description=f"{migration.label}  {text}")
        elif self._label != f"{migration.label} {text}":  # in a file, only what is new
            self._label = f"{migration.label} {text}"
            self.say(f"    {migration.label}: {text}", "dim")

    def _end(self) -> None:
        if self._live:
            self._live.stop()
        self._live = self._doing = None

    def applied(self, rows: Sequence[Applied], seconds: float, where: str) -> None:
        """Write the summary of a run that went well."""
        if not rows:
            self.say(f"Nothing to do: {where} is up to date.", "green")
            return
        count = f"{len(rows)} migration{'s' if len(rows) > 1 else ''}"
        self.done(
            f"Applied {count} in {seconds:.1f} s to {where}.",
            ("invoke migrate-status", "see every file and its state"),
            ("invoke db.url", "where to connect"),
        )

    def outcome(self, rows: Sequence[Applied], error: ToolError | None) -> None:
        """Print what a run applied and what failed, for other programs; people are told otherwise."""
        if self._as_json:
            failed = error.failure if isinstance(error, TableIsHeld) else error
            self._json(
                {
                    "applied": [entry_object(Entry(Status.APPLIED, None, row)) for row in rows],
                    "failed": failure_object(failed) if isinstance(failed, MigrationFailed) else None,
                }
            )

    def done(self, text: str, *ways: tuple[str, str]) -> None:
        """Write that something went well, and what can be typed next."""
        self._end()
        self.say(text, "bold green")
        width = max((len(command) for command, _ in ways), default=0)
        for number, (command, meaning) in enumerate(ways):
            self.say(f"{'     ' if number else 'Next:'} {command:<{width}}   {meaning}")

    def plan(self, steps: Sequence[Migration], where: str) -> None:
        """Write what a run would do."""
        if self._as_json:
            self._json({"steps": [entry_object(Entry(Status.PENDING, step, None)) for step in steps]})
        elif not steps:
            self.say(f"Nothing to do: {where} is up to date.", "green")
        else:
            self.say(f"Would apply to {where}:")
            for step in steps:
                note = "" if step.directives.transaction else "   statement by statement, without a transaction"
                self.say(f"  {step.label}{note}")
            self.done("Nothing was changed.", ("invoke migrate", "do it"))

    def status(self, entries: Sequence[Entry], kind: str, database: str, where: str) -> None:
        """Write every file and every history row with its status."""
        pending = sum(entry.status in (Status.PENDING, Status.OUT_OF_ORDER) for entry in entries)
        if self._as_json:
            migrations = [entry_object(entry) for entry in entries]
            self._json({"server": kind, "database": database, "pending": pending, "migrations": migrations})
            return
        self.say(where)
        widest = max((len(entry.label) for entry in entries), default=0)
        for entry in entries:
            row = entry.row
            when = f"  {row.applied_at.astimezone():%Y-%m-%d %H:%M}  {row.applied_by}" if row else ""
            took = f"  {_milliseconds(row.duration_ms)}" if row and row.duration_ms is not None else ""
            self.say(f"  {entry.label:<{widest}}  {entry.status.value:<12}{when}{took}".rstrip(), STYLES[entry.status])
        if pending:
            self.done(f"{pending} of {len(entries)} pending.", ("invoke migrate", "apply what is pending"))
        elif not entries:
            self.say("  There are no migrations yet.")
        elif all(entry.status in DONE for entry in entries):
            self.done(f"All {len(entries)} applied.")
        else:
            self.say("Files and history disagree; invoke migrate says how each is settled.", "bold red")

    def pulling(self, done: int, total: int) -> None:
        """Show how much of an image has been pulled (bytes), as a bar on a terminal."""
        if not self._out.isatty():
            return
        if self._live is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            self._live = Progress(*columns, console=self._terminal(self._out), transient=True)
            self._doing = self._live.add_task("  pulling the image")
            self._live.start()
        if self._doing is not None:
            self._live.update(self._doing, completed=done, total=total)

    def working(self, text: str) -> None:
        """Show how far something is, on a terminal; the next step or end takes its place."""
        if self._live is None:
            self._spin(f"  {text}")
        elif self._doing is not None:
            self._live.update(self._doing, description=f"  {text}")

    def confirm(self, danger: str, command: str) -> None:
        """Ask for the word yes, on a terminal or from a pipe.

        Raises:
            NotConfirmed: something else was typed, or nothing.

        """
        self._end()
        self.say(danger, "bold red")
        self.say("Type yes to go on:", "bold")
        if sys.stdin.readline().strip() != "yes":
            raise NotConfirmed(command)

    def result(self, text: str) -> None:
        """Write the one line that was asked for to standard output."""
        self._write(sys.stdout, text)

    def error(self, error: ToolError) -> None:
        """Write what happened, where, what follows, and what to type next; always to standard error."""
        self._end()
        self._write(sys.stderr, f"{self._bad} {error.what}", "bold red", wrap=True)
        if error.where:
            self._write(sys.stderr, error.where)
        if error.consequence:
            self._write(sys.stderr, error.consequence, "yellow", wrap=True)
        if error.next:
            first, *others = error.next.split("\n")
            self._write(sys.stderr, "\n".join((f"Next: {first}", *(f"      {other}" for other in others))), "bold")

    def crash(self, secret: str) -> None:
        """Write the traceback of a bug, free of the password."""
        self._end()
        text = traceback.format_exc()
        for form in {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], secret.replace("\\", "\\\\")} - {""}:
            text = text.replace(form, "***")
        self._write(sys.stderr, text)
        self._write(
            sys.stderr, "This is a bug in the tool, not in your files. Please report it with the lines above.", "bold"
        )

    def _json(self, value: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def _write(self, stream: TextIO, text: str, style: str = "", *, wrap: bool = False) -> None:
        """Write lines; prose is wrapped between words, while what may be copied is left to the terminal."""
        if not stream.isatty():
            # A reader that has gone away (`| head`) must not stop a run in the middle.
            with contextlib.suppress(BrokenPipeError):
                stream.write(text + "\n")
                stream.flush()
            return
        from rich.text import Text  # noqa: PLC0415

        self._terminal(stream).print(Text(text, style=style), soft_wrap=not wrap)

    def _terminal(self, stream: TextIO) -> rich.console.Console:
        from rich.console import Console as Terminal  # noqa: PLC0415 - only where there is a terminal

        if self._rich is None or self._rich.file is not stream:
            self._rich = Terminal(file=stream, highlight=False)
        return self._rich


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _milliseconds(duration: int | None) -> str:
    if duration is None:
        return ""
    return f"{duration} ms" if duration < 1000 else f"{duration / 1000:.1f} s"


def entry_object(entry: Entry) -> dict[str, Any]:
    """Return an entry as in the JSON output; fields without a value are null."""
    row = entry.row
    return {
        "version": entry.version,
        "name": entry.name,
        "status": entry.status.value,
        "checksum": row.checksum if row else entry.file.text.checksum if entry.file else None,
        "applied_at": row.applied_at.isoformat() if row else None,
        "applied_by": row.applied_by if row else None,
        "duration_ms": row.duration_ms if row else None,
    }


def failure_object(error: MigrationFailed) -> dict[str, Any]:
    """Return a failed migration as in the JSON output."""
    names = ("version", "name", "file", "line", "sqlstate", "message", "detail", "hint")
    return {name: getattr(error, name) for name in names}
