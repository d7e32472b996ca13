"""A copy of the project as somebody would have it on disk, and what they type in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from types import TracebackType

TOP = Path(__file__).resolve().parent.parent
OURS = ("DB_", "PG", "COMPOSE_", "MIGRATIONS_DIR", "EMBEDDED_DIR", "BACKUP_", "NO_COLOR", "FORCE_COLOR")
LONG = 12  # characters of a password that no text has by chance


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout with its settings.

    Attributes:
        root: its top folder, with tasks.py.
        settings: the environment variables that its tasks are given.

    """

    root: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its migrations are."""
        return self.root / self.settings.get("MIGRATIONS_DIR", "infra/migrations")

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a task sees: this machine's variables without any of ours, then the project's."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        # What is compiled is kept, whatever this machine says: every task is a new process.
        utf8 = {"PYTHONUTF8": "1"} if sys.platform == "win32" else {}  # what it writes is read as UTF-8 here
        return {**plain, **utf8, "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "", **self.settings, **more}

    def command(self, *words: str) -> list[str]:
        """Return the argv of `invoke WORDS`."""
        return [sys.executable, "-m", "invoke", *words]

    def invoke(self, *words: str, stdin: str = "", **more: str) -> Done:
        """Type `invoke WORDS`."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=self.environment(**more),
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=180,
        )
        out, err = (stream.decode().replace(os.linesep, "\n") for stream in (done.stdout, done.stderr))
        said = Done(done.returncode, out, err)
        secret = self.environment(**more).get("DB_PASSWORD", "")
        # Whatever a story is about, the password is not to be seen in it; a short one may be a word of its own.
        if len(secret) >= LONG and "--password" not in words:
            assert secret not in said.out + said.err, words
        return said

    def start(self, *words: str, **more: str) -> Started:
        """Type it, and do not wait for it."""
        return Started(
            self.command(*words),
            cwd=self.root,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def write(self, name: str, sql: str | bytes) -> Path:
        """Write a migration file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(sql if isinstance(sql, bytes) else sql.encode())
        return path

    def status(self) -> dict[str, str]:
        """Return version -> status, as the tool reports it."""
        done = self.invoke("migrate-status", "--json")
        assert done.code == 0, done
        return {each["version"]: each["status"] for each in json.loads(done.out)["migrations"]}

    def connect(self, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect to its database as its user."""
        return psycopg.connect(
            host=self.settings.get("DB_HOST", "127.0.0.1"),
            port=int(self.settings["DB_PORT"]),
            dbname=self.settings["DB_NAME"],
            user=self.settings.get("DB_USER", "postgres"),
            password=self.settings.get("DB_PASSWORD", "postgres"),
            autocommit=True,
            **more,
        )

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask its database."""
        with self.connect() as connection:
            return connection.execute(query, values or None).fetchall()

    def do(self, statements: str) -> None:
        """Do something to its database behind the tool's back."""
        with self.connect() as connection:
            connection.execute(statements)

    def tables(self) -> set[str]:
        """Name the tables in schema public, the history left out."""
        found = self.rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        return {name for (name,) in found} - {"schema_migrations"}

    def applied(self) -> list[str]:
        """Return the versions in the history, in order; none when there is no history."""
        if self.rows("SELECT to_regclass('public.schema_migrations')") == [(None,)]:
            return []
        found = self.rows("SELECT version FROM schema_migrations WHERE status = 'applied' ORDER BY version::numeric")
        return [version for (version,) in found]


class Started(subprocess.Popen[bytes]):
    """A command that goes on while the test does other things, but never longer than a test that fails around it."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it when the test has failed; else wait for it."""
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, trace)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command.

    Attributes:
        code: its exit code.
        out: its standard output.
        err: its standard error.

    """

    code: int
    out: str
    err: str


def copy(root: Path, *, image: str = "", **settings: str) -> Project:
    """Copy the project's code (no migrations) into a folder.

    Args:
        root: the folder; made.
        image: the image that its compose file names instead of the real one.
        settings: its environment variables.

    """
    ignore = shutil.ignore_patterns("__pycache__", "*.sql")
    shutil.copytree(TOP / "infra", root / "infra", ignore=ignore)
    shutil.copy(TOP / "tasks.py", root)
    shutil.copy(TOP / "pyproject.toml", root)
    if image:
        compose = root / "infra" / "docker-compose.yml"
        text = compose.read_text(encoding="utf-8")
        assert "pgvector/pgvector:pg18" in text
        compose.write_text(text.replace("pgvector/pgvector:pg18", image), encoding="utf-8")
    return Project(root, settings)
