"""New files: names, numbers, templates; and numbers that other branches of a real git checkout have taken."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from infra.db import migration, scaffold
from infra.db.errors import FilesError, NameUnusable, NotAPair
from tests.values import row

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *words: str) -> str:
    """Type a git command."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, *names: str) -> None:
    """Commit files of these names."""
    for name in names:
        (folder / name).write_text("SELECT 1;\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "more")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder of migrations inside a git checkout, with 001 committed on main."""
    git(tmp_path, "init", "-q")
    folder = tmp_path / "deep" / "migrations"
    folder.mkdir(parents=True)
    commit(folder, "001_one.sql", "001_one.down.sql")
    return folder


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("add_face_landmarks", "add_face_landmarks"),
        ("AddFaceLandmarks", "add_face_landmarks"),
        ("add face-landmarks", "add_face_landmarks"),
        ("addHTTPServer2", "add_http_server_2"),
        ("__x__.sql", "x"),
    ],
)
def test_a_name_becomes_snake_case(typed: str, name: str) -> None:
    assert scaffold.snake_case(typed) == name


@pytest.mark.parametrize("typed", ["", "  ", "___", "größe", "a/b", "..\\x", "a;b", "a'b", "x" * 101])
def test_a_name_that_a_file_cannot_carry_everywhere_is_refused(typed: str) -> None:
    with pytest.raises(NameUnusable):
        scaffold.snake_case(typed)


@pytest.mark.parametrize(
    ("names", "version"),
    [
        ([], "001"),
        (["001_a.sql", "010_b.sql", "007_c.down.sql"], "011"),
        (["9_a.sql"], "10"),
        (["0099_a.sql"], "0100"),
        (["999_a.sql"], "1000"),
        (["20260131120000_a.sql"], "20260131120001"),
        (["README.md", "x.sql"], "001"),
    ],
)
def test_the_next_number_follows_the_highest_with_as_many_digits(
    tmp_path: Path, names: list[str], version: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert scaffold.next_version(tmp_path, []) == version


@pytest.mark.parametrize("transaction", [True, False])
def test_a_new_pair_is_read_as_what_was_asked_for_once_it_says_something(tmp_path: Path, *, transaction: bool) -> None:
    made = scaffold.create(tmp_path / "new", "011_x", transaction=transaction)
    assert [path.name for path in made] == ["011_x.sql", "011_x.down.sql"]
    with pytest.raises(FilesError, match="nothing but comments"):
        migration.read_folder(tmp_path / "new", "sql")
    for path in made:
        path.write_text(path.read_text(encoding="utf-8") + "SELECT 1;\n", encoding="utf-8")
    (read,) = migration.read_folder(tmp_path / "new", "sql")
    assert (read.label, read.directives.transaction) == ("011_x", transaction)
    assert read.down is not None


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "011_x.down.sql").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError):
        scaffold.create(tmp_path, "011_x", transaction=True)
    assert (tmp_path / "011_x.down.sql").read_text(encoding="utf-8") == "mine"


def test_numbers_of_local_and_remote_branches_are_taken(checkout: Path, tmp_path: Path) -> None:
    assert scaffold.elsewhere(checkout) == []
    git(checkout, "checkout", "-q", "-b", "topic")
    commit(checkout, "002_two.sql", "002_two.down.sql")
    git(checkout, "checkout", "-q", "main")
    assert scaffold.elsewhere(checkout) == [scaffold.Taken("002_two.sql", "topic")]
    assert scaffold.next_version(checkout, scaffold.elsewhere(checkout)) == "003"
    git(checkout, "clone", "-q", str(tmp_path), "clone")
    cloned = checkout / "clone" / "deep" / "migrations"
    assert scaffold.elsewhere(cloned) == [scaffold.Taken("002_two.sql", "origin/topic")]


def test_without_a_checkout_only_the_folder_counts(tmp_path: Path) -> None:
    assert scaffold.elsewhere(tmp_path) == []
    assert scaffold.elsewhere(tmp_path / "nowhere") == []


def test_renumbering_moves_the_pair_and_git_knows(checkout: Path) -> None:
    commit(checkout, "002_two.sql", "002_two.down.sql")
    moved = scaffold.renumber(checkout, "002_two.sql", "003")
    assert [(old.name, new.name) for old, new in moved] == [
        ("002_two.sql", "003_two.sql"),
        ("002_two.down.sql", "003_two.down.sql"),
    ]
    assert git(checkout, "status", "--porcelain", "--", ".").split("\n")[:2] == [
        "R  deep/migrations/002_two.down.sql -> deep/migrations/003_two.down.sql",
        "R  deep/migrations/002_two.sql -> deep/migrations/003_two.sql",
    ]


def test_renumbering_moves_a_file_that_git_does_not_know(checkout: Path, tmp_path: Path) -> None:
    for folder in (checkout, tmp_path):
        (folder / "002_new.sql").touch()
        assert [new.name for _, new in scaffold.renumber(folder, "002_new.sql", "003")] == ["003_new.sql"]
        assert not (folder / "002_new.sql").exists()


@pytest.mark.parametrize("name", ["002_none.sql", "001_one.down.sql", "one", "../001_one.sql"])
def test_only_a_migration_of_the_folder_gets_another_number(checkout: Path, name: str) -> None:
    with pytest.raises(NotAPair):
        scaffold.renumber(checkout, name, "009")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("011_a.sql", "SELECT 2;", "2026-01-31 12:00 by ann"),
        ("11_renamed.sql", "SELECT 1;\r\n", "2026-01-31 12:00 by ann"),
        ("011_b.sql", "SELECT 2;", ""),
        ("011_b.sql", "", ""),
        ("011_gone.sql", None, ""),
        ("012_a.sql", "SELECT 1;", ""),
    ],
)
def test_a_row_of_its_number_is_a_files_own_when_it_has_its_name_or_its_text(
    tmp_path: Path, name: str, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    rows = [row("011_a", checksum=migration.kept_text("SELECT 1;\n").checksum)]
    assert scaffold.applied(tmp_path / name, rows) == expected


def test_of_two_files_with_one_number_and_text_the_row_belongs_to_the_one_of_its_name(tmp_path: Path) -> None:
    for name in ("011_a.sql", "011_b.sql"):
        (tmp_path / name).write_text("SELECT 1;\n", encoding="utf-8")
    rows = [row("011_a", checksum=migration.kept_text("SELECT 1;\n").checksum)]
    assert scaffold.applied(tmp_path / "011_a.sql", rows) == "2026-01-31 12:00 by ann"
    assert scaffold.applied(tmp_path / "011_b.sql", rows) == ""
