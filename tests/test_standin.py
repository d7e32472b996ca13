"""The stand-in image behaves like the official one where the tasks can tell the difference."""

from __future__ import annotations

import contextlib
import io
import random
import socket
import tarfile
import time
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from docker.errors import ImageNotFound

from tests import standin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

READY = "database system is ready to accept connections"
INITIALISED = "PostgreSQL init process complete; ready for start up."
PATIENCE = 120  # seconds; a start takes three on a quiet machine


@pytest.fixture(scope="module")
def engine(docker_client: DockerClient, image: str) -> DockerClient:
    assert image == standin.TAG
    return docker_client


@contextlib.contextmanager
def _container(engine: DockerClient, **environment: str) -> Iterator[Container]:
    ports = {"5432/tcp": ("127.0.0.1", _free_port())}
    container = engine.containers.create(standin.image(engine), environment=environment, ports=ports)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def _free_port() -> int:
    """Below the range from which Linux gives ports to clients."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randint(20000, 32000)))
            return int(probe.getsockname()[1])


def _connect(container: Container, password: str = "right") -> psycopg.Connection:
    """Connect over the published port, as soon as the server there says yes or no."""
    container.reload()
    port = container.attrs["HostConfig"]["PortBindings"]["5432/tcp"][0]["HostPort"]
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return psycopg.connect(
                host="127.0.0.1", port=port, user="owner", dbname="shop", password=password, connect_timeout=5
            )
        except psycopg.OperationalError as error:
            if "FATAL:  password" in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.1)


def _log(container: Container) -> str:
    return container.logs().decode()


@pytest.fixture(scope="module")
def server(engine: DockerClient) -> Iterator[Container]:
    script = b"create table first_start as select current_setting('listen_addresses') as listens;"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("look.sql")
        member.size = len(script)
        tar.addfile(member, io.BytesIO(script))
    with _container(engine, POSTGRES_USER="owner", POSTGRES_PASSWORD="right", POSTGRES_DB="shop") as container:
        container.put_archive("/docker-entrypoint-initdb.d", archive.getvalue())
        container.start()
        yield container


def test_a_first_start_is_two_starts_of_which_the_first_listens_on_the_socket_only(server: Container) -> None:
    with _connect(server) as connection:
        assert connection.execute("select listens from first_start").fetchall() == [("",)]
        assert connection.execute("show listen_addresses").fetchall() == [("*",)]
    first, second = _log(server).split(INITIALISED)
    assert (first.count(READY), second.count(READY)) == (1, 1)


def test_the_published_port_refuses_a_wrong_password(server: Container) -> None:
    with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "owner"'):
        _connect(server, "wrong").close()


def test_pgvector_and_its_half_precision_vectors_are_there(server: Container) -> None:
    with _connect(server) as connection:
        connection.execute("create extension vector")
        assert connection.execute("select '[1,2]'::halfvec(2)::text").fetchall() == [("[1,2]",)]


def test_programs_inside_run_as_root_and_need_no_password(server: Container) -> None:
    with _connect(server):
        pass
    script = "id -u && psql -h 127.0.0.1 -U owner -d shop -Atc 'select 1' && psql -U owner -d shop -Atc 'select 2'"
    code, output = server.exec_run(["sh", "-c", script])
    assert (code, output) == (0, b"0\n1\n2\n")


def test_a_restart_keeps_the_data_and_skips_the_first_start(server: Container) -> None:
    with _connect(server):
        pass
    before = _log(server).count(READY)
    server.restart()
    with _connect(server) as connection:
        assert connection.execute("select count(*) from first_start").fetchall() == [(1,)]
    assert _log(server).count(READY) == before + 1
    assert "appears to contain a database; Skipping initialization" in _log(server)


def test_without_a_password_it_exits_with_the_official_words(engine: DockerClient) -> None:
    with _container(engine) as container:
        container.start()
        assert container.wait(timeout=PATIENCE)["StatusCode"] == 1
        assert "Error: Database is uninitialized and superuser password is not specified." in _log(container)


def test_the_same_files_make_the_same_image() -> None:
    try:
        first = standin.build()
    except standin.UnavailableError as error:
        pytest.skip(str(error))  # another system's files; where an engine is required, `image` fails
    standin._archive.cache_clear()
    assert standin.build() == first


@pytest.fixture
def spare_name(engine: DockerClient) -> Iterator[str]:
    name = f"mordeaux-test/{uuid.uuid4().hex}:pg18"
    yield name
    with contextlib.suppress(ImageNotFound):
        engine.images.remove(name, noprune=True)


def test_the_stand_in_takes_a_free_name_and_gives_it_back(engine: DockerClient, spare_name: str) -> None:
    assert standin.stand_in(engine, spare_name)
    assert engine.images.get(spare_name).id == engine.images.get(standin.TAG).id
    assert standin.stand_down(engine, spare_name)
    with pytest.raises(ImageNotFound):
        engine.images.get(spare_name)


def test_a_real_image_never_loses_its_name_to_the_stand_in(engine: DockerClient, spare_name: str) -> None:
    repository, tag = spare_name.split(":")
    engine.api.import_image_from_data(b"\0" * 1024, repository=repository, tag=tag)
    real = engine.images.get(spare_name).id
    assert not standin.stand_in(engine, spare_name)
    assert not standin.stand_down(engine, spare_name)
    assert engine.images.get(spare_name).id == real
