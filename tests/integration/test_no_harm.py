"""What looks like ours, but is not, is as it was after every task has been run."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import project
from tests.conftest import free_port, open_folder
from tests.story import KNOWN, LAST, STORY, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from tests.postgres import Dsn
    from tests.project import Project

COMPOSE = "com.docker.compose."
YEARS_AGO = 1_000_000_000  # seconds of the epoch


def play(here: Project, rows: tuple[Row, ...]) -> None:
    """Run those tasks that there are."""
    for row in rows:
        if row.task in KNOWN:
            row.before(here)
            done = here.invoke(*row.line.split())
            assert row.code in (None, done.code), (row.line, done)


# --- databases, schemas, roles ---


def plant_databases(here: Project, made: list[str]) -> Callable[[], object]:
    """Make databases, a schema and a role with names like ours; returns what tells their state."""
    name = here.settings["DB_NAME"]
    maker = replace(here, settings={**here.settings, "DB_NAME": "postgres"})
    own = [f"{name}_old", f"{name}2", f"{name}_scratch_20200101T000000Z_00000000", f"old_{name}"]
    role = f"{name}_invoke"
    made += [f'DROP DATABASE IF EXISTS "{other}" WITH (FORCE)' for other in own] + [f'DROP ROLE IF EXISTS "{role}"']
    maker.do(f'CREATE ROLE "{role}"')
    for other in own:
        maker.do(f'CREATE DATABASE "{other}"')
        maker.do(f"COMMENT ON DATABASE \"{other}\" IS 'mine'")
        there = replace(here, settings={**here.settings, "DB_NAME": other})
        there.do("CREATE SCHEMA app; CREATE TABLE app.one (i int); INSERT INTO app.one VALUES (1)")
        there.do("CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES ('001')")

    def state() -> object:
        databases = maker.rows("SELECT oid, datname FROM pg_database ORDER BY oid")
        roles = maker.rows("SELECT oid, rolname FROM pg_roles ORDER BY oid")
        content = []
        for other in own:
            there = replace(here, settings={**here.settings, "DB_NAME": other})
            content.append(there.rows("SELECT (SELECT i FROM app.one), (SELECT version FROM schema_migrations)"))
        return databases, roles, content

    return state


def schemas(here: Project) -> list[tuple[Any, ...]]:
    """Return the schemas of the database itself and what is in the planted one."""
    return here.rows(
        "SELECT n.oid, nspname, array_agg(relname ORDER BY relname) FROM pg_namespace n"
        " JOIN pg_class c ON c.relnamespace = n.oid WHERE nspname IN ('app', 'one') GROUP BY 1, 2 ORDER BY 1"
    )


# --- files ---


def plant_files(here: Project, temporary: Path) -> dict[Path, tuple[bytes, float]]:
    """Put files with names like ours where ours are; returns what they are."""
    backups = here.root / here.settings.get("BACKUP_DIR", "backups")
    embedded = here.root / ".postgres"
    planted = [
        backups / "notes.txt",
        backups / f"{here.settings['DB_NAME']}-20200101T000000.000000Z.dump",
        backups / f".{here.settings['DB_NAME']}-mine.dump.partial",
        here.folder / "notes.txt",
        here.folder / "README.txt",
        here.folder / "001_one.sql.orig",
        embedded.with_name(".postgres.tmp-mine") / "notes",
        embedded.with_name(".postgres.old") / "PG_VERSION",
        temporary / "invoke-migrate-mine" / "notes",
        temporary / "invoke-migrations.1" / "notes",
        here.root / "docker-compose.yml",
        here.root / "by-hand.txt",
    ]
    for file in planted:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"mine: {file.name}")
        os.utime(file, (YEARS_AGO, YEARS_AGO))
    for folder in {file.parent for file in planted if file.parent.parent in (temporary, here.root)} - {here.folder}:
        os.utime(folder, (YEARS_AGO, YEARS_AGO))
    return look(planted)


def look(files: list[Path]) -> dict[Path, tuple[bytes, float]]:
    """Return content and time of files."""
    return {file: (file.read_bytes(), file.stat().st_mtime) for file in files}


def played(here: Project, temporary: Path) -> None:
    """Run the story with files, databases and schemas planted, and look at them again."""
    made: list[str] = []
    maker = replace(here, settings={**here.settings, "DB_NAME": "postgres"})
    files = plant_files(here, temporary)
    try:
        state = plant_databases(here, made)
        before = state()
        here.do("CREATE SCHEMA app; CREATE TABLE app.mine (i int)")
        own = schemas(here)
        # The planted schema in the database itself is drift, and verify says so.
        story = tuple(replace(row, code=4) if row.task == "migrate-verify" else row for row in STORY)
        emptying = [row.task for row in story].index("db.restore")  # this and reset are for all of the database
        play(here, story[:emptying])
        assert schemas(here) == own
        play(here, story[emptying:])
        assert state() == before
    finally:
        for statement in made:
            maker.do(statement)
    assert look(list(files)) == files


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Iterator[tuple[Project, Path]]:
    """A checkout with a server of its own kind, and its folder for temporary files."""
    kind = request.param
    name = f"mine{secrets.token_hex(3)}"
    with open_folder() as folder:
        given = {"DB_SERVER": kind, "DB_NAME": name, "TMPDIR": str(folder / "temporary")}
        (folder / "temporary").mkdir()
        if kind == "external":
            private: Dsn = request.getfixturevalue("private")
            given |= {"DB_HOST": "127.0.0.1", "DB_PORT": str(private.port), "DB_PASSWORD": private.password}
            made = project.copy(folder / "checkout", **given)
            maker = replace(made, settings={**given, "DB_NAME": "postgres"})
            maker.do(f"CREATE DATABASE {name}")
            yield made, folder / "temporary"
            maker.do(f"DROP DATABASE {name} WITH (FORCE)")
            return
        image = request.getfixturevalue("image") if kind == "docker" else ""
        given |= {"DB_PORT": str(free_port()), "COMPOSE_PROJECT_NAME": f"harm-{secrets.token_hex(3)}"}
        made = project.copy(folder / "checkout", image=image, **given)
        try:
            assert made.invoke("db.up").code == 0
            yield made, folder / "temporary"
        finally:
            assert made.invoke("db.down", "--volumes", "--yes").code == 0


@pytest.mark.parametrize("here", ["external"], indirect=True)
def test_on_an_external_server_no_task_touches_what_is_not_ours(here: tuple[Project, Path]) -> None:
    played(*here)
    for line in ("db.down", "db.down --volumes --yes"):
        assert here[0].invoke(*line.split()).code == 4
    assert here[0].rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize("here", ["embedded"], indirect=True)
def test_beside_an_embedded_server_no_task_touches_what_is_not_ours(
    here: tuple[Project, Path], embedded_project: Project
) -> None:
    began = "SELECT pg_postmaster_start_time()"
    other = replace(embedded_project, settings={**embedded_project.settings, "DB_NAME": "postgres"})
    before = other.rows(began)
    mine, temporary = here
    files = plant_files(mine, temporary)
    played(mine, temporary)
    play(mine, LAST)
    assert (other.rows(began), look(list(files))) == (before, files)


@contextlib.contextmanager
def planted_in_docker(client: DockerClient, image: str, mine: str, folder: Path) -> Iterator[Callable[[], object]]:
    """Make containers, volumes and networks with names and labels like ours; yields what tells their state."""
    mark = secrets.token_hex(3)
    folder.mkdir()

    def labels(name: str, **more: str) -> dict[str, str]:
        return {
            f"{COMPOSE}project": name,
            f"{COMPOSE}config-hash": "x",
            f"{COMPOSE}oneoff": "False",
            f"{COMPOSE}project.working_dir": str(folder),
            **{f"{COMPOSE}{key}": value for key, value in more.items()},
        }

    volumes = [
        client.volumes.create(f"other-{mark}_pgdata", labels=labels(f"other-{mark}", volume="pgdata")),
        client.volumes.create(f"{mine}_pgdata_old"),
        client.volumes.create(f"{mine}_cache", labels=labels(mine, volume="cache")),
        client.volumes.create(f"x{mine}_pgdata"),
    ]
    networks = [
        client.networks.create(f"other-{mark}_default", labels=labels(f"other-{mark}", network="default")),
        client.networks.create(f"{mine}_default_old"),
        client.networks.create(f"{mine}_front", labels=labels(mine, network="front")),
    ]

    def run(name: str, label: dict[str, str], volume: Any) -> Any:
        bound = {volume.name: {"bind": "/mine", "mode": "rw"}}
        command = ["sh", "-c", "echo mine > /mine/notes; sleep 100000"]
        return client.containers.run(
            image, command, entrypoint=[], detach=True, name=name, labels=label, volumes=bound, network=networks[0].name
        )

    containers = [
        run(f"other-{mark}-postgres-1", labels(f"other-{mark}", service="postgres"), volumes[0]),
        run(f"{mine}-postgres-1-old", {}, volumes[1]),
        run(f"{mine}-web-1", labels(mine, service="web"), volumes[2]),
        run(f"postgres-{mark}", {f"{COMPOSE}service": "postgres"}, volumes[3]),
    ]

    def state() -> object:
        for container in containers:
            container.reload()
        return (
            [(each.id, each.attrs["State"]["StartedAt"], each.status) for each in containers],
            [each.exec_run(["cat", "/mine/notes"]).output for each in containers],
            [client.volumes.get(each.name).attrs["CreatedAt"] for each in volumes],
            [client.networks.get(each.id or "").attrs["Created"] for each in networks],
        )

    try:
        yield state
    finally:
        for container in containers:
            container.remove(force=True)
        for volume in volumes:
            volume.remove()
        for network in networks:
            network.remove()


@pytest.mark.parametrize("here", ["docker"], indirect=True)
def test_beside_a_container_no_task_touches_what_is_not_ours(
    here: tuple[Project, Path], docker_client: DockerClient, image: str, tmp_path: Path
) -> None:
    mine, temporary = here
    with planted_in_docker(
        docker_client, image, mine.settings["COMPOSE_PROJECT_NAME"], tmp_path / "elsewhere"
    ) as state:
        before = state()
        files = plant_files(mine, temporary)
        played(mine, temporary)
        play(mine, LAST)
        assert (state(), look(list(files))) == (before, files)
