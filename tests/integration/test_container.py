"""The container, for real: every fault is planted on an engine, in projects of our own that are removed afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import tracemalloc
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import database, errors, settings
from infra.db.servers import Address, Identity, container, endpoints, process
from infra.db.servers.container import Container, Engine
from infra.db.servers.endpoints import Endpoint
from tests import standin
from tests.systems import needs_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container as DockerContainer

FILE = Path(__file__).parents[2] / "infra" / "docker-compose.yml"
PASSWORD = 'it\'s \\ $a ${b} "secret"'
LABEL = "com.docker.compose."


class Checkout:
    """A copy of the project's compose file, with the stand-in's image and a project of its own."""

    def __init__(self, root: Path, engine: Engine, image: str) -> None:
        self.root = root
        self.engine = engine
        self.given = {
            "COMPOSE_PROJECT_NAME": f"mordeaux-test-{uuid.uuid4().hex[:8]}",
            "DB_PORT": str(free_port()),
            "DB_PASSWORD": PASSWORD,
        }
        self.told: list[str] = []
        self.file = root / "infra" / "docker-compose.yml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(FILE.read_text("utf-8").replace("pgvector/pgvector:pg18", image), "utf-8")

    @property
    def project(self) -> str:
        return self.given["COMPOSE_PROJECT_NAME"]

    @property
    def name(self) -> str:
        return f"{self.project}-postgres-1"

    @property
    def client(self) -> DockerClient:
        return self.engine.client

    @property
    def container(self) -> DockerContainer:
        return self.client.containers.get(self.name)

    def settings(self, **given: str) -> settings.Settings:
        known = {name: value for name, value in {**self.given, **given}.items() if value != "UNSET"}
        return settings.read(known, root=self.root, dotenv={})

    def server(self, **given: str) -> Container:
        return Container(self.settings(**given), engine=self.engine)

    def start(self, **given: str) -> Address:
        return self.server(**given).start(self.told.append)

    def ready(self, **given: str) -> database.Database:
        server = self.server(**given)
        return database.wait_until_ready(
            server, self.settings(**given), server.start(self.told.append), self.told.append
        )

    def runs(self, command: list[str]) -> None:
        """Let the container run something else than PostgreSQL."""
        text = self.file.read_text("utf-8")
        self.file.write_text(text.replace("    ports:", f"    command: {json.dumps(command)}\n    ports:", 1), "utf-8")

    def clean_up(self) -> None:
        ours: dict[str, str | list[str] | bool] = {"label": f"{LABEL}project={self.project}"}
        for each in self.client.containers.list(all=True, filters=ours):
            each.remove(force=True, v=True)
        for volume in self.client.volumes.list(filters=ours):
            volume.remove(force=True)
        for network in self.client.networks.list(filters=ours):
            network.remove()


def free_port() -> int:
    """Return a port below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        found = container.find_engine(settings.read(dict(os.environ), root=FILE.parents[1], dotenv={}))
    except errors.EngineUnavailable as error:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield found
    found.client.close()


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    try:
        return standin.image(engine.client)
    except standin.UnavailableError as error:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def checkout(tmp_path: Path, engine: Engine, image: str) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "checkout", engine, image)
    yield made
    made.clean_up()


@pytest.fixture
def other(tmp_path: Path, engine: Engine, image: str) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "other", engine, image)
    yield made
    made.clean_up()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: Engine, image: str) -> Iterator[Checkout]:
    """One ready server, for the tests that leave it as it is."""
    made = Checkout(tmp_path_factory.mktemp("running") / "checkout", engine, image)
    try:
        made.ready().close()
        yield made
    finally:
        made.clean_up()


@contextlib.contextmanager
def bystander(checkout: Checkout, **arguments: Any) -> Iterator[DockerContainer]:
    """Somebody else's container, which only ever sleeps."""
    image = standin.image(checkout.client)
    made = checkout.client.containers.create(image, ["sleep", "600"], **arguments)
    try:
        yield made
    finally:
        made.remove(force=True, v=True)


def said(started: process.Process) -> tuple[list[tuple[str, str]], int]:
    lines = [line for line in process.lines(started) if line]
    return lines, started.wait()


def attempt(running: Checkout, kind: type[errors.ConnectionFailed]) -> errors.ConnectionFailed:
    port = int(running.given["DB_PORT"])
    return kind(errors.Attempt(host="127.0.0.1", port=port, database="mordeaux", user="postgres", said="no"))


# -- created, found, stopped -------------------------------------------------------------------------------------------


def test_a_container_is_created_as_the_file_says_with_composes_labels(running: Checkout) -> None:
    attrs = running.container.attrs
    labels = {key.removeprefix(LABEL): value for key, value in running.container.labels.items() if LABEL in key}
    assert labels == {
        "project": running.project,
        "service": "postgres",
        "container-number": "1",
        "oneoff": "False",
        "version": "2.0.0",
        "config-hash": "sdk",
        "image": attrs["Image"],
        "project.config_files": str(running.file.resolve()),
        "project.working_dir": str(running.file.parent.resolve()),
    }
    assert attrs["HostConfig"]["PortBindings"] == {
        "5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": running.given["DB_PORT"]}]
    }
    assert [(each["Name"], each["Destination"], each["RW"]) for each in attrs["Mounts"]] == [
        (f"{running.project}_pgdata", "/var/lib/postgresql", True)
    ]
    assert attrs["HostConfig"]["ShmSize"] == 1024**3
    assert attrs["Config"]["Healthcheck"]["Test"][:3] == ["CMD", "pg_isready", "-h"]
    assert "postgres" in attrs["NetworkSettings"]["Networks"][f"{running.project}_default"]["Aliases"]
    volume = running.client.volumes.get(f"{running.project}_pgdata").attrs["Labels"]
    assert (volume[f"{LABEL}project"], volume[f"{LABEL}volume"]) == (running.project, "pgdata")
    (network,) = running.client.networks.list(names=[f"{running.project}_default"])
    assert network.attrs["Labels"][f"{LABEL}network"] == "default"


def test_a_started_container_is_found_again_and_not_made_twice(running: Checkout) -> None:
    before = running.container.id
    told: list[str] = []
    server = running.server()
    assert server.start(told.append) == Address("127.0.0.1", int(running.given["DB_PORT"]))
    assert (running.container.id, told, server.place()) == (before, [], f"container {running.name}")
    assert (server.address(), server.exists(), server.trouble()) == (server.start(told.append), True, None)


@pytest.mark.parametrize("project", ["somebody-elses", "UNSET"])
def test_a_container_of_this_checkout_is_found_under_any_project_name(running: Checkout, project: str) -> None:
    assert running.server(COMPOSE_PROJECT_NAME=project).start(print) == running.server().address()


def test_nothing_is_there_before_it_is_made_and_asking_makes_nothing(checkout: Checkout) -> None:
    server = checkout.server()
    assert (server.address(), server.exists(), server.stop(), server.destroy()) == (None, False, False, [])
    with pytest.raises(errors.NotRunning):
        server.execute("psql", [])
    assert checkout.client.volumes.list(filters={"label": f"{LABEL}project={checkout.project}"}) == []


def test_stopping_keeps_the_data_and_destroying_leaves_nothing(checkout: Checkout) -> None:
    with contextlib.closing(checkout.ready()) as connection:
        connection.do("CREATE TABLE kept ()")
    server = checkout.server()
    assert (server.stop(), server.stop(), server.address(), server.exists()) == (True, False, None, True)
    with contextlib.closing(checkout.ready()) as connection:
        assert connection.tables() == ["public.kept"] or connection.tables() == ["kept"]
    assert server.destroy() == [
        f"container {checkout.name}",
        f"network {checkout.project}_default",
        f"volume {checkout.project}_pgdata",
    ]
    assert (server.exists(), server.destroy()) == (False, [])


def test_data_without_a_container_exists_and_is_destroyed(checkout: Checkout) -> None:
    checkout.start()
    checkout.container.remove(force=True)
    server = checkout.server()
    assert (server.address(), server.exists()) == (None, True)
    assert f"volume {checkout.project}_pgdata" in server.destroy()
    assert not server.exists()


# -- what is somebody else's -------------------------------------------------------------------------------------------


def test_another_projects_postgres_is_left_alone(checkout: Checkout, other: Checkout) -> None:
    other.start()
    checkout.start()
    checkout.server().destroy()
    assert other.container.status == "running"
    assert other.server().exists()


def test_another_checkout_with_the_same_project_name_is_refused_and_left_alone(
    checkout: Checkout, other: Checkout
) -> None:
    other.start()
    mine = checkout.server(COMPOSE_PROJECT_NAME=other.project)
    for action in (lambda: mine.start(print), mine.destroy):
        with pytest.raises(errors.OtherCheckout) as refused:
            action()
        assert str(other.file.parent.resolve()) in refused.value.where
        assert f"COMPOSE_PROJECT_NAME={other.project}_2" in refused.value.next
    assert mine.stop() is False
    assert other.container.status == "running"


def test_a_volume_that_another_checkout_made_is_not_destroyed(checkout: Checkout, other: Checkout) -> None:
    other.start()
    other.container.remove(force=True)
    assert checkout.server(COMPOSE_PROJECT_NAME=other.project).destroy() == [f"network {other.project}_default"]
    assert other.server().exists()


def test_a_volume_that_somebody_else_uses_is_not_destroyed(checkout: Checkout) -> None:
    checkout.start()
    volume = f"{checkout.project}_pgdata"
    with bystander(checkout, volumes={volume: {"bind": "/x", "mode": "ro"}}), pytest.raises(errors.InUse, match=volume):
        checkout.server().destroy()
    assert checkout.server().exists()


def test_a_foreign_container_with_our_name_is_refused_and_left_alone(checkout: Checkout) -> None:
    with bystander(checkout, name=checkout.name) as foreign:
        with pytest.raises(errors.NameConflict, match=checkout.name):
            checkout.start()
        foreign.reload()
        assert foreign.status == "created"


def test_a_server_that_is_not_the_one_in_the_container_is_refused(running: Checkout, other: Checkout) -> None:
    with contextlib.closing(other.ready()) as connection:
        foreign = connection.facts().identity
    with pytest.raises(errors.WrongServer) as refused:
        running.server().verify(foreign)
    assert f"127.0.0.1:{running.given['DB_PORT']} is not the one in container {running.name}" in refused.value.what


def test_the_containers_own_address_proves_it_without_an_exec(
    running: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = running.server()
    with contextlib.closing(running.ready()) as connection:
        identity = connection.facts().identity
    monkeypatch.setattr(container.programs, "start", lambda *_: pytest.fail("an exec was made"))
    server.verify(identity)


def test_the_same_server_behind_another_address_is_recognised_by_its_start(running: Checkout) -> None:
    with contextlib.closing(running.ready()) as connection:
        identity = connection.facts().identity
    server = running.server()
    server.verify(Identity("10.99.99.99", identity.system_identifier, identity.started_at))
    server.verify(Identity("10.99.99.99", "", identity.started_at))
    for wrong in (
        Identity("10.99.99.99", identity.system_identifier, "2020-01-01 00:00:00.000000"),
        Identity("10.99.99.99", "1", identity.started_at),
    ):
        with pytest.raises(errors.WrongServer):
            server.verify(wrong)


# -- ports -------------------------------------------------------------------------------------------------------------


def test_a_port_taken_by_a_program_is_said_and_no_container_is_left(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", int(checkout.given["DB_PORT"]))):
        with pytest.raises(errors.PortTaken, match=rf"the program .* \(process {os.getpid()}\)"):
            checkout.start()
        assert checkout.server().address() is None
        assert checkout.client.containers.list(all=True, filters={"name": checkout.name}) == []
    assert checkout.start().port == int(checkout.given["DB_PORT"])


def test_a_port_taken_by_a_container_is_said_with_its_name(checkout: Checkout, running: Checkout) -> None:
    with pytest.raises(errors.PortTaken) as refused:
        checkout.start(DB_PORT=running.given["DB_PORT"])
    assert refused.value.what == f"Port {running.given['DB_PORT']} is taken by container {running.name}."


def test_a_container_that_ran_before_stays_when_its_port_is_taken(checkout: Checkout) -> None:
    checkout.start()
    checkout.server().stop()
    with (
        socket.create_server(("127.0.0.1", int(checkout.given["DB_PORT"]))),
        pytest.raises(errors.PortTaken),
    ):
        checkout.start()
    assert checkout.container.status == "exited"


def test_a_running_container_is_not_moved_to_another_port(running: Checkout) -> None:
    before = running.container.id
    with pytest.raises(errors.PortDiffers) as refused:
        running.start(DB_PORT="20001")
    assert refused.value.what == (
        f"Container {running.name} is published on port {running.given['DB_PORT']}, but DB_PORT is 20001."
    )
    assert (running.container.id, running.container.status) == (before, "running")


def test_a_running_container_is_used_where_it_is_when_no_port_was_said(running: Checkout) -> None:
    assert running.start(DB_PORT="UNSET").port == int(running.given["DB_PORT"])


def test_a_stopped_container_moves_to_another_port_with_its_data_and_project(checkout: Checkout) -> None:
    with contextlib.closing(checkout.ready()) as connection:
        connection.do("CREATE TABLE kept ()")
    checkout.server().stop()
    port = free_port()
    with contextlib.closing(checkout.ready(DB_PORT=str(port), COMPOSE_PROJECT_NAME="unheard-of")) as connection:
        assert connection.address == Address("127.0.0.1", port)
        assert len(connection.tables()) == 1
    assert checkout.container.labels[f"{LABEL}project"] == checkout.project


def test_a_container_without_a_published_port_is_refused(checkout: Checkout) -> None:
    labels = {f"{LABEL}service": "postgres", f"{LABEL}project.working_dir": str(checkout.file.parent)}
    with bystander(checkout, labels={**labels, f"{LABEL}project": checkout.project}) as made:
        made.start()
        with pytest.raises(errors.PortDiffers, match="is published on no port of this machine"):
            checkout.start()


# -- containers that do not run ----------------------------------------------------------------------------------------


def test_a_container_that_exits_is_reported_with_its_last_words_and_without_the_password(checkout: Checkout) -> None:
    checkout.runs(["sh", "-c", 'echo "the end, $$POSTGRES_PASSWORD"; exit 3'])
    with pytest.raises(errors.ContainerExited) as refused:
        checkout.ready()
    assert refused.value.what == f"Container {checkout.name} has exited with code 3."
    assert refused.value.where == "  the end, ********"


def test_a_container_killed_while_it_is_waited_for_ends_the_wait(checkout: Checkout) -> None:
    checkout.runs(["sleep", "600"])
    server, waiting = checkout.server(), checkout.settings(DB_WAIT_TIMEOUT="600")
    address = server.start(print)
    with pytest.raises(errors.ContainerExited, match="has exited with code 137"):
        database.wait_until_ready(server, waiting, address, lambda _: checkout.container.kill())


def test_a_container_removed_while_it_is_waited_for_ends_the_wait(checkout: Checkout) -> None:
    checkout.runs(["sleep", "600"])
    server = checkout.server()
    server.start(print)
    checkout.container.remove(force=True)
    assert str(server.trouble()).startswith(f"Container {checkout.name} has been removed.")


def test_a_paused_container_is_said_to_be_paused_and_can_be_stopped(checkout: Checkout) -> None:
    checkout.ready().close()
    checkout.container.pause()
    server = checkout.server()
    for action in (server.address, lambda: server.start(print), lambda: server.execute("psql", [])):
        with pytest.raises(errors.ContainerPaused, match="is paused"):
            action()
    assert isinstance(server.trouble(), errors.ContainerPaused)
    assert server.stop() is True
    assert checkout.container.attrs["State"]["ExitCode"] == 0


# -- volumes made otherwise --------------------------------------------------------------------------------------------


def test_a_first_start_that_was_killed_is_recognised(checkout: Checkout) -> None:
    checkout.start()
    deadline = time.monotonic() + 30
    while b"creating subdirectories" not in checkout.container.logs() and time.monotonic() < deadline:
        time.sleep(0.01)
    checkout.container.kill()
    with pytest.raises(errors.HalfInitialised, match="was interrupted") as refused:
        checkout.ready()
    assert refused.value.where == f"  volume {checkout.project}_pgdata"
    assert "invoke db.down --volumes" in refused.value.next


def test_a_first_start_that_did_not_come_to_the_network_rules_is_recognised(checkout: Checkout) -> None:
    checkout.ready().close()
    rules = "/var/lib/postgresql/18/docker/pg_hba.conf"
    psql = ["psql", "-U", "postgres", "-c", "DROP DATABASE mordeaux"]
    for command in (["sed", "-i", "/^host all all all/d", rules], psql):
        assert checkout.container.exec_run(command).exit_code == 0
    checkout.server().stop()
    with pytest.raises(errors.HalfInitialised, match="it lets nobody in over the network yet"):
        checkout.ready()


def test_a_first_start_that_did_not_come_to_the_database_is_recognised(checkout: Checkout) -> None:
    checkout.ready(DB_NAME="postgres").close()
    with pytest.raises(errors.HalfInitialised, match="it has no database mordeaux yet"):
        checkout.ready()


def test_data_in_another_database_is_never_taken_for_a_half_finished_start(checkout: Checkout) -> None:
    with contextlib.closing(checkout.ready(DB_NAME="postgres")) as connection:
        connection.do("CREATE TABLE kept ()")
    with pytest.raises(errors.OtherDatabase, match="has no database mordeaux; it has postgres") as refused:
        checkout.ready()
    assert "--volumes" not in refused.value.next


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"DB_PASSWORD": "another"}, errors.OtherPassword, "was made with another password for postgres"),
        ({"DB_USER": "nobody"}, errors.OtherRole, "has no role nobody"),
        ({"DB_NAME": "another"}, errors.OtherDatabase, "has no database another; it has mordeaux"),
    ],
)
def test_a_volume_made_with_other_settings_is_said_to_be(
    running: Checkout, given: dict[str, str], kind: type[errors.ServerError], words: str
) -> None:
    with pytest.raises(kind, match=words) as refused:
        running.ready(**given)
    assert f"volume {running.project}_pgdata" in refused.value.what
    assert "another" not in str(refused.value) or "DB_PASSWORD" not in given or "another password" in refused.value.what


def test_a_refusal_that_the_container_knows_nothing_of_came_from_somebody_else(running: Checkout) -> None:
    assert isinstance(running.server().explain(attempt(running, errors.PasswordRefused)), errors.WrongServer)


def test_an_error_that_is_not_about_the_servers_data_stays_as_it_is(running: Checkout) -> None:
    error = attempt(running, errors.TlsNotOffered)
    assert running.server().explain(error) is error


# -- programs in the container -----------------------------------------------------------------------------------------


def test_a_program_runs_in_its_folder_connected_and_with_its_variables(running: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / f"run-{uuid.uuid4().hex}"
    (folder / "sub").mkdir(parents=True)
    (folder / "a b.sql").write_text("SELECT :'x', current_user, current_database(), 'é';\n\\i sub/b.sql\n", "utf-8")
    (folder / "sub" / "b.sql").write_text("SELECT current_setting('application_name');\n\\warn done\n", "utf-8")
    started = running.server().execute(
        "psql",
        ["-XAt", "-v", "x=$HOME `id` 'q' \"", "-f", "a b.sql"],
        folder=folder,
        env={"PGAPPNAME": "mine"},
    )
    lines, code = said(started)
    assert sorted(lines) == [
        ("stderr", "done"),
        ("stdout", "$HOME `id` 'q' \"|postgres|mordeaux|é"),
        ("stdout", "mine"),
    ]
    assert code == 0
    assert running.container.exec_run(["ls", f"/tmp/{folder.name}"]).exit_code != 0


def test_a_failing_program_gives_its_code_and_its_folder_goes_too(running: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / f"run-{uuid.uuid4().hex}"
    folder.mkdir()
    (folder / "a.sql").write_text("SELECT 1/0;\n", "utf-8")
    lines, code = said(running.server().execute("psql", ["-X", "-v", "ON_ERROR_STOP=1", "-f", "a.sql"], folder=folder))
    assert (lines, code) == ([("stderr", "psql:a.sql:1: ERROR:  division by zero")], 3)
    assert running.container.exec_run(["ls", f"/tmp/{folder.name}"]).exit_code != 0


def test_no_argument_of_an_exec_holds_the_password(running: Checkout) -> None:
    started = running.server().execute("psql", ["-XAtc", "SELECT 1"])
    assert isinstance(started, container.programs.ContainerProcess)
    arguments = running.client.api.exec_inspect(started._id)["ProcessConfig"]["arguments"]
    assert PASSWORD not in " ".join(arguments)
    assert said(started) == ([("stdout", "1")], 0)


def test_characters_cut_by_frames_arrive_whole(running: Checkout) -> None:
    lines, code = said(running.server().execute("psql", ["-XAtc", "SELECT 'x' || repeat('é', 200001)"]))
    assert (lines, code) == ([("stdout", "x" + "é" * 200001)], 0)


def test_a_statement_may_be_quiet_for_longer_than_the_clients_time_limit(
    running: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.client.api, "timeout", 1)
    assert said(running.server().execute("psql", ["-XAtc", "SELECT pg_sleep(2.5), 'slept'"])) == (
        [("stdout", "|slept")],
        0,
    )


def test_output_that_comes_together_with_the_responses_head_is_not_lost(
    running: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = http.client.HTTPResponse._read_status  # type: ignore[attr-defined]

    def held_up(response: http.client.HTTPResponse) -> object:
        time.sleep(0.5)
        return at_once(response)

    monkeypatch.setattr(http.client.HTTPResponse, "_read_status", held_up)
    assert said(running.server().execute("psql", ["-XAtc", "SELECT 'all'"])) == ([("stdout", "all")], 0)


def test_a_large_folder_is_not_held_in_memory(running: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / f"run-{uuid.uuid4().hex}"
    folder.mkdir()
    with (folder / "dump").open("wb") as file:
        file.truncate(50 * 1024 * 1024)
    tracemalloc.start()
    try:
        lines, code = said(running.server().execute("wc", ["-c", "dump"], folder=folder))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (lines, code) == ([("stdout", "52428800 dump")], 0)
    assert peak < 10 * 1024 * 1024


def test_a_program_that_the_image_lacks_is_named(running: Checkout) -> None:
    started = running.server().execute("pg_nothing", [])
    with pytest.raises(errors.ProgramMissing, match=f"pg_nothing could not be started in container {running.name}"):
        said(started)


def test_a_container_killed_during_a_statement_ends_the_program(checkout: Checkout) -> None:
    checkout.ready().close()
    started = checkout.server().execute("psql", ["-XAt", "-c", "SELECT 'on'", "-c", "SELECT pg_sleep(600)"])
    lines = process.lines(started)
    assert next(line for line in lines if line) == ("stdout", "on")
    checkout.container.kill()
    assert list(filter(None, lines)) == [] or started.wait() != 0
    assert started.wait() != 0


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_pulled_is_named_and_nothing_is_left(checkout: Checkout) -> None:
    text = checkout.file.read_text("utf-8")
    checkout.file.write_text(text.replace(standin.TAG, "127.0.0.1:1/no/image:1"), "utf-8")
    with pytest.raises(errors.ImageMissing, match=r"127\.0\.0\.1:1/no/image:1 is not on this machine") as refused:
        checkout.start()
    assert "docker pull 127.0.0.1:1/no/image:1" in refused.value.next
    assert "DB_SERVER=embedded" in refused.value.next
    assert not checkout.server().exists()


def test_a_missing_image_is_pulled_with_its_progress(checkout: Checkout) -> None:
    with registry() as (name, size):
        text = checkout.file.read_text("utf-8")
        checkout.file.write_text(text.replace(standin.TAG, name), "utf-8")
        seen: list[tuple[int, int]] = []
        server = Container(
            checkout.settings(), engine=checkout.engine, progress=lambda done, known: seen.append((done, known))
        )
        try:
            with pytest.raises(errors.ServerError):  # the image holds one file, and no program
                server.start(checkout.told.append)
            assert checkout.client.images.get(name).tags == [name]
        finally:
            checkout.clean_up()
            checkout.client.images.remove(name)
    assert checkout.told[0] == f"Pulling image {name}"
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


@contextlib.contextmanager
def registry() -> Iterator[tuple[str, int]]:
    """Serve one image of one file; its name, and the bytes of its layer."""
    layer_file = io.BytesIO()
    with tarfile.open(fileobj=layer_file, mode="w:gz") as tar:
        member = tarfile.TarInfo("file")
        member.size = 2_000_000
        tar.addfile(member, io.BytesIO(random.randbytes(member.size)))
    layer = layer_file.getvalue()
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["file"]
    import gzip

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(gzip.decompress(layer)).hexdigest()}"]},
        }
    ).encode()
    blobs = {f"sha256:{hashlib.sha256(blob).hexdigest()}": blob for blob in (config, layer)}
    config_digest, layer_digest = blobs
    kind = "application/vnd.docker."
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}distribution.manifest.v2+json",
            "config": {"mediaType": f"{kind}container.image.v1+json", "size": len(config), "digest": config_digest},
            "layers": [{"mediaType": f"{kind}image.rootfs.diff.tar.gzip", "size": len(layer), "digest": layer_digest}],
        }
    ).encode()

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, last = self.path.rpartition("/")
            body = b"{}" if self.path == "/v2/" else blobs.get(last, manifest)
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}distribution.manifest.v2+json")
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the standard library's name

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/mordeaux-test/small:{uuid.uuid4().hex[:8]}", len(layer)
        finally:
            server.shutdown()
            thread.join()


# -- compose -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def compose_cli() -> list[str]:
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0
    ):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail("REQUIRE_DOCKER=1 asks for real parts, but there is no compose command here")
    pytest.skip("no compose command on this machine")


def compose(cli: list[str], checkout: Checkout, *arguments: str) -> str:
    environment = {**os.environ, **checkout.given, "COLUMNS": "200"}  # a name is broken over lines otherwise
    command = [*cli, "-f", str(checkout.file), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_container_that_compose_made_is_found_and_used(checkout: Checkout, compose_cli: list[str]) -> None:
    compose(compose_cli, checkout, "up", "-d", "postgres")
    with contextlib.closing(checkout.ready(COMPOSE_PROJECT_NAME="UNSET")) as connection:
        assert connection.address.port == int(checkout.given["DB_PORT"])
    assert [line for line in checkout.told if "Creating" in line] == []
    gone = checkout.server(COMPOSE_PROJECT_NAME="UNSET").destroy()
    assert [each.partition(" ")[0] for each in gone] == ["container", "network", "volume"]


def test_a_container_that_we_made_is_composes_too(checkout: Checkout, compose_cli: list[str]) -> None:
    with contextlib.closing(checkout.ready()) as connection:
        connection.do("CREATE TABLE kept ()")
    assert checkout.name in compose(compose_cli, checkout, "ps")
    assert "ready to accept connections" in compose(compose_cli, checkout, "logs", "postgres")
    count = ["psql", "-U", "postgres", "-d", "mordeaux", "-XAtc", "SELECT 'there'"]
    assert "there" in compose(compose_cli, checkout, "exec", "-T", "postgres", *count)
    compose(compose_cli, checkout, "up", "-d", "postgres")
    with contextlib.closing(checkout.ready()) as connection:
        assert len(connection.tables()) == 1
    compose(compose_cli, checkout, "stop")
    assert checkout.server().address() is None
    compose(compose_cli, checkout, "down", "-v")
    assert not checkout.server().exists()


# -- finding an engine -------------------------------------------------------------------------------------------------


def found(tmp_path: Path, **environment: str) -> Engine:
    given = {"HOME": str(tmp_path), **environment}
    return container.find_engine(settings.read(given, root=tmp_path, dotenv={}))


def write_context(config: Path, name: str, host: str, *, current: bool = False) -> None:
    meta = config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    content = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (meta / "meta.json").write_text(json.dumps(content), "utf-8")
    if current:
        (config / "config.json").write_text(json.dumps({"currentContext": name}), "utf-8")


def test_an_engine_that_was_named_is_never_replaced_by_another(engine: Engine, tmp_path: Path) -> None:
    assert engine.client.ping()  # another one would be there
    with pytest.raises(errors.EngineUnavailable) as refused:
        found(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert refused.value.where == f"  unix://{tmp_path}/none.sock (DOCKER_HOST): there is no such socket"


@pytest.mark.parametrize("how", ["variable", "current"])
def test_a_context_that_does_not_exist_is_refused(tmp_path: Path, how: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "nosuch"}', "utf-8")
    with pytest.raises(errors.EngineUnavailable) as refused:
        found(tmp_path, **({"DOCKER_CONTEXT": "nosuch"} if how == "variable" else {}))
    assert "there is no such context" in refused.value.where
    assert "nosuch" in refused.value.where


@pytest.mark.parametrize("current", [False, True])
def test_a_context_leads_to_its_engine(engine: Engine, tmp_path: Path, current: bool) -> None:  # noqa: FBT001
    config = tmp_path / "config"
    write_context(config, "mine", engine.endpoint.url, current=current)
    given = {"DOCKER_CONFIG": str(config), **({} if current else {"DOCKER_CONTEXT": "mine"})}
    with contextlib.closing(found(tmp_path, **given).client) as client:
        assert client.ping()


def test_docker_host_goes_before_a_context(engine: Engine, tmp_path: Path) -> None:
    write_context(tmp_path / ".docker", "mine", "unix:///nowhere", current=True)
    taken = found(tmp_path, DOCKER_HOST=engine.endpoint.url)
    taken.client.close()
    assert str(taken.endpoint) == f"{engine.endpoint.url} (DOCKER_HOST)"


@needs_sockets
def test_a_socket_that_never_answers_does_not_hold_the_tasks_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container.engine, "FAR_PROBE", 1)
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
        with pytest.raises(errors.EngineUnavailable, match="No Docker engine") as refused:
            found(tmp_path, DOCKER_HOST=f"unix://{path}")
    assert "no answer in time" in refused.value.where


@needs_sockets
def test_each_socket_that_was_tried_is_reported_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "closed.sock"
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(path))
    ends = [Endpoint(f"unix://{path}", "usual place"), Endpoint(f"unix://{path}2", "usual place")]
    monkeypatch.setattr(endpoints, "usual", lambda _: ends)
    with pytest.raises(errors.EngineUnavailable) as refused:
        found(tmp_path)
    assert refused.value.where == (
        f"  unix://{path} (usual place): nobody listens there\n  unix://{path}2 (usual place): there is no such socket"
    )


def test_an_engine_on_another_machine_that_publishes_there_only_is_refused(running: Checkout) -> None:
    far = Engine(running.client, Endpoint("ssh://me@far.example", "DOCKER_HOST"))
    with pytest.raises(errors.EngineElsewhere, match=r"ssh://me@far\.example"):
        Container(running.settings(), engine=far).address()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("unix:///var/run/docker.sock", "127.0.0.1"),
        ("npipe:////./pipe/docker_engine", "127.0.0.1"),
        ("tcp://localhost:2375", "127.0.0.1"),
        ("tcp://docker:2376", "docker"),
        ("ssh://me@far.example:22", "far.example"),
    ],
)
def test_an_endpoint_knows_the_machine_it_is_on(url: str, host: str) -> None:
    assert Endpoint(url, "x").host == host
