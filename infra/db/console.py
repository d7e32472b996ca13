"""The only module that writes to the terminal: values in, words out.

Rich draws where there is a terminal; into a file or a pipe go plain lines, and Rich is not even imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import textwrap
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO

from infra.db import events, layout
from infra.db.check import Verdict, check_object
from infra.db.errors import MigrationFailed, NotConfirmed, TableIsHeld
from infra.db.plan import DONE, Entry, Status, entry_object
from infra.db.rules import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import rich.console
    import rich.progress

    from infra.db import findings, verify
    from infra.db.check import Check
    from infra.db.errors import ToolError
    from infra.db.history import Applied
    from infra.db.losses import Loss
    from infra.db.migration import Migration
    from infra.db.review import Report
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
VERDICTS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "bold red", Verdict.SKIPPED: "dim"}
NAMES = 15  # characters; the longest name of a check
EXCERPT = "    "  # begins a line of a file, a log or a difference
LONGEST_STATEMENT = 60  # characters of a slow statement that are shown
LEVELS = {Level.ERROR: "bold red", Level.WARNING: "yellow"}


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
        self._fits = fits = _encodes(self._out, "✓✗…")
        self._ok, self._bad, self._more = ("✓", "✗", "…") if fits else ("ok", "x", "...")
        self._rich: rich.console.Console | None = None
        self._live: rich.progress.Progress | None = None
        self._doing: rich.progress.TaskID | None = None
        self._label = ""
        self.secret = ""  # the password, once it is known: never to be shown
        self._slow: list[events.Slow] = []

    def say(self, text: str, style: str = "") -> None:
        """Write a line of our own words."""
        self._write(self._out, text, style)

    def quote(self, text: str, style: str = "") -> None:
        """Write lines of somebody else's: they are not folded."""
        self._write(self._out, text, style, fold=False)

    def step(self, text: str) -> None:
        """Write that something which takes time begins."""
        self._end()
        self.say(f"{text} {self._more}" if not text.endswith(".") else text, "dim")

    def event(self, event: events.Event) -> None:
        """Show one event of a run."""
        match event:
            case events.Started(migration):
                self._begin(migration)
            case events.Finished(migration, duration):
                self._end()
                label = f"{migration.label} undone" if migration.undo else migration.label
                self.say(f"  {self._ok} {label:<32} {_milliseconds(duration):>9}", "green")
            case events.Said(_, text):
                self.quote("\n".join(f"      {line}" for line in text.split("\n")), "dim")
            case events.Doing(migration, text):
                self._update(migration, text)
            case events.Slow():
                self._slow.append(event)
            case events.Waiting(holder):
                self._end()
                self.say(f"Another run works on this database; waiting for it {self._more}\n  {holder}", "yellow")
            case events.Retrying(migration, blockers, attempt, pause):
                self._end()
                who = "".join(f"\n    held by {blocker}" for blocker in blockers)
                self.say(
                    f"  {migration.label} could not get a table lock and was rolled back;"
                    f" try {attempt + 1} follows in {pause:.1f} s{who}",
                    "yellow",
                )

    def _begin(self, migration: Migration) -> None:
        self._end()
        self._slow = [slow for slow in self._slow if slow.migration != migration]  # of a try that was rolled back
        self._label = migration.label
        self._spin(self._label)

    def _spin(self, label: str) -> None:
        if self._out.isatty():
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (
                SpinnerColumn("dots" if self._fits else "line"),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
            )
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

    def slow(self, folder: str) -> None:
        """Write which statements of a run took long."""
        self._end()
        if self._slow:
            self.say("Slow statements:", "yellow")
        for each in self._slow:
            place = f"{folder}/{each.migration.file_name}" + (f":{each.line}" if each.line else "")
            self.quote(f"  {each.seconds:6.1f} s  {place}  {each.text[:LONGEST_STATEMENT]}".rstrip())

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
        self._next(text, "bold green", *ways)

    def _next(self, text: str, style: str, *ways: tuple[str, str]) -> None:
        self.say(text, style)
        if ways:
            width = max(len(command) for command, _ in ways)
            rows = (f"{command:<{width}}   {meaning}" for command, meaning in ways)
            self._labelled(self._out, "Next: ", "\n".join(rows))

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
        from infra.db import catalogue, verify  # noqa: PLC0415 - one task's

        if self._as_json:
            self._json(verify.result_object(result, server=kind, database=database))
            return
        if result.run_time:
            self.say(f"Made at run time, and as it should be: {', '.join(result.run_time)}.", "dim")
        for each in result.differences:
            self.say(f"  {each.kind.value:<8} {each.object}", "yellow")
        if result.differences:
            self.quote(
                catalogue.readable(result.differences, wanted="what the applied files make", found="what is there")
            )
        else:
            self.done(f"The schema of {where} is what the applied files make.")

    def rehearsed(self, report: findings.Report, kind: str, database: str, where: str, place: str) -> None:
        """Write what each file did on the copy, and what follows from it."""
        from infra.db import findings  # noqa: PLC0415 - one task's

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
                self.quote(f"      {difference.kind.value}: {difference.object}\n{difference.diff}", "yellow")
            if each.back.said:
                self.quote("\n".join(f"      {line}" for line in each.back.said.split("\n")), "yellow")
        if report.is_good:
            self.say("\n".join(findings.verdict(report)), "bold")
            self.done("The copy is gone again; nothing was changed.", ("invoke migrate --backup", "do it for real"))

    def left_behind(self, left: Leftover) -> None:
        """Say that a killed run left a copy, and how to remove it."""
        size = "" if left.size is None else f", {layout.size(left.size)}"
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

    def status(
        self, entries: Sequence[Entry], kind: str, database: str, where: str, *, unrecorded: bool = False
    ) -> None:
        """Write every file and every history row with its status; `unrecorded`: tables are there without a history."""
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
        self._slowest(entries)
        if any(entry.status not in (*DONE, Status.PENDING) for entry in entries):
            self._next("Files and history disagree.", "bold red", ("invoke migrate --plan", "see how each is settled"))
        elif pending and unrecorded:
            adopt = ("invoke migrate-baseline", "compare them with the files, and record these as applied")
            self._next("This database has tables, but no history of migrations.", "bold red", adopt)
        elif pending:
            self.done(f"{pending} of {len(entries)} pending.", ("invoke migrate", "apply what is pending"))
        elif entries:
            self.done(f"All {len(entries)} applied.")
        else:
            self.say("  There are no migrations yet.")

    def check(self, found: Check) -> None:
        """Write what one look of the doctor found, and its mend."""
        signs = {Verdict.OK: self._ok, Verdict.WARNING: "!", Verdict.FAULT: self._bad, Verdict.SKIPPED: "-"}
        margin = len(self._ok) + 1
        lines = self._lines(found.found, margin + NAMES + 2)
        lines[0] = f"{signs[found.verdict]:<{margin}}{found.name:<{NAMES}}  {lines[0].lstrip()}"
        self.say("\n".join(lines), VERDICTS[found.verdict])
        if found.mend:
            self._labelled(self._out, "    Mend: ", found.mend)

    def _lines(self, text: str, indent: int) -> list[str]:
        """Return the lines of a text, indented; a terminal that is too narrow for that breaks them as it can."""
        width = self._width(self._out)
        lines = textwrap.indent(text, " " * indent)
        return (layout.fold(lines, width) if width > 2 * indent else lines).split("\n")

    def _labelled(self, stream: TextIO, label: str, text: str, style: str = "") -> None:
        """Write lines below each other, the first one behind a label."""
        lines = layout.fold(textwrap.indent(textwrap.dedent(text), " " * len(label)), self._width(stream))
        self._write(stream, label + lines[len(label) :], style, fold=False)

    def diagnosis(self, kind: str | None, checks: Sequence[Check], code: int) -> None:
        """Write how many checks are well, and what to do first; or all of them, for other programs.

        Args:
            kind: the server's; None when it is not known.
            checks: what was found.
            code: what the process ends with.

        """
        count = Counter(each.verdict for each in checks)
        words = [
            f"{count[verdict]} {word}{'s' if many and count[verdict] > 1 else ''}"
            for verdict, word, many in (
                (Verdict.OK, "fine", False),
                (Verdict.WARNING, "warning", True),
                (Verdict.FAULT, "fault", True),
                (Verdict.SKIPPED, "skipped", False),
            )
            if count[verdict]
        ]
        worst = next((each for each in (Verdict.FAULT, Verdict.WARNING) if count[each]), Verdict.OK)
        ending = f" (exit code {code})" if code else ""
        self.say(
            f"{len(checks)} checks: {', '.join(words)}{ending}.", f"bold {VERDICTS[worst]}".replace("bold bold", "bold")
        )
        if first := next((each for each in checks if each.verdict is worst and each.mend), None):
            self._labelled(self._out, "Next: ", first.mend, "bold")
        if self._as_json:
            self._json({"server": kind, "checks": [check_object(each) for each in checks]})

    def _slowest(self, entries: Sequence[Entry]) -> None:
        times = {entry.label: entry.row.duration_ms for entry in entries if entry.row and entry.row.duration_ms}
        label = max(times, key=lambda each: times[each], default="")
        if label and times[label] >= 1000:
            self.say(f"  Slowest: {label}, {_milliseconds(times[label])}", "dim")

    def findings(self, report: Report, count: int, *, every: bool) -> None:
        """Write what some files would lock or break, and what they are excused from."""
        if self._as_json:
            from infra.db.review import report_object  # noqa: PLC0415 - one task's

            self._json(report_object(report))
            return
        for each in report.findings:
            self.say(f"{each.file}:{each.line}: {each.level}: {each.rule}", LEVELS[each.level])
            self.say(f"    {each.message}\n    {each.help}".rstrip())
        for each in report.allowed:
            self.say(
                f"{each.file}:{each.line}: allowed: {each.rule}\n    {each.message}\n    because {each.reason}", "dim"
            )
        if report.quiet:
            self.say(f"Not shown: {report.quiet} on tables that are new or small on this server.", "dim")
        which = f"{count} {'' if every else 'pending '}file{'' if count == 1 else 's'}"
        if not report.findings:
            self.done(f"Nothing to say of {which}.", ("invoke migrate", "apply what is pending"))
        elif not report.errors:
            self.done(f"No errors in {which}.", ("invoke migrate", "apply what is pending"))

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

    def confirm(self, danger: str, command: str, word: str = "yes") -> None:
        """Ask for a word, on a terminal or from a pipe.

        Raises:
            NotConfirmed: something else was typed, or nothing.

        """
        self._end()
        self.say(danger, "bold red")
        self.say(f"Type {word} to go on:", "bold")
        if sys.stdin.readline().strip() != word:
            raise NotConfirmed(command, word)

    def result(self, text: str) -> None:
        """Write the one line that was asked for to standard output."""
        self._write(sys.stdout, text, fold=False)

    @property
    def at_terminal(self) -> bool:
        """Whether somebody types to us."""
        return sys.stdin is not None and sys.stdin.isatty()

    @property
    def width(self) -> int:
        """The terminal's width in characters; 0 where standard output is none."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0

    def object(self, value: dict[str, Any]) -> None:
        """Write the JSON object that was asked for to standard output."""
        self._json(value)

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines to standard output as they come, until there are no more or nobody reads them (`| head`)."""
        for line in lines:
            if not _put(sys.stdout, f"{line}\n"):
                return

    def error(self, error: ToolError) -> None:
        """Write what happened, where, what follows, and what to type next; always to standard error."""
        self._end()
        self._write(sys.stderr, f"{self._bad} {error.what}", "bold red")
        for line in error.where.split("\n") if error.where else ():
            self._write(sys.stderr, line, fold=not line.startswith(EXCERPT))
        if error.consequence:
            self._write(sys.stderr, error.consequence, "yellow")
        if error.next:
            self._labelled(sys.stderr, "Next: ", error.next, "bold")

    def crash(self, secret: str) -> None:
        """Write the traceback of a bug, free of the password."""
        self._end()
        text = traceback.format_exc()
        for form in {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], secret.replace("\\", "\\\\")} - {""}:
            text = text.replace(form, "***")
        self._write(sys.stderr, text, fold=False)
        self._write(
            sys.stderr, "This is a bug in the tool, not in your files. Please report it with the lines above.", "bold"
        )

    def _json(self, value: Mapping[str, Any]) -> None:
        _put(sys.stdout, json.dumps(value, ensure_ascii=False) + "\n")

    def _write(self, stream: TextIO, text: str, style: str = "", *, fold: bool = True) -> None:
        """Write lines; on a terminal, long ones are folded between words, unless they are to be left as they are."""
        if not _draws(stream):
            _put(stream, f"{text}\n")
            return
        from rich.text import Text  # noqa: PLC0415

        folded = layout.fold(text, self._width(stream)) if fold else text
        self._terminal(stream).print(Text(folded, style=style), soft_wrap=True)

    def _width(self, stream: TextIO) -> int:
        """Return a terminal's width in characters; 0 where there is none, and lines may be of any length."""
        return self._terminal(stream).width if _draws(stream) else 0

    def _terminal(self, stream: TextIO) -> rich.console.Console:
        from rich.console import Console as Terminal  # noqa: PLC0415 - only where there is a terminal

        if self._rich is None or self._rich.file is not stream:
            self._rich = Terminal(file=stream, highlight=False)
        return self._rich


def _put(stream: TextIO, text: str) -> bool:
    """Write to a file or a pipe; a reader that has gone away (`| head`) must not stop a run in the middle.

    Returns:
        False when nobody reads any more. Everything goes to nowhere from then on, because Python would fail once more
        when it ends and flushes what is left (Python's manual, Note on SIGPIPE).

    """
    try:
        stream.write(text)
        stream.flush()
    except OSError:  # EPIPE; EINVAL on Windows
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


def _draws(stream: TextIO) -> bool:
    """Tell whether Rich can draw there; the doctor has to speak where Rich is not installed, too."""
    return stream.isatty() and importlib.util.find_spec("rich") is not None


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


def failure_object(error: MigrationFailed) -> dict[str, Any]:
    """Return a failed migration as in the JSON output."""
    names = ("version", "name", "file", "line", "sqlstate", "message", "detail", "hint")
    return {name: getattr(error, name) for name in names}
