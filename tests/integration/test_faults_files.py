"""Hostile and broken files: what is right happens, nothing after them runs, and the history tells the truth.

Each folder of tests/data holds the odd file or two of one case, and in expect.toml what comes of them. They are played
between a `001_one.sql` and a `099_after.sql`:

    code    what the tool exits with
    at      the file, and the line if there is one, that the message names
    says    words of the message
    rows    of table one afterwards, where the files are applied
    tables  that are left although it failed; only a file without a transaction leaves any
    failed  versions that the history marks as failed

What can be known beforehand (codes 2 and 4) is refused before the first statement: not even 001 is applied.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import lint
from tests.patience import no_run_is_left
from tests.project import TOP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

CASES = sorted((TOP / "tests" / "data").iterdir())
BEFORE, AFTER = "CREATE TABLE one (i int);", "CREATE TABLE after (i int);"
KNOWN_BEFOREHAND = (2, 4)
OUTSIDE = Path("/tmp/never")  # what the files with a psql command would make


def lay_out(project: Project, case: Path) -> dict[str, Any]:
    """Put a case's files between one that comes before and one that comes after; returns what is expected."""
    project.write("001_one.sql", BEFORE)
    for file in case.iterdir():
        if file.name != "expect.toml":
            project.write(file.name, file.read_bytes())
    project.write("099_after.sql", AFTER)
    return tomllib.loads((case / "expect.toml").read_text(encoding="utf-8"))


def history(project: Project) -> dict[str, str]:
    """Return version -> status as the table has it."""
    if project.rows("SELECT to_regclass('public.schema_migrations')") == [(None,)]:
        return {}
    return dict(project.rows("SELECT version, status FROM schema_migrations"))


def versions(project: Project) -> list[str]:
    """Return the versions of the files."""
    return [file.name.partition("_")[0] for file in project.folder.iterdir()]


def assert_applied(project: Project, rows: list[int]) -> None:
    assert project.rows("SELECT i FROM one ORDER BY i") == [(row,) for row in rows]
    assert history(project) == dict.fromkeys(versions(project), "applied")
    assert project.tables() == {"one", "after"}
    kept = dict(project.rows("SELECT version, sql FROM schema_migrations"))
    for file in project.folder.iterdir():
        sql = file.read_text(encoding="utf-8-sig")  # in text mode line ends become LF
        assert kept[file.name.partition("_")[0]] == sql


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_file_does_no_harm_and_is_named(
    embedded_project: Project, fresh: Callable[[Project], Project], case: Path
) -> None:
    here = fresh(embedded_project)
    expected = lay_out(here, case)
    done = here.invoke("migrate")
    assert done.code == expected["code"], done
    assert "Traceback" not in done.err
    assert not OUTSIDE.exists()
    if done.code == 0:
        assert_applied(here, expected["rows"])
        return
    assert expected.get("says", "") in done.err
    assert "at" not in expected or f"{here.folder}/{expected['at']}" in done.err
    if done.code in KNOWN_BEFOREHAND:
        assert (history(here), here.tables()) == ({}, set())
    else:
        assert history(here) == {"001": "applied", **dict.fromkeys(expected.get("failed", []), "failed")}
        assert here.tables() == {"one", *expected.get("tables", [])}
    assert no_run_is_left(here)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_a_single_transaction_a_hostile_file_undoes_all_of_the_run(
    docker_project: Project, fresh: Callable[[Project], Project], case: Path
) -> None:
    here = fresh(docker_project)
    expected = lay_out(here, case)
    done = here.invoke("migrate", "--single")
    if any(b"no-transaction" in file.read_bytes() for file in case.glob("*.sql")):
        assert (done.code, "--single puts all files into one transaction" in done.err) == (4, True)
    else:
        assert done.code == expected["code"], done
    assert "Traceback" not in done.err
    if done.code == 0:
        assert_applied(here, expected["rows"])
    else:
        assert (history(here), here.tables()) == ({}, set())
    assert no_run_is_left(here)


# What git or a file system does not carry to every machine is made here.


def test_a_file_of_five_megabytes_is_applied_and_known_by_its_checksum(anywhere: Project) -> None:
    anywhere.write("001_one.sql", BEFORE)
    anywhere.write("002_large.sql", "INSERT INTO one SELECT length($x$" + "a;\n" * 1_700_000 + "$x$);")
    anywhere.write("099_after.sql", AFTER)
    assert anywhere.invoke("migrate").code == 0
    assert anywhere.rows("SELECT i FROM one") == [(5_100_000,)]
    assert history(anywhere) == {"001": "applied", "002": "applied", "099": "applied"}
    assert anywhere.invoke("migrate").out.startswith("Nothing to do")
    anywhere.write("002_large.sql", "INSERT INTO one SELECT length($x$" + "b;\n" * 1_700_000 + "$x$);")
    done = anywhere.invoke("migrate")
    assert (done.code, "002_large was edited after it was applied" in done.err) == (4, True)


def test_an_error_at_the_end_of_five_megabytes_has_its_line(external: Project) -> None:
    external.write("001_one.sql", BEFORE)
    external.write("002_large.sql", "INSERT INTO one VALUES (1);\n" * 180_000 + "SELECT 1/0;\n")
    external.write("099_after.sql", AFTER)
    done = external.invoke("migrate")
    assert (done.code, f"{external.folder}/002_large.sql:180001" in done.err) == (3, True), done.err
    assert (history(external), external.rows("SELECT * FROM one")) == ({"001": "applied"}, [])


def test_a_commit_at_the_end_of_five_megabytes_is_refused_before_the_first_statement(external: Project) -> None:
    external.write("001_one.sql", BEFORE)
    external.write("002_large.sql", "INSERT INTO one VALUES (1);\n" * 180_000 + "COMMIT;\n")
    done = external.invoke("migrate")
    assert (done.code, f"{external.folder}/002_large.sql:180001" in done.err) == (4, True), done.err
    assert (history(external), external.tables()) == ({}, set())


def test_a_commit_in_a_file_too_large_to_parse_is_noticed_and_said(external: Project) -> None:
    external.write("001_one.sql", BEFORE)
    padding = "-- nothing\n" * (lint.LARGEST // 10)
    external.write("002_huge.sql", f"CREATE TABLE kept (i int);\nCOMMIT;\nCREATE TABLE too (i int);\n{padding}")
    external.write("099_after.sql", AFTER)
    done = external.invoke("migrate")
    assert done.code == 3, done
    assert "it ended the transaction it ran in" in done.err
    assert "What it committed by itself stays, and it is not recorded as applied." in done.err
    assert (history(external), external.tables()) == ({"001": "applied"}, {"one", "kept", "too"})
    assert no_run_is_left(external)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows 260 characters for the whole path")
def test_a_name_as_long_as_file_systems_allow_is_applied(anywhere: Project) -> None:
    anywhere.write("001_one.sql", BEFORE)
    name = "n" * 247
    anywhere.write(f"002_{name}.sql", "INSERT INTO one VALUES (1);")  # 255 bytes; 300 fit on none
    assert anywhere.invoke("migrate").code == 0
    assert anywhere.rows("SELECT name FROM schema_migrations WHERE version = '002'") == [(name,)]


def test_a_folder_and_a_dead_link_are_refused_before_the_first_statement(external: Project) -> None:
    external.write("001_one.sql", BEFORE)
    (external.folder / "002_folder.sql").mkdir()
    (external.folder / "003_dead.sql").symlink_to(external.folder / "gone")
    done = external.invoke("migrate")
    assert done.code == 2
    assert f"{external.folder}/002_folder.sql: is a folder" in done.err
    assert f"{external.folder}/003_dead.sql: is a link to nothing" in done.err
    assert (history(external), external.tables()) == ({}, set())


def test_a_link_is_as_good_as_its_file(anywhere: Project, tmp_path: Path) -> None:
    anywhere.write("001_one.sql", BEFORE)
    (tmp_path / "elsewhere.sql").write_text("INSERT INTO one VALUES (1);")
    (anywhere.folder / "002_link.sql").symlink_to(tmp_path / "elsewhere.sql")
    assert anywhere.invoke("migrate").code == 0
    assert anywhere.rows("SELECT i FROM one") == [(1,)]
