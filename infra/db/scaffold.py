"""New files: the next pair of a folder, and another number for a pair whose number is taken.

Numbers of other branches count as taken when the folder is in a git checkout; a machine without git just does not know
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.db.errors import GitFailed, NameUnusable, NotAPair
from infra.db.git import git
from infra.db.migration import FILE_NAME, checksum

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.db.history import Applied

DIGITS = 3  # of a version, as long as they suffice
LONGEST_NAME = 100  # characters; a file name may have 255 bytes, and git's index on Windows less in deep folders
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

UP = """\
{directive}-- What this changes, and why:
--
-- {how}
-- Locks: ALTER TABLE keeps everybody else from the table until the end of this file, so keep the file short.
-- An index on a large table: CREATE INDEX CONCURRENTLY in a file of its own (migrate-new NAME --no-transaction).
-- A longer wait for a lock: "-- migrate: lock-timeout 30s" at the top. Lint: "-- migrate: allow RULE reason".
-- Describe new tables and columns by COMMENT ON ... IS '...'; invoke db.docs makes the documentation of it.

"""
DOWN = """\
{directive}-- Takes back what {label}.sql does, for invoke migrate-rollback. Try both ways:  invoke migrate-rehearse

"""
IN_TRANSACTION = "It runs in one transaction, together with its row in the history: write no BEGIN and no COMMIT."
ALONE = "It runs without a transaction: what has run stays when a later statement fails, so one statement is best."


@dataclass(frozen=True, slots=True)
class Taken:
    """A file of another branch.

    Attributes:
        name: the file's name.
        branch: a branch that has it.

    """

    name: str
    branch: str


def snake_case(words: str) -> str:
    """Return a name for a file, like add_face_landmarks for AddFaceLandmarks or `add face-landmarks`.

    Raises:
        NameUnusable: nothing is left, it is too long, or it holds what not every file system can carry.

    """
    name = "_".join(WORD.findall(words.removesuffix(".sql"))).lower()
    if not name or len(name) > LONGEST_NAME or not re.fullmatch(r"[\w\s.-]+", words, re.ASCII):
        raise NameUnusable(words, LONGEST_NAME)
    return name


def next_version(folder: Path, elsewhere: Sequence[Taken]) -> str:
    """Return the number after the highest one, here and on other branches, with as many digits as its neighbours."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    versions = [found["version"] for name in [*names, *(taken.name for taken in elsewhere)] if (found := _named(name))]
    return str(max(map(int, versions), default=0) + 1).zfill(max(map(len, versions), default=DIGITS))


def create(folder: Path, label: str, *, transaction: bool) -> tuple[Path, Path]:
    """Write a new pair from the template; an existing file is never overwritten.

    Args:
        folder: made when it is not there.
        label: version_name.
        transaction: False for statements that PostgreSQL does not run in one.

    """
    directive = "" if transaction else "-- migrate: no-transaction\n"
    texts = {
        f"{label}.sql": UP.format(directive=directive, how=IN_TRANSACTION if transaction else ALONE),
        f"{label}.down.sql": DOWN.format(directive=directive, label=label),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    up, down = texts
    return folder / up, folder / down


def renumber(folder: Path, name: str, version: str) -> list[tuple[Path, Path]]:
    """Give a file, and its down script with it, another number; by git where git tracks it.

    Returns:
        Old and new path of each.

    """
    old = _named(name)
    if old is None or old["down"] or not (folder / name).is_file():
        raise NotAPair(name)
    moves = [
        (folder / f"{old['version']}_{old['name']}{end}", folder / f"{version}_{old['name']}{end}")
        for end in (".sql", ".down.sql")
    ]
    there = [(source, target) for source, target in moves if source.is_file()]
    for source, target in there:
        if git(folder, "ls-files", "--error-unmatch", "--", source.name) is None:
            source.rename(target)
        elif git(folder, "mv", "--", source.name, target.name) is None:
            raise GitFailed(str(folder), f"mv {source.name} {target.name}")
    return there


def elsewhere(folder: Path) -> list[Taken]:
    """Return the migrations of local and remote-tracking branches that are not in the folder, newest branch first."""
    refs = git(
        folder,
        "for-each-ref",
        "--sort=-committerdate",
        "--format=%(objectname) %(refname:short)",
        "refs/heads",
        "refs/remotes",
    )
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found: dict[str, Taken] = {}
    seen: set[str] = set()
    for commit, _, branch in (line.partition(" ") for line in (refs or "").splitlines()):
        if commit in seen:
            continue
        seen.add(commit)
        listed = git(folder, "ls-tree", "--name-only", "-z", commit, "./") or ""
        for name in (path.rpartition("/")[2] for path in listed.split("\0")):
            if name not in here and (named := _named(name)) and not named["down"]:
                found.setdefault(name, Taken(name, branch))
    return list(found.values())


def applied(file: Path, rows: Sequence[Applied]) -> str:
    """Return when and by whom a file was applied; empty when it was not.

    Args:
        file: a migration; it need not be there.
        rows: the history; a row of its number is this file's when it has its name, or else its text (a renamed file).

    """
    named = _named(file.name)
    if named:
        for row in rows:
            if row.number == int(named["version"]) and (row.name == named["name"] or _was(row, file)):
                return row.since
    return ""


def _was(row: Applied, file: Path) -> bool:
    return row.checksum == checksum(file) and not file.with_name(f"{row.label}.sql").exists()


def _named(name: str) -> re.Match[str] | None:
    return FILE_NAME.fullmatch(name)
