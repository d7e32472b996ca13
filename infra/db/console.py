"""The only module that writes to the terminal: values in, words out.

Rich draws where there is a terminal; into a file or a pipe go plain lines, and Rich is not even imported.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

from infra.db import catalogue, findings, migrator, verify
from infra.db.errors import MigrationFailed, NotConfirmed, TableIsHeld
from infra.db.plan import DONE, Entry, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import rich.console
    import rich.progress

    from infra.db.errors import ToolError
    from infra.db.history import Applied
    from infra.db.losses import Loss
    from infra.db.migration import Migration
    from infra.db.scratch import Leftover

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
                label = f"{migration.label} undone" if migration.undo else migration.label
                self.say(f"  {self._ok} {label:<32} {_milliseconds(duration):>9}", "green")
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
        if self._out.isatty():
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._live = Progress(*columns, console=self._terminal(self._out), transient=True)
            self._doing = self._live.add_task(self._label)
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

    def way_back(self, steps: Sequence[tuple[Migration, Sequence[Loss]]], where: str) -> None:
        """Write what going back undoes, and what is lost by it."""
        if not steps:
            self.say(f"Nothing to undo: nothing is applied to {where}.", "green")
            return
        self.say(f"To undo on {where}, newest first:")
        for step, lost in steps:
            self.say(f"  {step.label}" + ("" if step.path else "   by the history's copy: its down script is not here"))
            for loss in lost:
                what = f"{loss.table}.{loss.column}" if loss.column else loss.table
                self.say(f"      {loss.does} {what} ({_rows(loss)})", "red" if loss.rows != 0 else "dim")

    def verified(self, result: verify.Result, kind: str, database: str, where: str) -> None:
        """Write what is not as the files make it: the objects, then their differences."""
        if self._as_json:
            self._json(verify.result_object(result, server=kind, database=database))
            return
        if result.run_time:
            self.say(f"Made at run time, and as it should be: {', '.join(result.run_time)}.", "dim")
        for each in result.differences:
            self.say(f"  {each.kind.value:<8} {each.object}", "yellow")
        if result.differences:
            self.say(
                catalogue.readable(result.differences, wanted="what the applied files make", found="what is there")
            )
        else:
            self.done(f"The schema of {where} is what the applied files make.")

    def rehearsed(self, report: findings.Report, kind: str, database: str, where: str, place: str) -> None:
        """Write what each file did on the copy, and what follows from it."""
        if self._as_json:
            failed = failure_object(report.failed) if report.failed else None
            self._json(
                {**findings.report_object(report, server=kind, database=database, place=place), "failed": failed}
            )
            return
        if not report.tried and not report.failed:
            self.say(f"Nothing to rehearse: {where} is up to date.", "green")
            return
        for each in report.tried:
            self.say(f"{each.migration.label}   {findings.duration(each.seconds)}", "bold")
            for line in findings.lines(each):
                self.say(f"    {line}")
            for difference in each.back.differences:
                self.say(f"      {difference.kind.value}: {difference.object}\n{difference.diff}", "yellow")
            if each.back.said:
                self.say("\n".join(f"      {line}" for line in each.back.said.split("\n")), "yellow")
        if report.is_good:
            self.say("\n".join(findings.verdict(report)), "bold")
            self.done("The copy is gone again; nothing was changed.", ("invoke migrate --backup", "do it for real"))

    def left_behind(self, left: Leftover) -> None:
        """Say that a killed run left a copy, and how to remove it."""
        size = "" if left.size is None else f", {findings.megabytes(left.size)}"
        self.say(
            f"A run that was killed left a copy, made {left.made_at:%Y-%m-%d %H:%M} UTC{size}: {left.name}\n"
            f"  remove it:  {left.removal}",
            "yellow",
        )

    def undone(self, count: int, seconds: float, where: str) -> None:
        """Write the summary of a rollback that went well."""
        self.done(
            f"Undid {count} migration{'s' if count > 1 else ''} in {seconds:.1f} s on {where}.",
            ("invoke migrate-status", "see every file and its state"),
            ("invoke migrate", "apply them again"),
        )

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

    def bytes_so_far(self, count: int) -> None:
        """Show how far a backup is, on a terminal."""
        if self._out.isatty() and count:
            self._out.write(f"\r  {count / 1e6:,.1f} MB ")
            self._out.flush()

    def confirm(self, danger: str, command: str, word: str = "yes") -> None:
        """Ask for a word, on a terminal or from a pipe.

        Raises:
            NotConfirmed: something else was typed, or nothing.

        """
        self.say(danger, "bold red")
        self.say(f"Type {word} to go on:", "bold")
        if sys.stdin.readline().strip() != word:
            raise NotConfirmed(command, word)

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

    def _json(self, value: Mapping[str, Any]) -> None:
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


def _rows(loss: Loss) -> str:
    if loss.rows is None:
        return "rows unknown"
    about = "" if loss.exact else "about "
    return f"{about}{loss.rows:,} {'row' if loss.rows == 1 else 'rows'}{' with a value' if loss.column else ''}"


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
