"""Going back: down scripts with the same fence, guard, lock, retries and proof as going up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.patience import finish, no_run_is_left, read_until, sleeping, until
from tests.systems import needs_signals

if TYPE_CHECKING:
    from tests.project import Project


def write(project: Project, version: str, *, up: str = "", down: str | None = "", name: str = "step") -> None:
    """Write a pair that makes and drops a table of the version's name, unless it says something else."""
    project.write(f"{version}_{name}.sql", up or f"CREATE TABLE t{version} (i int);")
    if down is not None:
        project.write(f"{version}_{name}.down.sql", down or f"DROP TABLE t{version};")


def applied(project: Project, *versions: str) -> Project:
    """Write plain pairs and apply all that is there."""
    for version in versions:
        write(project, version)
    done = project.invoke("migrate")
    assert done.code == 0, done
    return project


def test_the_newest_is_undone_and_can_be_applied_again(anywhere: Project) -> None:
    applied(anywhere, "001", "002")
    done = anywhere.invoke("migrate-rollback", "--yes")
    assert done.code == 0, done
    assert (anywhere.tables(), anywhere.applied()) == ({"t001"}, ["001"])
    assert anywhere.status() == {"001": "applied", "002": "pending"}
    assert anywhere.invoke("migrate").code == 0
    assert (anywhere.tables(), anywhere.applied()) == ({"t001", "t002"}, ["001", "002"])
    assert no_run_is_left(anywhere)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--steps", "2"], ["001"]),
        (["--steps", "9"], []),
        (["--to", "3"], ["001", "003"]),
        (["--to", "001"], ["001"]),
        (["--to", "0"], []),
        (["--to", "7"], ["001", "003", "007"]),
    ],
)
def test_how_far_to_go_back_is_counted_or_named_also_with_gaps(
    external: Project, words: list[str], left: list[str]
) -> None:
    applied(external, "001", "003", "007")
    done = external.invoke("migrate-rollback", "--yes", *words)
    assert done.code == 0, done
    assert external.applied() == left
    assert external.tables() == {f"t{version}" for version in left}


@pytest.mark.parametrize("words", [["--steps", "0"], ["--steps", "x"], ["--to", "2"], ["--steps", "2", "--to", "1"]])
def test_a_goal_that_makes_no_sense_changes_nothing(external: Project, words: list[str]) -> None:
    applied(external, "001", "003")
    done = external.invoke("migrate-rollback", "--yes", *words)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert external.applied() == ["001", "003"]


def test_nothing_applied_is_nothing_to_undo(external: Project) -> None:
    write(external, "001")
    done = external.invoke("migrate-rollback", "--yes")
    assert (done.code, external.tables()) == (0, set())
    assert "Nothing to undo" in done.out


def test_the_plan_shows_what_is_lost_and_changes_nothing(anywhere: Project) -> None:
    applied(anywhere, "001", "002")
    write(anywhere, "003", up="ALTER TABLE t001 ADD COLUMN j int;", down="ALTER TABLE t001 DROP COLUMN j;")
    assert anywhere.invoke("migrate").code == 0
    anywhere.do(
        "INSERT INTO t001 SELECT i, nullif(i % 2, 0) FROM generate_series(1, 3000) i; INSERT INTO t002 VALUES (1)"
    )
    done = anywhere.invoke("migrate-rollback", "--plan", "--steps", "2")
    assert done.code == 0, done
    assert re.search(
        r"003_step\n +drops column t001\.j \(1,500 rows with a value\)\n  002_step\n +drops table t002 \(1 row\)\n",
        done.out,
    )
    assert done.out.endswith("Nothing was changed.\nNext: invoke migrate-rollback   do it\n")
    assert anywhere.applied() == ["001", "002", "003"]


def test_a_large_table_is_estimated_and_a_locked_one_is_not_waited_for(external: Project) -> None:
    applied(external, "001", "002")
    write(external, "003", up="CREATE TABLE t003 (i int) PARTITION BY RANGE (i);"
          "CREATE TABLE low PARTITION OF t003 FOR VALUES FROM (0) TO (50000);"
          "CREATE TABLE high PARTITION OF t003 DEFAULT;")  # fmt: skip
    assert external.invoke("migrate").code == 0
    external.do("".join(f"INSERT INTO {t} SELECT generate_series(1, 120000); ANALYZE {t};" for t in ("t001", "t003")))
    with external.connect() as other, other.transaction():
        other.execute("LOCK TABLE t002")
        done = external.invoke("migrate-rollback", "--plan", "--to", "0")
    assert done.code == 0, done
    assert "drops table t001 (about 120,000 rows)" in done.out
    assert "drops table t003 (about 120,000 rows)" in done.out
    assert "drops table t002 (rows unknown)" in done.out


def test_rows_that_row_security_hides_are_not_counted_as_none(external: Project) -> None:
    applied(external, "001")
    role = external.settings["DB_NAME"]
    external.do(
        f"INSERT INTO t001 VALUES (1); ANALYZE t001; ALTER TABLE t001 ENABLE ROW LEVEL SECURITY;"
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON t001, schema_migrations TO {role}"
    )
    done = external.invoke("migrate-rollback", "--plan", DB_USER=role, DB_PASSWORD="x")
    assert "drops table t001 (about 1 row)" in done.out, done
    external.do(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_what_a_script_may_leave_alone_is_no_loss(external: Project) -> None:
    write(external, "002", up="INSERT INTO t001 VALUES (1);", down="""
        DELETE FROM t001 WHERE i = 1; ALTER TABLE t001 DROP COLUMN IF EXISTS nowhere; DROP TABLE IF EXISTS nowhere;
    """)  # fmt: skip
    applied(external, "001")
    done = external.invoke("migrate-rollback", "--plan")
    assert done.code == 0, done
    end = ["Nothing was changed.", "Next: invoke migrate-rollback   do it", ""]
    assert done.out.split("\n")[1:] == ["  002_step", "      deletes from t001 (rows unknown)", *end]


def test_without_a_yes_nothing_is_undone(external: Project) -> None:
    applied(external, "001")
    for answer in ("", "no\n", "y\n"):
        done = external.invoke("migrate-rollback", stdin=answer)
        assert (done.code, external.applied()) == (4, ["001"]), done
        assert "invoke migrate-rollback --yes" in done.err
    assert external.invoke("migrate-rollback", stdin="yes\n").code == 0
    assert external.applied() == []


def test_on_another_machine_the_name_of_the_database_is_typed_whatever_the_flags_say(external: Project) -> None:
    applied(external, "001")
    elsewhere = replace(external, settings={**external.settings, "DB_HOST": "127.1"})  # as good as another machine
    for words, answer in ((["--yes"], ""), ([], "yes\n")):
        done = elsewhere.invoke("migrate-rollback", *words, stdin=answer)
        assert (done.code, external.applied()) == (4, ["001"]), done
        assert external.settings["DB_NAME"] in done.err
    assert elsewhere.invoke("migrate-rollback", stdin=f"{external.settings['DB_NAME']}\n").code == 0
    assert external.applied() == []


def git(project: Project, *words: str) -> None:
    """Type a git command in the folder of the migrations."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *name, *words], cwd=project.folder, check=True, capture_output=True)


def eleven_on_a_branch(project: Project) -> None:
    """Apply 001 of the branch main and 011 of the branch topic, and go back to main, which has no 011."""
    write(project, "001")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "one")
    git(project, "checkout", "-q", "-b", "topic")
    applied(project, "011")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "eleven")
    git(project, "checkout", "-q", "main")


def test_a_file_of_another_git_branch_is_undone_from_the_history(anywhere: Project) -> None:
    eleven_on_a_branch(anywhere)
    assert anywhere.status() == {"001": "applied", "011": "missing"}
    refused = anywhere.invoke("migrate")
    assert refused.code == 4
    assert "invoke migrate-rollback" in refused.err
    done = anywhere.invoke("migrate-rollback", "--yes")
    assert done.code == 0, done
    assert "011_step   by the history's copy" in done.out
    assert (anywhere.tables(), anywhere.applied()) == ({"t001"}, ["001"])
    assert anywhere.invoke("migrate").code == 0


def test_a_file_of_another_git_branch_is_not_taken_for_the_one_that_has_its_number_here(anywhere: Project) -> None:
    eleven_on_a_branch(anywhere)
    write(anywhere, "011", up="CREATE TABLE other (i int);", down="DROP TABLE other;", name="other")
    refused = anywhere.invoke("migrate")
    assert refused.code == 4
    assert "011_step was applied, but its file is gone" in refused.err
    assert "edited" not in refused.err
    done = anywhere.invoke("migrate-rollback", "--yes")
    assert done.code == 0, done
    assert "011_step   by the history's copy" in done.out
    assert anywhere.invoke("migrate").code == 0
    assert (anywhere.tables(), anywhere.applied()) == ({"t001", "other"}, ["001", "011"])


def test_a_version_without_a_down_script_stops_the_whole_plan(external: Project) -> None:
    write(external, "002", down=None)
    applied(external, "001", "003")
    done = external.invoke("migrate-rollback", "--steps", "3", "--yes")
    assert done.code == 4, done
    assert "002_step has no down script" in done.err
    assert f"write {external.folder}/002_step.down.sql, then:  invoke migrate-resolve 002 --applied" in done.err
    assert external.applied() == ["001", "002", "003"]
    write(external, "002")
    assert external.invoke("migrate-rollback", "--steps", "3", "--yes").code == 4  # not the one of the history
    assert external.invoke("migrate-resolve", "002", "--applied").code == 0
    assert external.invoke("migrate-rollback", "--steps", "3", "--yes").code == 0
    assert external.tables() == set()


def test_a_down_script_that_was_edited_stops_the_plan_with_the_difference(external: Project) -> None:
    applied(external, "001")
    write(external, "001", down="DROP TABLE t001;\nDROP TABLE other;")
    done = external.invoke("migrate-rollback", "--yes")
    assert (done.code, external.applied()) == (4, ["001"]), done
    assert "+DROP TABLE other;" in done.err
    write(external, "001", down="\ufeffDROP TABLE t001;")  # a BOM is no edit
    assert external.invoke("migrate-rollback", "--yes").code == 0


def test_a_down_script_that_is_gone_is_taken_from_the_history(external: Project) -> None:
    applied(external, "001")
    (external.folder / "001_step.down.sql").unlink()
    done = external.invoke("migrate-rollback", "--yes")
    assert (done.code, external.tables()) == (0, set()), done
    assert "by the history's copy" in done.out


def test_a_failure_in_the_middle_keeps_what_was_undone_and_stops(anywhere: Project) -> None:
    write(anywhere, "002", down="DROP TABLE t002;\nDROP TABLE nowhere;")
    applied(anywhere, "001", "003")
    done = anywhere.invoke("migrate-rollback", "--steps", "3", "--yes")
    assert done.code == 3, done
    assert "Undoing 002_step failed (SQLSTATE 42P01)" in done.err
    assert f"{anywhere.folder}/002_step.down.sql:2" in done.err
    assert "so 002 is still applied. 003 stays undone. 001 was not tried." in done.err
    assert (anywhere.tables(), anywhere.applied()) == ({"t001", "t002"}, ["001", "002"])
    write(anywhere, "002")
    assert anywhere.invoke("migrate-resolve", "002", "--applied").code == 0
    assert anywhere.invoke("migrate-rollback", "--steps", "2", "--yes").code == 0
    assert (anywhere.tables(), anywhere.applied()) == (set(), [])


@pytest.mark.parametrize(
    ("down", "code", "words"),
    [
        ("DROP TABLE t001;\nCOMMIT;", 4, "opens or ends a transaction"),
        ("DROP TABLE t001;\n\\! true", 3, "a psql command"),
        ("DELETE FROM schema_migrations;", 3, "it changed the history of migrations itself"),
        ("DROP TABLE t001; DROP TABLE schema_migrations;", 3, "does not exist"),
        ("DROP TABLE 't001", 3, "unterminated quoted string"),
    ],
)
def test_a_hostile_down_script_changes_nothing(external: Project, down: str, code: int, words: str) -> None:
    write(external, "001", down=down)
    applied(external)
    done = external.invoke("migrate-rollback", "--yes")
    assert done.code == code, done
    assert words in done.err
    assert (external.tables(), external.applied()) == ({"t001"}, ["001"])


def test_a_down_script_without_a_transaction_is_marked_when_it_fails(external: Project) -> None:
    alone = "-- migrate: no-transaction\n"
    write(external, "002", up="CREATE INDEX i ON t001 (i);", down=f"{alone}DROP INDEX CONCURRENTLY i;")
    applied(external, "001")
    assert external.invoke("migrate-rollback", "--yes").code == 0
    assert external.applied() == ["001"]
    write(external, "002", up="CREATE INDEX i ON t001 (i);", down=f"{alone}DROP INDEX CONCURRENTLY i;\nSELECT 1/0;")
    applied(external)
    done = external.invoke("migrate-rollback", "--yes")
    assert done.code == 3, done
    assert external.status() == {"001": "applied", "002": "failed"}
    assert external.invoke("migrate-rollback", "--yes").code == 4
    assert external.invoke("migrate-resolve", "002", "--pending").code == 0
    assert external.invoke("migrate").code == 0


def test_a_retry_goes_on_with_the_plan_that_was_confirmed(anywhere: Project) -> None:
    applied(anywhere, "001", "002", "003")
    with anywhere.connect() as reader:
        with reader.transaction():
            reader.execute("SELECT * FROM t002")
            run = anywhere.start("migrate-rollback", "--steps", "2", "--yes", DB_LOCK_TIMEOUT="500ms")
            read_until(run, b"try 2 follows")
        code, out = finish(run)
    assert code == 0, out
    assert (anywhere.tables(), anywhere.applied()) == ({"t001"}, ["001"])


def test_what_is_applied_while_the_question_is_open_is_not_undone(external: Project) -> None:
    applied(external, "001")
    waiting = subprocess.Popen(
        external.command("migrate-rollback"),
        cwd=external.root,
        env=external.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    read_until(waiting, b"Type yes")
    applied(external, "002")
    out, _ = waiting.communicate(b"yes\n", timeout=60)
    assert waiting.returncode == 4, out
    assert b"002_step" in out
    assert external.applied() == ["001", "002"]


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT] if os.name == "posix" else [])
def test_a_run_that_ends_while_going_back_leaves_nothing_half_undone(anywhere: Project, number: int) -> None:
    # Where psql runs in a container it outlives its client, and finishes.
    write(anywhere, "002", down="DROP TABLE t002;\nSELECT pg_sleep(5);")
    applied(anywhere, "001", "003")
    run = anywhere.start("migrate-rollback", "--steps", "3", "--yes")
    until(sleeping(anywhere))
    run.send_signal(number)
    code, out = finish(run)
    assert code == (130 if number == signal.SIGINT else -number), out
    until(lambda: no_run_is_left(anywhere))
    assert anywhere.tables() == {f"t{version}" for version in anywhere.applied()}
    if number == signal.SIGINT:
        assert anywhere.applied() == ["001", "002"]
        assert "002 is still applied. 003 stays undone. 001 was not tried." in out
    assert anywhere.invoke("migrate").code == 0
    assert anywhere.applied() == ["001", "002", "003"]
