"""The live schema against the files, on real servers: what somebody did by hand is found, the rest stays quiet."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from infra.db import psql
from tests.integration.test_scratch import scratch_names
from tests.project import TOP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.project import Project

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
CREATE INDEX t_a ON t (a);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t USING (true);
GRANT SELECT ON t TO PUBLIC;
"""


def ours(project: Project) -> None:
    """Give a project our own ten migrations, and apply them."""
    shutil.copytree(TOP / "infra" / "migrations", project.folder, dirs_exist_ok=True)
    done = project.invoke("migrate")
    assert done.code == 0, done


def drift(project: Project) -> list[tuple[str, str]]:
    """What migrate-verify finds: the kind and the object of each."""
    done = project.invoke("migrate-verify", "--json")
    found = json.loads(done.out)
    assert done.code == (0 if found["matches"] else 4), done
    return [(each["kind"], each["object"]) for each in found["differences"]]


def test_a_database_that_only_the_files_made_matches_and_is_left_alone(anywhere: Project) -> None:
    ours(anywhere)
    anywhere.do("ANALYZE; INSERT INTO tenants (name, slug) VALUES ('a', 'a')")
    before = anywhere.rows("SELECT xmin::text, * FROM schema_migrations ORDER BY version")
    done = anywhere.invoke("migrate-verify")
    assert done.code == 0, done
    assert "is what the applied files make" in done.out
    assert anywhere.rows("SELECT xmin::text, * FROM schema_migrations ORDER BY version") == before
    assert scratch_names(anywhere) == set()
    done = anywhere.invoke("migrate-verify", "--json")
    name = anywhere.settings["DB_NAME"]
    server = anywhere.settings["DB_SERVER"]
    assert json.loads(done.out) == {"server": server, "database": name, "matches": True, "differences": []}


def test_whatever_was_changed_by_hand_is_found_and_shown(anywhere: Project) -> None:
    anywhere.write("001_t.sql", SCHEMA)
    assert anywhere.invoke("migrate").code == 0
    assert drift(anywhere) == []
    anywhere.do("INSERT INTO t VALUES (1, 1), (2, 1)")
    anywhere.do("""
        ALTER TABLE t ADD COLUMN by_hand int; DROP INDEX t_a; DROP POLICY p ON t;
        CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        ALTER TABLE t DISABLE TRIGGER tr; REVOKE SELECT ON t FROM PUBLIC
    """)
    with anywhere.connect() as connection, contextlib.suppress(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)")
    assert drift(anywhere) == [
        ("changed", "FUNCTION public.f()"),
        ("changed", "TABLE public.t"),
        ("missing", "INDEX public.t_a"),
        ("changed", "TRIGGER public.t tr"),
        ("missing", "POLICY public.t p"),
        ("missing", "GRANTS ON TABLE public.t"),
        ("extra", "INDEX public.broken"),
    ]
    done = anywhere.invoke("migrate-verify")
    assert done.code == 4
    for line in ("+    by_hand integer", "-CREATE INDEX t_a ON public.t USING btree (a);", "7 objects are not as"):
        assert line in done.out + done.err
    assert "migrate-new" in done.err


def test_months_and_indexes_that_our_schema_makes_at_run_time_are_no_drift_but_an_open_month_is(
    anywhere: Project,
) -> None:
    ours(anywhere)
    anywhere.do("SELECT app.ensure_event_audit_partitions(5)")
    old = "event_audit_202001', 'FOR VALUES FROM (''2020-01-01'') TO (''2020-02-01'')"
    anywhere.do(f"SELECT app.add_event_audit_partition('{old}')")
    ((ddl,),) = anywhere.rows("SELECT app.ann_index_ddl(gen_random_uuid(), 'buffalo_l', '1')")
    anywhere.do(ddl)
    assert drift(anywhere) == []
    assert "PARTITION public.event_audit_202001" in anywhere.invoke("migrate-verify").out
    anywhere.do("ALTER TABLE event_audit_202001 DISABLE ROW LEVEL SECURITY; CREATE INDEX by_hand ON faces (id)")
    assert drift(anywhere) == [("changed", "PARTITION public.event_audit_202001"), ("extra", "INDEX public.by_hand")]


def test_the_history_is_the_truth_of_what_ran_when_files_are_edited_or_gone(anywhere: Project) -> None:
    anywhere.write("001_a.sql", "CREATE TABLE a (id int);")
    anywhere.write("002_b.sql", "CREATE TABLE b (id int);")
    assert anywhere.invoke("migrate").code == 0
    anywhere.write("001_a.sql", "CREATE TABLE a (id bigint);")
    (anywhere.folder / "002_b.sql").unlink()
    anywhere.write("003_c.sql", "CREATE TABLE c (id int);")
    assert drift(anywhere) == []


def test_the_order_of_columns_is_no_drift_where_a_file_was_applied_after_a_newer_one(anywhere: Project) -> None:
    anywhere.write("001_a.sql", "CREATE TABLE a (id int) PARTITION BY RANGE (id); CREATE TYPE mood AS ENUM ('x');"
                   "CREATE TABLE a1 PARTITION OF a FOR VALUES FROM (1) TO (9);")  # fmt: skip
    anywhere.write("003_c.sql", "ALTER TABLE a ADD three int; ALTER TYPE mood ADD VALUE 'three';")
    assert anywhere.invoke("migrate").code == 0
    anywhere.write("002_b.sql", "ALTER TABLE a ADD two int; ALTER TYPE mood ADD VALUE 'two';")
    assert anywhere.invoke("migrate", "--out-of-order").code == 0
    assert drift(anywhere) == []
    anywhere.do("ALTER TABLE a ADD by_hand int")
    assert drift(anywhere) == [("changed", "PARTITION public.a1"), ("changed", "TABLE public.a")]


def test_a_file_that_is_too_long_for_the_history_is_taken_from_the_folder(anywhere: Project) -> None:
    anywhere.write("001_a.sql", "CREATE TABLE a (id int);\n" + "-- long\n" * 150_000)
    assert anywhere.invoke("migrate").code == 0
    assert drift(anywhere) == []
    (anywhere.folder / "001_a.sql").unlink()
    done = anywhere.invoke("migrate-verify")
    assert (done.code, "001_a" in done.err) == (4, True), done


def test_nothing_applied_and_nothing_there_matches(anywhere: Project) -> None:
    anywhere.folder.mkdir(exist_ok=True)
    assert drift(anywhere) == []


def test_files_that_do_not_run_on_an_empty_database_are_named(anywhere: Project) -> None:
    anywhere.write("001_a.sql", "SELECT 1;")
    assert anywhere.invoke("migrate").code == 0
    anywhere.do("CREATE TABLE made_by_hand (id int)")
    anywhere.write("002_b.sql", "ALTER TABLE made_by_hand ADD COLUMN b int;")
    assert anywhere.invoke("migrate").code == 0
    done = anywhere.invoke("migrate-verify")
    assert done.code == 4
    assert "002_b failed" in done.err
    assert 'relation "made_by_hand" does not exist' in done.err
    assert scratch_names(anywhere) == set()


@pytest.fixture
def open_external(external: Project, embedded_project: Project) -> Project:
    """The external project, with a place for a private server that an unprivileged account can enter."""
    external.settings["EMBEDDED_DIR"] = str(embedded_project.root / ".external")
    return external


def private_servers(project: Project) -> list[Path]:
    folder = embedded_folder(project)
    return list(folder.parent.glob(f"{folder.name}.scratch-*"))


def embedded_folder(project: Project) -> Path:
    return project.root / project.settings["EMBEDDED_DIR"]


def test_where_no_database_may_be_made_a_private_server_does(open_external: Project) -> None:
    role = open_external.settings["DB_NAME"]
    open_external.do(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON SCHEMA public TO {role}")
    open_external.do(f"CREATE ROLE {role}_reader")
    open_external.settings.update(DB_USER=role, DB_PASSWORD="x")
    open_external.write("001_t.sql", f"{SCHEMA} GRANT SELECT ON t TO {role}_reader;")
    assert open_external.invoke("migrate").code == 0
    assert drift(open_external) == []
    assert "private PostgreSQL" in open_external.invoke("migrate-verify").out
    open_external.do("ALTER TABLE t ADD COLUMN by_hand int")
    assert drift(open_external) == [("changed", "TABLE public.t")]
    assert private_servers(open_external) == []


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("ALTER ROLE {0} CONNECTION LIMIT 7", id="a role"),
        pytest.param("ALTER DATABASE {0} SET work_mem = '7MB'", id="a database"),
        pytest.param("CREATE ROLE {0}_b", id="a role that is there already"),
    ],
)
def test_files_that_reach_beyond_the_database_change_nothing_when_they_are_tried_again(
    open_external: Project, statement: str
) -> None:
    name = open_external.settings["DB_NAME"]
    open_external.do(f"CREATE ROLE {name}")
    open_external.write("001_t.sql", f"{SCHEMA}{statement.format(name)};")
    done = open_external.invoke("migrate")
    assert done.code == 0, done
    undone = f"ALTER ROLE {name} CONNECTION LIMIT 3; ALTER DATABASE {name} SET work_mem = '3MB'"
    open_external.do(undone)
    done = open_external.invoke("migrate-verify")
    assert done.code == 0, done
    assert open_external.rows("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", name) == [(3,)]
    assert open_external.rows("SELECT current_setting('work_mem')") == [("3MB",)]
    assert private_servers(open_external) == []


def test_adopting_a_database_runs_no_file_that_reaches_beyond_it_on_its_server(open_external: Project) -> None:
    role = open_external.settings["DB_NAME"]
    open_external.do(f"CREATE ROLE {role} CONNECTION LIMIT 3; CREATE TABLE t (id int)")
    open_external.write("001_t.sql", f"CREATE TABLE t (id int); ALTER ROLE {role} CONNECTION LIMIT 7;")
    done = open_external.invoke("migrate-baseline")
    assert done.code == 0, done
    assert open_external.rows("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", role) == [(3,)]
    assert private_servers(open_external) == []


def test_it_waits_for_a_run_that_is_at_work(external: Project) -> None:
    external.write("001_t.sql", SCHEMA)
    assert external.invoke("migrate").code == 0
    with external.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", psql.LOCK)
        done = external.invoke("migrate-verify", DB_WAIT_TIMEOUT="1")
    assert done.code == 6, done
