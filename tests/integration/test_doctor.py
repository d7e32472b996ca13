"""The doctor on real servers: each fault is planted, found, named and mended; nothing else is touched."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import database, psql, scratch, settings
from infra.db.check import Check, Verdict
from infra.db.console import Console
from infra.db.doctor import DATABASE, Doctor
from infra.db.servers import Address, choice, endpoints, external
from infra.db.servers.container import Container, Engine
from infra.db.work.diagnose import diagnose
from tests import project as projects
from tests.conftest import free_port, open_folder
from tests.integration.test_faults_server import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container as DockerContainer

    from infra.db.servers import Server
    from tests.project import Project

YESTERDAY = time.time() - 25 * 3600
FIRST = ["settings", "Python", "packages", "server"]
OWN = {
    "docker": ["Docker endpoint", "Docker engine", "compose file", "image", "container", "port"],
    "embedded": ["programs", "data folder", "process", "port"],
    "external": ["programs"],
}
LAST = ["connection", "identity", *DATABASE, "files", "line ends", "drift", "disk space", "leftovers"]


@dataclass(frozen=True, slots=True)
class Examined:
    """What the doctor said to other programs."""

    code: int
    server: str | None
    checks: dict[str, Check]
    words: str

    def bad(self) -> dict[str, str]:
        """Return the checks that are not well, and how they look; those that were skipped left out."""
        well = (Verdict.OK, Verdict.SKIPPED)
        return {name: each.verdict.value for name, each in self.checks.items() if each.verdict not in well}

    def skipped(self) -> list[str]:
        return [name for name, each in self.checks.items() if each.verdict is Verdict.SKIPPED]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def heard(code: int, out: str, words: str) -> Examined:
    """Read what the doctor said to other programs."""
    said = json.loads(out)
    assert out.count("\n") == 1
    assert list(said) == ["server", "checks"]
    checks = {
        each["name"]: Check(each["name"], Verdict(each["verdict"]), each["found"], each["mend"] or "")
        for each in said["checks"]
    }
    return Examined(code, said["server"], checks, words)


@pytest.fixture
def typed(temporary: Path) -> Callable[..., Examined]:
    """Return a function that types `invoke db.doctor --json`."""

    def ask(project: Project, **more: str) -> Examined:
        done = project.invoke("db.doctor", "--json", TMPDIR=str(temporary), TEMP=str(temporary), **more)
        assert "Traceback" not in done.err, done.err
        return heard(done.code, done.out, done.err)

    return ask


@pytest.fixture
def examine(
    request: pytest.FixtureRequest,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Examined]:
    """Return a function that does the same in this process, which is quicker; all tests share one engine."""
    own = choice.choose

    def choose(given: settings.Settings, *tell: Any) -> Server:
        if given.server != "docker":
            return own(given, *tell)
        client = request.getfixturevalue("docker_client")
        return Container(given, engine=Engine(client, endpoints.Endpoint("unix:///var/run/docker.sock", "a test")))

    def ask(project: Project, **more: str) -> Examined:
        given = project.environment(**more)
        capsys.readouterr()
        console = Console(as_json=True)
        code = diagnose(console, project.root, lambda: settings.read(given, root=project.root, dotenv={}))
        return heard(code, *capsys.readouterr())

    monkeypatch.setattr(choice, "choose", choose)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return ask


@pytest.fixture(params=["embedded", "docker", "external"])
def everywhere(request: pytest.FixtureRequest, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database on each kind of server."""
    return fresh(request.getfixturevalue(f"{request.param}_project"))


@pytest.fixture
def container(docker_project: Project, docker_client: DockerClient) -> Iterator[DockerContainer]:
    """The container of the Docker project, to be stopped or worse; it runs again afterwards."""
    made = docker_client.containers.get(f"{docker_project.settings['COMPOSE_PROJECT_NAME']}-postgres-1")
    yield made
    made.reload()
    if made.status == "paused":
        made.unpause()
    done = docker_project.invoke("db.up")
    assert done.code == 0, done


# --- all is well ---


def test_where_all_is_well_every_check_says_so(everywhere: Project, typed: Callable[..., Examined]) -> None:
    everywhere.write("001_one.sql", "CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE one (i int);")
    everywhere.write("001_one.down.sql", "DROP TABLE one;")
    everywhere.write("002_two.sql", "CREATE TABLE two (i int);")
    assert everywhere.invoke("migrate", "--to", "1").code == 0
    found = typed(everywhere)
    kind = everywhere.settings["DB_SERVER"]
    assert (found.code, found.server, found.bad(), found.skipped()) == (0, kind, {}, []), found
    assert list(found.checks) == [*FIRST, *OWN[kind], *LAST]
    assert found.words.strip().endswith(f"{len(found.checks)} checks: {len(found.checks)} fine.")
    assert found.checks["server"].found == f"{kind}, because DB_SERVER={kind}"
    assert found.checks["history"].found == "ours, 1 row"
    assert found.checks["drift"].found == "1 applied, 1 pending"
    assert found.checks["files"].found.startswith("2 in ")
    assert "is installed" in found.checks["pgvector"].found


def test_people_read_a_line_for_each_check(external: Project) -> None:
    done = external.invoke("db.doctor")
    assert (done.code, done.err) == (0, "")
    *lines, summary = done.out.strip().split("\n")
    assert "✓ version          PostgreSQL 18" in "\n".join(lines)
    assert summary.endswith("fine.")


# --- when nothing works ---


def test_settings_that_make_no_sense_are_the_first_fault_and_not_the_end(
    external: Project, typed: Callable[..., Examined]
) -> None:
    found = typed(external, DB_PORT="x", DB_NAM="y")
    assert (found.code, found.server, found.bad()) == (2, None, {"settings": "fault"})
    assert next(iter(found.checks)) == "settings"
    assert "DB_NAM (environment) is not a setting" in found.checks["settings"].found
    assert found.checks["packages"].verdict == "ok"
    assert found.checks["drift"].found == "not checked: see settings"
    assert "1 fault, 16 skipped (exit code 2)." in found.words


def test_a_dotenv_that_is_not_utf8_is_the_first_fault(external: Project, typed: Callable[..., Examined]) -> None:
    file = external.root / ".env"
    file.write_bytes("DB_NAME=x\n".encode("utf-16"))
    try:
        found = typed(external)
    finally:
        file.unlink()
    assert (found.code, found.bad()) == (2, {"settings": "fault"})


def test_without_an_engine_each_endpoint_that_was_tried_is_named(
    docker_project: Project, fresh: Callable[[Project], Project], typed: Callable[..., Examined]
) -> None:
    project = fresh(docker_project)
    project.write("001_one.sql", "CREATE TABLE one (i int);")
    found = typed(project, DOCKER_HOST="tcp://127.0.0.1:1")
    assert (found.code, found.server, found.bad()) == (5, "docker", {"Docker endpoint": "fault"})
    assert "tcp://127.0.0.1:1 (DOCKER_HOST): nobody listens there" in found.checks["Docker endpoint"].found
    assert found.checks["files"].verdict == "ok"
    assert found.skipped() == ["connection", "identity", *DATABASE, "drift"]


def test_an_engine_that_was_looked_for_in_vain_is_a_warning_where_the_embedded_server_is_taken(
    embedded_project: Project, fresh: Callable[[Project], Project], typed: Callable[..., Examined]
) -> None:
    found = typed(fresh(embedded_project), DB_SERVER="auto", DOCKER_HOST="tcp://127.0.0.1:1")
    assert (found.code, found.server, found.bad()) == (0, "embedded", {"Docker endpoint": "warning"})
    assert found.checks["server"].found == "embedded, because no Docker engine answers (DB_SERVER=auto)"


def test_a_wrong_password_is_a_fault_and_the_files_are_still_read(
    everywhere: Project, typed: Callable[..., Examined]
) -> None:
    found = typed(everywhere, DB_PASSWORD="not-the-right-one")
    assert (found.code, found.bad()) == (5, {"connection": "fault"})
    word = "DB_PASSWORD" if everywhere.settings["DB_SERVER"] == "embedded" else "password"
    assert word in found.checks["connection"].found
    assert found.checks["rights"].found == "not checked: see connection"
    assert found.checks["files"].verdict == "ok"
    assert "not-the-right-one" not in found.words + str(found.checks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"DB_PORT": "1"}, "Nobody|refused|answers", id="nobody there"),
        pytest.param({"DB_HOST": "nowhere.invalid"}, "is unknown", id="unknown host"),
        pytest.param({"DB_NAME": "no_such_database"}, "no_such_database", id="no such database"),
    ],
)
def test_a_connection_that_cannot_be_is_a_fault_in_the_words_of_a_run(
    external: Project, examine: Callable[..., Examined], given: dict[str, str], said: str
) -> None:
    found = examine(external, **given)
    assert (found.code, found.bad()) == (5, {"connection": "fault"})
    assert any(word in found.checks["connection"].found for word in said.split("|"))


# --- the container ---


def test_looking_makes_nothing(
    image: str, tmp_path: Path, typed: Callable[..., Examined], docker_client: DockerClient
) -> None:
    given = {"DB_PORT": str(free_port()), "COMPOSE_PROJECT_NAME": f"doctor-{os.getpid()}"}
    project = projects.copy(tmp_path / "checkout", image=image, DB_SERVER="docker", **given)
    found = typed(project)
    assert (found.code, found.bad()) == (0, {"container": "warning"})
    assert (found.checks["container"].mend, found.checks["port"].verdict) == ("invoke db.up", "ok")
    assert found.checks["connection"].found == "not checked: the server is not running"
    names = [each.name for each in docker_client.containers.list(all=True)]
    names += [each.name for each in docker_client.volumes.list()]
    names += [each.name for each in docker_client.networks.list()]
    assert not [name for name in names if name and given["COMPOSE_PROJECT_NAME"] in name]
    with open_folder() as folder:
        private = projects.copy(folder / "checkout", DB_SERVER="embedded", DB_PORT=given["DB_PORT"])
        assert typed(private).bad() == {"process": "warning"}
        assert not (private.root / ".postgres").exists()


@pytest.mark.parametrize("kind", ["docker", "embedded"])
def test_a_port_that_another_program_has_is_a_fault_with_its_name(
    request: pytest.FixtureRequest, kind: str, examine: Callable[..., Examined]
) -> None:
    image = request.getfixturevalue("image") if kind == "docker" else ""
    with open_folder() as folder, socket.create_server(("127.0.0.1", free_port())) as listener:
        given = {"DB_PORT": str(listener.getsockname()[1]), "COMPOSE_PROJECT_NAME": f"doctor-{os.getpid()}"}
        found = examine(projects.copy(folder / "checkout", image=image, DB_SERVER=kind, **given))
    assert (found.code, found.bad()["port"]) == (5, "fault")
    assert f"Port {given['DB_PORT']} is taken by the program " in found.checks["port"].found
    assert f"(process {os.getpid()})" in found.checks["port"].found
    assert "Choose another port: set DB_PORT=" in found.checks["port"].mend


def test_a_port_that_another_container_has_is_a_fault_with_its_name(
    image: str, docker_project: Project, tmp_path: Path, examine: Callable[..., Examined]
) -> None:
    given = {"DB_PORT": docker_project.settings["DB_PORT"], "COMPOSE_PROJECT_NAME": f"doctor-{os.getpid()}"}
    found = examine(projects.copy(tmp_path / "checkout", image=image, DB_SERVER="docker", **given))
    assert found.code == 5
    name = f"{docker_project.settings['COMPOSE_PROJECT_NAME']}-postgres-1"
    assert f"is taken by container {name}." in found.checks["port"].found


def test_a_port_that_another_embedded_server_has_is_a_fault_with_its_folder(
    embedded_project: Project, examine: Callable[..., Examined]
) -> None:
    port = embedded_project.settings["DB_PORT"]
    with open_folder() as folder:
        found = examine(projects.copy(folder / "checkout", DB_SERVER="embedded", DB_PORT=port))
    assert found.code == 5
    assert (
        f"the PostgreSQL with its data in {embedded_project.root.resolve() / '.postgres'}" in found.checks["port"].found
    )


def test_a_server_that_runs_on_another_port_than_the_settings_say_is_found(
    docker_project: Project, embedded_project: Project, examine: Callable[..., Examined]
) -> None:
    other = str(free_port())
    moved = examine(embedded_project, DB_PORT=other, DB_NAME="postgres")
    assert (moved.code, moved.bad()) == (0, {"port": "warning"})
    found = examine(docker_project, DB_PORT=other, DB_NAME="postgres")
    assert (found.code, found.bad()["port"]) == (5, "fault")
    assert f"but DB_PORT is {other}" in found.checks["port"].found


def test_a_foreign_container_with_our_name_is_a_fault(
    image: str, tmp_path: Path, examine: Callable[..., Examined], docker_client: DockerClient
) -> None:
    given = {"DB_PORT": str(free_port()), "COMPOSE_PROJECT_NAME": f"doctor-{os.getpid()}"}
    project = projects.copy(tmp_path / "checkout", image=image, DB_SERVER="docker", **given)
    foreign = docker_client.containers.create(image, name=f"{given['COMPOSE_PROJECT_NAME']}-postgres-1")
    try:
        found = examine(project)
    finally:
        foreign.remove()
    assert (found.code, found.bad()) == (5, {"container": "fault"})
    assert "it is not the one of this checkout" in found.checks["container"].found


def test_a_stopped_container_is_a_warning_that_its_mend_ends(
    docker_project: Project, container: DockerContainer, examine: Callable[..., Examined]
) -> None:
    container.stop()
    found = examine(docker_project, DB_NAME="postgres")
    assert (found.code, found.bad()) == (0, {"container": "warning"})
    assert found.checks["image"].found.endswith(f"volume {docker_project.settings['COMPOSE_PROJECT_NAME']}_pgdata")
    assert docker_project.invoke(*found.checks["container"].mend.split()[1:]).code == 0
    assert examine(docker_project, DB_NAME="postgres").bad() == {}


def test_a_paused_container_is_a_fault_said_once(
    docker_project: Project, container: DockerContainer, examine: Callable[..., Examined]
) -> None:
    container.pause()
    found = examine(docker_project)
    assert (found.code, found.bad()) == (5, {"container": "fault"})
    assert found.checks["connection"].found == "not checked: see container"


def test_data_of_another_version_than_the_images_is_a_fault_and_so_is_the_container_that_dies_of_it(
    docker_project: Project, container: DockerContainer, examine: Callable[..., Examined]
) -> None:
    def plant(version: str) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo("PG_VERSION")
            member.size, member.uid, member.gid, member.mode = 3, 999, 999, 0o600
            tar.addfile(member, io.BytesIO(f"{version}\n".encode()))
        container.put_archive("/var/lib/postgresql/18/docker", packed.getvalue())

    container.stop()
    plant("17")
    try:
        found = examine(docker_project)
        assert (found.code, found.bad()) == (5, {"image": "fault", "container": "warning"})
        assert "is PostgreSQL 18; the data in volume" in found.checks["image"].found
        assert "was made by PostgreSQL 17" in found.checks["image"].found
        container.start()
        container.wait()
        found = examine(docker_project)
        assert found.bad() == {"image": "fault", "container": "fault"}
        assert "has exited with code 1" in found.checks["container"].found
        assert "not compatible" in found.checks["container"].found
        assert found.checks["connection"].found == "not checked: see image"
    finally:
        plant("18")


def test_an_image_that_is_not_here_is_a_warning_with_the_command_that_pulls_it(
    docker_project: Project, examine: Callable[..., Examined]
) -> None:
    file = docker_project.root / "infra" / "docker-compose.yml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("mordeaux-test/pgvector:pg18", "mordeaux-test/nowhere:1"), encoding="utf-8")
    try:
        found = examine(docker_project, DB_NAME="postgres")
        assert (found.code, found.bad()) == (0, {"image": "warning"})
        assert found.checks["image"].mend == "docker pull mordeaux-test/nowhere:1"
        file.write_text(text.replace("services:", "services"), encoding="utf-8")
        found = examine(docker_project, DB_NAME="postgres")
        assert (found.code, found.bad()["compose file"]) == (2, "fault")
        assert found.checks["port"].found == "not checked: see compose file"
    finally:
        file.write_text(text, encoding="utf-8")


def test_a_server_that_is_not_the_containers_own_is_a_fault(
    docker_project: Project, external_project: Project, docker_client: DockerClient
) -> None:
    class Elsewhere(Container):
        """Answers where another server listens."""

        def address(self) -> Address:
            return Address("127.0.0.1", int(external_project.settings["DB_PORT"]))

    given = {**docker_project.settings, "DB_NAME": "postgres", "DB_PASSWORD": external_project.settings["DB_PASSWORD"]}

    def read() -> settings.Settings:
        return settings.read(given, root=docker_project.root, dotenv={})

    assert docker_client.ping()
    with contextlib.closing(Doctor(docker_project.root, read, Elsewhere)) as doctor:
        found = {each.name: each for each in doctor.checks()}
    assert found["connection"].verdict == Verdict.OK
    assert (found["identity"].verdict, found["identity"].exit_code) == (Verdict.FAULT, 5)
    assert "is not the one in container" in found["identity"].found
    assert found["version"].found == "not checked: see identity"
    gc.collect()  # a connection that was left open would say so


# --- the embedded server ---


def test_a_data_folder_that_is_not_ours_is_a_fault(tmp_path: Path, examine: Callable[..., Examined]) -> None:
    project = projects.copy(tmp_path / "checkout", DB_SERVER="embedded", DB_PORT=str(free_port()))
    (project.root / ".postgres").mkdir()
    (project.root / ".postgres" / "diary").touch()
    found = examine(project)
    assert (found.code, found.bad()) == (5, {"data folder": "fault"})
    assert found.checks["port"].found == "not checked: see data folder"
    assert found.checks["connection"].found == "not checked: see data folder"


def test_a_database_that_the_embedded_server_makes_when_it_is_needed_is_a_warning(
    embedded_project: Project, examine: Callable[..., Examined]
) -> None:
    found = examine(embedded_project, DB_NAME="not_yet")
    assert (found.code, found.bad()) == (0, {"connection": "warning"})
    assert found.checks["history"].found == "not checked: see connection"


# --- the database ---


def role_of(project: Project, attributes: str) -> Iterator[Project]:
    """Make a role, and the project as this role uses it."""
    name = f"{project.settings['DB_NAME']}_role"
    project.do(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' {attributes}")
    yield replace(project, settings={**project.settings, "DB_USER": name, "DB_PASSWORD": "secret"})
    project.do(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_the_rights_that_a_role_lacks_are_named_each_with_its_grant(
    external: Project, examine: Callable[..., Examined]
) -> None:
    for weak in role_of(external, ""):
        found = examine(weak)
        assert (found.code, found.bad()) == (5, {"rights": "fault"})
        user, name = weak.settings["DB_USER"], weak.settings["DB_NAME"]
        assert found.checks["rights"].found.split("\n") == [
            f"The role {user} may not create tables in schema public (database {name}).",
            f"The role {user} may not install pgvector.",
            f"The role {user} may not create databases, which migrate-rehearse and migrate-verify do.",
        ]
        external.do(f'GRANT CREATE, USAGE ON SCHEMA public TO "{user}"; CREATE EXTENSION vector;')
        assert examine(weak).bad() == {"rights": "warning"}
        external.do(f'ALTER ROLE "{user}" CREATEDB;')
        assert examine(weak).bad() == {}


def test_a_database_that_is_not_utf8_is_a_fault(external: Project, examine: Callable[..., Examined]) -> None:
    name = f"{external.settings['DB_NAME']}_latin1"
    external.do(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    found = examine(external, DB_NAME=name)
    assert (found.code, found.bad()) == (5, {"encoding": "fault"})
    assert "is encoded in LATIN1" in found.checks["encoding"].found


def test_a_collation_that_changed_is_a_warning_until_it_is_accepted(
    embedded_project: Project, fresh: Callable[[Project], Project], examine: Callable[..., Examined]
) -> None:
    project = fresh(embedded_project)
    name = project.settings["DB_NAME"]
    project.do(f"UPDATE pg_database SET datcollversion = '0.9' WHERE datname = '{name}'")
    found = examine(project)
    assert (found.code, found.bad()) == (0, {"collation": "warning"})
    assert "version 0.9 of the collation C.UTF-8; the server's system has 1" in found.checks["collation"].found
    for line in found.checks["collation"].mend.split("\n")[1:]:
        words = shlex.split(line)
        assert words[:3] == ["invoke", "db.shell", "--command"]
        project.do(words[3])
    assert examine(project).bad() == {}


def test_an_old_pgvector_in_the_database_is_a_warning(external: Project, examine: Callable[..., Examined]) -> None:
    external.do("CREATE EXTENSION vector; UPDATE pg_extension SET extversion = '0.7.1' WHERE extname = 'vector'")
    assert examine(external).bad() == {"pgvector": "warning"}
    external.do("UPDATE pg_extension SET extversion = '0.5.1' WHERE extname = 'vector'")
    found = examine(external)
    assert (found.code, found.bad()) == (5, {"pgvector": "fault"})


def test_a_server_that_takes_no_changes_is_a_fault(external: Project, examine: Callable[..., Examined]) -> None:
    external.do(f"ALTER DATABASE {external.settings['DB_NAME']} SET default_transaction_read_only = on")
    found = examine(external)
    assert (found.code, found.bad()) == (5, {"changes": "fault"})


def test_a_pooler_in_between_is_a_fault(external: Project, examine: Callable[..., Examined]) -> None:
    with open_folder() as folder, pgbouncer(external, folder) as port:
        found = examine(external, DB_PORT=port)
    assert (found.code, found.bad()) == (5, {"pooler": "fault"})


def test_a_server_that_is_too_old_is_asked_nothing_more(
    external: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 990000)

    def read() -> settings.Settings:
        return settings.read({**os.environ, **external.settings}, root=tmp_path, dotenv={})

    with contextlib.closing(Doctor(tmp_path, read, external_server)) as doctor:
        found = {each.name: each for each in doctor.checks()}
    assert found["version"].verdict == Verdict.FAULT
    assert {found[name].found for name in DATABASE[1:]} == {"not checked: see version"}


def external_server(given: settings.Settings) -> external.External:
    return external.External(given)


def test_a_history_of_another_tool_is_a_fault(external: Project, examine: Callable[..., Examined]) -> None:
    external.do("CREATE TABLE schema_migrations (version text PRIMARY KEY, dirty bool)")
    found = examine(external)
    assert (found.code, found.bad()) == (4, {"history": "fault"})
    assert "golang-migrate's" in found.checks["history"].found
    assert found.checks["drift"].found == "not checked: see history"


def test_tables_without_a_history_are_a_fault(external: Project, examine: Callable[..., Examined]) -> None:
    external.do("CREATE TABLE made_by_hand (i int)")
    found = examine(external)
    assert (found.code, found.bad()) == (4, {"history": "fault"})
    assert "invoke migrate-baseline" in found.checks["history"].mend


# --- the files ---


def test_files_that_make_no_sense_are_a_fault_all_of_them(external: Project, examine: Callable[..., Examined]) -> None:
    external.write("001_one.sql", "SELECT 1;")
    external.write("01_other.sql", "SELECT 1;")
    external.write("two.sql", "SELECT 1;")
    external.write("003_latin.sql", "SELECT 'é';".encode("latin-1"))
    found = examine(external)
    assert (found.code, found.bad()) == (2, {"files": "fault"})
    for said in ("01_other.sql", "two.sql: is not named", "003_latin.sql:1: is not UTF-8"):
        assert said in found.checks["files"].found
    assert found.checks["drift"].found == "not checked: see files"


def test_crlf_in_the_files_is_a_warning_that_its_mend_ends(external: Project, examine: Callable[..., Examined]) -> None:
    file = external.write("001_one.sql", b"SELECT 1;\r\nSELECT 2;\r\n")
    external.write("002_two.sql", "SELECT 1;\n")
    found = examine(external)
    assert (found.code, found.bad()) == (0, {"line ends": "warning"})
    assert found.checks["line ends"].found.endswith(": 001_one.sql.")
    python, *words = shlex.split(found.checks["line ends"].mend)
    assert python == "python"
    subprocess.run([sys.executable, *words], cwd=external.root, check=True)
    assert file.read_bytes() == b"SELECT 1;\nSELECT 2;\n"
    assert examine(external).bad() == {}


def test_a_checkout_whose_git_does_not_keep_lf_is_a_warning(
    external: Project, examine: Callable[..., Examined]
) -> None:
    subprocess.run(["git", "init", "--quiet", external.folder], check=True)
    found = examine(external)
    assert found.bad() == {"line ends": "warning"}
    assert "Add the line  *.sql text eol=lf  to .gitattributes" in found.checks["line ends"].mend
    (external.folder / ".gitattributes").write_text("*.sql text eol=lf\n")
    assert examine(external).bad() == {}


def test_drift_is_a_fault_with_the_way_out_of_each(external: Project, examine: Callable[..., Examined]) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.write("002_two.sql", "CREATE TABLE two (i int);")
    assert external.invoke("migrate").code == 0
    external.write("001_one.sql", "CREATE TABLE one (i bigint);")
    (external.folder / "002_two.sql").unlink()
    found = examine(external)
    assert (found.code, found.bad()) == (4, {"drift": "fault"})
    assert "001_one was edited after it was applied" in found.checks["drift"].found
    assert "002_two was applied, but its file is gone" in found.checks["drift"].found
    assert "invoke migrate-resolve 001 --applied" in found.checks["drift"].mend


# --- what is left ---


@pytest.mark.skipif(os.name == "nt", reason="the command is one for PowerShell there")
def test_what_killed_runs_left_on_this_machine_is_found_after_a_day_and_its_mend_removes_it(
    external: Project, examine: Callable[..., Examined], tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    old = [tmp_path / "temporary" / "invoke-migrate-old.1", backups / ".x.dump.partial"]
    new = [tmp_path / "temporary" / "invoke-migrate-new.2", backups / ".y.dump.partial"]
    for folder in (old[0], new[0]):
        folder.mkdir()
    for file in (old[1], new[1]):
        file.touch()
    assert examine(external).bad() == {}
    for path in old:
        os.utime(path, (YESTERDAY, YESTERDAY))
    found = examine(external)
    assert (found.code, found.bad()) == (0, {"leftovers": "warning"})
    assert all(str(path) in found.checks["leftovers"].found for path in old)
    assert not any(str(path) in found.checks["leftovers"].found for path in new)
    for line in found.checks["leftovers"].mend.split("\n"):
        subprocess.run(shlex.split(line), check=True)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in new)


def test_what_killed_runs_left_in_the_container_is_found_after_a_day_and_its_mend_removes_it(
    docker_project: Project,
    fresh: Callable[[Project], Project],
    docker_client: DockerClient,
    examine: Callable[..., Examined],
) -> None:
    project = fresh(docker_project)
    made = docker_client.containers.get(f"{project.settings['COMPOSE_PROJECT_NAME']}-postgres-1")
    assert made.exec_run(["mkdir", "/tmp/invoke-migrate-old", "/tmp/invoke-migrate-new"]).exit_code == 0
    assert examine(project).bad() == {}
    assert made.exec_run(["touch", "-d", "25 hours ago", "/tmp/invoke-migrate-old"]).exit_code == 0
    found = examine(project)
    assert (found.code, found.bad()) == (0, {"leftovers": "warning"})
    assert f"/tmp/invoke-migrate-old in container {made.name}" in found.checks["leftovers"].found
    docker, exec_, name, *argv = shlex.split(found.checks["leftovers"].mend)
    assert (docker, exec_, name) == ("docker", "exec", made.name)
    assert made.exec_run(argv).exit_code == 0
    assert made.exec_run(["ls", "/tmp"]).output == b"invoke-migrate-new\n"
    assert made.exec_run(["rm", "-r", "/tmp/invoke-migrate-new"]).exit_code == 0


def test_a_run_that_is_at_work_is_said(external: Project, examine: Callable[..., Examined]) -> None:
    with external.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", psql.LOCK)
        assert examine(external).checks["drift"].found == "none; a run is at work"


def test_a_throw_away_database_of_a_killed_run_is_found_and_its_mend_removes_it(
    external: Project, examine: Callable[..., Examined]
) -> None:
    name = scratch.new_name(external.settings["DB_NAME"], datetime.now(UTC))
    external.do(f'CREATE DATABASE "{name}"')
    external.do(f"COMMENT ON DATABASE \"{name}\" IS '{scratch.COMMENT}migrate-verify of x'")
    found = examine(external)
    assert (found.code, found.bad()) == (0, {"leftovers": "warning"})
    assert f"  the database {name}" in found.checks["leftovers"].found
    words = shlex.split(found.checks["leftovers"].mend)
    assert words[:3] == ["invoke", "db.shell", "--command"]
    external.do(words[3])
    assert examine(external).bad() == {}


def test_what_a_killed_first_start_left_beside_the_embedded_server_is_found(
    embedded_project: Project, fresh: Callable[[Project], Project], examine: Callable[..., Examined]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = embedded_project.root / f".postgres.tmp-{ended.pid}"
    left.mkdir()
    project = fresh(embedded_project)
    found = examine(project)
    assert found.bad() == {"leftovers": "warning"}
    assert left.name in found.checks["leftovers"].found
    assert project.invoke(*found.checks["leftovers"].mend.split()[1:]).code == 0
    assert examine(project).bad() == {}
