r"""The password is full of special characters, works on every server, and is never to be seen.

Every task is run, on success and on its usual failures. Searched for the password are: all output, tracebacks
included; the command lines of all processes while it runs (on Linux); what Docker tells of what we made; the server's
log; the names of backups, and whatever files are left. Only `db.url --password` shows it, because it was asked for, and
the image's own variable POSTGRES_PASSWORD holds it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import project
from tests.conftest import free_port, open_folder
from tests.story import EACH, KNOWN, LAST, STORY, Row
from tests.systems import UMLAUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from tests.postgres import Dsn
    from tests.project import Done, Project

MARK = secrets.token_hex(6)  # nothing escapes it, so that it is found however the rest is written
SECRET = f"p@ss:w/o\"r'd %$\\{UMLAUT}{MARK}"


class Searched(AssertionError):
    """The password was found."""


def search(where: str, text: str | bytes) -> None:
    """Fail if the password is in a text."""
    found = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    if (at := found.find(MARK.encode())) >= 0 or (at := found.find(b"p@ss:w")) >= 0:
        raise Searched(f"{where} shows the password: {found[max(0, at - 500) : at + 100]!r}")


@contextlib.contextmanager
def watched_processes() -> Iterator[None]:
    """Look at the command lines of all processes as long as the block lasts (containers are processes here, too)."""
    ended, seen = threading.Event(), set[bytes]()

    def look() -> None:
        while not ended.wait(0.01):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if MARK.encode() in (words := file.read_bytes()):
                        seen.add(words)

    if sys.platform != "linux":
        yield
        return
    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
    if seen:
        raise Searched(f"a process shows the password: {seen}")


def type_in(here: Project, row: Row, **more: str) -> Done:
    """Run a command and search what comes of it."""
    row.before(here)
    with watched_processes():
        done = here.invoke(*row.line.split(), **more)
    search(f"invoke {row.line}", done.out + done.err)
    assert done.code != 1 or more, (row.line, done)
    return done


@pytest.fixture(scope="module", params=["embedded", "docker", "external"])
def site(request: pytest.FixtureRequest) -> Iterator[Project]:
    """A checkout with a server whose role has the password."""
    if request.param == "external":
        with open_folder() as folder:  # rehearsals start a private server beside it
            yield from external_site(request.getfixturevalue("private"), folder)
        return
    image = request.getfixturevalue("image") if request.param == "docker" else ""
    name = f"secrets-{MARK[:4]}{free_port()}"  # the mark is not in it as a whole
    given = {
        "DB_SERVER": request.param,
        "DB_NAME": "mordeaux",
        "DB_PORT": str(free_port()),
        "COMPOSE_PROJECT_NAME": name,
    }
    with open_folder() as folder:
        (folder / "temporary").mkdir()
        here = project.copy(
            folder / "checkout", image=image, DB_PASSWORD=SECRET, TMPDIR=str(folder / "temporary"), **given
        )
        try:
            assert type_in(here, Row("db.up")).code == 0
            here.do("ALTER SYSTEM SET log_statement = 'all'")
            here.do("SELECT pg_reload_conf()")
            yield here
        finally:
            for row in LAST[1:]:
                assert type_in(here, row).code == 0


def external_site(private: Dsn, folder: Path) -> Iterator[Project]:
    """A checkout that uses the tests' own server, as a role with the password."""
    (folder / "temporary").mkdir()
    given = {"DB_SERVER": "external", "DB_HOST": "127.0.0.1", "DB_PORT": str(private.port), "DB_NAME": f"s{MARK[:6]}"}
    as_superuser = project.copy(folder / "checkout", DB_PASSWORD=private.password, **given)
    here = replace(
        as_superuser,
        settings={**given, "DB_USER": f"s{MARK[:6]}", "DB_PASSWORD": SECRET, "TMPDIR": str(folder / "temporary")},
    )
    name, quoted = here.settings["DB_USER"], SECRET.replace("'", "''")
    maker = replace(as_superuser, settings={**as_superuser.settings, "DB_NAME": "postgres"})
    maker.do(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{quoted}'")
    maker.do(f"CREATE DATABASE {name} OWNER {name}")
    maker.do(f"ALTER DATABASE {name} SET log_statement = 'all'")
    (folder / "server.log").symlink_to(private.data.with_name("log"))
    yield here
    maker.do(f"DROP DATABASE {name} WITH (FORCE)")
    maker.do(f"DROP ROLE {name}")


def test_every_task_has_its_row() -> None:
    assert {row.task for row in EACH} >= KNOWN


def test_every_task_works_with_it_and_shows_it_nowhere(site: Project) -> None:
    for row in STORY:
        if row.task in KNOWN:
            done = type_in(site, row)
            assert row.code in (None, done.code), (row.line, done)
    shown = site.invoke("db.url", "--password")  # the one exception
    assert MARK in shown.out
    nothing_is_left(site)


def each_task(here: Project, *but: str, **more: str) -> None:
    """Run one command of each task where it must fail in words of ours."""
    for row in EACH:
        if row.task in KNOWN and row.task not in but:
            done = type_in(here, row, **more)
            assert "Traceback" not in done.err, (row.line, done)
    nothing_is_left(here)


def test_no_task_shows_it_when_it_is_refused(site: Project) -> None:
    each_task(site, "db.down", DB_PASSWORD=f"{SECRET}x")


# What follows is the same on every server.
ANY = pytest.mark.parametrize("site", ["external"], indirect=True)


@ANY
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"DB_PORT": "abc", "DB_PASWORD": "a misspelt name"}, id="settings that make no sense"),
        pytest.param({"DB_NAME": "nowhere"}, id="a database that is not there"),
    ],
)
def test_no_task_shows_it_when_the_settings_are_wrong(site: Project, wrong: dict[str, str]) -> None:
    each_task(site, **wrong)


@ANY
def test_no_task_shows_it_in_the_traceback_of_a_bug(site: Project, tmp_path: Path) -> None:
    broken = replace(
        site, root=shutil.copytree(site.root, tmp_path / "broken", ignore=shutil.ignore_patterns(".postgres"))
    )
    lines = (
        "def bug(*_):",
        "    import os",
        "    secret = os.environ['DB_PASSWORD']",
        "    raise RuntimeError(f'{secret} {secret!r} {[secret]}')",
    )
    places = (("session.py", "Session.__init__"), ("servers/choice.py", "choose"))  # the doctor has no Session
    for module, name in places:
        with (broken.root / "infra" / "db" / module).open("a", encoding="utf-8") as file:
            file.write("\n".join(("", *lines, f"{name} = bug", "")))
    for row in EACH:
        if row.task in KNOWN:
            done = type_in(broken, row, PYTHONDONTWRITEBYTECODE="1")
            assert (done.code, "Traceback" in done.err, "RuntimeError" in done.err) == (1, True, True), (row.line, done)


def test_no_task_shows_it_when_the_server_is_down(site: Project) -> None:
    if site.settings["DB_SERVER"] == "external":
        there = {"DB_PORT": str(free_port()), "DB_WAIT_TIMEOUT": "0.5"}
    else:
        assert type_in(site, Row("db.down")).code == 0
        there = {"DB_WAIT_TIMEOUT": "20"}
    each_task(site, "db.up", "db.down", **there)
    if site.settings["DB_SERVER"] != "external":
        assert type_in(site, Row("db.up")).code == 0


def nothing_is_left(here: Project) -> None:
    """Search files, logs and what Docker tells."""
    for file in here.root.parent.rglob("*"):
        if file.is_file():
            search(str(file), file.name)
            search(str(file), file.read_bytes())
    if here.settings["DB_SERVER"] == "docker":
        import docker

        with contextlib.closing(docker.from_env()) as client:
            nothing_in_docker(client, here.settings["COMPOSE_PROJECT_NAME"])


def nothing_in_docker(client: DockerClient, name: str) -> None:
    """Search what `docker inspect`, `docker logs` and the list of processes tell of a project."""
    ours: dict[str, Any] = {"label": f"com.docker.compose.project={name}"}
    containers = client.containers.list(all=True, filters=ours)
    assert containers
    for container in containers:
        told = client.api.inspect_container(container.id or "")
        variables = told["Config"]["Env"]
        assert [each for each in variables if MARK in each] == [f"POSTGRES_PASSWORD={SECRET}"]
        told["Config"]["Env"] = [each for each in variables if not each.startswith("POSTGRES_PASSWORD=")]
        search("docker inspect", json.dumps(told, ensure_ascii=False))
        search("docker logs", container.logs())
    for thing in (*client.volumes.list(filters=ours), *client.networks.list(filters=ours)):
        search("docker inspect", json.dumps(thing.attrs, ensure_ascii=False))
