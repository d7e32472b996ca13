"""What a run that stopped has come to: what failed, where, and what state things are in."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from infra.db import errors, psql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.db.migration import Migration
    from infra.db.watch import Run

NOT_IN_TRANSACTION = "25001"  # active_sql_transaction: "... cannot run inside a transaction block"


def failure(step: Migration | None, run: Run, *, folder: str, left: Sequence[str]) -> errors.ToolError:
    """Return what ended a run: the server was lost, or a file failed; see `failed`."""
    error = run.error
    lost = error and (
        error.sqlstate.startswith("57P") or (not error.sqlstate and run.exit_code == psql.CONNECTION_LOST)
    )
    if error and lost:
        doing = f"while running {step.label}" if step else "while committing"
        return errors.ServerLost(f"{error.text} ({doing})", consequence(run))
    return failed(step, run, folder=folder, left=left)


def failed(step: Migration | None, run: Run, *, folder: str, left: Sequence[str] = ()) -> errors.MigrationFailed:
    """Put together what failed, where, and what state things are in.

    Args:
        step: the file that failed; None when it was the one COMMIT of all files.
        run: what psql has said.
        folder: the files', as people type it.
        left: invalid indexes that the file left behind.

    """
    state = consequence(run)
    if left:
        state += f"\nInvalid indexes are left to be dropped: {', '.join(left)}."
    error, line = run.error, None
    if error and step and error.version == step.version:
        line = psql.locate(error, step.text.sql)
    message, hint = _own_words(error) if error else (_without_error(run), "")
    if error and step and not error.version:
        message = f"its statements ran, but it could not be recorded in the history: {message}"
    return errors.MigrationFailed(
        version=step.version if step else None,
        name=step.name if step else None,
        file=f"{folder}/{step.file_name}" + ("" if step.path else " (the history's copy)") if step else None,
        line=line,
        message=message,
        sqlstate=error.sqlstate or None if error else None,
        detail=error.detail or error.context or None if error else None,
        hint=hint or None,
        excerpt=_excerpt(error, step, line) if error and step else "",
        consequence=state,
        undo=run.undoes,
        is_marked=step is not None and not step.directives.transaction,
    )


@contextlib.contextmanager
def answering(run: Run) -> Iterator[None]:
    """Say what a run came to when the server does not answer any more, so that nobody can look."""
    try:
        yield
    except errors.ServerLost as error:
        parts = [consequence(run, sure=False)]
        if run.done and not (run.single and run.running):
            stayed = f"{_span(run.done)} stayed {'undone' if run.undoes else 'applied'}"
            unsure = "all of it was applied" if run.single else stayed
            parts.append(f"Whether {unsure} shows when the server is back.")
        raise errors.ServerLost(error.where.strip(), "\n".join(part for part in parts if part)) from None


def consequence(run: Run, *, sure: bool = True) -> str:
    """Say what state the database is in: the failed file, those before it (if that is sure), those after it."""
    done = run.done if sure and not run.single else []
    parts = []
    if run.ended.startswith("ENDED"):
        parts.append("What it committed by itself stays, and it is not recorded as applied.")
    elif run.running and not run.running.directives.transaction:
        parts.append(
            f"{run.running.version} ran without a transaction: what it had done stays, and it is marked failed."
        )
    elif run.single and (sure or run.running):
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


def _without_error(run: Run) -> str:
    """Say why a run ended although nothing failed."""
    match run.ended.split(" ")[0]:
        case "ENDED":
            return "it ended the transaction it ran in (a COMMIT or ROLLBACK), so nothing protected the rest of it"
        case "MEDDLED":
            return "it changed the history of migrations itself"
    return f"psql stopped without an error message (exit code {run.exit_code})"


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
