"""Rehearsals on real servers with real rows: what a file does is measured on a copy; the original is only read."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import database, locks, settings
from infra.db.servers.external import External
from tests.integration.test_scratch import scratch_names
from tests.project import TOP
from tests.systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

ROWS = 100_000
CONTENT = f"""
CREATE TABLE content (id int PRIMARY KEY, n int NOT NULL, note text);
INSERT INTO content SELECT g, g, 'row ' || g FROM generate_series(1, {ROWS}) g;
"""
MEASURED = ("duration_ms", "held_ms", "bytes")


@pytest.fixture
def embedded(embedded_project: Project, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database on the embedded server: for stories that no kind of server changes."""
    return fresh(embedded_project)


def filled(project: Project) -> Project:
    """Give a project a table with 100,000 rows."""
    project.write("001_content.sql", CONTENT)
    done = project.invoke("migrate")
    assert done.code == 0, done
    return project


def pair(project: Project, name: str, up: str, down: str) -> None:
    project.write(f"{name}.sql", up)
    project.write(f"{name}.down.sql", down)


def original(project: Project) -> list[tuple[Any, ...]]:
    """What must not change in the original: history, columns, indexes and rows."""
    return (
        project.rows("SELECT xmin::text, * FROM schema_migrations ORDER BY version")
        + project.rows("SELECT attrelid::regclass::text, attname, atttypid FROM pg_attribute"
                       " WHERE attrelid::regclass::text ~ 'content' ORDER BY 1, attnum")
        + project.rows("SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                       " ORDER BY 1")
        + project.rows("SELECT count(*), sum(n), max(xmin::text) FROM content")
    )  # fmt: skip


def rehearsed(project: Project, *flags: str, code: int = 0) -> dict[str, Any]:
    """Rehearse; measured values are replaced by whether they are above nothing."""
    done = project.invoke("migrate-rehearse", "--json", *flags)
    assert done.code == code, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def without_measures(value: Any) -> Any:
    """Replace durations and sizes by True where they are above nothing."""
    if isinstance(value, dict):
        return {
            key: each > 0 if key in MEASURED and each is not None else without_measures(each)
            for key, each in value.items()
        }
    return [without_measures(each) for each in value] if isinstance(value, list) else value


def test_a_report_as_json_says_all_of_each_file_and_the_original_stays_as_it_is(anywhere: Project) -> None:
    filled(anywhere)
    pair(
        anywhere,
        "002_wide",
        "ALTER TABLE content ALTER n TYPE bigint;"
        "CREATE TABLE other (id int); INSERT INTO other SELECT generate_series(1, 5);"
        "UPDATE content SET n = -n WHERE id <= 1000; DELETE FROM content WHERE id = 1;",
        "DROP TABLE other; ALTER TABLE content ALTER n TYPE int;",
    )
    pair(
        anywhere,
        "003_index",
        "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY content_n ON content (n);",
        "-- migrate: no-transaction\nDROP INDEX CONCURRENTLY content_n;",
    )
    before = original(anywhere)
    with anywhere.connect() as writer, writer.transaction():  # somebody is at work on the original
        writer.execute("UPDATE content SET note = 'x' WHERE id = 7")
        found = rehearsed(anywhere)
    assert original(anywhere)[:-1] == before[:-1]
    assert anywhere.rows("SELECT count(*), sum(n) FROM content") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    assert scratch_names(anywhere) == set()

    table = {"table": "public.content", "rows": ROWS}
    same: dict[str, Any] = {"result": "same", "message": None, "differences": [], "duration_ms": True}
    assert without_measures(found) == {
        "server": anywhere.settings["DB_SERVER"],
        "database": anywhere.settings["DB_NAME"],
        "rehearsed_on": "the same server",
        "data": True,
        "ok": True,
        "verdict": found["verdict"],
        "migrations": [
            {
                "version": "002",
                "name": "wide",
                "duration_ms": True,
                "locks": [
                    {**table, "mode": "ACCESS EXCLUSIVE", "held_ms": True, "rewritten": True},
                    {**table, "mode": "SHARE", "held_ms": True, "rewritten": True},
                ],
                "rewritten": [{"table": "public.content", "bytes": True}],
                "indexes": [{"index": "public.content_pkey", "table": "public.content", "bytes": True}],
                "rows": [
                    {"table": "public.content", "inserted": 0, "updated": 1000, "deleted": 1},
                    {"table": "public.other", "inserted": 5, "updated": 0, "deleted": 0},
                ],
                "created": ["TABLE public.other"],
                "altered": ["TABLE public.content"],
                "dropped": [],
                "rollback": same,
            },
            {
                "version": "003",
                "name": "index",
                "duration_ms": True,
                "locks": [
                    {**table, "rows": ROWS, "mode": "SHARE UPDATE EXCLUSIVE", "held_ms": True, "rewritten": False}
                ],
                "rewritten": [],
                "indexes": [{"index": "public.content_n", "table": "public.content", "bytes": True}],
                "rows": [],
                "created": ["INDEX public.content_n"],
                "altered": [],
                "dropped": [],
                "rollback": same,
            },
        ],
        "again": {"result": "same", "message": None, "differences": []},
        "failed": None,
    }
    assert "Every down script brings the schema back" in found["verdict"][-1]


def test_a_lock_that_no_look_can_see_is_noted_when_the_file_is_recorded(external: Project) -> None:
    external.do("CREATE TABLE t (i int)")
    given = settings.read(external.environment(), root=external.root, dotenv={})
    server = External(given)
    with contextlib.closing(database.connect(server, given, server.start(print))) as connected:
        locks.prepare(connected)
        with locks.watching(connected, "001") as watch:
            external.do(  # by a session that is not called as a run's is, so that the looks do not find it
                "BEGIN; LOCK TABLE t IN SHARE MODE;"
                "INSERT INTO schema_migrations (version, name, status, checksum) VALUES ('001', 'a', 'applied', 'v1:');"
                "COMMIT"
            )
    table = external.rows("SELECT 't'::regclass::oid::int")[0][0]
    assert [(each.relation, each.mode) for each in watch.held] == [(table, "SHARE")]


def test_a_lock_that_is_held_for_long_is_in_the_verdict(embedded: Project) -> None:
    filled(embedded)
    pair(
        embedded,
        "002_slow",
        "ALTER TABLE content ADD c int; TRUNCATE content; SELECT pg_sleep(1.5);",
        "ALTER TABLE content DROP c;",
    )
    found = rehearsed(embedded)
    assert found["migrations"][0]["rewritten"] == []  # it was only emptied
    lock = found["migrations"][0]["locks"][0]
    assert (lock["table"], lock["mode"]) == ("public.content", "ACCESS EXCLUSIVE")
    assert 1500 <= lock["held_ms"] <= found["migrations"][0]["duration_ms"]
    held = re.fullmatch(
        r"002 holds ACCESS EXCLUSIVE on content for .* s \(100,000 rows\): plan a window or split it.",
        found["verdict"][0],
    )
    assert held


def test_a_down_script_that_leaves_something_is_found_and_those_before_it_are_not_judged(anywhere: Project) -> None:
    filled(anywhere)
    pair(anywhere, "002_a", "CREATE TABLE a (id int);", "DROP TABLE a;")
    pair(anywhere, "003_b", "ALTER TABLE content ADD b int; CREATE INDEX content_b ON content (b);", "SELECT 1;")
    found = rehearsed(anywhere, code=4)
    rollbacks = [each["rollback"] for each in found["migrations"]]
    assert [each["result"] for each in rollbacks] == ["not tried", "differs"]
    assert [(each["kind"], each["object"]) for each in rollbacks[1]["differences"]] == [
        ("changed", "TABLE public.content"),
        ("extra", "INDEX public.content_b"),
    ]
    assert "+    b integer" in rollbacks[1]["differences"][0]["diff"]
    assert (found["ok"], found["again"]["result"]) == (False, "not tried")
    done = anywhere.invoke("migrate-rehearse", "--to", "003", "--schema-only")
    assert done.code == 4
    assert "The down script of 003 does not bring the schema back: 2 objects differ." in done.err
    assert "+    b integer" in done.out
    assert scratch_names(anywhere) == set()


def test_a_down_script_that_fails_is_found(embedded: Project) -> None:
    pair(embedded, "001_a", "CREATE TABLE a (id int);", "DROP TABLE b;")
    found = rehearsed(embedded, code=4)
    assert found["migrations"][0]["rollback"]["result"] == "failed"
    assert 'table "b" does not exist' in found["migrations"][0]["rollback"]["message"]
    assert embedded.tables() == set()


def test_what_comes_out_different_the_second_time_is_found(embedded: Project) -> None:
    filled(embedded)
    pair(
        embedded,
        "002_b",
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM content WHERE id = 0) THEN CREATE TABLE b (i int); END IF; END $$;",
        "DROP TABLE b; INSERT INTO content VALUES (0, 0);",
    )
    found = rehearsed(embedded, code=4)
    assert found["migrations"][0]["rollback"]["result"] == "same"
    assert found["again"]["result"] == "differs"
    assert found["verdict"] == ["Going back and forth again gives another schema: one object differs (TABLE public.b)."]


def test_a_file_that_fails_is_named_with_its_line_and_those_before_it_are_reported(embedded: Project) -> None:
    filled(embedded)
    pair(embedded, "002_a", "CREATE TABLE a (id int);", "DROP TABLE a;")
    embedded.write("003_b.sql", "SELECT 1;\nALTER TABLE content ADD CONSTRAINT c CHECK (n < 5);")
    found = rehearsed(embedded, code=4)
    assert [each["version"] for each in found["migrations"]] == ["002"]
    assert {name: found["failed"][name] for name in ("version", "line", "sqlstate")} == {
        "version": "003",
        "line": 2,
        "sqlstate": "23514",
    }
    assert embedded.applied() == ["001"]
    assert rehearsed(embedded, "--to", "002")["failed"] is None


def test_a_file_without_a_way_back_is_said_and_is_no_failure(embedded: Project) -> None:
    embedded.write("001_a.sql", "CREATE TABLE a (id int);")
    found = rehearsed(embedded)
    assert found["migrations"][0]["rollback"]["result"] == "no down script"
    assert "001 has no down script" in found["verdict"][0]


def test_nothing_pending_is_nothing_to_rehearse(embedded: Project) -> None:
    filled(embedded)
    done = embedded.invoke("migrate-rehearse")
    assert (done.code, "Nothing to rehearse" in done.out) == (0, True), done
    assert rehearsed(embedded)["migrations"] == []


def test_without_the_rows_a_rewrite_of_many_is_still_said(embedded: Project) -> None:
    filled(embedded)
    embedded.do("ANALYZE content")
    pair(embedded, "002_wide", "ALTER TABLE content ALTER n TYPE bigint;", "ALTER TABLE content ALTER n TYPE int;")
    found = rehearsed(embedded, "--schema-only")
    assert found["data"] is False
    assert found["verdict"][0] == (
        "002 holds ACCESS EXCLUSIVE on content while it writes it anew (100,000 rows): rehearse it with the rows to"
        " know for how long."
    )
    assert found["migrations"][0]["rewritten"] == [{"table": "public.content", "bytes": 0}]


def test_our_own_files_go_there_and_back_and_leave_no_role_behind(anywhere: Project) -> None:
    shutil.copytree(TOP / "infra" / "migrations", anywhere.folder, dirs_exist_ok=True)
    role = anywhere.settings["DB_NAME"]
    pair(anywhere, "011_role", f"DO $$ BEGIN CREATE ROLE {role}; END $$; GRANT SELECT ON faces TO {role};",
         f"REVOKE SELECT ON faces FROM {role};")  # fmt: skip
    found = rehearsed(anywhere, "--to", "010", "--schema-only")
    assert (found["ok"], len(found["migrations"])) == (True, 10)
    found = rehearsed(anywhere, "--schema-only", code=4)
    assert f'role "{role}" already exists' in found["again"]["message"]  # the way back has not dropped it
    assert anywhere.rows("SELECT FROM pg_roles WHERE rolname = %s", role) == []


@needs_signals
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rehearsal_leaves_nothing(anywhere: Project, how: signal.Signals) -> None:
    filled(anywhere)
    before = original(anywhere)
    anywhere.write("002_slow.sql", "ALTER TABLE content ADD c int; SELECT pg_sleep(60);")
    running = anywhere.start("migrate-rehearse")
    wait_for_sleep(anywhere)
    running.send_signal(how)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert b"The copy is gone again" in out
    assert scratch_names(anywhere) == set()
    assert original(anywhere) == before


def test_what_a_killed_rehearsal_leaves_is_said_by_the_next_one_with_how_to_remove_it(anywhere: Project) -> None:
    filled(anywhere)
    before = original(anywhere)
    anywhere.write("002_slow.sql", "ALTER TABLE content ADD c int; SELECT pg_sleep(60);")
    running = anywhere.start("migrate-rehearse")
    wait_for_sleep(anywhere)
    running.kill()
    running.communicate()
    (left,) = scratch_names(anywhere)
    anywhere.do("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname LIKE '%_scratch_%'")
    anywhere.write("002_slow.sql", "SELECT 1;")
    done = anywhere.invoke("migrate-rehearse", "--schema-only")
    assert done.code == 0, done
    assert "A run that was killed" in done.out
    assert f'DROP DATABASE "{left}"' in done.out
    assert original(anywhere) == before
    anywhere.do(f'DROP DATABASE "{left}"')


@needs_signals
def test_an_interrupted_copy_leaves_no_session_at_work_on_the_original(anywhere: Project) -> None:
    filled(anywhere)
    anywhere.write("002_a.sql", "SELECT 1;")
    sessions = (
        "SELECT FROM pg_stat_activity WHERE application_name LIKE 'invoke copy %' AND datname = current_database()"
    )
    with anywhere.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE content IN ACCESS EXCLUSIVE MODE")  # pg_dump waits for it
        running = anywhere.start("migrate-rehearse")
        wait_until(lambda: bool(anywhere.rows(f"{sessions} AND wait_event_type = 'Lock'")))
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
        assert (running.returncode, anywhere.rows(sessions)) == (130, []), out
    assert scratch_names(anywhere) == set()


def test_the_private_server_of_a_killed_rehearsal_goes_with_the_next_one(
    external: Project, embedded_project: Project
) -> None:
    external.settings["EMBEDDED_DIR"] = str(embedded_project.root / ".killed")
    external.write("001_slow.sql", "SELECT pg_sleep(60);")
    running = external.start("migrate-rehearse")
    wait_until(lambda: any(embedded_project.root.glob(".killed.scratch-*/postmaster.pid")))
    running.kill()
    running.communicate()
    assert list(embedded_project.root.glob(".killed.scratch-*"))
    external.write("001_slow.sql", "SELECT 1;")
    rehearsed(external)
    assert not list(embedded_project.root.glob(".killed*"))


def wait_for_sleep(project: Project) -> None:
    query = "SELECT FROM pg_stat_activity WHERE datname LIKE %s AND query ~ 'pg_sleep' AND state = 'active'"
    wait_until(lambda: bool(project.rows(query, f"{project.settings['DB_NAME']}_scratch_%")))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_rows_are_never_copied_onto_a_server_that_somebody_else_runs(
    external: Project, embedded_project: Project
) -> None:
    external.settings["EMBEDDED_DIR"] = str(embedded_project.root / ".external")
    filled(external)
    pair(external, "002_a", "ALTER TABLE content ADD c int;", "ALTER TABLE content DROP c;")
    before = original(external)
    databases = external.rows("SELECT oid, datname FROM pg_database ORDER BY 1")
    found = rehearsed(external)
    assert (found["ok"], found["rehearsed_on"]) == (True, "a private server of this machine")
    assert found["migrations"][0]["locks"][0]["rows"] == ROWS
    assert rehearsed(external, "--schema-only")["rehearsed_on"] == "the same server"
    assert original(external) == before
    assert external.rows("SELECT oid, datname FROM pg_database ORDER BY 1") == databases
    assert not list(embedded_project.root.glob(".external*"))


def test_files_that_reach_beyond_the_database_are_tried_on_a_server_of_their_own(embedded: Project) -> None:
    name = embedded.settings["DB_NAME"]
    pair(embedded, "001_a", f"ALTER DATABASE {name} SET work_mem = '7MB'", f"ALTER DATABASE {name} RESET work_mem")
    found = rehearsed(embedded)
    assert (found["ok"], found["rehearsed_on"]) == (True, "a private server of this machine")
    assert embedded.rows("SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                         " WHERE datname = %s", name) == []  # fmt: skip
