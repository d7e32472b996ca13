"""What people and other programs read; here the streams are no terminal unless a test says so."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import check, errors, events
from infra.db.console import Console
from infra.db.plan import Entry, Status
from tests.values import NOON, migration, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A, B = migration("001_a"), migration("002_build_the_index", transaction=False)
WHEN = f"{NOON.astimezone():%Y-%m-%d %H:%M}"
FAILED = errors.MigrationFailed(
    version="002",
    name="b",
    file="infra/migrations/002_b.sql",
    line=14,
    sqlstate="42703",
    message='column "nam" does not exist',
    detail="there",
    hint=None,
    excerpt="    (id, nam)\n         ^",
    consequence="002 was rolled back.",
)
EVENTS: list[events.Event] = [
    events.Waiting("pid 7, ann, invoke migrate"),
    events.Started(A),
    events.Said(A, "notice: one\ntwo"),
    events.Retrying(A, ("pid 8, bob", "pid 9, eve"), attempt=1, pause=0.512),
    events.Finished(A, 999),
    events.Started(B),
    events.Doing(B, "40 % of blocks"),
    events.Doing(B, "40 % of blocks"),
    events.Doing(B, "80 % of blocks"),
    events.Finished(B, 61_250),
]
TRIED_TWICE: list[events.Event] = [
    events.Started(A),
    events.Slow(A, 3, 5.0, "LOCK TABLE t"),
    events.Retrying(A, (), attempt=1, pause=0.5),
    events.Started(A),
    events.Slow(A, 3, 1.04, "LOCK TABLE t"),
    events.Slow(A, None, 61.26, "COMMIT;"),
]


def show_slow(console: Console) -> None:
    console.slow("sql")
    for event in TRIED_TWICE:
        console.event(event)
    console.slow("sql")


ENTRIES = [
    Entry(Status.APPLIED, A, row("001_a")),
    Entry(Status.BASELINE, B, row("002_build_the_index", "baseline", duration_ms=None)),
    Entry(Status.OUT_OF_ORDER, migration("003_c"), None),
    Entry(Status.MISSING, None, row("004_d", duration_ms=12_345)),
    Entry(Status.PENDING, migration("005_e"), None),
]


def show_events(console: Console) -> None:
    for event in EVENTS:
        console.event(event)


PLAIN: list[Any] = [
    pytest.param(
        show_events,
        "Another run works on this database; waiting for it …\n"
        "  pid 7, ann, invoke migrate\n"
        "      notice: one\n"
        "      two\n"
        "  001_a could not get a table lock and was rolled back; try 2 follows in 0.5 s\n"
        "    held by pid 8, bob\n"
        "    held by pid 9, eve\n"
        "  ✓ 001_a                               999 ms\n"
        "    002_build_the_index: 40 % of blocks\n"
        "    002_build_the_index: 80 % of blocks\n"
        "  ✓ 002_build_the_index                 61.2 s\n",
        id="events of a run, only what is new",
    ),
    pytest.param(
        show_slow,
        "  001_a could not get a table lock and was rolled back; try 2 follows in 0.5 s\n"
        "Slow statements:\n"
        "     1.0 s  sql/001_a.sql:3  LOCK TABLE t\n"
        "    61.3 s  sql/001_a.sql  COMMIT;\n",
        id="slow statements of the last try, at the end",
    ),
    pytest.param(
        lambda console: console.applied([row("001_a"), row("002_b")], 1.26, "mordeaux (here)"),
        "Applied 2 migrations in 1.3 s to mordeaux (here).\n"
        "Next: invoke migrate-status   see every file and its state\n"
        "      invoke db.url           where to connect\n",
        id="summary",
    ),
    pytest.param(lambda console: console.applied([], 0.1, "x"), "Nothing to do: x is up to date.\n", id="nothing done"),
    pytest.param(lambda console: console.plan([], "x"), "Nothing to do: x is up to date.\n", id="nothing planned"),
    pytest.param(
        lambda console: console.plan([A, B], "x"),
        "Would apply to x:\n"
        "  001_a\n"
        "  002_build_the_index   statement by statement, without a transaction\n"
        "Nothing was changed.\n"
        "Next: invoke migrate   do it\n",
        id="plan",
    ),
    pytest.param(
        lambda console: console.status(ENTRIES, "docker", "mordeaux", "mordeaux (here)"),
        "mordeaux (here)\n"
        f"  001_a                applied       {WHEN}  ann  12 ms\n"
        f"  002_build_the_index  baseline      {WHEN}  ann\n"
        "  003_c                out-of-order\n"
        f"  004_d                missing       {WHEN}  ann  12.3 s\n"
        "  005_e                pending\n"
        "  Slowest: 004_d, 12.3 s\n"
        "Files and history disagree.\n"
        "Next: invoke migrate --plan   see how each is settled\n",
        id="status, with files that disagree",
    ),
    pytest.param(
        lambda console: console.status([ENTRIES[0], ENTRIES[4]], "docker", "mordeaux", "x"),
        f"x\n  001_a  applied       {WHEN}  ann  12 ms\n  005_e  pending\n1 of 2 pending.\n"
        "Next: invoke migrate   apply what is pending\n",
        id="status",
    ),
    pytest.param(
        lambda console: console.status([ENTRIES[4]], "docker", "mordeaux", "x", unrecorded=True),
        "x\n  005_e  pending\nThis database has tables, but no history of migrations.\n"
        "Next: invoke migrate-baseline   compare them with the files, and record these as applied\n",
        id="status, of a database that others made",
    ),
    pytest.param(
        lambda console: console.status(ENTRIES[:2], "docker", "mordeaux", "x"),
        f"x\n  001_a                applied       {WHEN}  ann  12 ms\n"
        f"  002_build_the_index  baseline      {WHEN}  ann\nAll 2 applied.\n",
        id="status, all done",
    ),
    pytest.param(lambda console: console.step("Starting"), "Starting …\n", id="a step begins"),
]


@pytest.mark.parametrize(("show", "expected"), PLAIN)
def test_people_read_plain_lines_where_there_is_no_terminal(
    show: Callable[[Console], None], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(Console())
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            FAILED,
            '✗ 002_b failed (SQLSTATE 42703): column "nam" does not exist\n'
            "Detail: there\n"
            "  infra/migrations/002_b.sql:14\n"
            "    (id, nam)\n"
            "         ^\n"
            "002 was rolled back.\n"
            "Next: Mend the file, then:  invoke migrate\n",
            id="all four parts",
        ),
        pytest.param(
            errors.ToolError("What.", where="  Where.", consequence="So.", next="Do:\n  this"),
            "✗ What.\n  Where.\nSo.\nNext: Do:\n        this\n",
            id="two lines of what next",
        ),
        pytest.param(
            errors.ToolError("What.", next="  001: do\n    or not\n  002: do"),
            "✗ What.\nNext: 001: do\n        or not\n      002: do\n",
            id="a list of what next",
        ),
        pytest.param(errors.ToolError("What."), "✗ What.\n", id="what alone"),
    ],
)
def test_an_error_goes_to_standard_error_with_its_four_parts(
    error: errors.ToolError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console().error(error)
    assert capsys.readouterr() == ("", expected)


def entry(version: str, name: str, status: str, *values: object) -> dict[str, object]:
    names = ("checksum", "applied_at", "applied_by", "duration_ms")
    return {"version": version, "name": name, "status": status, **dict(zip(names, values, strict=True))}


AT = "2026-01-31T12:00:00+00:00"
LOCKED = errors.TableIsHeld(FAILED, ["pid 8"], 6)
FAILURE = {
    "version": "002",
    "name": "b",
    "file": "infra/migrations/002_b.sql",
    "line": 14,
    "sqlstate": "42703",
    "message": 'column "nam" does not exist',
    "detail": "there",
    "hint": None,
}
ROW_1 = entry("001", "a", "applied", "v1:aa", AT, "ann", 12)


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        pytest.param(
            lambda console: console.status(ENTRIES, "embedded", "mordéaux", "x"),
            {
                "server": "embedded",
                "database": "mordéaux",
                "pending": 2,
                "migrations": [
                    ROW_1,
                    entry("002", "build_the_index", "baseline", "v1:aa", AT, "ann", None),
                    entry("003", "c", "out-of-order", "v1:aa", None, None, None),
                    entry("004", "d", "missing", "v1:aa", AT, "ann", 12_345),
                    entry("005", "e", "pending", "v1:aa", None, None, None),
                ],
            },
            id="status",
        ),
        pytest.param(
            lambda console: console.plan([A], "x"),
            {"steps": [entry("001", "a", "pending", "v1:aa", None, None, None)]},
            id="plan",
        ),
        pytest.param(lambda console: console.plan([], "x"), {"steps": []}, id="nothing planned"),
        pytest.param(
            lambda console: console.outcome([row("001_a")], None), {"applied": [ROW_1], "failed": None}, id="run"
        ),
        pytest.param(
            lambda console: console.outcome([row("001_a")], FAILED),
            {"applied": [ROW_1], "failed": FAILURE},
            id="failure",
        ),
        pytest.param(
            lambda console: console.outcome([], LOCKED), {"applied": [], "failed": FAILURE}, id="lock not had"
        ),
        pytest.param(
            lambda console: console.outcome([], errors.RunIsHeld("pid 7", 7, 60)),
            {"applied": [], "failed": None},
            id="another run",
        ),
    ],
)
def test_programs_read_one_object_and_all_words_go_to_standard_error(
    show: Callable[[Console], None], expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(as_json=True)
    console.say("word")
    show(console)
    out, err = capsys.readouterr()
    assert (json.loads(out), out.count("\n"), err) == (expected, 1, "word\n")


def test_a_script_that_wants_one_line_gets_words_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(only_result=True)
    console.say("word")
    console.result("postgresql://x")
    assert capsys.readouterr() == ("postgresql://x\n", "word\n")


def test_a_stream_that_has_only_ascii_gets_words_instead_of_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console = Console()
    console.event(events.Finished(A, 12))
    console.step("Café")
    console.error(errors.ToolError("Bad."))
    shown = [stream.buffer.getvalue() for stream in (out, err)]
    assert shown == [b"  ok 001_a                                12 ms\nCaf? ...\n", b"x Bad.\n"]


def test_on_a_narrow_terminal_a_command_to_type_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    command = f"invoke db.restore backups/{'x' * 40}.dump"
    Console().done("The backup is complete, and it was read back.", (command, "put it back"))
    *_, said, meant, end = terminal.getvalue().split("\n")
    assert (said, meant, end) == (f"Next: {command}", "        put it back", "")


@pytest.mark.parametrize(
    ("as_json", "show"),
    [
        pytest.param(False, lambda console: console.say("word"), id="words"),
        pytest.param(True, lambda console: console.outcome([row("001_a")], None), id="JSON"),
    ],
)
def test_a_reader_that_has_gone_away_stops_nothing(
    as_json: bool,  # noqa: FBT001
    show: Callable[[Console], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    stream = io.TextIOWrapper(os.fdopen(theirs, "wb", buffering=0), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with stream:
        show(Console(as_json=as_json))


@pytest.mark.parametrize(
    "secret", [pytest.param("hunter2", id="plain"), pytest.param("it's\\hunter2", id="as Python would write it")]
)
def test_a_crash_is_shown_without_the_password(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        os.environ[f"password={secret}"]
    except KeyError:
        Console().crash(secret)
    out, err = capsys.readouterr()
    first, *_, last = err.strip().split("\n")
    assert (out, first) == ("", "Traceback (most recent call last):")
    assert last == "This is a bug in the tool, not in your files. Please report it with the lines above."
    assert "KeyError: " in err
    assert "hunter2" not in err


class Terminal(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_brackets_and_lines_of_a_file_as_they_are_and_no_colour_where_it_wants_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    place = "    SELECT '[bold]'::text[] " + "x" * 80
    Console().error(errors.ToolError("What.", where=place))
    assert place in terminal.getvalue().split("\n")


CHECKS = [
    check.ok("Python", "3.14.0"),
    check.warning("container", "x is stopped.", "invoke db.up"),
    check.fault(
        "drift", "Files and history disagree.\n  002_b was edited", "  002_b: undo it\n  or accept it", exit_code=4
    ),
    check.skipped("history", "see connection"),
    check.ok("disk space", "backups: 1.0 GB free\n/tmp: 1.0 GB free"),
]
SCREEN = """\
✓ Python           3.14.0
! container        x is stopped.
    Mend: invoke db.up
✗ drift            Files and history disagree.
                     002_b was edited
    Mend: 002_b: undo it
          or accept it
- history          not checked: see connection
✓ disk space       backups: 1.0 GB free
                   /tmp: 1.0 GB free
5 checks: 2 fine, 1 warning, 1 fault, 1 skipped (exit code 4).
Next: 002_b: undo it
      or accept it
"""


def show_checks(console: Console, checks: list[check.Check], code: int) -> None:
    for each in checks:
        console.check(each)
    console.diagnosis("docker", checks, code)


def test_the_doctor_shows_each_check_with_its_mend_and_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    show_checks(Console(), CHECKS, 4)
    assert capsys.readouterr() == (SCREEN, "")


def test_without_a_fault_the_first_warning_is_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    Console().diagnosis("docker", CHECKS[:2], 0)
    assert capsys.readouterr().out == "2 checks: 1 fine, 1 warning.\nNext: invoke db.up\n"
    Console().diagnosis("docker", CHECKS[:1], 0)
    assert capsys.readouterr().out == "1 checks: 1 fine.\n"


def test_programs_read_the_doctors_checks_as_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    show_checks(Console(as_json=True), CHECKS[:2], 0)
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "server": "docker",
        "checks": [
            {"name": "Python", "verdict": "ok", "found": "3.14.0", "mend": None},
            {"name": "container", "verdict": "warning", "found": "x is stopped.", "mend": "invoke db.up"},
        ],
    }
    assert err.startswith("✓ Python")


def test_on_a_narrow_terminal_what_was_found_is_wrapped_in_its_column_and_a_mend_is_left_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "51")
    mend = "invoke db.shell --command " + "x" * 60
    Console().check(check.warning("pgvector", "of the volume doctor-look_pgdata there is more than one word", mend))
    assert terminal.getvalue().split("\n") == [
        "! pgvector         of the volume doctor-look_pgdata",
        "                   there is more than one word",
        f"    Mend: {mend}",
        "",
    ]


def test_the_doctor_speaks_where_rich_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    Console().check(CHECKS[0])
    assert terminal.getvalue() == "✓ Python           3.14.0\n"


def test_without_a_standard_input_nobody_sits_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as under `<&-` and pythonw
    assert not Console().at_terminal


def test_lines_are_not_wrapped_and_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def lines() -> Iterator[str]:
        yield "x" * 500
        seen.append(capsys.readouterr().out)
        yield "[bold]"

    Console().lines(lines())
    assert seen == ["x" * 500 + "\n"]
    assert capsys.readouterr().out == "[bold]\n"
