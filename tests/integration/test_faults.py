"""The run when things go wrong around it: other runs, other sessions, Ctrl-C, kills, hostile files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from infra.db import psql
from tests import postgres
from tests.conftest import free_port, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from tests.project import Project

PATIENCE = 60  # seconds until a test gives up waiting for what must come


def until(what: Callable[[], object]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def finish(started: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return exit code and output of a started command."""
    out, _ = started.communicate(timeout=PATIENCE)
    return started.returncode, out.decode()


def read_until(started: subprocess.Popen[bytes], words: bytes) -> None:
    """Read a started command's output up to a line with these words."""
    assert started.stdout
    said = b""
    while words not in said:
        said = started.stdout.readline()
        assert said, f"it ended without saying {words!r}"


def sleeping(project: Project) -> Callable[[], object]:
    """Tell whether a migration sleeps in the database."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND state = 'active' AND pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    return lambda: project.rows(query)


def no_run_is_left(project: Project) -> bool:
    """Tell whether no session of a run is left, and no lock of one."""
    return project.rows(
        "SELECT (SELECT count(*) FROM pg_stat_activity"
        "         WHERE application_name LIKE 'invoke migrate%%' AND datname = current_database()),"
        " (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        "   WHERE locktype = 'advisory' AND classid = %s AND datname = current_database())",
        psql.LOCK[0],
    ) == [(0, 0)]


@pytest.mark.parametrize("runs", [pytest.param(2, id="two"), pytest.param(12, id="twelve")])
def test_runs_at_once_apply_each_file_once(external: Project, runs: int) -> None:
    external.write("001_log.sql", "CREATE TABLE log (i int);")
    for number in range(2, 8):
        external.write(f"00{number}_step.sql", f"INSERT INTO log VALUES ({number}); SELECT pg_sleep(0.05);")
    external.write("008_index.sql", "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY log_i ON log (i);")
    done = [finish(started) for started in [external.start("migrate") for _ in range(runs)]]
    assert [code for code, _ in done] == [0] * runs, done
    assert external.rows("SELECT i, count(*) FROM log GROUP BY i ORDER BY i") == [(i, 1) for i in range(2, 8)]
    assert external.applied() == [f"00{number}" for number in range(1, 9)]
    assert no_run_is_left(external)


def test_a_run_that_waits_says_for_whom_and_gives_up_in_time(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    with external.connect(application_name="somebody") as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", psql.LOCK)
        done = external.invoke("migrate", DB_WAIT_TIMEOUT="0.6")
        assert done.code == 6
        assert re.search(
            r"Another run works on this database.*\n  pid \d+, user postgres, from 127.0.0.1, somebody", done.out
        )
        assert f"SELECT pg_terminate_backend({other.info.backend_pid})" in done.err
        assert external.applied() == []
        waiting = external.start("migrate")
        read_until(waiting, b"Another run works")
    code, _ = finish(waiting)
    assert code == 0
    assert external.applied() == ["001"]


def test_a_file_that_another_run_is_at_has_not_failed_until_that_run_is_gone(external: Project) -> None:
    external.write("001_one.sql", "-- migrate: no-transaction\nCREATE TABLE one (i int);")
    external.write("000_zero.sql", "CREATE TABLE zero (i int);")
    assert external.invoke("migrate", "--to", "0").code == 0
    external.do("INSERT INTO schema_migrations (version, name, status, checksum) VALUES ('001', 'one', 'running', 'x')")
    with external.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", psql.LOCK)
        assert external.status() == {"000": "applied", "001": "pending"}
        assert external.invoke("migrate", DB_WAIT_TIMEOUT="0.6").code == 6
    assert external.status() == {"000": "applied", "001": "failed"}
    assert external.invoke("migrate").code == 4


def test_a_file_that_cannot_get_its_table_is_retried_and_succeeds_when_it_can(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    external.write("002_two.sql", "ALTER TABLE one ADD COLUMN j int;")
    with external.connect(application_name="report") as reader:
        with reader.transaction():
            reader.execute("SELECT * FROM one")
            run = external.start("migrate", DB_LOCK_TIMEOUT="500ms")
            read_until(run, b"try 2 follows")
            assert run.stdout
            blocker = run.stdout.readline().decode()
        code, _ = finish(run)
    assert code == 0
    assert re.match(
        r"    held by pid \d+, user postgres, from 127.0.0.1, report, since .*, idle in transaction for", blocker
    )
    assert external.applied() == ["001", "002"]


def test_a_table_that_is_never_let_go_ends_the_run_cleanly(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    external.write("002_two.sql", "CREATE TABLE two (i int);")
    external.write("003_three.sql", "CREATE TABLE three (i int);\nALTER TABLE one ADD COLUMN j int;")
    with external.connect() as reader, reader.transaction():
        reader.execute("SELECT * FROM one")
        done = external.invoke("migrate", DB_LOCK_TIMEOUT="200ms", DB_LOCK_RETRIES="1")
    assert done.code == 6
    assert "003_three could not get its lock in 2 tries" in done.err
    assert f"{external.folder}/003_three.sql:2" in done.err
    assert external.tables() == {"one", "two"}
    assert external.applied() == ["001", "002"]


def test_a_waiting_migration_stands_in_nobodys_way_for_longer_than_its_lock_timeout(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    external.write("002_two.sql", "ALTER TABLE one ADD COLUMN j int;")
    with external.connect() as reader, external.connect() as third, reader.transaction():
        reader.execute("SELECT * FROM one")
        run = external.start("migrate", DB_LOCK_TIMEOUT="1s", DB_LOCK_RETRIES="0")
        until(lambda: third.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
        third.execute("SET statement_timeout = '10s'")  # far above the lock time-out: it fails only if it never ends
        third.execute("SELECT * FROM one")
        assert finish(run)[0] == 6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no way to send Ctrl-C to one child process only")
@pytest.mark.parametrize("sent", [pytest.param("SIGINT", id="ctrl-c"), pytest.param("SIGTERM", id="sigterm")])
def test_an_interrupted_run_is_rolled_back_and_says_so(anywhere: Project, sent: str) -> None:
    anywhere.write("001_one.sql", "CREATE TABLE one (i int);")
    anywhere.write("002_two.sql", "CREATE TABLE two (i int); SELECT pg_sleep(300);")
    run = anywhere.start("migrate")
    until(sleeping(anywhere))
    run.send_signal(getattr(signal, sent))
    code, said = finish(run)
    assert code == 130
    assert "Interrupted in 002_two." in said
    assert "002 was rolled back. 001 stays applied." in said
    assert anywhere.tables() == {"one"}
    assert anywhere.applied() == ["001"]
    assert no_run_is_left(anywhere)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL; the server's side is the same")
def test_a_killed_tool_leaves_nothing_half_done_and_the_next_run_goes_on(anywhere: Project) -> None:
    anywhere.write("001_one.sql", "CREATE TABLE one (i int);")
    anywhere.write("002_two.sql", "CREATE TABLE two (i int); SELECT pg_sleep(1.5); INSERT INTO two VALUES (1);")
    anywhere.write("003_three.sql", "CREATE TABLE three (i int);")
    run = anywhere.start("migrate")
    until(sleeping(anywhere))
    run.kill()
    run.communicate()
    done = anywhere.invoke("migrate")
    assert done.code == 0, done
    assert anywhere.applied() == ["001", "002", "003"]
    assert anywhere.rows("SELECT i FROM two") == [(1,)]


def test_a_killed_backend_is_reported_and_rolled_back(anywhere: Project) -> None:
    anywhere.write("001_one.sql", "CREATE TABLE one (i int);")
    anywhere.write("002_two.sql", "CREATE TABLE two (i int); SELECT pg_sleep(300);")
    run = anywhere.start("migrate")
    until(sleeping(anywhere))
    anywhere.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid() AND datname = current_database()"
    )
    code, said = finish(run)
    assert code == 5
    assert "The connection to PostgreSQL was lost." in said
    assert "while running 002_two" in said
    assert anywhere.tables() == {"one"}
    assert anywhere.applied() == ["001"]


def test_what_a_killed_run_left_in_the_container_is_swept_by_the_next_one(
    docker_project: Project, fresh: Callable[[Project], Project], docker_client: DockerClient
) -> None:
    here = fresh(docker_project)
    container = docker_client.containers.get(f"{here.settings['COMPOSE_PROJECT_NAME']}-postgres-1")
    assert container.exec_run(["mkdir", "/tmp/invoke-migrate-left", "/tmp/somebody-elses"]).exit_code == 0
    here.write("001_one.sql", "CREATE TABLE one (i int);")
    assert here.invoke("migrate").code == 0
    assert container.exec_run(["sh", "-c", "echo /tmp/*"]).output == b"/tmp/somebody-elses\n"
    assert container.exec_run(["rm", "-r", "/tmp/somebody-elses"]).exit_code == 0


HOSTILE = [
    pytest.param("SELECT 1;\n\\connect postgres\n", 3, ":2", "a psql command", id="connect"),
    pytest.param("\\! touch /tmp/never\n", 3, ":1", "a psql command", id="shell"),
    pytest.param("\\set ON_ERROR_STOP off\nSELECT 1/0;\n", 3, ":1", "a psql command", id="set"),
    pytest.param("CREATE TABLE x (i int);\n\\q\n", 3, ":2", "a psql command", id="quit"),
    pytest.param("SELECT 'CREATE TABLE x ()' \\gexec\n", 3, ":1", "a psql command", id="gexec"),
    pytest.param("\\if true\nSELECT 1;\n", 3, ":1", "a psql command", id="if"),
    pytest.param("SELECT 1;\n\nSELECT 'open;\n", 3, ":3", "unterminated quoted string", id="quote"),
    pytest.param("SELECT 1;\nDO $$ BEGIN NULL; END;\n", 3, ":2", "unterminated dollar-quoted string", id="dollar"),
    pytest.param("SELECT 1;\n/* open\n", 3, ":2", "unterminated /* comment", id="comment"),
    pytest.param("SELECT 1;\nSELECT (2;\n", 3, ":2", "syntax error", id="parenthesis"),
    pytest.param("CREATE TABLE x (i int);\nCOMMIT;\n", 4, ":2", "opens or ends a transaction", id="commit"),
    pytest.param("BEGIN;\nCREATE TABLE x (i int);\nCOMMIT;\n", 4, ":1", "opens or ends a transaction", id="begin"),
    pytest.param("CREATE TABLE x (i int);\nROLLBACK;\n", 4, ":2", "opens or ends a transaction", id="rollback"),
    pytest.param(
        "CREATE TABLE x ();\nCREATE INDEX CONCURRENTLY i ON one (i);", 4, ":2", "CONCURRENTLY", id="concurrently"
    ),
    pytest.param("VACUUM;", 3, ":1", "no-transaction", id="vacuum"),
    pytest.param("DROP TABLE schema_migrations;", 3, "", "could not be recorded", id="drop-history"),
    pytest.param("DELETE FROM schema_migrations;", 3, "", "changed the history", id="edit-history"),
    pytest.param(
        "INSERT INTO schema_migrations (version, name, status, checksum) VALUES ('9', 'x', 'applied', 'x');",
        3,
        "",
        "changed the history",
        id="forge-history",
    ),
    pytest.param("SELECT pg_terminate_backend(pg_backend_pid());", 5, "", "while running 002_bad", id="suicide"),
    pytest.param("SET standard_conforming_strings = off; SELECT 1/0;", 3, ":1", "division by zero", id="strings-off"),
    pytest.param("COPY one FROM STDIN;\n1\nx\n\\.\n", 3, ":1", "invalid input syntax", id="copy-bad-data"),
    pytest.param("PREPARE TRANSACTION 'x';", 3, ":1", "prepared transactions are disabled", id="prepare"),
    pytest.param("SET TRANSACTION READ ONLY;", 3, "", "read-only transaction", id="read-only"),
]


@pytest.mark.parametrize(("sql", "code", "line", "words"), HOSTILE)
def test_a_hostile_file_changes_nothing_and_is_named(
    external: Project, sql: str, code: int, line: str, words: str
) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    assert external.invoke("migrate").code == 0
    external.write("002_bad.sql", sql)
    external.write("003_after.sql", "CREATE TABLE after (i int);")
    done = external.invoke("migrate")
    assert done.code == code, done
    assert words in done.err
    assert code == 5 or f"{external.folder}/002_bad.sql{line}" in done.err
    assert "Traceback" not in done.err
    assert external.tables() == {"one"}
    assert external.applied() == ["001"]


HARMLESS = [
    pytest.param("COPY one FROM STDIN;\n1\n2\n\\.\nINSERT INTO one VALUES (3);", [1, 2, 3], id="copy"),
    pytest.param("COPY one FROM STDIN;\n1\n2\n", [1, 2], id="copy-without-end"),
    pytest.param("INSERT INTO one VALUES (1) -- no newline, no semicolon", [1], id="trailing-comment"),
    pytest.param(b"\xef\xbb\xbfINSERT INTO one\r\nVALUES (1);\r\n", [1], id="bom-and-crlf"),
    pytest.param("SELECT 'BEGIN; COMMIT;'; /* COMMIT; */ INSERT INTO one VALUES (1); -- COMMIT;", [1], id="words"),
    pytest.param(
        "SAVEPOINT a; INSERT INTO one VALUES (1); ROLLBACK TO a; INSERT INTO one VALUES (2);", [2], id="savepoint"
    ),
    pytest.param(
        f"SELECT pg_advisory_lock({psql.LOCK[0]}, {psql.LOCK[1]}); INSERT INTO one VALUES (1);",
        [1],
        id="takes-our-lock",
    ),
    pytest.param("SET search_path = pg_temp; INSERT INTO public.one VALUES (1);", [1], id="search-path"),
    pytest.param("COPY one FROM STDIN;\n7\n\\.\nSELECT 'COMMIT';", [7], id="copy-and-words"),
    pytest.param("INSERT INTO one SELECT length($x$" + "a;\n" * 500_000 + "$x$);", [1_500_000], id="long-line"),
]


@pytest.mark.parametrize(("sql", "rows"), HARMLESS)
def test_an_unusual_file_is_applied_as_it_says(external: Project, sql: str | bytes, rows: list[int]) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.write("002_odd.sql", sql)
    external.write("003_after.sql", "CREATE TABLE after (i int);")
    done = external.invoke("migrate")
    assert done.code == 0, done
    assert external.rows("SELECT i FROM one ORDER BY i") == [(row,) for row in rows]
    assert external.applied() == ["001", "002", "003"]
    assert external.tables() == {"one", "after"}


@pytest.mark.parametrize(
    ("columns", "owner"),
    [
        pytest.param("version varchar(128) PRIMARY KEY", "dbmate's or Rails'", id="dbmate"),
        pytest.param("version bigint PRIMARY KEY, dirty boolean", "golang-migrate's", id="golang-migrate"),
        pytest.param("id int, script text", "another tool's", id="unknown"),
    ],
)
def test_another_tools_history_is_left_alone(external: Project, columns: str, owner: str) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.do(f"CREATE TABLE schema_migrations ({columns})")
    done = external.invoke("migrate")
    assert done.code == 4
    assert f"The table public.schema_migrations is {owner}, not ours." in done.err
    assert external.tables() == set()


def test_a_read_only_database_and_a_role_without_rights_are_refused_first(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    name = external.settings["DB_NAME"]
    external.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    done = external.invoke("migrate")
    assert (done.code, "default_transaction_read_only" in done.err) == (5, True)
    with external.connect(options="-c default_transaction_read_only=off") as connection:
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    external.do(f"CREATE ROLE {name}_role LOGIN PASSWORD 'x'")
    try:
        done = external.invoke("migrate", DB_USER=f"{name}_role", DB_PASSWORD="x")
        assert (done.code, "may not create tables in schema public" in done.err) == (5, True)
    finally:
        external.do(f"DROP ROLE {name}_role")
    assert external.tables() == set()


def test_time_limits_set_on_the_database_do_not_end_a_migration(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int); SELECT pg_sleep(0.5);")
    name = external.settings["DB_NAME"]
    external.do(f"ALTER DATABASE {name} SET statement_timeout = '200ms'")
    external.do(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '200ms'")
    external.do(f"ALTER DATABASE {name} SET transaction_timeout = '200ms'")
    assert external.invoke("migrate").code == 0


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
        yield port
    finally:
        started.terminate()
        started.wait()


def test_a_pooler_in_between_is_recognised_and_refused(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    with open_folder() as folder, pgbouncer(external, folder) as port:
        done = external.invoke("migrate", DB_PORT=port)
    assert done.code == 5
    assert "A connection pooler (PgBouncer?) answers instead of PostgreSQL itself." in done.err
    assert external.tables() == set()


def test_json_is_printed_also_when_nothing_could_be_done(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    done = external.invoke("migrate", "--json", DB_PASSWORD="wrong")
    assert (done.code, json.loads(done.out)) == (5, {"applied": [], "failed": None})
    external.do("CREATE TABLE made_by_hand (i int)")
    done = external.invoke("migrate", "--json")
    assert (done.code, json.loads(done.out)) == (4, {"applied": [], "failed": None})


SECRET = "p@ss:w/o\"r'd %$\\ü"


@pytest.mark.parametrize("words", [("migrate",), ("migrate-status",), ("db.url",), ("migrate-reset", "--yes")])
def test_a_password_full_of_special_characters_works_and_is_never_shown(
    external: Project, words: tuple[str, ...]
) -> None:
    role = f"{external.settings['DB_NAME']}_role"
    external.do(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{SECRET.replace(chr(39), chr(39) * 2)}'")
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    external.write("002_bad.sql", "SELECT 1/0;")
    try:
        done = external.invoke(*words, DB_USER=role, DB_PASSWORD=SECRET)
        assert done.code == (3 if words == ("migrate",) else 0), done
        refused = external.invoke(*words, DB_USER=role, DB_PASSWORD=SECRET + "x")
        assert refused.code == (0 if words == ("db.url",) else 5), refused
        assert SECRET not in done.out + done.err + refused.out + refused.err
    finally:
        external.do(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_reader_that_goes_away_neither_stops_a_run_nor_leaves_a_complaint(external: Project) -> None:
    for number in range(1, 9):
        external.write(f"00{number}_x.sql", f"CREATE TABLE t{number} (i int);")
    read, write = os.pipe()
    run = subprocess.Popen(
        external.command("migrate"),
        cwd=external.root,
        env=external.environment(),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    os.close(read)
    _, err = run.communicate(timeout=PATIENCE)
    assert (run.returncode, err) == (0, b"")
    assert len(external.applied()) == 8
