"""The folder of the migrations: new files, another number, many files into one, and what they would lock or break."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

from infra.db import catalogue, database, errors, git, migration, plan, review, scaffold, squash, staging
from infra.db.history import History
from infra.db.work import throwaway

if TYPE_CHECKING:
    from pathlib import Path

    from infra.db.session import Session

SQUASHED_AT_LEAST = 2


def new(session: Session, name: str, *, transaction: bool) -> tuple[str, ...]:
    """Create the next pair of files; their names."""
    folder, words = session.given.migrations_dir, scaffold.snake_case(name)
    elsewhere = scaffold.elsewhere(folder)
    version = scaffold.next_version(folder, elsewhere)
    _tell_taken(session, folder, elsewhere)
    made = scaffold.create(folder, f"{version}_{words}", transaction=transaction)
    return tuple(session.given.shown(path) for path in made)


def renumber(session: Session, name: str) -> list[str]:
    """Move a pair that is not applied to the next free number; what became of each file."""
    folder = session.given.migrations_dir
    name = name.replace("\\", "/").rpartition("/")[2]
    if since := scaffold.applied(folder / name, session.history().rows):
        raise errors.AppliedAlready(name, since)
    elsewhere = scaffold.elsewhere(folder)
    _tell_taken(session, folder, elsewhere)
    moved = scaffold.renumber(folder, name, scaffold.next_version(folder, elsewhere))
    return [f"{session.given.shown(old)} is now {new.name}" for old, new in moved]


def _tell_taken(session: Session, folder: Path, elsewhere: list[scaffold.Taken]) -> None:
    """Say which branches took the numbers that are skipped."""
    free = int(scaffold.next_version(folder, ()))
    for taken in elsewhere:
        if int(taken.name.partition("_")[0]) >= free:
            session.console.say(f"{taken.name} is taken on the branch {taken.branch}.", "yellow")


def squash_up_to(session: Session, to: str) -> tuple[str, int]:
    """Put one file in the place of all up to a version, proven to make the same; its name, and how many went."""
    if not to:
        raise errors.UpToWhich
    migrator, folder = session.migrator(), session.settings.migrations_dir
    last = plan.find(migrator.compare(History()).entries, to)
    files = [file for file in migrator.files if file.number <= int(last.version)]
    if len(files) < SQUASHED_AT_LEAST:
        raise errors.NothingToSquash(last.label)
    names = [path.name for file in files for path in (file.path, file.down_path) if path]
    if lost := git.uncommitted(folder, names):
        raise errors.NotCommitted(lost, session.migrations)
    connected = session.ready()
    database.refuse_unfit(connected.facts(), session.settings)
    made = folder / f"{files[-1].version}_{squash.NAME}.sql"
    with staging.folder() as here:
        trial = here / made.name
        with throwaway.applied(session, connected, "migrate-squash", files) as one:
            wanted = catalogue.dump(one.programs, one.database, squash.ARGUMENTS)
            roles, major = squash.roles(one.database), one.database.facts().version // 10000
            trial.write_text(squash.compose(files, wanted, roles, major), encoding="utf-8", newline="\n")
        alone = migration.read_folder(trial.parent, session.migrations)
        with throwaway.applied(session, connected, "migrate-squash", alone) as other:
            found = catalogue.dump(other.programs, other.database, squash.ARGUMENTS)
        if differences := catalogue.compare(catalogue.split(wanted), catalogue.split(found)):
            raise errors.SquashDiffers(catalogue.readable(differences, wanted="single files", found="one file"))
        if git.git(folder, "rm", "--quiet", "--", *names) is None:
            raise errors.GitFailed(session.migrations, "rm")
        shutil.copyfile(trial, made)
        git.git(folder, "add", "--", made.name)
    return session.settings.shown(made), len(files)


def lint(session: Session, *, every: bool) -> None:
    """Show what the pending files (or all) would lock or break; starts nothing, and works without a server.

    Raises:
        LintFindings: something of it is an error.

    """
    files = session.files()
    try:
        connected = session.running()
        todo = plan.pending(plan.compare(files, connected.history().rows))
        files = files if every else todo
        report = review.look(
            files,
            pending=todo,
            folder=session.migrations,
            server_version=connected.facts().version,
            ask=partial(review.sizes, connected),
        )
    except errors.ServerError as error:
        session.console.say(f"{error.what} {review.UNKNOWN}", "yellow")
        every, report = True, review.look(files, folder=session.migrations)
    session.console.findings(report, len(files), every=every)
    if report.errors:
        raise errors.LintFindings(report.errors)
