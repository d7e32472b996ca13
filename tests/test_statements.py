"""Which table a statement works on: the plain cases are known, and a doubtful one has none."""

from __future__ import annotations

import pytest

from infra.db.statements import Statement, Table, split

T = Table("public", "t")


def first(sql: str) -> Statement:
    return next(split(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t ADD COLUMN a int",
        "alter table if exists only T add column a int",
        'ALTER TABLE public . "t" ADD COLUMN a int',
        "-- of old_t\nALTER /* not u */ TABLE t ADD COLUMN a int",
        "/* a /* nested */ ALTER TABLE u */ ALTER TABLE t DROP COLUMN a",
        "CREATE INDEX ON t (a)",
        "CREATE INDEX i ON t (a)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY public.t USING btree (a)",
        "DROP TABLE IF EXISTS t CASCADE",
        "TRUNCATE t",
        "TRUNCATE TABLE ONLY t RESTART IDENTITY",
        "REINDEX (VERBOSE) TABLE CONCURRENTLY t",
        "VACUUM (FULL, ANALYZE) t",
        "VACUUM FULL t",
        "CLUSTER t USING i",
        "ALTER MATERIALIZED VIEW t SET (a = 1)",
    ],
)
def test_the_table_is_the_one_that_is_altered_indexed_dropped_or_rewritten(sql: str) -> None:
    assert first(sql).table == T
    assert first(sql).index is None


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE t, u",
        "TRUNCATE t, u CASCADE",
        "ALTER TABLE db.public.t ADD COLUMN a int",
        'ALTER TABLE U&"t" ADD COLUMN a int',
        "ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b",
        "VACUUM FULL",
        "CREATE INDEX i",
        "COMMENT ON TABLE t IS 'ALTER TABLE t'",
        "SELECT 1; ALTER TABLE t ADD COLUMN a int",
        "DO $x$ BEGIN ALTER TABLE t ADD COLUMN a int; END $x$",
        "SELECT $$; ALTER TABLE t DROP a; $$",
    ],
)
def test_where_there_is_doubt_there_is_no_table(sql: str) -> None:
    assert first(sql).table is None


@pytest.mark.parametrize("sql", ["DROP INDEX CONCURRENTLY IF EXISTS i", "REINDEX INDEX public.i"])
def test_an_index_is_not_taken_for_a_table(sql: str) -> None:
    assert (first(sql).table, first(sql).index) == (None, Table("public", "i"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("T", Table("public", "t")),
        ('"T"', Table("public", "T")),
        ('"a ""b; c"', Table("public", 'a "b; c')),
        ("Shop.Größe$1", Table("shop", "größe$1")),
    ],
)
def test_names_are_folded_as_postgresql_does_it(name: str, expected: Table) -> None:
    assert first(f"ALTER TABLE {name} ADD COLUMN a int").table == expected


@pytest.mark.parametrize(
    ("sql", "maybe"),
    [
        ("CREATE TABLE t (a int)", False),
        ("CREATE UNLOGGED TABLE IF NOT EXISTS t AS SELECT 1", True),
        ("CREATE TABLE t PARTITION OF u DEFAULT", False),
        ("CREATE MATERIALIZED VIEW public.t AS SELECT 1", False),
    ],
)
def test_a_table_that_is_made_is_known(sql: str, *, maybe: bool) -> None:
    assert (first(sql).creates, first(sql).maybe) == (T, maybe)


@pytest.mark.parametrize("sql", ["CREATE TEMP TABLE t (a int)", "CREATE VIEW t AS SELECT 1", "-- CREATE TABLE t"])
def test_what_makes_no_lasting_table_makes_none(sql: str) -> None:
    assert [each.creates for each in split(sql)] in ([None], [])


@pytest.mark.parametrize(
    "path", ["SET LOCAL search_path = shop", "SELECT set_config('search_path', 'shop', true)", "set SEARCH_PATH to s"]
)
def test_a_file_that_sets_the_search_path_says_nothing_of_names_without_a_schema(path: str) -> None:
    tables = [each.table for each in split(f"{path}; ALTER TABLE t DROP a; ALTER TABLE public.t DROP a")]
    assert tables == [None, None, T]


def test_the_search_path_of_a_function_is_not_that_of_the_file() -> None:
    made = "CREATE FUNCTION f() RETURNS int LANGUAGE sql\nSET search_path = ''\nAS 'SELECT 1';"
    assert [each.table for each in split(f"{made} ALTER TABLE t DROP a")] == [None, T]


def test_statements_are_told_apart_by_their_place() -> None:
    sql = "SELECT ';';\n  ALTER TABLE t DROP a;\n\"x;y\";"
    assert [sql[each.start : each.end] for each in split(sql)] == ["SELECT ';'", "\n  ALTER TABLE t DROP a", '\n"x;y"']


def test_comments_without_end_keep_nobody_waiting() -> None:
    assert [each.table for each in split("/* x\n" * 3000 + "ALTER TABLE t DROP a")] == [None]
