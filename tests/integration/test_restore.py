"""Backups put back, for real: everything or nothing, the history with it, and nobody's data lost unasked."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from infra.db import database, errors, restore, settings
from infra.db.servers import wheel
from infra.db.servers.external import External
from tests import postgres
from tests.project import TOP
from tests.systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from tests.project import Project

PATIENCE = 60  # seconds until a test gives up waiting for what must come
WORLD = """
CREATE SCHEMA app;
CREATE EXTENSION vector;
COMMENT ON EXTENSION vector IS 'Ours.';
COMMENT ON SCHEMA public IS NULL;
CREATE DOMAIN app.email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.j := '{"by": "touch"}'; RETURN NEW; END $$;
CREATE FUNCTION app.twice(i bigint) RETURNS bigint IMMUTABLE BEGIN ATOMIC SELECT i * 2; END;
CREATE TABLE big (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text NOT NULL, b bytea, j jsonb, m app.mood DEFAULT 'ok',
  e app.email, v vector(3), twice bigint GENERATED ALWAYS AS (app.twice(12)) STORED
);
INSERT INTO big (t, b, j, v)
SELECT E'\\\\.\\t' || chr(8364) || i, sha256(i::text::bytea), to_jsonb(i), ARRAY[i, 0, 1]::vector
  FROM generate_series(1, 100000) i;
CREATE INDEX ON big (app.twice(id)) WHERE id > 7;
CREATE TABLE part (at date NOT NULL, big_id bigint REFERENCES big) PARTITION BY RANGE (at);
CREATE TABLE part_2026 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO part SELECT '2026-02-03', id FROM big WHERE id <= 10;
CREATE TRIGGER touched BEFORE UPDATE ON big FOR EACH ROW EXECUTE FUNCTION app.touch();
ALTER TABLE big ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON big USING (id > 0);
CREATE VIEW app.seen AS SELECT id, t FROM big;
CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) FROM big;
CREATE PUBLICATION everything FOR TABLE part_2026;
GRANT SELECT ON big TO PUBLIC;
SELECT lo_from_bytea(0, 'a large object');
"""
# Waits in the middle of a restore, when its index is made, for whoever holds the advisory lock 42.
SLOW = """
CREATE FUNCTION public.slow(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql
  AS $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(42); RETURN i; END $$;
CREATE TABLE slow AS SELECT 1 AS i;
CREATE INDEX ON slow (public.slow(i));
"""


def until(what: Callable[[], object]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def finish(started: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, _ = started.communicate(timeout=PATIENCE)
    return started.returncode, out.decode()


def read_until(started: subprocess.Popen[bytes], words: bytes) -> None:
    """Read a started command's output up to a line with these words."""
    assert started.stdout
    said = b""
    while words not in said:
        said = started.stdout.readline()
        assert said, f"it ended without saying {words!r}"


def everything(project: Project) -> list[str]:
    """Return schema and data as pg_dump writes them, without the random key that is new each time."""
    program = list(wheel.folders().values())[-1] / wheel.file_name("pg_dump")
    where = {"PGHOST": "127.0.0.1", "PGPORT": project.settings["DB_PORT"], "PGDATABASE": project.settings["DB_NAME"]}
    who = {"PGUSER": "postgres", "PGPASSWORD": project.settings.get("DB_PASSWORD", "postgres")}
    dumped = subprocess.run([program], env={**project.environment(), **where, **who}, capture_output=True, check=True)
    lines = dumped.stdout.decode().split("\n")
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


def saved(project: Project) -> Path:
    """Take a backup; its file."""
    before = set(folder.iterdir()) if (folder := project.root / project.settings["BACKUP_DIR"]).is_dir() else set()
    done = project.invoke("db.backup")
    assert done.code == 0, done
    [dump] = [path for path in set(folder.iterdir()) - before if path.suffix == ".dump"]
    return dump


def without_record(dump: Path, data: bytes | bytearray) -> Path:
    """Write a file that nothing says anything about."""
    other = dump.with_name("other.dump")
    other.write_bytes(data)
    return other


def applied(project: Project, *statements: str) -> Project:
    for number, sql in enumerate(statements, 1):
        project.write(f"00{number}_step.sql", sql)
    done = project.invoke("migrate")
    assert done.code == 0, done
    return project


@pytest.fixture
def filled(anywhere: Project) -> Project:
    """A database with a little of its own."""
    return applied(anywhere, "CREATE TABLE one (i int); INSERT INTO one SELECT generate_series(1, 1000);")


@pytest.fixture
def outside(external: Project) -> Project:
    """The same, on an external server."""
    return applied(external, "CREATE TABLE one (i int); INSERT INTO one SELECT generate_series(1, 1000);")


def test_schema_data_and_history_come_back_as_they_were(anywhere: Project) -> None:
    world = applied(anywhere, "CREATE TABLE first (i int);", WORLD)
    before, status = everything(world), world.invoke("migrate-status", "--json").out
    dump = saved(world)
    world.do(
        "DROP TABLE part; UPDATE big SET t = 'x' WHERE id < 9; DELETE FROM schema_migrations WHERE version = '002';"
        " CREATE SCHEMA late; CREATE TABLE late.comer (i int); SELECT lo_from_bytea(0, 'another')"
    )
    done = world.invoke("db.restore", str(dump), "--yes")
    assert done.code == 0, done
    assert everything(world) == before
    assert world.invoke("migrate-status", "--json").out == status
    assert world.invoke("migrate").out.startswith("Nothing to do")
    assert done.out.endswith("Next: invoke migrate-status   see every file and its state\n")


def test_the_ten_migrations_come_back_after_a_reset(anywhere: Project) -> None:
    shutil.copytree(TOP / "infra/migrations", anywhere.folder, dirs_exist_ok=True)
    assert anywhere.invoke("migrate").code == 0
    before = everything(anywhere)
    assert anywhere.invoke("migrate-reset", "--yes").code == 0
    [dump] = (anywhere.root / anywhere.settings["BACKUP_DIR"]).glob("*.dump")
    done = anywhere.invoke("db.restore", str(dump))  # an empty database has nothing to lose: no question
    assert done.code == 0, done
    assert "Restored 11 tables" in done.out
    assert everything(anywhere) == before


def test_what_is_there_is_shown_and_lost_only_after_the_word_yes(filled: Project) -> None:
    dump = saved(filled)
    filled.do("CREATE TABLE precious (i int)")
    for answer in ("", "no\n", "YES\n"):
        refused = filled.invoke("db.restore", str(dump), stdin=answer)
        assert refused.code == 4
        assert filled.tables() == {"one", "precious"}
    assert "now 3 tables (" in refused.out
    assert f"by the backup of {filled.settings['DB_NAME']} of 20" in refused.out
    assert f"invoke db.restore {dump} --yes" in refused.err
    done = filled.invoke("db.restore", str(dump), stdin="yes\n")
    assert done.code == 0, done
    assert filled.tables() == {"one"}


def test_a_backup_goes_into_another_database_too(filled: Project) -> None:
    dump = saved(filled)
    name = f"{filled.settings['DB_NAME']}_other"
    filled.do(f"CREATE DATABASE {name}")
    other = replace(filled, settings={**filled.settings, "DB_NAME": name})
    assert other.invoke("db.restore", str(dump)).code == 0
    assert everything(other) == everything(filled)


# --- files that are not, or no longer, a backup ---


def test_a_changed_byte_is_known_by_the_record_before_anything_is_touched(filled: Project) -> None:
    dump = saved(filled)
    data = bytearray(dump.read_bytes())
    data[-100] ^= 1
    dump.write_bytes(data)
    done = filled.invoke("db.restore", str(dump), "--yes", DB_PORT="1")  # so early that no server is looked for
    assert done.code == 4
    assert "is damaged" in done.err


def test_a_record_of_sha256sum_does_as_well_and_one_that_says_nothing_does_not(filled: Project) -> None:
    dump = saved(filled)
    record = dump.with_name(f"{dump.name}.sha256")
    record.write_text(record.read_text().split("\n")[1].replace("  ", " *") + "\n")
    assert filled.invoke("db.restore", str(dump), "--yes").code == 0
    record.write_text("")
    assert filled.invoke("db.restore", str(dump), "--yes").code == 4


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_file_without_a_record_changes_nothing(anywhere: Project, how: str) -> None:
    noise = "SELECT i, md5(i::text) FROM generate_series(1, 30000) i"
    world = applied(anywhere, f"CREATE TABLE one AS {noise}; CREATE TABLE two AS {noise};")
    dump = saved(world)
    world.do("DROP TABLE two; CREATE TABLE precious AS SELECT 1")
    before = everything(world)
    data = bytearray(dump.read_bytes())
    if how == "cut":
        del data[-1000:]
    else:
        data[-1000] ^= 1
    done = world.invoke("db.restore", str(without_record(dump, data)), "--yes")
    assert done.code == 4, done
    assert "pg_restore: error: could not " in done.err
    assert "everything is as before" in done.err
    assert "There is no other.dump.sha256 beside it" in done.out
    assert everything(world) == before


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(None, "There is no file", id="no file"),
        pytest.param(b"", "does not begin as one", id="empty"),
        pytest.param(b"CREATE TABLE x (i int);", "does not begin as one", id="SQL"),
        pytest.param(b"PGDMP\x09\x09\x00\x04\x08\x01", "pg_restore: error", id="of another age"),
    ],
)
def test_another_file_is_refused(filled: Project, tmp_path: Path, data: bytes | None, why: str) -> None:
    file = tmp_path / "some file.dump"
    if data is not None:
        file.write_bytes(data)
    done = filled.invoke("db.restore", str(file), "--yes")
    assert done.code == 2, done
    assert why in done.err
    assert filled.tables() == {"one"}


# --- servers and roles that cannot take it ---


def test_what_is_not_committed_is_no_success_however_well_psql_ends(
    outside: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = saved(outside)
    outside.do("CREATE TABLE late (i int)")
    given = settings.read(outside.environment(), root=outside.root, dotenv={})
    server = External(given)
    connected = database.connect(server, given, server.start(print))
    monkeypatch.setattr(restore, "SCRIPT", [each for each in restore.SCRIPT if each != "--single-transaction"])
    held = restore.contents(server, dump, "")
    with contextlib.closing(connected), pytest.raises(errors.RestoreFailed):
        restore.put_back(server, connected, held, lambda _: None, emptied=True)
    assert "late" in outside.tables()


def test_a_missing_role_is_named_and_nothing_is_changed(outside: Project) -> None:
    outside.do("CREATE ROLE test_owner; ALTER TABLE one OWNER TO test_owner")
    try:
        dump = saved(outside)
    finally:
        outside.do("ALTER TABLE one OWNER TO postgres; DROP ROLE test_owner; INSERT INTO one VALUES (7)")
    before = everything(outside)
    done = outside.invoke("db.restore", str(dump), "--yes")
    assert done.code == 4
    assert 'role "test_owner" does not exist' in done.err
    assert "CREATE ROLE" in done.err
    assert everything(outside) == before


def test_a_backup_of_a_newer_server_is_refused_and_one_of_an_older_server_with_newer_programs_works(
    outside: Project, tmp_path: Path
) -> None:
    newer = saved(outside)
    with postgres.running(16) as old:
        base = {"DB_PORT": str(old.port), "DB_PASSWORD": old.password, "DB_NAME": "postgres"}
        there = replace(outside, settings={**outside.settings, **base, "BACKUP_DIR": str(tmp_path / "of 16")})
        refused = there.invoke("db.restore", str(newer))
        assert refused.code == 4
        assert "was made of PostgreSQL 18" in refused.err
        assert there.tables() == set()
        assert there.invoke("migrate").code == 0
        before = everything(there)
        dump = saved(there)
        there.do("DROP TABLE one")
        done = there.invoke("db.restore", str(dump), "--yes")
        assert done.code == 0, done
        assert everything(there) == before
    assert outside.invoke("db.restore", str(dump), "--yes").code == 0  # and into a newer one
    assert outside.applied() == ["001"]


@pytest.mark.parametrize("emptied", [True, False])
def test_an_administrators_extension_stays_and_no_superuser_is_needed(external: Project, *, emptied: bool) -> None:
    name = external.settings["DB_NAME"]
    external.do(f"CREATE ROLE {name} LOGIN BYPASSRLS PASSWORD 'x'; ALTER DATABASE {name} OWNER TO {name}")
    external.do("CREATE EXTENSION vector")
    plain = replace(external, settings={**external.settings, "DB_USER": name, "DB_PASSWORD": "x"})
    objects = (
        "CREATE TYPE pair AS (a int, b int); CREATE DOMAIN small AS int; CREATE STATISTICS s ON i, j FROM t;"
        " CREATE FUNCTION f(pair) RETURNS int BEGIN ATOMIC SELECT 1; END; CREATE VIEW w AS SELECT * FROM t;"
        ' CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int); CREATE SEQUENCE q; CREATE COLLATION c FROM "C";'
        " CREATE OPERATOR === (leftarg = int, rightarg = int, function = int4eq);"
        " CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; END; CREATE MATERIALIZED VIEW m AS SELECT 1;"
    )
    applied(plain, f"CREATE TABLE t (i int, j int, v vector(3)); {objects} CREATE SCHEMA app; CREATE TABLE app.x ();")
    before = everything(external)
    dump = saved(plain)
    if emptied:
        done = plain.invoke("migrate-reset", "--yes", "--no-backup")
        assert done.code == 0, done
        assert external.rows("SELECT extname FROM pg_extension ORDER BY 1") == [("plpgsql",), ("vector",)]
        done = plain.invoke("db.restore", str(dump))
    else:
        done = plain.invoke("db.restore", str(dump), "--yes")
    try:
        assert done.code == 0, done
        assert everything(external) == before
    finally:
        external.do(f"ALTER DATABASE {name} OWNER TO postgres; DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


# --- others, kills, Ctrl-C ---


def test_a_table_that_somebody_uses_is_not_waited_for_for_ever(filled: Project) -> None:
    dump = saved(filled)
    filled.do("INSERT INTO one VALUES (7)")
    before = everything(filled)
    with filled.connect() as other, other.transaction():
        other.execute("SELECT FROM one")
        done = filled.invoke("db.restore", str(dump), "--yes", DB_LOCK_TIMEOUT="300ms")
    assert done.code == 6, done
    assert everything(filled) == before


@contextlib.contextmanager
def in_the_middle(project: Project) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """A restore that waits in the middle of its work for as long as the block lasts, and what was there before it."""
    dump = saved(applied(project, SLOW))
    project.do("CREATE TABLE precious AS SELECT 1; DELETE FROM schema_migrations")
    before = everything(project)
    with project.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(42)")
        started = project.start("db.restore", str(dump), "--yes")
        until(lambda: gate.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall())
        yield started, before


def restoring(project: Project) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'invoke db.restore _%%' AND datname = %s"
    return [pid for (pid,) in project.rows(query, project.settings["DB_NAME"])]


@needs_signals
def test_ctrl_c_leaves_what_was_there(anywhere: Project) -> None:
    with in_the_middle(anywhere) as (started, before):
        started.send_signal(signal.SIGINT)
        code, said = finish(started)
        assert restoring(anywhere) == []
    assert code == 130
    assert "everything is as before" in said
    assert everything(anywhere) == before


def test_a_killed_backend_leaves_what_was_there(anywhere: Project) -> None:
    with in_the_middle(anywhere) as (started, before):
        anywhere.rows("SELECT pg_terminate_backend(%s)", *restoring(anywhere))
        code, said = finish(started)
    assert code == 4
    assert "everything is as before" in said
    assert everything(anywhere) == before


@pytest.mark.parametrize("program", ["psql", "pg_restore", "both"])
def test_a_killed_program_leaves_what_was_there_or_what_was_to_come(anywhere: Project, program: str) -> None:
    with in_the_middle(anywhere) as (started, before):
        mine = anywhere.settings["DB_NAME"]
        for each in psutil.process_iter(["name"]):
            if each.info["name"] in (("psql", "pg_restore") if program == "both" else (program,)):
                with contextlib.suppress(psutil.Error):
                    if each.environ().get("PGDATABASE") == mine:
                        each.kill()
    code, said = finish(started)
    if code:
        assert "everything is as before" in said
        assert everything(anywhere) == before
    else:  # pg_restore had written its last byte
        assert program == "pg_restore"
        assert anywhere.tables() == {"slow"}


def test_a_killed_tool_leaves_what_was_there_or_what_was_to_come(anywhere: Project) -> None:
    with in_the_middle(anywhere) as (started, before):
        started.kill()
        started.communicate()
    until(lambda: not restoring(anywhere))
    if everything(anywhere) != before:
        assert anywhere.tables() == {"slow"}
        assert anywhere.applied() == ["001"]


def test_the_lock_of_a_run_is_held_all_the_time(anywhere: Project) -> None:
    with in_the_middle(anywhere) as (started, _):
        run = anywhere.start("migrate")
        read_until(run, b"invoke db.restore")
        status = anywhere.invoke("migrate-status")
        assert (status.code, "invoke db.restore" in status.err) == (6, True), status
    assert finish(started)[0] == 0
    code, said = finish(run)
    assert code == 0, said
    assert "Nothing to do" in said


def test_a_killed_container_leaves_what_was_there(
    docker_project: Project, fresh: Callable[[Project], Project], docker_client: DockerClient
) -> None:
    project = fresh(docker_project)
    name = f"{project.settings['COMPOSE_PROJECT_NAME']}-postgres-1"
    with contextlib.suppress(psycopg.OperationalError), in_the_middle(project) as (started, before):
        docker_client.containers.get(name).kill()
        code, said = finish(started)
    assert project.invoke("db.up").code == 0
    assert code == 5, said
    assert everything(project) == before
    # What the killed one had copied in went when the container was started again.
    assert docker_client.containers.get(name).exec_run(["sh", "-c", "ls -d /tmp/invoke-*"]).exit_code != 0
    [dump] = (project.root / project.settings["BACKUP_DIR"]).glob("*.dump")
    done = project.invoke("db.restore", str(dump), "--yes")
    assert done.code == 0, done
    assert project.tables() == {"slow"}


def test_what_turned_up_while_a_restore_waited_is_not_dropped_unasked(anywhere: Project) -> None:
    dump = saved(applied(anywhere, "CREATE TABLE one (i int);"))
    assert anywhere.invoke("migrate-reset", "--yes", "--no-backup").code == 0
    anywhere.write("002_slow.sql", "SELECT pg_advisory_xact_lock(42);")
    with anywhere.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(42)")
        run = anywhere.start("migrate")
        until(lambda: gate.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall())
        started = anywhere.start("db.restore", str(dump))
        read_until(started, b"Waiting for another run")
    assert finish(run)[0] == 0
    code, said = finish(started)
    assert code == 4, said
    assert "Not confirmed" in said
    assert anywhere.applied() == ["001", "002"]
