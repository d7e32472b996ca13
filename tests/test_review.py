"""What is found depends on the run: the transaction, the tables that are new, the rows that the server has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.db import review
from infra.db import rules as rules_table
from infra.db.review import Size
from infra.db.rules import Level
from infra.db.statements import Table
from tests.values import migration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infra.db.migration import Migration
    from infra.db.review import Finding, Report

T = Table("public", "t")
LARGE = Size(T, 12_000_000, 2 << 30)
BUILD = "CREATE INDEX i ON t (a);\n"
BUILD_RULE = "require-concurrent-index-creation"


def look(*files: Migration, pending: Iterable[Migration] = (), sizes: Mapping[Table, Size] | None = None) -> Report:
    """Look at files; with sizes, a server that has just those tables answers."""
    asked = None if sizes is None else lambda _: sizes
    return review.look(files, folder="sql", pending=tuple(pending), ask=asked)


def rules(sql: str, *, transaction: bool = True, sizes: Mapping[Table, Size] | None = None) -> list[str]:
    """Return the rules that find something in one pending file."""
    file = migration("001_a", sql, transaction=transaction)
    return [each.rule for each in look(file, pending=[file], sizes=sizes).findings]


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def test_a_finding_says_where_what_whose_and_the_safe_way() -> None:
    file = migration("011_slow", "SELECT 1;\n\n" + BUILD)
    assert only(look(file, pending=[file], sizes={T: LARGE})) == review.Finding(
        version="011",
        name="slow",
        file="sql/011_slow.sql",
        line=3,
        rule=BUILD_RULE,
        level=Level.ERROR,
        message="stops every write to t until the index is built; t has 12 M rows",
        help="CREATE INDEX CONCURRENTLY, in a file of its own that begins with '-- migrate: no-transaction'.",
        table="t",
        rows=12_000_000,
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (1, "1 row"),
        (10_000, "10,000 rows"),
        (999_999, "999,999 rows"),
        (1_240_000, "1.2 M rows"),
        (3 * 10**9, "3000 M rows"),
    ],
)
def test_rows_are_told_in_words(rows: int, words: str) -> None:
    file = migration("001_a", BUILD)
    finding = only(look(file, pending=[file], sizes={T: Size(T, rows, 1 << 40)}))
    assert finding.message.endswith(f"; t has {words}")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        (BUILD, BUILD_RULE),
        ("DROP INDEX i;", "require-concurrent-index-deletion"),
        ("REINDEX TABLE t;", "require-concurrent-reindex"),
        ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (a);", "adding-foreign-key-constraint"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a);", "disallowed-unique-constraint"),
        ("ALTER TABLE t ADD COLUMN b bigint UNIQUE;", "disallowed-unique-constraint"),
        ("ALTER TABLE t ADD PRIMARY KEY (a);", "adding-serial-primary-key-field"),
        ("ALTER TABLE t ADD COLUMN b uuid DEFAULT gen_random_uuid();", "adding-field-with-default"),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint;", "changing-column-type"),
        ("ALTER TABLE t DETACH PARTITION t1;", "require-concurrent-partition-detach"),
    ],
)
def test_what_locks_for_as_long_as_it_works_is_quiet_on_a_small_table_only(sql: str, rule: str) -> None:
    index = Table("public", "i")
    small, many, wide, unknown = (Size(T, *each) for each in ((9_999, 0), (10_000, 0), (9, 1 << 30), (None, 0)))
    for size, found in ((small, []), (many, [rule]), (wide, [rule]), (unknown, [rule]), (LARGE, [rule])):
        assert rules(sql, sizes={T: size, index: size}) == found
    assert rules(sql, sizes={}) == [rule]
    assert rules(sql) == [rule]


@pytest.mark.parametrize(
    ("sql", "rule", "level"),
    [
        ("ALTER TABLE t RENAME COLUMN a TO b;", "renaming-column", Level.ERROR),
        ("ALTER TABLE t RENAME TO u;", "renaming-table", Level.ERROR),
        ("ALTER TABLE t SET SCHEMA u;", "ban-set-schema", Level.ERROR),
        ("DROP TABLE t;", "ban-drop-table", Level.WARNING),
        ("ALTER TABLE t DROP COLUMN a;", "ban-drop-column", Level.WARNING),
        ("ALTER TABLE t ALTER COLUMN a DROP NOT NULL;", "ban-drop-not-null", Level.WARNING),
    ],
)
def test_what_breaks_programs_is_told_of_a_small_table_too_but_not_of_a_new_one(
    sql: str, rule: str, level: Level
) -> None:
    file = migration("001_a", sql)
    found = only(look(file, pending=[file], sizes={T: Size(T, 3, 8192)}))
    assert (found.rule, found.level, found.rows) == (rule, level, 3)
    assert rules(f"CREATE TABLE t (a bigint);\n{sql}", sizes={}) == []


def test_a_column_that_is_required_fails_on_any_row_and_is_quiet_on_an_empty_table() -> None:
    sql = "ALTER TABLE t ADD COLUMN b bigint NOT NULL;"
    assert rules(sql, sizes={T: Size(T, 1, 8192)}) == ["adding-required-field"]
    assert rules(sql, sizes={T: Size(T, None, 8192)}) == ["adding-required-field"]
    assert rules(sql, sizes={T: Size(T, 0, 8192)}) == []


def test_a_default_that_is_stored_once_and_a_check_that_is_not_valid_yet_find_nothing() -> None:
    sql = "ALTER TABLE t ADD COLUMN b bigint NOT NULL DEFAULT 0, ADD CONSTRAINT c CHECK (a > 0) NOT VALID;"
    assert rules(sql, sizes={T: LARGE}) == []


def test_a_server_that_is_too_old_for_it_makes_a_finding() -> None:
    file = migration("001_a", "ALTER TABLE t ADD COLUMN b bigint NOT NULL DEFAULT 0;")
    assert only(review.look([file], folder="sql", server_version=100023)).rule == "adding-field-with-default"
    assert review.look([file], folder="sql", server_version=150017).findings == []
    safe = migration("002_b", "ALTER TABLE t VALIDATE CONSTRAINT c;\nALTER TABLE t ALTER COLUMN a SET NOT NULL;")
    assert only(review.look([safe], folder="sql", server_version=110022)).rule == "adding-not-nullable-field"
    assert review.look([safe], folder="sql", server_version=120022).findings == []


def test_a_server_that_has_a_better_way_makes_a_finding() -> None:
    file = migration("001_a", "VACUUM (FULL) t;", transaction=False)
    found = only(review.look([file], folder="sql", server_version=190000))
    assert (found.rule, found.table) == ("prefer-repack", "t")
    assert review.look([file], folder="sql", server_version=180004).findings == []


MAKE = migration("001_make", "CREATE TABLE t (a bigint);\n")
USE = migration("002_use", BUILD)


def test_a_table_that_the_same_run_makes_is_quiet() -> None:
    assert look(USE, pending=[MAKE, USE], sizes={}) == review.Report([], [], quiet=1)


@pytest.mark.parametrize(
    ("pending", "sizes"),
    [
        pytest.param([USE], {T: LARGE}, id="made long ago"),
        pytest.param([MAKE, USE], {T: LARGE}, id="it is there already"),
        pytest.param([USE, MAKE], {}, id="made later"),
        pytest.param([], None, id="no server says that it is new"),
        pytest.param([MAKE], {}, id="the file that uses it is not pending"),
    ],
)
def test_a_table_that_may_be_old_is_not_quiet(pending: list[Migration], sizes: Mapping[Table, Size] | None) -> None:
    assert only(look(USE, pending=pending, sizes=sizes)).rule == BUILD_RULE


@pytest.mark.parametrize("sizes", [None, {}, {T: LARGE}])
@pytest.mark.parametrize("transaction", [True, False])
def test_a_table_that_the_same_file_makes_is_quiet(sizes: Mapping[Table, Size] | None, *, transaction: bool) -> None:
    sql = "CREATE TABLE t (a bigint);\nCREATE INDEX i ON public.t (a);\n"
    assert rules(sql, sizes=sizes, transaction=transaction) == []


def test_a_table_that_is_only_made_if_it_is_not_there_may_be_large() -> None:
    sql = "CREATE TABLE IF NOT EXISTS t (a bigint);\nALTER TABLE t ADD COLUMN b bigint UNIQUE;\n"
    assert rules(sql, sizes={T: LARGE}) == ["disallowed-unique-constraint"]
    assert rules(sql) == ["disallowed-unique-constraint"]
    assert rules(sql, sizes={}) == []


def test_transactions_are_judged_by_the_files_mode() -> None:
    concurrently = "CREATE INDEX CONCURRENTLY i ON t (a);\n"
    assert rules(concurrently) == ["ban-concurrent-index-creation-in-transaction"]
    assert rules(concurrently, transaction=False) == []
    assert rules("BEGIN;\nSELECT 1;\n") == ["transaction-nesting"]
    assert rules("BEGIN;\nSELECT 1;\nCOMMIT;\n", transaction=False) == []
    assert rules("BEGIN;\nSELECT 1;\n", transaction=False) == ["ban-uncommitted-transaction"]
    file = migration("001_a", "COMMIT;\n", transaction=False)
    assert only(look(file)).message == "There is no transaction to `COMMIT` or `ROLLBACK`."


def test_a_constraint_that_two_rules_speak_of_is_told_once_and_another_one_too() -> None:
    sql = "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a),\n  ADD CONSTRAINT c CHECK (a > 0);\n"
    file = migration("001_a", sql)
    found = [(each.rule, each.line) for each in look(file).findings]
    assert found == [("adding-foreign-key-constraint", 1), ("constraint-missing-not-valid", 2)]


def test_a_rule_that_a_file_is_excused_from_is_kept_apart_with_the_reason() -> None:
    excused = migration("001_a", BUILD + "DROP TABLE u;\n", allow=((BUILD_RULE, "nobody writes at night"),))
    report = look(excused, migration("002_b", BUILD))
    assert [(each.rule, each.version) for each in report.findings] == [("ban-drop-table", "001"), (BUILD_RULE, "002")]
    assert [(each.rule, each.reason) for each in report.allowed] == [(BUILD_RULE, "nobody writes at night")]
    assert (report.errors, report.warnings) == (1, 1)


def test_squawks_own_comments_silence_nothing() -> None:
    assert rules(f"-- squawk-ignore-file\n-- squawk-ignore {BUILD_RULE}\n{BUILD}") == [BUILD_RULE]


def test_a_file_that_squawk_cannot_read_is_told_with_where_it_stopped() -> None:
    finding = only(look(migration("001_a", f"SELECT 1;\nCREATE TABLE x (a int,,);\n{BUILD}")))
    assert (finding.rule, finding.line, finding.level) == ("syntax-error", 2, Level.WARNING)
    assert finding.message == "squawk cannot read this, so nothing else in the file was checked: unexpected comma"


def test_a_line_is_one_of_the_file() -> None:
    found = look(migration("001_a", "SELECT 1;\nCREATE TABLE x (")).findings
    assert {each.line for each in found} == {2}


def test_a_file_that_is_too_large_is_told_as_not_checked() -> None:
    finding = only(look(migration("001_a", None)))
    assert (finding.rule, finding.line, finding.level) == ("not-checked", 1, Level.WARNING)


def test_data_between_statements_is_no_sql_and_lines_stay() -> None:
    finding = only(look(migration("001_a", f"COPY x FROM STDIN;\nDROP TABLE y;\n\\.\n{BUILD}")))
    assert (finding.rule, finding.line) == (BUILD_RULE, 4)


def test_letters_of_several_bytes_do_not_shift_the_place() -> None:
    sql = "SELECT 'ééééééééééééééééééé'; ALTER TABLE t DROP COLUMN a; ALTER TABLE u DROP COLUMN b;\n"
    assert [each.table for each in look(migration("001_a", sql)).findings] == ["t", "u"]


def test_a_rule_that_only_a_newer_squawk_has_is_a_warning_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(rules_table.RULES, "ban-drop-table")
    finding = only(look(migration("001_a", "DROP TABLE t;\n")))
    assert (finding.level, finding.message) == (Level.WARNING, "Dropping a table may break existing clients.")


def test_one_file_after_another_in_their_order_whatever_their_mode() -> None:
    files = [migration(f"{number:03}_x", "DROP TABLE t;\n", transaction=number % 2 == 0) for number in range(1, 6)]
    assert [each.version for each in look(*files).findings] == ["001", "002", "003", "004", "005"]


def test_the_index_of_a_table_stands_for_it() -> None:
    report = look(file := migration("001_a", "DROP INDEX i;\n"), pending=[file], sizes={Table("public", "i"): LARGE})
    assert (only(report).table, only(report).rows) == ("t", 12_000_000)
    assert only(look(file)).table is None


def test_style_is_off() -> None:
    assert rules("CREATE TABLE t (a serial, b int, c varchar(10), d smallint);\n") == []
