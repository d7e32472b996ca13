"""The main job, as people do it: the same stories on the embedded server and on Docker."""

from __future__ import annotations

import json
import re
import shutil
import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests import project
from tests.conftest import free_port
from tests.project import TOP, Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def three(anywhere: Project) -> Project:
    """A project with three files, none applied."""
    anywhere.write("001_one.sql", "CREATE TABLE one (i int);\n")
    anywhere.write("002_two.sql", "CREATE TABLE two (i int);\nINSERT INTO two SELECT generate_series(1, 3);\n")
    anywhere.write("003_three.sql", "CREATE TABLE three (i int)")  # no semicolon, no newline
    return anywhere


def test_the_ten_migrations_apply_and_a_second_run_has_nothing_to_do(anywhere: Project) -> None:
    ours = replace(anywhere, settings={**anywhere.settings, "MIGRATIONS_DIR": str(TOP / "infra/migrations")})
    first = ours.invoke("migrate")
    assert first.code == 0, first
    assert "Applied 10 migrations" in first.out
    assert ours.tables() >= {
        "tenants",
        "sources",
        "content",
        "faces",
        "embeddings",
        "clusters",
        "cluster_members",
        "policies",
        "alerts",
    }
    assert set(ours.status().values()) == {"applied"}
    before = ours.rows("SELECT * FROM schema_migrations ORDER BY version")
    second = ours.invoke("migrate")
    assert second.code == 0
    assert second.out.startswith("Nothing to do: ")
    assert ours.rows("SELECT * FROM schema_migrations ORDER BY version") == before


def test_files_run_in_numeric_order_and_are_recorded_with_what_they_did(three: Project) -> None:
    done = three.invoke("migrate")
    assert done.code == 0, done
    assert [line.split()[1] for line in done.out.splitlines() if " ms" in line] == ["001_one", "002_two", "003_three"]
    assert three.rows(
        "SELECT version, name, status, sql, down_sql, applied_by FROM schema_migrations ORDER BY version"
    ) == [
        ("001", "one", "applied", "CREATE TABLE one (i int);\n", None, "postgres"),
        (
            "002",
            "two",
            "applied",
            "CREATE TABLE two (i int);\nINSERT INTO two SELECT generate_series(1, 3);\n",
            None,
            "postgres",
        ),
        ("003", "three", "applied", "CREATE TABLE three (i int)", None, "postgres"),
    ]
    assert three.rows("SELECT i FROM two") == [(1,), (2,), (3,)]


def test_to_stops_after_a_version_and_the_next_run_goes_on(three: Project) -> None:
    assert three.invoke("migrate", "--to", "2").code == 0
    assert three.applied() == ["001", "002"]
    assert three.status() == {"001": "applied", "002": "applied", "003": "pending"}
    assert three.invoke("migrate", "--to", "9").code == 2
    assert three.invoke("migrate").code == 0
    assert three.applied() == ["001", "002", "003"]


def test_plan_shows_what_would_run_and_changes_nothing(three: Project) -> None:
    shown = three.invoke("migrate", "--plan")
    assert shown.code == 0
    assert re.findall(r"^  (\d+_\w+)", shown.out, re.MULTILINE) == ["001_one", "002_two", "003_three"]
    as_json = three.invoke("migrate", "--plan", "--json")
    assert [step["version"] for step in json.loads(as_json.out)["steps"]] == ["001", "002", "003"]
    assert three.applied() == []
    assert three.tables() == set()


def test_a_failing_file_is_rolled_back_whole_and_the_others_are_told_of(three: Project) -> None:
    three.write("002_two.sql", "CREATE TABLE two (i int);\n\nINSERT INTO two\nVALUES (1),\n  ('x');\n")
    done = three.invoke("migrate")
    assert done.code == 3
    assert done.err == (
        '✗ 002_two failed (SQLSTATE 22P02): invalid input syntax for type integer: "x"\n'
        f"  {three.folder}/002_two.sql:5\n"
        "      ('x');\n"
        "       ^\n"
        "002 was rolled back. 001 stays applied. 003 was not tried.\n"
        "Next: Mend the file, then:  invoke migrate\n"
    )
    assert three.tables() == {"one"}
    assert three.applied() == ["001"]
    three.write("002_two.sql", "CREATE TABLE two (i int);\n")
    assert three.invoke("migrate").code == 0
    assert three.applied() == ["001", "002", "003"]


def test_the_json_of_a_failure_is_one_object_with_all_parts(three: Project) -> None:
    three.write(
        "002_two.sql", "CREATE TABLE two (i int);\nDO $$ BEGIN RAISE 'no' USING DETAIL = 'd', HINT = 'h'; END $$;\n"
    )
    done = three.invoke("migrate", "--json")
    assert done.code == 3
    value = json.loads(done.out)
    assert [row["version"] for row in value["applied"]] == ["001"]
    assert value["failed"] == {
        "version": "002",
        "name": "two",
        "file": f"{three.folder}/002_two.sql",
        "line": 2,
        "sqlstate": "P0001",
        "message": "no",
        "detail": "d",
        "hint": "h",
    }


def test_the_json_of_a_run_holds_the_applied_rows(three: Project) -> None:
    done = three.invoke("migrate", "--json")
    value = json.loads(done.out)
    assert value["failed"] is None
    assert [(row["version"], row["status"], row["applied_by"]) for row in value["applied"]] == [
        ("001", "applied", "postgres"),
        ("002", "applied", "postgres"),
        ("003", "applied", "postgres"),
    ]
    assert set(value["applied"][0]) == {
        "version",
        "name",
        "status",
        "checksum",
        "applied_at",
        "applied_by",
        "duration_ms",
    }


def test_single_applies_all_or_nothing(three: Project) -> None:
    three.write("003_three.sql", "SELECT 1/0;")
    done = three.invoke("migrate", "--single")
    assert done.code == 3
    assert "All of it was rolled back" in done.err
    assert "001_one" not in done.out  # nothing is called done before it is
    assert three.tables() == set()
    assert three.applied() == []
    three.write("003_three.sql", "SELECT 1;")
    assert three.invoke("migrate", "--single").code == 0
    assert three.applied() == ["001", "002", "003"]


def test_a_single_run_whose_commit_is_refused_has_failed_and_says_how_to_find_the_file(three: Project) -> None:
    deferred = "CREATE TABLE three (i int PRIMARY KEY, of int REFERENCES three DEFERRABLE INITIALLY DEFERRED);"
    three.write("003_three.sql", f"{deferred}\nINSERT INTO three VALUES (1, 7);\n")
    done = three.invoke("migrate", "--single", "--json")
    assert json.loads(done.out) == {
        "applied": [],
        "failed": {
            "version": None,
            "name": None,
            "file": None,
            "line": None,
            "sqlstate": "23503",
            "message": 'insert or update on table "three" violates foreign key constraint "three_of_fkey"',
            "detail": 'Key (of)=(7) is not present in table "three".',
            "hint": None,
        },
    }
    assert done.code == 3
    assert "The COMMIT of all files failed (SQLSTATE 23503)" in done.err
    assert "All of it was rolled back" in done.err
    assert three.tables() == set()
    again = three.invoke("migrate")  # as it says
    assert (again.code, "003_three failed (SQLSTATE 23503)" in again.err) == (3, True)


def test_a_file_without_a_transaction_is_recorded_and_a_failed_one_is_marked_with_what_it_left(three: Project) -> None:
    three.write("003_three.sql", "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY two_i ON two (i);\n")
    assert three.invoke("migrate").code == 0
    assert three.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'two_i'::regclass") == [(True,)]
    three.write("004_four.sql", "INSERT INTO two VALUES (3);")
    three.write("005_five.sql", "-- migrate: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY two_u ON two (i);\n")
    three.write("006_six.sql", "SELECT 1;")
    done = three.invoke("migrate")
    assert done.code == 3
    assert "005 ran without a transaction: what it had done stays, and it is marked failed." in done.err
    assert "invoke migrate-resolve 005 --pending" in done.err
    assert "Invalid indexes are left to be dropped: two_u." in done.err
    assert three.status()["005"] == "failed"
    again = three.invoke("migrate")
    assert again.code == 4
    assert "invoke migrate-resolve 005 --pending" in again.err
    three.do("DELETE FROM two WHERE ctid IN (SELECT max(ctid) FROM two); DROP INDEX two_u")
    assert three.invoke("migrate-resolve", "005", "--pending").code == 0
    assert three.invoke("migrate").code == 0
    assert three.applied() == ["001", "002", "003", "004", "005", "006"]


def test_an_edited_a_missing_and_a_late_file_stop_the_run_and_each_way_out_works(three: Project) -> None:
    assert three.invoke("migrate").code == 0
    three.write("001_one.sql", "CREATE TABLE one (i bigint);\n")
    (three.folder / "003_three.sql").unlink()
    three.write("0025_late.sql", "SELECT 1;")  # 25: newer than 3
    three.write("000_late.sql", "CREATE TABLE late (i int);")
    assert three.status() == {
        "000": "out-of-order",
        "001": "edited",
        "002": "applied",
        "003": "missing",
        "0025": "pending",
    }
    done = three.invoke("migrate")
    assert done.code == 4
    assert "    -CREATE TABLE one (i int);\n    +CREATE TABLE one (i bigint);" in done.err
    assert "late" not in three.tables()
    assert three.invoke("migrate-status", "--check").code == 7
    assert three.invoke("migrate-resolve", "1", "--applied").code == 0
    assert three.invoke("migrate-resolve", "003", "--pending").code == 0
    assert three.invoke("migrate").code == 4
    assert three.invoke("migrate", "--out-of-order").code == 0
    assert three.invoke("migrate-status", "--check").code == 0
    assert "late" in three.tables()


def test_line_ends_and_a_byte_order_mark_are_no_edit(three: Project) -> None:
    assert three.invoke("migrate").code == 0
    three.write("001_one.sql", b"\xef\xbb\xbfCREATE TABLE one (i int);\r\n")
    assert three.invoke("migrate").out.startswith("Nothing to do")


def test_a_database_filled_by_other_means_is_refused_and_both_ways_out_work(three: Project) -> None:
    three.do("CREATE TABLE one (i int)")
    done = three.invoke("migrate")
    assert done.code == 4
    assert "This database has tables, but no history of migrations." in done.err
    assert three.applied() == []
    assert "Next: invoke migrate-baseline" in three.invoke("migrate-status").out
    assert three.invoke("migrate-baseline", "--to", "1").code == 0
    assert three.status()["001"] == "baseline"
    assert three.invoke("migrate").code == 0
    assert three.tables() == {"one", "two", "three"}


def test_reset_asks_takes_a_backup_empties_and_migrate_works_again(three: Project) -> None:
    three.write("004_more.sql", "CREATE SCHEMA app; CREATE EXTENSION vector; CREATE TABLE app.v (e vector(3));")
    assert three.invoke("migrate").code == 0
    for answer in ("", "no\n", "YES\n"):
        refused = three.invoke("migrate-reset", stdin=answer)
        assert refused.code == 4
        assert three.applied() == ["001", "002", "003", "004"]
    done = three.invoke("migrate-reset", stdin="yes\n")
    assert done.code == 0, done
    assert three.rows(
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ) == [("public",)]
    assert three.rows("SELECT extname FROM pg_extension") == [("plpgsql",)]
    (backup,) = (three.root / three.settings["BACKUP_DIR"]).glob("*.dump")
    assert backup.name.startswith(f"{three.settings['DB_NAME']}-")
    assert backup.suffix == ".dump"
    assert backup.read_bytes().startswith(b"PGDMP")
    assert three.invoke("migrate").code == 0
    assert three.applied() == ["001", "002", "003", "004"]


def test_reset_is_one_transaction_and_waits_for_nobody_for_ever(three: Project) -> None:
    assert three.invoke("migrate").code == 0
    with three.connect() as other, other.transaction():
        other.execute("LOCK TABLE two IN ACCESS SHARE MODE")
        done = three.invoke("migrate-reset", "--yes", "--no-backup", DB_LOCK_TIMEOUT="300ms")
    assert done.code == 6
    assert three.applied() == ["001", "002", "003"]
    assert three.tables() == {"one", "two", "three"}


def test_status_and_plan_start_nothing_and_create_nothing(
    docker_project: Project, embedded_project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for base, setting in ((docker_project, "COMPOSE_PROJECT_NAME"), (embedded_project, "EMBEDDED_DIR")):
        root = tmp_path_factory.mktemp("new") / "checkout"
        new = project.copy(root, **{**base.settings, setting: "test-never-made"})
        new.write("001_one.sql", "CREATE TABLE one (i int);\n")
        assert new.status() == {"001": "pending"}
        assert new.invoke("migrate", "--plan").code == 0
        assert not (root / "test-never-made").exists()


def test_url_masks_the_password_unless_asked(anywhere: Project) -> None:
    name, port = anywhere.settings["DB_NAME"], anywhere.settings["DB_PORT"]
    assert anywhere.invoke("db.url").out == f"postgresql://postgres:***@127.0.0.1:{port}/{name}\n"
    shown = anywhere.invoke("db.url", "--password").out
    password = urllib.parse.quote(anywhere.settings["DB_PASSWORD"], safe="")
    assert shown == f"postgresql://postgres:{password}@127.0.0.1:{port}/{name}\n"
    with psycopg.connect(shown.strip()) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (name,)


def test_the_history_is_written_by_the_connecting_role_whatever_a_file_sets(anywhere: Project) -> None:
    anywhere.write("001_role.sql", "CREATE ROLE test_other; SET ROLE test_other; SET search_path = pg_temp;")
    anywhere.write("002_after.sql", "CREATE TABLE after_role (i int);")
    try:
        done = anywhere.invoke("migrate")
        assert done.code == 0, done
        assert anywhere.rows("SELECT DISTINCT applied_by FROM schema_migrations") == [("postgres",)]
        assert anywhere.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'after_role'") == [("postgres",)]
    finally:
        anywhere.do("DROP OWNED BY test_other; DROP ROLE test_other")


def test_stop_and_start_keep_the_data_and_wait_returns_when_ready(three: Project) -> None:
    assert three.invoke("migrate").code == 0
    assert three.invoke("db.down").code == 0
    try:
        stopped = three.invoke("migrate-status")
        assert stopped.code == 5
        assert "Next: invoke db.up" in stopped.err
        assert three.invoke("db.wait", "--timeout", "0.5").code == 5
    finally:
        assert three.invoke("db.up").code == 0
    assert three.invoke("db.wait").code == 0
    assert three.applied() == ["001", "002", "003"]


def test_the_description_of_the_tables_is_that_of_the_live_schema(external: Project) -> None:
    shutil.copytree(TOP / "infra/migrations", external.folder, dirs_exist_ok=True)
    assert external.invoke("migrate").code == 0
    readme = external.folder / "README.md"
    committed = readme.read_bytes()
    assert external.invoke("db.docs", "--check").code == 0
    external.do("COMMENT ON TABLE faces IS 'Something else.'")
    stale = external.invoke("db.docs", "--check")
    assert (stale.code, readme.read_bytes()) == (4, committed)
    assert external.invoke("db.docs").code == 0
    assert b"Something else." in readme.read_bytes()
    assert external.invoke("db.docs", "--check").code == 0


def test_a_checkout_that_was_moved_finds_its_container_again(image: str, tmp_path: Path) -> None:
    settings = {"DB_SERVER": "docker", "DB_PORT": str(free_port()), "DB_NAME": "postgres"}
    before = project.copy(tmp_path / "before", image=image, COMPOSE_PROJECT_NAME=f"test-{free_port()}", **settings)
    before.write("001_one.sql", "CREATE TABLE one (i int);\n")
    assert before.invoke("migrate").code == 0
    after = replace(before, root=before.root.rename(tmp_path / "after"))
    try:
        assert after.invoke("migrate").out.startswith("Nothing to do")
        other = project.copy(tmp_path / "before", image=image, **after.settings)
        # The folder is there again, and it alone tells whose the container is.
        assert other.status() == {"001": "missing"}
        refused = after.invoke("migrate")
        assert refused.code == 5
        assert "belongs to another checkout" in refused.err
        shutil.rmtree(other.root)
    finally:
        done = after.invoke("db.down", "--volumes", "--yes")
        assert (done.code, done.out.count("-postgres-1")) == (0, 1), done


def test_slow_statements_are_listed_at_the_end_with_their_line_and_the_slowest_file_in_the_status(
    anywhere: Project,
) -> None:
    anywhere.write("001_quick.sql", "SELECT 1;\n")
    anywhere.write(
        "002_slow.sql",
        "SELECT pg_sleep(0);\n\n-- Why.\nSELECT pg_sleep(2); -- twice\n"
        "DO $$\nBEGIN\n\n  PERFORM pg_sleep(2);\nEND $$;\nSELECT pg_sleep(2);\n",
    )
    done = anywhere.invoke("migrate")
    assert done.code == 0, done
    listed = done.out.partition("Slow statements:\n")[2].splitlines()[:3]
    file = f"{anywhere.settings['MIGRATIONS_DIR']}/002_slow.sql"
    assert [re.sub(r"^ +\d\.\d s  ", "", line) for line in listed] == [
        f"{file}:4  SELECT pg_sleep(2);",
        f"{file}:5  DO $$",
        f"{file}:10  SELECT pg_sleep(2);",
    ]
    assert re.search(r"^  Slowest: 002_slow, \d+\.\d s$", anywhere.invoke("migrate-status").out, re.MULTILINE)


def test_slow_statements_are_listed_when_a_file_fails_too(external: Project) -> None:
    external.write("001_bad.sql", "SELECT pg_sleep(2);\nSELECT 1 / 0;\n")
    done = external.invoke("migrate", "--json")
    assert done.code == 3
    assert json.loads(done.out)["failed"]["line"] == 2
    assert "001_bad.sql:1  SELECT pg_sleep(2);" in done.err
