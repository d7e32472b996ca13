"""What cannot work is refused before anything runs, with file and line; what only looks like it is let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.db import lint
from infra.db.errors import CannotWork
from tests.values import migration

if TYPE_CHECKING:
    from pathlib import Path

NESTING = "opens or ends a transaction; each file already runs in one, with its history row"
INDEX = "builds an index CONCURRENTLY, which PostgreSQL does not do inside a transaction"
IGNORE = (
    "-- squawk-disable-assume-in-transaction\n-- squawk-ignore-file\n"
    "-- squawk-ignore transaction-nesting, ban-concurrent-index-creation-in-transaction\n"
)


def found(sql: str) -> list[str]:
    """Return `line: what` of each finding in one file."""
    try:
        lint.refuse_what_cannot_work([migration("001_a", sql)], "sql")
    except CannotWork as error:
        return [line.removeprefix("  sql/001_a.sql:") for line in error.where.split("\n")]
    return []


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        pytest.param("SELECT 1;\n\n  COMMIT  ;\nSELECT 2;\n", 3, id="COMMIT"),
        pytest.param("SELECT 1;\r\nCOMMIT;\r\n", 2, id="COMMIT, CRLF"),
        pytest.param("SELECT 1;\ncommit and chain", 2, id="COMMIT AND CHAIN at the very end"),
        pytest.param("COMMIT PREPARED 'x';\n", 1, id="COMMIT PREPARED"),
        pytest.param("PREPARE TRANSACTION 'x';\n", 1, id="PREPARE TRANSACTION"),
        pytest.param("COPY t FROM STDIN;\na\n\\.\nprepare /* */\n transaction 'x'", 4, id="the same, written oddly"),
        pytest.param("END;\n", 1, id="END"),
        pytest.param("SELECT 1;\nBEGIN ISOLATION LEVEL SERIALIZABLE;\n", 2, id="BEGIN"),
        pytest.param("START TRANSACTION;\n", 1, id="START TRANSACTION"),
        pytest.param("SELECT 'é'; ROLLBACK WORK;\n", 1, id="ROLLBACK"),
        pytest.param("SAVEPOINT a;\nROLLBACK TO a;\nABORT;\n", 3, id="ABORT"),
        pytest.param("COPY t FROM STDIN;\nit's\n\\.\nCOMMIT;\n", 4, id="after COPY data"),
        pytest.param(
            "COPY t\n(\n a\n)\nFROM STDIN;\n\\.\nCOMMIT;\nCOPY t FROM STDIN;\n\\.\n", 7, id="between two COPYs"
        ),
        pytest.param(
            "COPY t FROM STDIN (DELIMITER ';');\nit's;1\n\\.\nCOMMIT;\n", 4, id="after COPY with a ';' option"
        ),
        pytest.param("-- no COPY t FROM STDIN; yet\nCOMMIT;\nCOPY t FROM STDIN;\n\\.\n", 2, id="after a word on COPY"),
        pytest.param("/* a /* b */ it's */\nCOMMIT;\nSELECT 'x';\n", 2, id="after a comment in a comment"),
        pytest.param("-- it's $$\nCOMMIT;\n-- $$\n", 2, id="between two comments"),
        pytest.param(f"{IGNORE}COMMIT;\n", 4, id="under a comment that silences squawk"),
    ],
)
def test_a_file_that_opens_or_ends_a_transaction_is_refused(sql: str, line: int) -> None:
    assert found(sql) == [f"{line}: {NESTING}"]


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        pytest.param(
            "CREATE TABLE t (a int);\n\nCREATE INDEX CONCURRENTLY i ON t (a);\n", 3, id="after another statement"
        ),
        pytest.param("SELECT 1;\nCREATE UNIQUE INDEX\n  CONCURRENTLY IF NOT EXISTS i ON t (a);\n", 3, id="UNIQUE"),
        pytest.param("CREATE INDEX CONCURRENTLY i ON t (a);\n", 1, id="alone in its file"),
        pytest.param(f"{IGNORE}SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);\n", 5, id="under an ignore comment"),
    ],
)
def test_an_index_built_concurrently_in_a_transaction_is_refused_at_that_word(sql: str, line: int) -> None:
    assert found(sql) == [f"{line}: {INDEX}"]


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SAVEPOINT a;\nROLLBACK TO a;\nROLLBACK\n  WORK TO SAVEPOINT a;\nRELEASE a;\n", id="savepoints"),
        pytest.param("SAVEPOINT a;\nROLLBACK /* back */ TO a;\n", id="savepoint with a comment"),
        pytest.param("SAVEPOINT a; SELECT 'é'; ROLLBACK TO a;\n", id="savepoint after a letter of two bytes"),
        pytest.param("DO $x$\nBEGIN\n  NULL;\nEND;\n$x$;\n", id="DO block"),
        pytest.param(
            "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$\nBEGIN\n  COMMIT;\nEND;\n$$;\n", id="body of a procedure"
        ),
        pytest.param(
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql\nBEGIN ATOMIC\n  SELECT 1;\n  SELECT 2;\nEND;\n",
            id="BEGIN ATOMIC",
        ),
        pytest.param("COPY t (a) FROM STDIN;\nBEGIN;\nCOMMIT;\n\\.\n", id="COPY data"),
        pytest.param(
            "SELECT 'BEGIN; COMMIT;', E'it\\'s; COMMIT; ', $$ COMMIT; $$, \"COMMIT;\" FROM t;\n", id="strings"
        ),
        pytest.param("-- COMMIT;\n/* COMMIT;\n /* and */\nCOMMIT; */\nSELECT 1;\n", id="comments"),
        pytest.param("SET TRANSACTION READ WRITE;\nSET LOCAL lock_timeout = '1s';\n", id="settings of a transaction"),
        pytest.param("PREPARE p AS SELECT 'PREPARE TRANSACTION'; -- PREPARE TRANSACTION\n", id="a prepared statement"),
        pytest.param("CREATE INDEX i ON t (a);\n-- CONCURRENTLY\n", id="an index that is not concurrent"),
    ],
)
def test_what_only_looks_like_it_is_let_through(sql: str) -> None:
    assert found(sql) == []


def test_comments_without_end_keep_nobody_waiting() -> None:
    assert found("/* x\n" * 3000 + "BEGIN;\n") == []  # a quarter of an hour, if each end were looked for from each


def test_a_file_whose_text_the_history_does_not_keep_is_checked_too(tmp_path: Path) -> None:
    large = tmp_path / "002_b.sql"
    large.write_text("SELECT 1;\nCOMMIT;\n")
    with pytest.raises(CannotWork) as caught:
        lint.refuse_what_cannot_work([migration("002_b", None)._replace(path=large)], "sql")
    assert caught.value.where == f"  sql/002_b.sql:2: {NESTING}"


def test_every_finding_of_every_file_is_told_in_one_error_with_the_ways_out() -> None:
    many = [migration(f"{number:03}_ok") for number in range(3, 60)]
    one = migration("001_a", "BEGIN;\nSELECT 1;\nCOMMIT;\n")
    two = migration("002_b", "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);\n")
    with pytest.raises(CannotWork) as caught:
        lint.refuse_what_cannot_work([one, two, *many], "infra/migrations")
    assert str(caught.value) == (
        "Some files cannot run as they are.\n"
        f"  infra/migrations/001_a.sql:1: {NESTING}\n"
        f"  infra/migrations/001_a.sql:3: {NESTING}\n"
        f"  infra/migrations/002_b.sql:2: {INDEX}\n"
        "Nothing was changed.\n"
        "Put '-- migrate: no-transaction' at the top of a file that must run statement by statement.\n"
        "Remove the BEGIN, COMMIT or ROLLBACK."
    )


def test_a_file_without_a_transaction_or_too_large_to_parse_is_not_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lint, "_squawk", None)  # would fail if it were called
    monkeypatch.setattr(lint, "LARGEST", 8)
    alone = migration("001_a", "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);\n", transaction=False)
    large = tmp_path / "002_b.sql"
    large.write_text("COMMIT;\n\n")
    lint.refuse_what_cannot_work([alone, migration("002_b", None)._replace(path=large)], "sql")
    lint.refuse_what_cannot_work([], "sql")


def test_no_parser_is_started_for_files_without_a_word_that_could_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "_program", lambda: "there-is-no-such-program")
    assert found("CREATE TABLE t (ended date, committed boolean); -- pending\n") == []
    assert found("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1;\nEND;\n$$;\n") == []
    with pytest.raises(FileNotFoundError):
        found("SELECT 1 AS end;\n")
