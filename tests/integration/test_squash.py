"""One file in the place of many: new databases run it, old ones go on without."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_baseline import scratches
from tests.integration.test_rollback import applied, write
from tests.project import TOP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project


def git(project: Project, *words: str) -> str:
    """Type a git command in the folder of the migrations."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *name, *words], cwd=project.folder, check=True, capture_output=True, text=True)
    return done.stdout


def commit(project: Project) -> None:
    """Commit all files, in a checkout of their own."""
    if not (project.folder / ".git").exists():
        git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "all")


@pytest.fixture
def three(anywhere: Project) -> Project:
    """Three applied and committed files with a role, a sequence, seed rows and an audit trigger."""
    role = f"app_{anywhere.settings['DB_NAME']}"
    anywhere.write(
        "001_log.sql",
        f"DO $$BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role}; END IF; END$$;"
        f" CREATE TABLE log (id serial, what text); GRANT SELECT ON log TO {role};"
        " INSERT INTO log (what) VALUES ('it''s $$'), (NULL), ('three');",
    )
    anywhere.write(
        "002_touch.sql",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.what := NEW.what || '!'; RETURN NEW;"
        " END$$;\n"
        "CREATE TRIGGER touch BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION touch();",
    )
    anywhere.write("003_index.sql", "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY log_what ON log (what);")
    applied(anywhere)
    commit(anywhere)
    return anywhere


def another(project: Project) -> Project:
    """Return the same checkout with a new database."""
    name = f"{project.settings['DB_NAME']}_new"
    with replace(project, settings={**project.settings, "DB_NAME": "postgres"}).connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return replace(project, settings={**project.settings, "DB_NAME": name})


def content(project: Project) -> list[object]:
    """Return rows, the next number, columns, indexes, triggers and grants of the table `log`."""
    return [
        project.rows("SELECT id, what FROM log ORDER BY id"),
        project.rows("SELECT last_value, is_called FROM log_id_seq"),
        project.rows("SELECT attname, atttypid FROM pg_attribute WHERE attrelid = 'log'::regclass AND attnum > 0"),
        project.rows("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'log'::regclass"),
        project.rows("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'log'::regclass"),
        project.rows("SELECT relacl::text FROM pg_class WHERE oid = 'log'::regclass"),
    ]


def test_a_new_database_is_made_by_the_one_file_and_an_old_one_goes_on_without(three: Project) -> None:
    done = three.invoke("migrate-squash", "--to", "3")
    assert done.code == 0, done
    assert sorted(path.name for path in three.folder.glob("*.sql")) == ["003_baseline.sql"]
    assert scratches(three) == []
    write(three, "004")
    assert three.status() == {"003": "applied", "004": "pending"}
    assert three.invoke("migrate").code == 0
    assert three.applied() == ["001", "002", "003", "004"]
    new = another(three)
    assert new.invoke("migrate").code == 0
    assert new.applied() == ["003", "004"]
    assert content(new) == content(three)


def test_what_was_squashed_is_not_undone_by_halves(three: Project) -> None:
    assert three.invoke("migrate-squash", "--to", "3").code == 0
    done = three.invoke("migrate-rollback", "--yes")
    assert done.code == 4, done
    assert "003_baseline has no down script" in done.err
    assert three.applied() == ["001", "002", "003"]


def test_a_database_in_the_middle_of_what_was_squashed_is_told_how_to_go_on(three: Project) -> None:
    behind = another(three)
    assert behind.invoke("migrate", "--to", "2").code == 0
    assert three.invoke("migrate-squash", "--to", "3").code == 0
    done = behind.invoke("migrate")
    assert done.code == 4, done
    assert "003_baseline replaces 001_log to 003_index" in done.err
    assert "invoke migrate --to 003" in done.err
    git(three, "reset", "-q", "--hard")
    assert behind.invoke("migrate", "--to", "003").code == 0
    assert three.invoke("migrate-squash", "--to", "3").code == 0
    assert behind.invoke("migrate").code == 0


def test_squashing_again_serves_the_oldest_and_the_newest_history(three: Project) -> None:
    assert three.invoke("migrate-squash", "--to", "3").code == 0
    write(three, "004")
    commit(three)
    new = another(three)
    for each in (three, new):
        assert each.invoke("migrate").code == 0
    done = three.invoke("migrate-squash", "--to", "4")
    assert done.code == 0, done
    for each in (three, new):
        assert each.status() == {"004": "applied"}


@pytest.mark.parametrize("spoil", ["edited", "new", "no checkout"])
def test_what_git_does_not_keep_is_never_removed(three: Project, spoil: str) -> None:
    match spoil:
        case "edited":
            three.write("002_touch.sql", "SELECT 2;")
        case "new":
            write(three, "002.5".replace(".", ""))
        case _:
            shutil.rmtree(three.folder / ".git")
    before = sorted(path.name for path in three.folder.glob("*.sql"))
    done = three.invoke("migrate-squash", "--to", "25" if spoil == "new" else "3")
    assert done.code == 4, done
    assert "Git does not keep these files" in done.err
    assert sorted(path.name for path in three.folder.glob("*.sql")) == before


def test_the_one_file_runs_where_an_extension_is_an_administrators(external: Project) -> None:
    write(external, "001", up="CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE t001 (v vector(3));")
    applied(external, "002")
    commit(external)
    assert external.invoke("migrate-squash", "--to", "2").code == 0
    new, role = another(external), external.settings["DB_NAME"]
    new.do(f"CREATE EXTENSION vector; CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO {role}")
    done = new.invoke("migrate", DB_USER=role, DB_PASSWORD="x")
    assert done.code == 0, done
    assert new.tables() == {"t001", "t002"}


def test_what_git_does_not_remove_is_not_replaced(three: Project) -> None:
    (three.folder / ".git" / "index.lock").touch()
    done = three.invoke("migrate-squash", "--to", "3")
    assert (done.code, "Git refused" in done.err) == (4, True), done
    assert len(list(three.folder.glob("*.sql"))) == 3


def test_without_a_version_it_is_asked_for(three: Project) -> None:
    done = three.invoke("migrate-squash")
    assert (done.code, "Say up to which version" in done.err) == (2, True), done


def test_one_file_alone_is_nothing_to_squash(three: Project) -> None:
    assert three.invoke("migrate-squash", "--to", "1").code == 2
    assert three.invoke("migrate-squash", "--to", "9").code == 2


def test_a_file_that_cannot_run_twice_on_one_server_is_named_and_nothing_changes(external: Project) -> None:
    external.write("001_role.sql", f"CREATE ROLE r_{external.settings['DB_NAME']};")
    applied(external, "002")
    commit(external)
    done = external.invoke("migrate-squash", "--to", "2")
    assert done.code == 3, done
    assert "On a throw-away database, 001_role failed (SQLSTATE 42710)" in done.err
    assert "belong to the whole server" in done.err
    assert external.status() == {"001": "applied", "002": "applied"}
    assert scratches(external) == []


def test_our_own_migrations_can_be_squashed(external_project: Project, fresh: Callable[[Project], Project]) -> None:
    project = fresh(external_project)
    for file in (TOP / "infra" / "migrations").glob("*.sql"):
        shutil.copy(file, project.folder)
    commit(project)
    done = project.invoke("migrate-squash", "--to", "10")
    assert done.code == 0, done
    assert project.status() == {"010": "pending"}
    assert project.invoke("migrate").code == 0
