"""Throw-away databases on real servers: like the original, always dropped, known again when they were not."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

import pytest

from infra.db import catalogue, errors, migration, scratch
from infra.db.migrator import Migrator
from tests.work import session_of

if TYPE_CHECKING:
    from tests.project import Project


def scratch_names(project: Project) -> set[str]:
    """Name the scratch databases of a project's own database."""
    found = project.rows("SELECT datname FROM pg_database")
    return {name for (name,) in found if name.startswith(f"{project.settings['DB_NAME']}_scratch_")}


def test_files_run_on_a_scratch_database_and_the_original_stays_as_it_is(anywhere: Project) -> None:
    anywhere.write("001_a.sql", "CREATE TABLE a (id int); CREATE INDEX a_i ON a (id);")
    with contextlib.closing(session_of(anywhere)) as session:
        original = session.running()
        with scratch.database(original, session.server, tool="migrate-verify") as made:
            files = migration.read_folder(anywhere.folder, "m")
            rows = Migrator(made.programs, made.settings, files, lambda _: None).migrate(made.database)
            assert [row.version for row in rows] == ["001"]
            assert list(catalogue.read(made.programs, made.database)) == ["TABLE public.a", "INDEX public.a_i"]
            assert scratch_names(anywhere) == {made.name}
            assert catalogue.read(session.server, original) == {}
    assert scratch_names(anywhere) == set()
    assert anywhere.applied() == []


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_it_is_dropped_after_a_failure_with_others_connected(anywhere: Project, how: type[BaseException]) -> None:
    others = contextlib.ExitStack()

    def fail() -> None:
        with (
            contextlib.closing(session_of(anywhere)) as session,
            scratch.database(session.running(), session.server, tool="x") as made,
        ):
            others.enter_context(contextlib.closing(made.database.again()))
            raise how

    with others:
        with pytest.raises(how):
            fail()
        assert scratch_names(anywhere) == set()


def test_it_sorts_and_is_set_like_the_original(anywhere: Project) -> None:
    name = anywhere.settings["DB_NAME"]
    anywhere.do(
        f"ALTER DATABASE {name} SET search_path = app, \"$user\"; ALTER DATABASE {name} SET app.x = 'it''s, so'"
    )
    anywhere.do(f"ALTER ROLE postgres IN DATABASE {name} SET default_statistics_target = 77")
    ask = (
        "SELECT current_setting('search_path'), current_setting('app.x'), current_setting('default_statistics_target')"
    )
    with contextlib.closing(session_of(anywhere)) as session:
        original = session.running()
        with scratch.database(original, session.server, tool="x") as made:
            assert made.database.rows(ask) == [('app, "$user"', "it's, so", "77")]
            assert made.database.rows(scratch.LOCALE) == original.rows(scratch.LOCALE)
    gone = "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase NOT IN (SELECT oid FROM pg_database)"
    assert anywhere.rows(f"{gone} AND setdatabase <> 0") == [(0,)]


def test_what_a_killed_run_left_is_known_by_name_and_comment_and_removed(anywhere: Project) -> None:
    name = anywhere.settings["DB_NAME"]
    ours, bare, theirs = (f"{name}_scratch_20260131T120000Z_0000000{n}" for n in range(3))
    for each in (ours, bare, theirs):
        anywhere.do(f'CREATE DATABASE "{each}"')
    anywhere.do(f"COMMENT ON DATABASE \"{ours}\" IS 'A throw-away copy of invoke migrate-rehearse of x'")
    anywhere.do(f"COMMENT ON DATABASE \"{theirs}\" IS 'mine'")
    with contextlib.closing(session_of(anywhere)) as session:
        original = session.running()
        with scratch.database(original, session.server, tool="x") as living:
            found = [left for left in scratch.leftovers(original) if left.name.startswith(name)]
            assert living.name not in {left.name for left in found}
        assert [left.name for left in found] == [ours, bare]
        assert all(f"{left.made_at:%Y-%m-%d}" == "2026-01-31" and left.size for left in found)
    for left in found:
        assert anywhere.invoke(*shlex.split(left.removal)[1:]).code == 0  # as somebody would paste it
    assert scratch_names(anywhere) == {theirs}
    anywhere.do(f'DROP DATABASE "{theirs}"')


def test_a_role_that_may_not_create_databases_is_told_so(external: Project) -> None:
    role = external.settings["DB_NAME"]
    external.do(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    external.settings.update(DB_USER=role, DB_PASSWORD="x")
    with contextlib.closing(session_of(external)) as session, pytest.raises(errors.NoScratch) as caught:
        scratch.database(session.running(), session.server, tool="x").__enter__()
    assert "may not create databases" in caught.value.what
    assert "CREATEDB" in caught.value.next


def test_the_catalogue_shows_what_pg_dump_leaves_out_and_what_it_says_of_triggers(anywhere: Project) -> None:
    anywhere.do("""
        CREATE TABLE t (a int, b int NOT NULL); INSERT INTO t VALUES (1, 1), (1, 2);
        ALTER TABLE t ADD CONSTRAINT pos CHECK (a > 0) NOT VALID;
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
        ALTER TABLE t DISABLE TRIGGER tr, ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON t USING (true);
        GRANT SELECT (a) ON t TO PUBLIC
    """)
    with anywhere.connect() as connection, contextlib.suppress(Exception):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (a)")
    with contextlib.closing(session_of(anywhere)) as session:
        schema = catalogue.read(session.server, session.running())
    assert list(schema) == [
        "FUNCTION public.f()",
        "TABLE public.t",
        "CHECK CONSTRAINT public.t pos",
        "TRIGGER public.t tr",
        "POLICY public.t p",
        "ROW SECURITY public.t",
        "GRANTS ON COLUMN public.t.a",
        "INDEX public.broken",
    ]
    assert "NOT VALID" in schema["CHECK CONSTRAINT public.t pos"]
    assert "DISABLE TRIGGER tr" in schema["TRIGGER public.t tr"]
    assert "not valid" in schema["INDEX public.broken"]
