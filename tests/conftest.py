"""The servers that the stories are played on: one of each kind for the session, a fresh database for each test."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from infra.db import errors, settings
from infra.db.servers.container import find_engine
from tests import postgres, project, standin
from tests.systems import UMLAUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient

    from tests.postgres import Dsn
    from tests.project import Project

# A shell that runs the suite in the background ignores Ctrl-C, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What our own servers are made with: works everywhere, and `Project.invoke` finds it in any output.
PASSWORD = f"p@ss:w/o\"r'd %$\\{UMLAUT}"
MOST_WORKERS = 8  # each has servers of its own
REQUIRED = os.environ.get("REQUIRE_DOCKER") == "1"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Play all tests on all processors; those that were named, without the detour, so that --pdb and -s work."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(os.cpu_count() or 1, MOST_WORKERS) if everything else 0


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody has, below the range of outgoing connections."""
    for _ in range(100):
        port = 20000 + secrets.randbelow(12000)
        if not answers(port):
            return port
    raise AssertionError("no free port")


@pytest.fixture(scope="session")
def docker_client() -> Iterator[DockerClient]:
    """A real Docker engine; without one the test is skipped, or, where REQUIRE_DOCKER=1, fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DB_")}
    try:
        # Our own search, because the SDK leaves a socket open when nobody answers.
        client = find_engine(settings.read(plain, root=project.TOP, dotenv={})).client
    except errors.EngineUnavailable as error:
        if REQUIRED:
            pytest.fail(f"REQUIRE_DOCKER=1, but no Docker engine answers: {error}")
        pytest.skip("no Docker engine answers here; start one to run this test (REQUIRE_DOCKER=1 makes it a failure)")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(docker_client: DockerClient) -> str:
    """The stand-in for pgvector/pgvector:pg18."""
    try:
        return standin.image(docker_client)
    except RuntimeError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def private() -> Iterator[Dsn]:
    """A PostgreSQL of the tests' own, which is `external` to the project."""
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def external_project(private: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout that uses an external server."""
    return project.copy(
        tmp_path_factory.mktemp("external") / "checkout",
        DB_SERVER="external",
        DB_HOST="127.0.0.1",
        DB_PORT=str(private.port),
        DB_PASSWORD=private.password,
    )


def quick(server: Project) -> None:
    """Let a server that lives as long as the suite not wait for the disk, and log only what a test makes it log.

    A killed process loses nothing by that.
    """
    with replace(server, settings={**server.settings, "DB_NAME": "postgres"}).connect() as connection:
        for setting in ("fsync", "full_page_writes", "autovacuum", "log_checkpoints"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def embedded_project() -> Iterator[Project]:
    """A checkout that uses the embedded server."""
    with open_folder() as folder:
        made = project.copy(folder / "checkout", DB_SERVER="embedded", DB_PORT=str(free_port()), DB_PASSWORD=PASSWORD)
        done = made.invoke("db.up")
        assert done.code == 0, done
        quick(made)
        yield made
        done = made.invoke("db.down", "--volumes", "--yes")
        assert done.code == 0, done


@pytest.fixture(scope="session")
def docker_project(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A checkout that uses Docker."""
    made = project.copy(
        tmp_path_factory.mktemp("docker") / "checkout",
        image=image,
        DB_SERVER="docker",
        DB_PORT=str(free_port()),
        DB_PASSWORD=PASSWORD,
        COMPOSE_PROJECT_NAME=f"test-{secrets.token_hex(4)}",
    )
    done = made.invoke("db.up")
    assert done.code == 0, done
    quick(made)
    yield made
    done = made.invoke("db.down", "--volumes", "--yes")
    assert done.code == 0, done


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that the unprivileged account which runs PostgreSQL for root can enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="test-project-", dir="/tmp" if postgres.AS_ROOT else None) as name:
        if postgres.AS_ROOT:
            Path(name).chmod(0o755)
        yield Path(name).resolve()  # as the tool names it: macOS has links in it, Windows short names


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[Project], Project]:
    """Return a function that gives a project a fresh database and an empty migrations folder."""

    def make(base: Project) -> Project:
        name = f"test_{secrets.token_hex(5)}"
        with replace(base, settings={**base.settings, "DB_NAME": "postgres"}).connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        folders = {"MIGRATIONS_DIR": str(tmp_path / "migrations"), "BACKUP_DIR": str(tmp_path / "backups")}
        made = replace(base, settings={**base.settings, "DB_NAME": name, **folders})
        made.folder.mkdir()
        return made

    return make


@pytest.fixture(params=["embedded", "docker"])
def anywhere(request: pytest.FixtureRequest, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database, on the embedded server and on Docker: both play the same stories."""
    return fresh(request.getfixturevalue(f"{request.param}_project"))


@pytest.fixture
def external(external_project: Project, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database on an external server."""
    return fresh(external_project)
