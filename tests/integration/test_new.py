"""New files and numbers that collide, against a real history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_rollback import applied, git, write

if TYPE_CHECKING:
    from tests.project import Project


def test_a_new_pair_gets_the_next_number_and_says_where_it_is(external: Project) -> None:
    write(external, "007")
    done = external.invoke("migrate-new", "AddFaceLandmarks")
    assert done.code == 0, done
    for end in (".sql", ".down.sql"):
        path = external.folder / f"008_add_face_landmarks{end}"
        assert path.is_file()
        assert f"Created {path}\n" in done.out


def test_a_new_file_needs_no_server(external: Project) -> None:
    done = external.invoke(
        "migrate-new", "x", "--no-transaction", DB_PORT="1", DB_SERVER="auto", DOCKER_HOST="tcp://127.0.0.1:1"
    )
    assert (done.code, done.err) == (0, ""), done
    assert (external.folder / "001_x.sql").read_text(encoding="utf-8").startswith("-- migrate: no-transaction\n")


def test_a_number_that_another_branch_took_is_skipped_and_the_branch_is_named(external: Project) -> None:
    write(external, "010")
    git(external, "init", "-q", "-b", "main")
    for branch, version in (("main", "010"), ("topic", "011")):
        git(external, "checkout", "-q", "-B", branch)
        write(external, version)
        git(external, "add", ".")
        git(external, "commit", "-q", "-m", version)
    git(external, "checkout", "-q", "main")
    done = external.invoke("migrate-new", "x")
    assert done.code == 0, done
    assert "011_step.sql is taken on the branch topic." in done.out
    assert (external.folder / "012_x.sql").is_file()


def test_a_file_whose_number_another_branch_has_applied_here_gets_another_one(external: Project) -> None:
    applied(external, "010", "011")
    (external.folder / "011_step.sql").unlink()
    (external.folder / "011_step.down.sql").unlink()
    external.write("011_other.sql", "CREATE TABLE other ();")
    done = external.invoke("migrate-new", "--renumber", "011_other.sql")
    assert done.code == 0, done
    assert external.status() == {"010": "applied", "011": "missing", "012": "pending"}


def test_two_files_of_one_number_are_named_with_what_is_known_and_mended_by_the_command(anywhere: Project) -> None:
    applied(anywhere, "010", "011")
    write(anywhere, "011", name="other")
    for task in ("migrate", "migrate-status"):
        done = anywhere.invoke(task)
        assert done.code == 2, done
        assert "011_other.sql and " in done.err
        assert "    011_other.sql: not applied here\n    011_step.sql: applied 20" in done.err
        assert "invoke migrate-new --renumber 011_other.sql" in done.err
    refused = anywhere.invoke("migrate-new", "--renumber", "011_step.sql")
    assert refused.code == 4, refused
    assert (anywhere.folder / "011_step.sql").is_file()
    done = anywhere.invoke("migrate-new", "--renumber", "011_other.sql")
    assert done.code == 0, done
    assert anywhere.status() == {"010": "applied", "011": "applied", "012": "pending"}
    assert (anywhere.folder / "012_other.down.sql").is_file()


def test_without_an_answer_of_the_database_no_number_is_changed(external: Project) -> None:
    write(external, "011")
    write(external, "011", name="other")
    done = external.invoke("migrate-status", DB_PORT="1")
    assert done.code == 2, done
    assert "the database does not answer" in done.err
    assert external.invoke("migrate-new", "--renumber", "011_other.sql", DB_PORT="1").code == 5
    assert (external.folder / "011_other.sql").is_file()
