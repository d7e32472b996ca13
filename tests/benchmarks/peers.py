"""The tools that are compared: how each is installed, what it is given, how it migrates and tells the status.

Each is used as its own documentation shows it, with the settings it has by itself and the quickest way to start it
(dbmate's binary rather than its script, the real psql for sqitch rather than Debian's wrapper). Alembic and pgmigrate
then put all files of a run into one transaction, sqitch runs one psql for each file, the others commit each file.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from infra.db import errors, settings
from infra.db.servers.container import find_engine
from tests import postgres, project, standin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from docker import DockerClient

    from tests.postgres import Dsn
    from tests.project import Project

OURS = ("external", "embedded", "docker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool on a server.

    Attributes:
        name: with its version, for the table.
        server: where its databases are.
        migrate: its command; `{folder}`, `{database}`, `{url}` and `{words}` (libpq's) are filled in for each run.
        status: likewise.
        again: likewise, its command when there is nothing to do; empty when that is `migrate`.
        write: puts SQL files into a folder in the form that it wants.
        root: where its commands run; the folder of its files, when None.
        variables: its environment on top of libpq's PG* variables, filled in likewise.
        forget: SQL that drops its own tables, so that databases can be compared.
        copies: whether its files may have rows of COPY in them.

    """

    name: str
    server: Dsn
    migrate: Sequence[str]
    status: Sequence[str]
    write: Callable[[Path, Sequence[Path]], None]
    root: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    again: Sequence[str] = ()
    forget: str = ""
    copies: bool = False

    def command(self, words: Sequence[str], folder: Path, database: str) -> Command:
        """Return one of its commands for a folder and a database."""
        here = self.server
        values = {
            "folder": str(folder),
            "database": database,
            "words": here.url(database),
            "url": f"postgresql://{here.user}:{here.password}@{here.host}:{here.port}/{database}",
        }
        env = here.environment(database)
        env["PATH"] = f"{here.programs}{os.pathsep}{env['PATH']}"
        env["PYTHONDONTWRITEBYTECODE"] = ""  # whatever this machine says
        more = {name: text.format_map(values) for name, text in self.variables.items()}
        return Command([word.format_map(values) for word in words], self.root or folder, {**env, **more})


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, where, with which environment."""

    argv: list[str]
    folder: Path
    env: dict[str, str]


class LeftOutError(Exception):
    """A tool cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What installing needs.

    Attributes:
        cache: where downloads stay from run to run.
        server: the one that all are measured on, but for our embedded one and Docker.
        stack: what is to be undone at the end.

    """

    cache: Path
    server: Dsn
    stack: ExitStack


# -- putting files where a tool wants them -----------------------------------------------------------------------------


def as_they_are(folder: Path, sources: Sequence[Path]) -> None:
    """Copy them."""
    for source in sources:
        shutil.copyfile(source, folder / source.name)


def wrapped(source: Path, target: Path, before: str = "", after: str = "") -> None:
    """Copy one as a stream, with something before and after it."""
    with source.open("rb") as text, target.open("wb") as file:
        file.write(before.encode())
        shutil.copyfileobj(text, file)
        file.write(after.encode())


def for_psql(folder: Path, sources: Sequence[Path]) -> None:
    """One script that includes all files, and the files."""
    as_they_are(folder, sources)
    (folder / "all.psql").write_text("".join(f"\\ir {source.name}\n" for source in sources), encoding="utf-8")


def for_dbmate(folder: Path, sources: Sequence[Path]) -> None:
    """Each file with dbmate's mark at its top."""
    for source in sources:
        wrapped(source, folder / source.name, "-- migrate:up\n", "\n-- migrate:down\n")


def for_pgmigrate(folder: Path, sources: Sequence[Path]) -> None:
    """In a folder `migrations`, named V001__name.sql."""
    (folder / "migrations").mkdir()
    for source in sources:
        number, _, name = source.name.partition("_")
        shutil.copyfile(source, folder / "migrations" / f"V{number}__{name}")


def for_alembic(folder: Path, sources: Sequence[Path]) -> None:
    """A revision in Python beside each file, which reads it."""
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n", encoding="utf-8")
    (folder / "env.py").write_text(ALEMBIC_ENVIRONMENT, encoding="utf-8")
    (folder / "versions").mkdir()
    before = None
    for source in sources:
        number = source.name.partition("_")[0]
        shutil.copyfile(source, folder / "versions" / source.name)
        revision = f"revision, down_revision = {number!r}, {before!r}\n{ALEMBIC_REVISION}"
        (folder / "versions" / source.name).with_suffix(".py").write_text(revision, encoding="utf-8")
        before = number


ALEMBIC_ENVIRONMENT = """\
import os
from alembic import context
from sqlalchemy import create_engine, pool

with create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ALEMBIC_REVISION = """\
from pathlib import Path
from alembic import op

def upgrade():
    sql = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(sql)
"""


def for_sqitch(folder: Path, sources: Sequence[Path]) -> None:
    """A plan, and each file in a transaction, as sqitch's template has it."""
    (folder / "deploy").mkdir()
    (folder / "sqitch.conf").write_text("[core]\n\tengine = pg\n", encoding="utf-8")
    changes = [f"{source.stem} 2026-01-01T00:00:00Z B <b@example.com> # b\n" for source in sources]
    (folder / "sqitch.plan").write_text("%syntax-version=1.0.0\n%project=b\n\n" + "".join(changes), encoding="utf-8")
    for source in sources:
        wrapped(source, folder / "deploy" / source.name, "BEGIN;\n", "\nCOMMIT;\n")


# -- the tools ---------------------------------------------------------------------------------------------------------


def external(kitchen: Kitchen) -> Peer:
    """Ours on the server of all."""
    at = kitchen.server
    copied = project.copy(
        _folder(kitchen) / "external",
        DB_SERVER="external",
        DB_HOST=at.host,
        DB_PORT=str(at.port),
        DB_PASSWORD=at.password,
    )
    return _ours("this tool, external", at, copied)


def embedded(kitchen: Kitchen) -> Peer:
    """Ours on its own embedded server."""
    return _with_server(kitchen, "this tool, embedded", project.copy(_folder(kitchen) / "embedded"), "embedded")


def docker(kitchen: Kitchen) -> Peer:
    """Ours on a container, of the real image where it is there, else of the stand-in."""
    copied, _ = docker_project(kitchen)
    return _with_server(kitchen, "this tool, Docker", copied, "docker")


def docker_project(kitchen: Kitchen) -> tuple[Project, DockerClient]:
    """Return a checkout for Docker, with a compose project of its own, and the engine; nothing is started.

    Raises:
        LeftOutError: no engine answers.

    """
    try:
        client = find_engine(settings.read(dict(os.environ), root=project.TOP, dotenv={})).client
    except errors.EngineUnavailable as error:
        raise LeftOutError(str(error)) from None
    kitchen.stack.callback(client.close)
    image = "" if client.images.list(standin.REAL) else standin.image(client)
    copied = project.copy(
        _folder(kitchen) / "docker",
        image=image,
        DB_SERVER="docker",
        DB_PORT=str(postgres._free_port()),
        DB_NAME="mordeaux",
        COMPOSE_PROJECT_NAME=f"benchmark-{secrets.token_hex(4)}",
    )
    return copied, client


def _with_server(kitchen: Kitchen, name: str, copied: Project, kind: str) -> Peer:
    copied.settings.update({"DB_SERVER": kind, "DB_PORT": copied.settings.get("DB_PORT", str(postgres._free_port()))})
    if (done := copied.invoke("db.up")).code:
        raise LeftOutError(done.err)
    kitchen.stack.callback(copied.invoke, "db.down", "--volumes", "--yes")
    port = int(copied.settings["DB_PORT"])
    server = replace(kitchen.server, port=port, user="postgres", password="postgres")
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    return _ours(name, server, copied)


def _ours(name: str, server: Dsn, copied: Project) -> Peer:
    return Peer(
        name=name,
        server=server,
        migrate=copied.command("migrate"),
        status=copied.command("migrate-status"),
        write=as_they_are,
        root=copied.root,
        variables={**copied.settings, "DB_NAME": "{database}", "MIGRATIONS_DIR": "{folder}"},
        forget="DROP TABLE public.schema_migrations",
        copies=True,
    )


def psql(kitchen: Kitchen) -> Peer:
    """The floor: one psql, one transaction, no history; an empty query stands for nothing to do, and for the status."""
    program = str(kitchen.server.programs / "psql")
    quiet = [program, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    return Peer(
        name="floor: psql -1",
        server=kitchen.server,
        migrate=[*quiet, "--single-transaction", "--file=all.psql"],
        status=[*quiet, "--command="],
        again=[*quiet, "--command="],
        write=for_psql,
        copies=True,
    )


def invoke(kitchen: Kitchen) -> Peer:
    """The floor of doing nothing in Invoke: `invoke --list` of an empty tasks.py."""

    def write(folder: Path, sources: Sequence[Path]) -> None:  # noqa: ARG001 - as the others
        (folder / "tasks.py").touch()

    nothing = ["sh", "-c", f"{shlex.quote(sys.executable)} -m invoke --list || true"]  # it ends with 1: no tasks
    return Peer(name="floor: invoke --list", server=kitchen.server, migrate=nothing, status=nothing, write=write)


def dbmate(kitchen: Kitchen) -> Peer:
    """Dbmate, a Go program, in a package of npm."""
    folder = _made(kitchen.cache / "dbmate", ["npm", "init", "--yes"], ["npm", "install", "dbmate"])
    binary = next(folder.glob("node_modules/@dbmate/*/bin/dbmate"))
    version = json.loads((folder / "node_modules" / "dbmate" / "package.json").read_text(encoding="utf-8"))["version"]
    base = [str(binary), "--url={url}?sslmode=disable", "--migrations-dir={folder}", "--no-dump-schema"]
    return Peer(
        name=f"dbmate {version}",
        server=kitchen.server,
        migrate=[*base, "migrate"],
        status=[*base, "status"],
        write=for_dbmate,
        forget="DROP TABLE public.schema_migrations",
    )


def yoyo(kitchen: Kitchen) -> Peer:
    """Yoyo, in Python."""
    programs, version = _python(kitchen, "yoyo-migrations", "psycopg2-binary", "setuptools")
    base = ["--batch", "--no-config-file", "--database={url}", "{folder}"]
    return Peer(
        name=f"yoyo {version}",
        server=kitchen.server,
        migrate=[f"{programs}/yoyo", "apply", *base],
        status=[f"{programs}/yoyo", "list", *base],
        write=as_they_are,
        forget="DROP TABLE _yoyo_log, _yoyo_migration, _yoyo_version, yoyo_lock",
    )


def alembic(kitchen: Kitchen) -> Peer:
    """Alembic, in Python."""
    programs, version = _python(kitchen, "alembic", "psycopg[binary]")
    return Peer(
        name=f"Alembic {version}",
        server=kitchen.server,
        migrate=[f"{programs}/alembic", "upgrade", "head"],
        status=[f"{programs}/alembic", "history", "--indicate-current"],
        write=for_alembic,
        variables={"DATABASE_URL": "{url}"},
        forget="DROP TABLE alembic_version",
    )


def pgmigrate(kitchen: Kitchen) -> Peer:
    """Yandex's pgmigrate, in Python."""
    programs, version = _python(kitchen, "yandex-pgmigrate", "psycopg2-binary")
    base = [f"{programs}/pgmigrate", "--conn={words}", "--base_dir={folder}", "--target=latest"]
    return Peer(
        name=f"pgmigrate {version}",
        server=kitchen.server,
        migrate=[*base, "migrate"],
        status=[*base, "info"],
        write=for_pgmigrate,
        forget="DROP TABLE schema_version; DROP TYPE schema_version_type",
    )


def sqitch(kitchen: Kitchen) -> Peer:
    """Sqitch, in Perl: Debian's packages are unpacked into the cache, so that nothing is installed."""
    folder = kitchen.cache.resolve() / "sqitch"
    options = ["-oDebug::NoLocking=1", f"-oDir::Cache::archives={folder}", "--reinstall", "--no-install-recommends"]
    download = ["apt-get", "install", "--download-only", "--yes", *options, "sqitch", "libdbd-pg-perl"]
    unpack = "for package in *.deb; do dpkg-deb --extract $package root; done"
    root = _made(folder, ["mkdir", "partial"], download, ["sh", "-c", unpack]) / "root"
    libraries = [root / "usr/share/perl5", *root.glob("usr/lib/*/perl5/5.*")]
    program = ["perl", "-CAS", str(root / "usr/bin/sqitch")]
    variables = {
        "PERL5LIB": os.pathsep.join(map(str, libraries)),
        "SQITCH_CONFIG": os.devnull,
        "SQITCH_FULLNAME": "B",
        "SQITCH_EMAIL": "b@example.com",
        "LANG": "C.UTF-8",
    }
    env = {**os.environ, **variables}
    said = subprocess.run([*program, "--version"], env=env, capture_output=True, text=True, check=True).stdout
    return Peer(
        name=f"sqitch {said.split()[-1].lstrip('v')}",
        server=kitchen.server,
        migrate=[*program, "deploy", "db:{url}"],
        status=[*program, "status", "db:{url}"],
        write=for_sqitch,
        variables=variables,
        forget="DROP SCHEMA sqitch CASCADE",
        copies=True,
    )


PEERS: dict[str, Callable[[Kitchen], Peer]] = {
    each.__name__: each for each in (external, embedded, docker, psql, invoke, dbmate, alembic, pgmigrate, yoyo, sqitch)
}


def _folder(kitchen: Kitchen) -> Path:
    """Return a new folder that the unprivileged account can enter which runs the embedded server for root."""
    folder = kitchen.cache / f"checkout-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o755)
    kitchen.stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _python(kitchen: Kitchen, *packages: str) -> tuple[Path, str]:
    """Install packages into a virtual environment of their own; its programs, and the version of the first."""
    folder = kitchen.cache / packages[0]
    python = str(folder / "bin" / "python")
    _made(folder, [sys.executable, "-m", "venv", "."], [python, "-m", "pip", "install", *packages])
    ask = f"import importlib.metadata as m; print(m.version({packages[0]!r}))"
    said = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    return folder / "bin", said.strip()


def _made(folder: Path, *commands: list[str]) -> Path:
    """Return a folder that commands fill, which run the first time only.

    Raises:
        LeftOutError: one failed; nothing of the folder stays.

    """
    if not folder.is_dir():
        folder.mkdir()
        try:
            for argv in commands:
                subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(folder)
            raise LeftOutError(f"{error} {getattr(error, 'stderr', '')}") from None
    return folder


def install(names: Sequence[str], kitchen: Kitchen) -> Iterator[tuple[str, Peer | str]]:
    """Yield each tool by its name, or why it cannot be had here."""
    for name in names:
        try:
            yield name, PEERS[name](kitchen)
        except (LeftOutError, standin.UnavailableError, StopIteration, OSError, subprocess.CalledProcessError) as error:
            yield name, " ".join(str(error).split())
