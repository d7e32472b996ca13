"""The run on a server in trouble: each kind has its own words, and nothing is changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import postgres
from tests.conftest import answers, free_port, open_folder
from tests.patience import finish, read_until, sleeping, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from tests.postgres import Dsn
    from tests.project import Done, Project


# What changes a database, in a way that goes through when nothing is wrong with the server.
WRITING = [("migrate",), ("migrate-baseline",), ("migrate-resolve", "001", "--applied"), ("migrate-reset", "--yes")]


@pytest.fixture(scope="module")
def own() -> Iterator[Dsn]:
    """A server that the tests here may stop, and that has few connections."""
    with postgres.running(max_connections="6", reserved_connections="0", superuser_reserved_connections="0") as server:
        yield server


@pytest.fixture
def on_own(own: Dsn, external_project: Project, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database on that server."""
    there = {"DB_PORT": str(own.port), "DB_PASSWORD": own.password}
    return fresh(replace(external_project, settings={**external_project.settings, **there}))


def assert_told(done: Done, words: str, *, code: int = 5) -> None:
    """Assert that it failed in our own words, with the next command to type."""
    assert (done.code, words in done.err) == (code, True), done
    assert "Next: " in done.err
    assert "Traceback" not in done.err


def test_a_server_that_refuses_connections_for_a_while_is_waited_for(on_own: Project, own: Dsn) -> None:
    on_own.write("001_one.sql", "CREATE TABLE one (i int);")
    postgres.stop(own)
    try:
        done = on_own.invoke("migrate", DB_WAIT_TIMEOUT="0.5")
        waiting = on_own.start("migrate")
        read_until(waiting, b"Waiting for PostgreSQL")
    finally:
        postgres.start(own)
    assert_told(done, "Nothing answers at 127.0.0.1")
    assert finish(waiting)[0] == 0
    assert on_own.applied() == ["001"]


def test_a_server_that_restarts_in_mid_run_has_rolled_back_and_the_next_run_goes_on(on_own: Project, own: Dsn) -> None:
    on_own.write("001_one.sql", "CREATE TABLE one (i int);")
    on_own.write("002_two.sql", "CREATE TABLE two (i int); SELECT pg_sleep(300);")
    run = on_own.start("migrate")
    until(sleeping(on_own))
    postgres.stop(own)
    postgres.start(own)
    code, said = finish(run)
    assert code == 5
    assert "The connection to PostgreSQL was lost." in said
    assert "002 was rolled back." in said
    assert (on_own.applied(), on_own.tables()) == (["001"], {"one"})
    on_own.write("002_two.sql", "CREATE TABLE two (i int);")
    assert on_own.invoke("migrate").code == 0


def test_a_container_that_restarts_in_mid_run_has_rolled_back_and_the_next_run_goes_on(
    docker_project: Project, fresh: Callable[[Project], Project], docker_client: DockerClient
) -> None:
    here = fresh(docker_project)
    here.write("001_one.sql", "CREATE TABLE one (i int);")
    here.write("002_two.sql", "CREATE TABLE two (i int); SELECT pg_sleep(300);")
    run = here.start("migrate")
    until(sleeping(here))
    docker_client.containers.get(f"{here.settings['COMPOSE_PROJECT_NAME']}-postgres-1").restart()
    code, said = finish(run)
    assert (code, "Traceback" in said) == (5, False), said
    assert "002 was rolled back." in said
    assert here.invoke("db.up").code == 0
    assert (here.applied(), here.tables()) == (["001"], {"one"})
    here.write("002_two.sql", "CREATE TABLE two (i int);")
    assert here.invoke("migrate").code == 0


@contextlib.contextmanager
def taken(project: Project, leave: int) -> Iterator[None]:
    """Take all connections of the server but a few."""
    with contextlib.ExitStack() as stack:
        for _ in range(6 - leave):
            stack.enter_context(project.connect())
        yield


@pytest.mark.parametrize("leave", [pytest.param(0, id="none"), pytest.param(1, id="one of the two that it takes")])
def test_a_server_without_a_free_connection_is_waited_for_and_then_told(on_own: Project, leave: int) -> None:
    on_own.write("001_one.sql", "CREATE TABLE one (i int);")
    with taken(on_own, leave):
        done = on_own.invoke("migrate", DB_WAIT_TIMEOUT="1")
        waiting = on_own.start("migrate")
        read_until(waiting, b"Waiting for")
    assert_told(done, "has no connection left for the role postgres")
    assert finish(waiting)[0] == 0
    assert on_own.applied() == ["001"]


def test_a_standby_is_refused(on_own: Project, own: Dsn) -> None:
    on_own.write("001_one.sql", "CREATE TABLE one (i int);")
    with postgres.standby(own) as follower:
        for words in WRITING:
            done = on_own.invoke(*words, DB_PORT=str(follower.port))
            assert_told(done, "is a standby, which only follows its primary")
    assert on_own.applied() == []


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("table", "code"),
    [
        pytest.param("UNLOGGED", 3, id="in a table: the statement fails"),
        pytest.param("", 5, id="in the log: the server goes down"),
    ],
)
def test_a_full_disk_is_told_and_nothing_is_half_done(
    docker_project: Project, docker_client: DockerClient, tmp_path: Path, table: str, code: int
) -> None:
    name = f"full-{free_port()}"
    limited = {"type": "tmpfs", "device": "tmpfs", "o": "size=96m"}
    labels = {"com.docker.compose.project": name, "com.docker.compose.volume": "pgdata"}
    docker_client.volumes.create(f"{name}_pgdata", driver_opts=limited, labels=labels)
    given = {"COMPOSE_PROJECT_NAME": name, "DB_PORT": str(free_port()), "MIGRATIONS_DIR": str(tmp_path)}
    root = shutil.copytree(docker_project.root, tmp_path / "checkout")
    here = replace(docker_project, root=root, settings={**docker_project.settings, **given, "DB_NAME": "mordeaux"})
    here.write("001_one.sql", "CREATE TABLE one (i int);")
    here.write("002_big.sql", f"CREATE {table} TABLE big AS SELECT repeat('x', 2000) FROM generate_series(1, 100000);")
    here.write("003_three.sql", "CREATE TABLE three (i int);")
    try:
        done = here.invoke("migrate")
        assert_told(done, FULL if code == 3 else "The connection to PostgreSQL was lost.", code=code)
        assert "002 was rolled back." in done.err
        assert "003 was not tried." in done.err
        if code == 3:
            assert f"{here.folder}/002_big.sql:1" in done.err
            assert (here.applied(), here.tables()) == (["001"], {"one"})
            here.write("002_big.sql", "CREATE TABLE big (i int);")
            assert here.invoke("migrate").code == 0
    finally:
        assert here.invoke("db.down", "--volumes", "--yes").code == 0


def test_a_read_only_database_is_refused(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    name = external.settings["DB_NAME"]
    external.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    for words in WRITING:
        assert_told(external.invoke(*words), "default_transaction_read_only")
    assert external.tables() == set()


@contextlib.contextmanager
def role(project: Project) -> Iterator[dict[str, str]]:
    """Make an ordinary role that may do nothing special; yields the settings to be it."""
    name = f"{project.settings['DB_NAME']}_role"
    project.do(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    try:
        yield {"DB_USER": name, "DB_PASSWORD": "x"}
    finally:
        project.do(f"DROP OWNED BY {name} CASCADE")
        project.do(f"DROP ROLE {name}")


def test_a_role_that_may_not_create_tables_is_refused(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    with role(external) as ordinary:
        assert_told(external.invoke("migrate", **ordinary), "may not create tables in schema public")
    assert external.tables() == set()


def test_a_role_that_may_not_read_the_history_is_refused(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    with role(external) as ordinary:
        external.do(f"GRANT CREATE, USAGE ON SCHEMA public TO {ordinary['DB_USER']}")
        for words in (("migrate",), ("migrate-status",), ("migrate-baseline",)):
            assert_told(external.invoke(*words, **ordinary), "may not read public.schema_migrations")


def test_a_role_that_may_read_but_not_write_the_history_changes_nothing(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    external.write("002_two.sql", "CREATE TABLE two (i int);")
    with role(external) as ordinary:
        external.do(f"GRANT CREATE, USAGE ON SCHEMA public TO {ordinary['DB_USER']}")
        external.do(f"GRANT SELECT ON schema_migrations TO {ordinary['DB_USER']}")
        done = external.invoke("migrate", **ordinary)
        assert_told(done, "permission denied for table schema_migrations", code=3)
        for words in (
            ("migrate-resolve", "2", "--applied"),
            ("migrate-resolve", "1", "--pending"),
        ):
            assert_told(external.invoke(*words, **ordinary), "may not write public.schema_migrations")
    assert (external.applied(), external.tables()) == (["001"], {"one"})


LIMITS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
    "lock_timeout",
)


@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
def test_time_limits_set_on_role_or_database_do_not_end_a_migration(external: Project, whose: str) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int); SELECT pg_sleep(1);")
    external.write("002_two.sql", "CREATE TABLE two (i int);")
    with role(external) as ordinary:
        external.do(f"GRANT CREATE, USAGE ON SCHEMA public TO {ordinary['DB_USER']}")
        name = ordinary["DB_USER"] if whose == "ROLE" else external.settings["DB_NAME"]
        for limit in LIMITS:
            external.do(f"ALTER {whose} {name} SET {limit} = '300ms'")
        done = external.invoke("migrate", **ordinary)
        assert done.code == 0, done
        assert external.applied() == ["001", "002"]


FOREIGN = [
    pytest.param("version varchar(128) PRIMARY KEY", "'20240101'", "dbmate's or Rails'", id="dbmate"),
    pytest.param("version character varying NOT NULL", "'20240101'", "dbmate's or Rails'", id="Rails"),
    pytest.param("version bigint PRIMARY KEY, dirty boolean NOT NULL", "1, false", "golang-migrate's", id="golang"),
    pytest.param("id int, script text", "1, 'one'", "another tool's", id="unknown"),
]
ALL_THAT_WRITE = [
    ("migrate",),
    ("migrate", "--plan"),
    ("migrate-status",),
    ("migrate-baseline",),
    ("migrate-resolve", "001", "--applied"),
    ("migrate-resolve", "001", "--pending"),
]


@pytest.mark.parametrize(("columns", "row", "owner"), FOREIGN)
def test_another_tools_history_is_left_alone(external: Project, columns: str, row: str, owner: str) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.do(f"CREATE TABLE schema_migrations ({columns}); INSERT INTO schema_migrations VALUES ({row})")
    before = external.rows("SELECT * FROM schema_migrations")
    for words in ALL_THAT_WRITE:
        assert_told(external.invoke(*words), f"The table public.schema_migrations is {owner}, not ours.", code=4)
    assert (external.tables(), external.rows("SELECT * FROM schema_migrations")) == (set(), before)


def test_a_view_with_the_historys_name_is_left_alone(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.do("CREATE VIEW schema_migrations AS SELECT '1'::text AS version")
    for words in ALL_THAT_WRITE:
        assert_told(external.invoke(*words), "The table public.schema_migrations is", code=4)
    assert external.tables() == set()


@contextlib.contextmanager
def pgbouncer(project: Project, folder: Path) -> Iterator[str]:
    """Run a real PgBouncer in transaction mode before the project's server; yields its port."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail("REQUIRE_DOCKER=1 asks for real parts, but there is no pgbouncer here")
        pytest.skip("needs PgBouncer, like Debian's:  apt install pgbouncer")
    port, password = str(free_port()), project.settings["DB_PASSWORD"]
    (folder / "users").write_text(f'"postgres" "{password}"\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={project.settings['DB_PORT']} password={password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {folder}/users\npool_mode = transaction\nignore_startup_parameters = options,extra_float_digits\n"
    )
    account = postgres.UNPRIVILEGED if postgres.AS_ROOT else None  # like PostgreSQL, it refuses to run as root
    started = subprocess.Popen([program, "-q", folder / "ini"], user=account)
    try:
        until(lambda: answers(int(port)))
        yield port
    finally:
        started.terminate()
        started.wait()


def test_a_pooler_in_between_is_recognised_and_refused(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    with open_folder() as folder, pgbouncer(external, folder) as port:
        for words in WRITING:
            assert_told(
                external.invoke(*words, DB_PORT=port),
                "A connection pooler (PgBouncer?) answers instead of PostgreSQL itself.",
            )
    assert external.rows("SELECT to_regclass('schema_migrations')") == [(None,)]
    assert external.tables() == set()
