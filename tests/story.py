"""Every task, typed in an order in which each has something to do; for what must hold whatever is typed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

KNOWN = {name for name in tasks.ns.task_names if not name.startswith("dev.")}  # those touch no database


@dataclass(frozen=True, slots=True)
class Row:
    """One command of the story.

    Attributes:
        line: what is typed after `invoke`.
        code: what it exits with; None for anything but a crash.
        before: done to the checkout first.

    """

    line: str
    code: int | None = 0
    before: Callable[[Project], object] = id

    @property
    def task(self) -> str:
        """The task's name."""
        return self.line.split()[0]


def written(name: str, sql: str) -> Callable[[Project], object]:
    """Return what writes a migration file."""
    return lambda here: here.write(name, sql)


def removed(name: str) -> Callable[[Project], object]:
    """Return what removes a migration file."""
    return lambda here: (here.folder / name).unlink()


def first(here: Project) -> None:
    """Replace the template by a file that says something."""
    for file in here.folder.glob("*.sql"):
        file.unlink()
    here.write("001_one.sql", "CREATE TABLE one (i int PRIMARY KEY);")


def committed(here: Project) -> None:
    """Give the files to git, which alone keeps what a squash replaces."""
    me = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for words in (("init", "--quiet"), ("add", "--force", here.folder), (*me, "commit", "--quiet", "--message=all")):
        subprocess.run(["git", *words], cwd=here.root, check=True)


DOWN = written("001_one.down.sql", "DROP TABLE one;")
BAD = written("003_bad.sql", "SELECT 1;\nSELECT 1/0;")

# In this order on each server; a task that is not there (yet) is left out.
STORY = (
    Row("db.wait --timeout 20"),
    Row("db.doctor", None),
    Row("migrate-new first"),
    Row("migrate-status", 2),  # the template says nothing yet
    Row("migrate --plan", before=first),
    Row("migrate --backup", before=DOWN),
    Row("migrate --json"),
    Row("migrate-status"),
    Row("migrate-status --check --json", 7, before=written("002_two.sql", "CREATE TABLE two (i int);")),
    Row("migrate-lint --all"),
    Row("migrate-rehearse"),
    Row("migrate --single --backup"),
    Row("migrate-verify"),
    Row("migrate", 3, before=BAD),
    Row("migrate --json", 3),
    Row("migrate-resolve 003 --applied"),
    Row("migrate-resolve 003 --pending"),
    Row("migrate-resolve 003", 2),
    Row("migrate-status", before=removed("003_bad.sql")),
    Row("migrate-baseline"),
    Row("migrate", 4, before=written("002_two.sql", "CREATE TABLE edited (i int);")),
    Row("migrate-resolve 002 --applied", before=written("002_two.down.sql", "DROP TABLE two;")),
    Row("migrate-rollback --plan"),
    Row("migrate-rollback --yes"),
    Row("db.docs"),
    Row("db.docs --check"),
    Row("db.tables"),
    Row("db.tables --json"),
    Row("db.describe one"),
    Row("db.shell --command SELECT"),
    Row("db.logs --tail 50", None),
    Row("db.backup --out by-hand.dump"),
    Row("db.restore by-hand.dump --yes"),
    Row("db.url"),
    Row("migrate-reset"  , 4),  # nobody says yes
    Row("migrate-reset --yes"),
    Row("migrate-squash --to 002", before=committed),
)  # fmt: skip
LAST = (Row("db.up"), Row("db.down"), Row("db.down --volumes --yes"))
EACH = [replace(row, before=id) for row in {row.task: row for row in (*STORY, *LAST)}.values()]  # for the failures
