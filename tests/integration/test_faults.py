"""The run when things go wrong around it: other runs, other sessions, Ctrl-C, kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest

from infra.db import errors, psql
from infra.db.migrator import Migrator
from infra.db.servers.process import Recorded, outcome
from tests.patience import PATIENCE, finish, no_run_is_left, read_until, sleeping, until
from tests.systems import UMLAUT, needs_sigkill, needs_signals
from tests.work import session_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import DockerClient

    from infra.db.servers import Programs
    from infra.db.servers.process import Process
    from tests.project import Project


@pytest.mark.parametrize("runs", [pytest.param(2, id="two"), pytest.param(10, id="ten"), pytest.param(20, id="twenty")])
def test_runs_at_once_apply_each_file_once(external: Project, runs: int) -> None:
    external.write("001_log.sql", "CREATE TABLE log (i int);")
    for number in range(2, 8):
        external.write(f"00{number}_step.sql", f"INSERT INTO log VALUES ({number}); SELECT pg_sleep(0.05);")
    external.write("008_index.sql", "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY log_i ON log (i);")
    done = [finish(started) for started in [external.start("migrate") for _ in range(runs)]]
    assert [code for code, _ in done] == [0] * runs, done
    assert len([said for _, said in done if "Applied" in said]) >= 1
    assert all("Nothing to do" in said or "Applied" in said for _, said in done), done
    assert external.rows("SELECT i, count(*) FROM log GROUP BY i ORDER BY i") == [(i, 1) for i in range(2, 8)]
    assert external.applied() == [f"00{number}" for number in range(1, 9)]
    assert no_run_is_left(external)


def test_a_run_that_sees_the_first_tables_of_another_one_does_not_take_them_for_somebody_elses(
    external: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    external.write("001_one.sql", "CREATE TABLE one ();")
    with contextlib.closing(session_of(external)) as session:
        connected = session.running()
        tables = connected.tables

        def later() -> list[str]:
            assert external.invoke("migrate").code == 0
            return tables()

        monkeypatch.setattr(connected, "tables", later)
        assert [row.version for row in session.migrator().migrate(connected)] == ["001"]


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


def test_a_file_that_lets_the_runs_lock_go_is_rolled_back_when_somebody_takes_it(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int); SELECT pg_advisory_unlock_all(); SELECT pg_sleep(1);")
    run = external.start("migrate")
    until(sleeping(external))
    with external.connect(application_name="somebody") as other:
        assert other.execute("SELECT pg_try_advisory_lock(%s, %s)", psql.LOCK).fetchone() == (True,)
        read_until(run, b"Another run works on this database")
        assert (external.applied(), external.tables()) == ([], set())
    assert finish(run)[0] == 0
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


@needs_signals
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
    assert "Warning" not in said  # psql is waited for
    assert anywhere.tables() == {"one"}
    assert anywhere.applied() == ["001"]
    assert no_run_is_left(anywhere)


@needs_sigkill
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


@needs_sigkill
def test_what_a_killed_tool_left_on_this_machine_is_removed_a_day_later(external: Project, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    external.write("001_one.sql", "CREATE TABLE one (i int); SELECT pg_sleep(1);")
    run = external.start("migrate", TMPDIR=str(temporary))
    until(sleeping(external))
    run.kill()
    run.communicate()
    (left,) = temporary.iterdir()
    assert external.invoke("migrate", TMPDIR=str(temporary)).code == 0
    assert list(temporary.iterdir()) == [left]
    os.utime(left, (0, 0))
    external.write("002_two.sql", "CREATE TABLE two (i int);")
    assert external.invoke("migrate", TMPDIR=str(temporary)).code == 0
    assert list(temporary.iterdir()) == []


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


class Cut:
    """Programs whose psql does its work, but is not heard of any more after a word."""

    def __init__(self, real: Programs, word: str) -> None:
        self.real, self.word, self.times = real, word, 0

    def execute(self, *told: Any, **options: Any) -> Process:
        self.times += 1
        _, said, _ = outcome(self.real.execute(*told, **options))
        lost = b"psql:driver.sql:1: error: connection to server was lost\n"
        return Lost(iter([("stdout", said.partition(self.word)[0].encode()), ("stderr", lost)]))

    def sweep(self, folder: Path) -> str:
        return self.real.sweep(folder)


class Lost(Recorded):
    def wait(self) -> int:
        return psql.CONNECTION_LOST


@pytest.mark.parametrize(("single", "last_word"), [(False, " DONE 002 "), (True, " END")])
def test_a_commit_of_which_psql_heard_no_more_counts(external: Project, *, single: bool, last_word: str) -> None:
    external.write("001_one.sql", "CREATE TABLE one ();")
    external.write("002_two.sql", "CREATE TABLE two ();")
    with contextlib.closing(session_of(external)) as session:
        cut = Cut(session.server, last_word)
        migrator = Migrator(cast("Programs", cut), session.settings, session.files(), lambda _: None)
        rows = migrator.migrate(session.running(), single=single)
    assert [row.version for row in rows] == ["001", "002"]
    assert cut.times == 1


@pytest.mark.parametrize(
    ("last_word", "consequence"),
    [
        (" END", "Whether all of it was applied shows when the server is back."),
        (" DONE 002", "All of it was rolled back; nothing of this run was applied."),
    ],
)
def test_of_a_single_run_only_a_commit_that_was_sent_may_have_been_made_when_the_server_is_gone(
    external: Project, monkeypatch: pytest.MonkeyPatch, last_word: str, consequence: str
) -> None:
    external.write("001_one.sql", "CREATE TABLE one ();")
    external.write("002_two.sql", "CREATE TABLE two ();")

    def gone() -> None:
        raise errors.ServerLost("gone")

    with contextlib.closing(session_of(external)) as session:
        connected = session.running()
        monkeypatch.setattr(connected, "revive", gone)
        cut = cast("Programs", Cut(session.server, last_word))
        migrator = Migrator(cut, session.settings, session.files(), lambda _: None)
        with pytest.raises(errors.ServerLost) as caught:
            migrator.migrate(connected, single=True)
    assert caught.value.consequence == consequence


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


def test_what_a_run_that_died_with_its_container_left_is_gone_when_it_starts_again(
    docker_project: Project, docker_client: DockerClient
) -> None:
    container = docker_client.containers.get(f"{docker_project.settings['COMPOSE_PROJECT_NAME']}-postgres-1")
    assert container.exec_run(["mkdir", "/tmp/invoke-migrate-left.1", "/tmp/somebody-elses"]).exit_code == 0
    container.kill()
    assert docker_project.invoke("db.up").code == 0
    assert container.exec_run(["sh", "-c", "echo /tmp/*"]).output == b"/tmp/somebody-elses\n"
    assert container.exec_run(["rm", "-r", "/tmp/somebody-elses"]).exit_code == 0


def test_json_is_printed_also_when_nothing_could_be_done(external: Project) -> None:
    external.write("001_one.sql", "CREATE TABLE one (i int);")
    done = external.invoke("migrate", "--json", DB_PASSWORD="wrong")
    assert (done.code, json.loads(done.out)) == (5, {"applied": [], "failed": None})
    external.do("CREATE TABLE made_by_hand (i int)")
    done = external.invoke("migrate", "--json")
    assert (done.code, json.loads(done.out)) == (4, {"applied": [], "failed": None})


SECRET = f"p@ss:w/o\"r'd %$\\{UMLAUT}"


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
