"""A folder of files in, migrations or one error with every fault out."""

from __future__ import annotations

import codecs
import errno
import hashlib
from pathlib import Path

import pytest

from infra.db import migration
from infra.db.errors import FilesError, UsageError
from infra.db.migration import Directives, Migration, Text

SQL = b"SELECT 1;\n"


def checksum(normalised: bytes) -> str:
    return f"v1:{hashlib.sha256(normalised).hexdigest()}"


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(FilesError) as caught:
        migration.read_folder(folder, "sql")
    return str(caught.value)


def one_problem(problem: str) -> str:
    return (
        f"One migration file cannot be used.\n  sql/{problem}\nNothing was started or changed.\n"
        "Mend them, then run the same command again."
    )


def test_files_are_read_in_the_order_of_their_numbers_each_with_its_down_script(tmp_path: Path) -> None:
    nine = {"009_nine-x.sql": b"-- migrate: no-transaction\nSELECT 9;", "009_nine-x.down.sql": b"SELECT -9;\r\n"}
    fill(tmp_path, {"10_ten.v2.sql": SQL, **nine, "00000000000000002_two.sql": SQL})
    files = migration.read_folder(tmp_path, "sql")
    assert [(file.number, file.label) for file in files] == [
        (2, "00000000000000002_two"),
        (9, "009_nine-x"),
        (10, "10_ten.v2"),
    ]
    head, sql = "-- migrate: no-transaction", "-- migrate: no-transaction\nSELECT 9;"
    assert files[1] == Migration(
        version="009",
        name="nine-x",
        path=tmp_path / "009_nine-x.sql",
        text=Text(checksum(sql.encode()), sql, (head,)),
        directives=Directives(transaction=False),
        down_path=tmp_path / "009_nine-x.down.sql",
        down=Text(checksum(b"SELECT -9;\n"), "SELECT -9;\n", ()),
    )
    assert (files[2].down_path, files[2].down) == (None, None)


def test_hidden_files_and_files_of_other_kinds_are_ignored(tmp_path: Path) -> None:
    fill(
        tmp_path, {"README.md": b"", ".001_x.sql": b"", "._001_x.sql": b"\0", "001_x.sql~": b"", "001_x.sql.orig": b""}
    )
    assert migration.read_folder(tmp_path, "sql") == ()


def test_a_missing_folder_is_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        migration.read_folder(tmp_path / "none", "sql/none")
    assert str(caught.value) == (
        "There is no folder sql/none.\nNothing was started or changed.\n"
        "Set MIGRATIONS_DIR to the folder with your NNN_name.sql files."
    )


NAME = "is not named NNN_name.sql or NNN_name.down.sql (digits, underscore, letters)"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("create.sql", NAME, id="no number"),
        pytest.param("001.sql", NAME, id="no name"),
        pytest.param("001_.sql", NAME, id="name empty"),
        pytest.param("001-x.sql", NAME, id="no underscore"),
        pytest.param("001_x y.sql", NAME, id="space"),
        pytest.param("001_'.sql", NAME, id="quote"),
        pytest.param("001_é.sql", NAME, id="letter that file systems write in two ways"),
        pytest.param("\u0660\u0660\u0661_x.sql", NAME, id="digits of another script"),
        pytest.param("001_x.SQL", NAME, id="suffix in capitals"),
        pytest.param("1" * 19 + "_x.sql", "its number has more than 18 digits", id="19 digits"),
        pytest.param("001_x.down.sql", "there is no 001_x.sql that it could undo", id="down without up"),
    ],
)
def test_a_name_that_means_nothing_is_refused(tmp_path: Path, name: str, why: str) -> None:
    assert refused(fill(tmp_path, {name: SQL})) == one_problem(f"{name}: {why}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("001_a.sql", "001_b.sql", id="same digits"),
        pytest.param("001_x.sql", "1_x.sql", id="same number, other digits"),
    ],
)
def test_a_number_given_twice_is_refused(tmp_path: Path, first: str, second: str) -> None:
    assert refused(fill(tmp_path, {first: SQL, second: SQL})) == one_problem(
        f"{first} and sql/{second}: they have one number; only one file can"
    )


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "001_folder.sql").mkdir()
    (tmp_path / "002_link.sql").symlink_to(tmp_path / "gone")
    assert refused(tmp_path) == (
        "2 migration files cannot be used.\n  sql/001_folder.sql: is a folder\n"
        "  sql/002_link.sql: is a link to nothing\n"
        "Nothing was started or changed.\nMend them, then run the same command again."
    )


def test_a_file_that_the_system_does_not_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:  # chmod would not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)
    (tmp_path / "001_x.sql").touch()
    assert refused(tmp_path) == one_problem("001_x.sql: cannot be read (Permission denied)")


EMPTY, COMMENTS = (
    "is empty; write its SQL or remove the file",
    "holds nothing but comments; write its SQL or remove the file",
)
NUL = "holds a NUL byte, at which psql drops the rest of the line"
LONE_CR = "its lines end in a lone CR, so the first -- comment would hide the rest; save it with LF"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", f": {EMPTY}", id="empty"),
        pytest.param(codecs.BOM_UTF8, f": {EMPTY}", id="BOM alone"),
        pytest.param(b" \r\n\t\n", f": {EMPTY}", id="only blanks"),
        pytest.param(b"-- a\n\n/* b\n-- c */\n-- d", f": {COMMENTS}", id="only comments"),
        pytest.param(b"SELECT 1;\n\nSELECT '\0';\n", f":3: {NUL}", id="NUL"),
        pytest.param(b"\n" * migration.CHUNK + b"SELECT '\0';", f":{migration.CHUNK + 1}: {NUL}", id="NUL after 1 MB"),
        pytest.param(b"-- \xff\n", ":1: is not UTF-8 (byte 0xff); save it as UTF-8", id="not UTF-8"),
        pytest.param(b"SELECT 1;\nSELECT 'caf\xe9';", ":2: is not UTF-8 (byte 0xe9); save it as UTF-8", id="Latin-1"),
        pytest.param(
            b"\n" * migration.CHUNK + b"\n'\xe9';\n",
            f":{migration.CHUNK + 2}: is not UTF-8 (byte 0xe9); save it as UTF-8",
            id="Latin-1 after 1 MB",
        ),
        pytest.param(b"SELECT 1;\n'\xc3", ":2: is not UTF-8 (byte 0xc3); save it as UTF-8", id="cut in a character"),
        pytest.param("SELECT 1;\n".encode("utf-16"), ": is UTF-16; save it as UTF-8", id="UTF-16"),
        pytest.param(
            codecs.BOM_UTF16_BE + "SELECT 1;".encode("utf-16-be"), ": is UTF-16; save it as UTF-8", id="UTF-16, big end"
        ),
        pytest.param(b"-- a\rSELECT 1;\r", f": {LONE_CR}", id="lines end in CR"),
    ],
)
@pytest.mark.parametrize("name", [pytest.param("001_x.sql", id="up"), pytest.param("001_x.down.sql", id="down")])
def test_a_content_that_psql_would_misread_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    assert refused(fill(tmp_path, {"001_x.sql": SQL, name: content})) == one_problem(f"{name}{problem}")


def test_all_faults_of_a_folder_are_in_one_error(tmp_path: Path) -> None:
    files = {
        "a.sql": SQL,
        "001_a.sql": b"",
        "1_b.sql": b"-- migrate: fast\n\0",
        "003_c.sql": SQL,
        "004_d.down.sql": SQL,
    }
    assert refused(fill(tmp_path, files)) == (
        "5 migration files cannot be used.\n"
        f"  sql/a.sql: {NAME}\n"
        "  sql/001_a.sql and sql/1_b.sql: they have one number; only one file can\n"
        "  sql/004_d.down.sql: there is no 004_d.sql that it could undo\n"
        f"  sql/001_a.sql: {EMPTY}\n"
        f"  sql/1_b.sql:2: {NUL}\n"
        "Nothing was started or changed.\n"
        "Mend them, then run the same command again."
    )


PLAIN = "-- é\nSELECT 'a\n\nb';\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN.encode(), id="LF"),
        pytest.param(PLAIN.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(codecs.BOM_UTF8 + PLAIN.encode(), id="BOM"),
        pytest.param(codecs.BOM_UTF8 + PLAIN.replace("\n", "\r\n").encode(), id="BOM and CRLF"),
        pytest.param(PLAIN.replace("\n", "\r\n", 1).encode(), id="mixed"),
    ],
)
def test_a_checkout_on_any_system_has_the_same_checksum(tmp_path: Path, content: bytes) -> None:
    expected = "v1:2bfec408918a4ae8f151c27e93ecb7b9daa0e64fe942ba3f733dbc195db8af7e"
    assert expected == checksum(b"-- \xc3\xa9\nSELECT 'a\n\nb';\n")
    (tmp_path / "x").write_bytes(content)
    assert migration.read_text(tmp_path / "x") == Text(expected, PLAIN, ("-- é",))


def test_a_cr_within_a_line_is_kept_and_counts(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"SELECT 'a\rb\r\r\nc\r'\r")
    assert migration.read_text(tmp_path / "x") == Text(
        checksum(b"SELECT 'a\rb\r\nc\r'\r"), "SELECT 'a\rb\r\nc\r'\r", ()
    )


def test_where_a_file_is_cut_into_chunks_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(codecs.BOM_UTF8 + "-- ü\r\n\r\n-- 😀\r\r\nSELECT '日本\r\n';\r\n".encode())
    plain = "-- ü\n\n-- 😀\r\nSELECT '日本\n';\n"
    for size in range(len(codecs.BOM_UTF8) + 1, 60):
        monkeypatch.setattr(migration, "CHUNK", size)
        assert migration.read_text(tmp_path / "x") == Text(checksum(plain.encode()), plain, ("-- ü", "", "-- 😀")), size


@pytest.mark.parametrize(
    ("length", "is_kept"),
    [
        pytest.param(migration.KEPT_TEXT, True, id="as long as is kept"),
        pytest.param(migration.KEPT_TEXT + 1, False, id="one longer"),
        pytest.param(5_000_000, False, id="5 MB"),
    ],
)
def test_a_long_text_is_known_by_its_checksum_and_head_alone(tmp_path: Path, length: int, is_kept: bool) -> None:  # noqa: FBT001
    sql = "-- migrate: no-transaction\nSELECT 1;\n".ljust(length, "\n")
    fill(tmp_path, {"001_x.sql": sql.encode()})
    (file,) = migration.read_folder(tmp_path, "sql")
    kept = sql if is_kept else None
    assert file.text == Text(checksum(sql.encode()), kept, ("-- migrate: no-transaction",))
    assert file.directives == Directives(transaction=False)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param("", Directives(), id="none"),
        pytest.param("-- about: migrate no-transaction\n", Directives(), id="another comment"),
        pytest.param("-- migrate: no-transaction\n", Directives(transaction=False), id="no transaction"),
        pytest.param("\n-- Why.\n  --migrate:no-transaction  \n", Directives(transaction=False), id="after a comment"),
        pytest.param("/* Why.\n */\n-- migrate: no-transaction\n", Directives(transaction=False), id="after a block"),
        pytest.param("-- migrate: lock-timeout 1 min\n", Directives(lock_timeout="1min"), id="lock timeout"),
        pytest.param(
            "-- migrate: allow ban-drop-table it is  safe\n-- migrate: allow renaming-column too\n"
            "-- migrate: lock-timeout 0\n",
            Directives(lock_timeout="0", allow=(("ban-drop-table", "it is  safe"), ("renaming-column", "too"))),
            id="several",
        ),
        pytest.param(
            "-- migrate: run-time INDEX public.of_*\n", Directives(run_time=("INDEX public.of_*",)), id="run time"
        ),
        pytest.param("SELECT 0;\n-- migrate: no-transaction\n-- migrate: nonsense\n", Directives(), id="too late"),
        pytest.param("SELECT 0; -- migrate: nonsense\n", Directives(), id="beside a statement"),
    ],
)
def test_directives_are_the_comments_before_the_first_statement(
    tmp_path: Path, head: str, expected: Directives
) -> None:
    fill(tmp_path, {"001_x.sql": head.encode() + SQL})
    (file,) = migration.read_folder(tmp_path, "sql")
    assert file.directives == expected


KNOWN = (
    "says nothing we know; it is one of: no-transaction, lock-timeout 30s, allow RULE reason,"
    " run-time INDEX public.name_*"
)
DURATION = "is not a duration; write 500ms, 5s or 2min (0 waits for ever)"


@pytest.mark.parametrize(
    ("directive", "why"),
    [
        pytest.param("-- migrate: no-transactions", f"'-- migrate: no-transactions' {KNOWN}", id="unknown"),
        pytest.param(
            "-- migrate: no-transaction now", f"'-- migrate: no-transaction now' {KNOWN}", id="too many words"
        ),
        pytest.param("-- migrate:", f"'-- migrate: ' {KNOWN}", id="no word"),
        pytest.param("-- migrate: run-time x", f"'-- migrate: run-time x' {KNOWN}", id="no kind"),
        pytest.param("-- migrate: allow", f"'-- migrate: allow' {KNOWN}", id="nothing to allow"),
        pytest.param(
            "-- migrate: allow ban-drop-table",
            "say why: '-- migrate: allow ban-drop-table REASON'",
            id="no reason",
        ),
        pytest.param(
            "-- migrate: allow a-rule I like it",
            "there is no rule 'a-rule' to allow; migrate-lint names the rule of each finding",
            id="unknown rule",
        ),
        pytest.param(
            "-- migrate: allow transaction-nesting I know what I do",
            "nothing excuses transaction-nesting: such a file cannot run",
            id="a rule that nothing excuses",
        ),
        pytest.param("-- migrate: lock-timeout", f"lock-timeout '' {DURATION}", id="no duration"),
        pytest.param("-- migrate: lock-timeout 5 sec", f"lock-timeout '5 sec' {DURATION}", id="bad duration"),
        pytest.param("-- migrate: lock-timeout 5s'; x", f"""lock-timeout "5s'; x" {DURATION}""", id="injected"),
    ],
)
def test_a_directive_that_means_nothing_is_refused_with_its_line(tmp_path: Path, directive: str, why: str) -> None:
    fill(tmp_path, {"001_x.sql": f"-- Why.\n\n{directive}\n".encode() + SQL})
    assert refused(tmp_path) == one_problem(f"001_x.sql:3: {why}")
