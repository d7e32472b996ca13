"""What people type: flags in, objects wired, one error boundary. Everything else is in infra/db."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.tasks import task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from invoke.context import Context

    from infra.db.console import Console
    from infra.db.session import Session
    from infra.db.settings import Settings

if sys.version_info < (3, 11):  # noqa: UP036 - Invoke alone runs on older ones, too, and would show a syntax error
    raise SystemExit(
        f"Python {sys.version_info[0]}.{sys.version_info[1]} is too old: these tasks need Python 3.11 or newer.\n"
        "Nothing was done.\n"
        "Next: Make a virtual environment with a newer Python and activate it, then:\n"
        "        python -m pip install -e .\n"
        "        invoke migrate"
    )

# Invoke turns the writing of compiled modules off (it has --write-pyc); then each task would compile all of ours anew,
# which takes longer than most tasks. What was said to Python itself (-B, PYTHONDONTWRITEBYTECODE) is kept to.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# Nearly all that a task makes at its start are modules, which stay: looking for garbage among them takes a tenth of it,
# and looking once more at the very end, when all of them go, another tenth.
gc.set_threshold(100_000)
atexit.register(gc.freeze)

ROOT = Path(__file__).resolve().parent
JSON = "Print one JSON object on standard output; words go to standard error."
YES = "Do not ask."


@task(
    help={
        "to": "Stop after this version, like 005 (default: all pending files).",
        "plan": "Show what would run, and change nothing.",
        "single": "Put all pending files into one transaction: all or nothing.",
        "out_of_order": "Also run files that are older than the newest applied one.",
        "backup": "Take a backup first, if there is something to do.",
        "json": JSON,
    }
)
def migrate(
    _: Context,
    to: str = "",
    plan: bool = False,
    single: bool = False,
    out_of_order: bool = False,
    backup: bool = False,
    json: bool = False,
) -> None:
    """Start or find the server, wait until it is ready, apply what is pending."""
    with _session(as_json=json) as session:
        from infra.db.work import forward

        if plan:
            session.console.plan(forward.pending(session, to=to or None, out_of_order=out_of_order), session.where)
        else:
            forward.migrate(session, to=to or None, out_of_order=out_of_order, single=single, with_backup=backup)


@task(help={"check": "Exit with 7 when something is pending or drifted.", "json": JSON})
def migrate_status(_: Context, check: bool = False, json: bool = False) -> None:
    """Show every file and every history row with its status; starts and changes nothing."""
    with _session(as_json=json) as session:
        state = session.look()
        kind, name = session.server.kind, session.settings.name
        session.console.status(state.entries, kind, name, session.where, unrecorded=bool(state.unrecorded))
        if check:
            state.refuse_unless_done()


@task(
    help={
        "steps": "How many files to undo, like 2 (default: 1).",
        "to": "Undo everything newer than this version, like 007; 0 for everything.",
        "plan": "Show what would be undone and lost, and change nothing.",
        "yes": YES,
    }
)
def migrate_rollback(_: Context, steps: str = "1", to: str = "", plan: bool = False, yes: bool = False) -> None:
    """Undo the newest applied files by their down scripts, newest first."""
    with _session() as session:
        from infra.db.work import amend

        amend.rollback(session, steps=steps, to=to or None, plan_only=plan, yes=yes)


@task(help={"yes": YES, "no_backup": "Do not take a backup first."})
def migrate_reset(_: Context, yes: bool = False, no_backup: bool = False) -> None:
    """Drop everything in the database, in one transaction, after a typed confirmation and a backup."""
    with _session() as session:
        from infra.db.work import keep

        kept = "No backup is taken." if no_backup else f"A backup goes into the folder {session.backups} first."
        session.confirm(f"This drops everything in {session.where}. {kept}", "migrate-reset", yes=yes)
        dropped = keep.empty(session, with_backup=not no_backup)
        session.console.done(f"Dropped {', '.join(dropped)}.", ("invoke migrate", "make the tables again"))


@task(help={"to": "The last version to be part of the one file, like 010; it has to be given."})
def migrate_squash(_: Context, to: str = "") -> None:
    """Put one file in the place of all up to a version, for databases that are made from now on."""
    with _session() as session:
        from infra.db.work import files

        file, count = files.squash_up_to(session, to)
        session.console.done(
            f"{file} makes the same as the {count} files that it replaces, which git keeps.",
            ("invoke migrate-status", "a database that has them counts as up to date"),
            ("git status", "see what changed, and commit it"),
        )


@task(
    help={
        "to": "Stop after this version, like 012 (default: all pending files).",
        "schema_only": "Copy no rows: quick, but says nothing about how long it takes.",
        "json": JSON,
    }
)
def migrate_rehearse(_: Context, to: str = "", schema_only: bool = False, json: bool = False) -> None:
    """Run what is pending on a throw-away copy: durations, locks, rewrites, and whether there is a way back."""
    with _session(as_json=json) as session:
        from infra.db.work import trial

        trial.rehearse_pending(session, to=to or None, data=not schema_only)


@task(help={"json": JSON})
def migrate_verify(_: Context, json: bool = False) -> None:
    """Compare the live schema with the one that the applied files make; exits with 4 when they differ."""
    with _session(as_json=json) as session:
        from infra.db.work import trial

        trial.verify_schema(session)


@task(
    positional=["name"],
    help={
        "name": "What it does, like add_face_landmarks.",
        "no_transaction": "For statements that PostgreSQL does not run in a transaction (CREATE INDEX CONCURRENTLY).",
        "renumber": "Give the file NAME, which is not applied, the next free number instead.",
    },
)
def migrate_new(_: Context, name: str, no_transaction: bool = False, renumber: bool = False) -> None:
    """Create the next numbered pair of files from a template."""
    with _session() as session:
        from infra.db.work import files

        if renumber:
            for line in files.renumber(session, name):
                session.console.say(line)
            session.console.done("The order is clear again.", ("invoke migrate --plan", "see what would run"))
        else:
            for file in files.new(session, name, transaction=not no_transaction):
                session.console.say(f"Created {file}")
            session.console.done("Write what it does and how it is undone.", ("invoke migrate", "apply it"))


@task(
    positional=["version"],
    help={
        "version": "The version to settle, like 004.",
        "applied": "Record it as applied as its file stands now (this accepts an edit).",
        "pending": "Forget it, so that it runs again.",
    },
)
def migrate_resolve(_: Context, version: str, applied: bool = False, pending: bool = False) -> None:
    """Settle one version by hand: record it as applied, or forget it."""
    with _session() as session:
        from infra.db.work import amend

        entry = amend.settle(session, version, applied=applied, pending=pending)
        now = "recorded as applied, as its file stands now" if applied else "pending again"
        session.console.done(f"{entry.label} is {now}.", ("invoke migrate-status", "see every file and its state"))


@task(
    help={
        "to": "The last version that the database already has, like 010 (default: all files).",
        "anyway": "Record them although the database is not what the files would make; the difference is shown.",
    }
)
def migrate_baseline(_: Context, to: str = "", anyway: bool = False) -> None:
    """Adopt a database that already has the tables: record files as applied without running them."""
    with _session() as session:
        from infra.db.work import amend

        adopted = amend.adopt(session, to or None, anyway=anyway)
        names = ", ".join(file.label for file in adopted) or "nothing new"
        session.console.done(f"Recorded as applied, without running: {names}.", ("invoke migrate", "go on from here"))


@task(help={"all": "Look at all files, not only at the pending ones.", "json": JSON})
def migrate_lint(_: Context, all: bool = False, json: bool = False) -> None:  # noqa: A002 - the flag's name
    """Lint pending files for unsafe DDL; exits with 4 on an error-level finding."""
    with _session(as_json=json) as session:
        from infra.db.work import files

        files.lint(session, every=all)


@task
def up(_: Context) -> None:
    """Start the server and wait until it is ready."""
    with _session() as session:
        session.ready()
        session.console.done(f"Ready: {session.where}.", ("invoke migrate", "apply what is pending"))


@task(help={"volumes": "Also delete its data, after a confirmation.", "yes": YES})
def down(_: Context, volumes: bool = False, yes: bool = False) -> None:
    """Stop the server; its data stays unless --volumes is given."""
    with _session() as session:
        place = session.server.place()
        if volumes:
            if not yes:
                session.console.confirm(f"This deletes the server and all its data: {place}.", "db.down --volumes")
            gone = session.server.destroy()
            session.console.done(f"Deleted {', '.join(gone)}." if gone else "There was nothing to delete.")
        else:
            stopped = session.server.stop()
            session.console.done(f"Stopped {place}; its data stays." if stopped else f"Not running: {place}.")


@task(help={"timeout": "Seconds to wait, like 10 (default: DB_WAIT_TIMEOUT)."})
def wait(_: Context, timeout: str = "") -> None:
    """Return when the server is really ready; starts nothing."""
    with _session({"DB_WAIT_TIMEOUT": timeout} if timeout else {}) as session:
        session.when_ready()
        session.console.done(f"Ready: {session.where}.")


@task(
    help={
        "follow": "Go on with what is added, until Ctrl-C or until the server stops.",
        "tail": "Only the last lines, as many as this, like 100 (default: all).",
    }
)
def logs(_: Context, follow: bool = False, tail: str = "") -> None:
    """Show the server's log; starts nothing."""
    with _session() as session:
        from infra.db.work import view

        code = view.logs(session, follow=follow, tail=tail)
    _end(code)


@task(help={"command": "Run this one command instead, like 'SELECT 1' or '\\dt'."})
def shell(_: Context, command: str = "") -> None:
    """Open psql on the database; input that is piped in is run instead."""
    with _session() as session:
        from infra.db.work import view

        code = view.shell(session, command)
    _end(code)


@task(help={"json": JSON})
def tables(_: Context, json: bool = False) -> None:
    """List the tables with their sizes and comments."""
    with _session(as_json=json) as session:
        from infra.db.work import view

        view.tables(session, as_json=json)


@task(positional=["table"], help={"table": "Its name, like faces or public.faces.", "json": JSON})
def describe(_: Context, table: str, json: bool = False) -> None:
    """Show a table: columns, indexes, keys, checks, triggers, policies."""
    with _session(as_json=json) as session:
        from infra.db.work import view

        view.describe(session, table, as_json=json)


@task(help={"password": "Show the password too."})
def url(_: Context, password: bool = False) -> None:
    """Print the connection URL, the password masked unless asked for."""
    with _session(only_result=True) as session:
        from infra.db.work import view

        session.console.result(view.url(session, show_password=password))


@task(help={"json": JSON})
def doctor(_: Context, json: bool = False) -> None:
    """Check everything that a run needs, and name the mend for each fault; starts and changes nothing."""
    with _boundary(as_json=json) as console:
        from infra.db.work.diagnose import diagnose

        code = diagnose(console, ROOT, lambda: _settings({}))
    if code:
        raise Exit(code=code)


@task(help={"out": "The file to write (default: BACKUP_DIR/<database>-<utc time>.dump); it must not exist."})
def backup(_: Context, out: str = "") -> None:
    """Take a backup of the database in pg_dump's custom format, and read it back."""
    with _session() as session:
        from infra.db.work import keep

        typed = keep.save(session, out)
        session.console.done("The backup is complete.", (f"invoke db.restore {typed}", "put it back"))


@task(positional=["file"], help={"file": "A backup that db.backup made, like backups/x.dump.", "yes": YES})
def restore(_: Context, file: str, yes: bool = False) -> None:
    """Replace everything in the database by a backup, in one transaction, after a typed confirmation."""
    with _session() as session:
        from infra.db.work import keep

        held = keep.put_back(session, file, yes=yes)
        session.console.done(
            f"Restored {held.tables} tables into {session.where}.",
            ("invoke migrate-status", "see every file and its state"),
        )


@task(help={"check": "Change nothing; exit with 4 when the description is stale."})
def docs(_: Context, check: bool = False) -> None:
    """Write table descriptions and the ER diagram into infra/migrations/README.md from the live schema."""
    with _session() as session:
        from infra.db.work import view

        file = view.document(session, check=check)
        session.console.done(f"{file} describes the database as it is.")


@task(name="test", help={"only": "Only the tests whose names match, like 'drift and not docker' (pytest's -k)."})
def suite(_: Context, only: str = "") -> None:
    """For work on this tool: play the tests, as CI does."""
    _develop("pytest", *(("-k", only) if only else ()))


@task
def lint(_: Context) -> None:
    """For work on this tool: look over the Python code, its format and its types."""
    _develop("ruff", "check", ".")
    _develop("ruff", "format", "--check", ".")
    _develop("mypy")


@task(help={"schema": "The tables and their queries, instead of the runs beside other tools; takes most of an hour."})
def bench(_: Context, schema: bool = False) -> None:
    """For work on this tool: measure, and print a table for the README."""
    _develop("tests.benchmarks.schema" if schema else "tests.benchmarks.run")


@task(name="docs")
def pictures(_: Context) -> None:
    """For work on this tool: draw the README's pictures of the terminal anew."""
    _develop("tests.screens")


@contextlib.contextmanager
def _session(
    override: Mapping[str, str] | None = None, *, as_json: bool = False, only_result: bool = False
) -> Iterator[Session]:
    """Wire the objects of one task."""
    with _boundary(as_json=as_json, only_result=only_result) as console:
        from infra.db.session import Session  # `invoke --list` needs none of this

        settings = _settings(override or {})
        console.secret = settings.password
        session = Session(console, settings)
        with contextlib.closing(session):
            yield session


@contextlib.contextmanager
def _boundary(*, as_json: bool = False, only_result: bool = False) -> Iterator[Console]:
    """Be the one place where a failure becomes words and an exit code."""
    from infra.db import errors
    from infra.db.console import Console

    console = Console(as_json=as_json, only_result=only_result)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # one way to be interrupted
    try:
        yield console
    except errors.ToolError as error:
        console.error(error)
        raise Exit(code=error.exit_code) from None
    except KeyboardInterrupt:
        console.error(errors.Cancelled())
        raise Exit(code=errors.Cancelled.exit_code) from None
    except Exception:  # noqa: BLE001 - a bug, shown without its secrets
        console.crash(console.secret)
        raise Exit(code=1) from None


def _end(code: int) -> None:
    """End with a program's exit code; after success, further tasks on the same line follow."""
    if code:
        raise Exit(code=code)


def _with_next(slip: ParseError) -> str:
    """Add what to type next to Invoke's words about a flag or task that it does not know, or a word that is missing."""
    task = f"--help {slip.context.name}" if slip.context and slip.context.name else "--list"
    return f"{Exception.__str__(slip)}\nNothing was done.\nNext: invoke {task}"


def _develop(module: str, *words: str) -> None:
    """Run a Python program of the extras "test" or "lint" on the terminal, as if it had been typed."""
    _end(subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False).returncode)


def _settings(override: Mapping[str, str]) -> Settings:
    from infra.db.settings import read

    file = ROOT / ".env"
    return read({**os.environ, **override}, root=ROOT, dotenv=_said_in(file) if file.is_file() else {})


def _said_in(file: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values

    from infra.db.errors import DotenvNotUtf8

    try:
        return dotenv_values(file, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DotenvNotUtf8 from None


ParseError.__str__ = _with_next  # type: ignore[assignment] # Invoke prints it, and has no setting for its words

ns = Collection(
    migrate,
    migrate_status,
    migrate_rollback,
    migrate_reset,
    migrate_new,
    migrate_squash,
    migrate_rehearse,
    migrate_verify,
    migrate_resolve,
    migrate_baseline,
    migrate_lint,
)
ns.add_collection(Collection("db", up, down, wait, logs, shell, tables, describe, url, backup, restore, doctor, docs))
ns.add_collection(Collection("dev", suite, lint, bench, pictures))  # listed last, after all that users need
