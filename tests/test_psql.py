"""What psql is told, and what it answers: the samples were recorded from psql 18 under our arguments, and shortened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.db import history, psql
from infra.db.history import History
from infra.db.psql import Marker, Message
from infra.db.servers.process import lines
from tests.values import migration

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW_HASH = "hashtidextended(ctid, (age('3'::xid)::bigint - age(xmin)) & 4294967295)"
DIGEST = f"(SELECT coalesce(bit_xor({ROW_HASH}), 0) FROM public.schema_migrations)"
LOCKED = r"""SELECT pg_catalog.pg_try_advisory_lock(1297044036, 1161909592) AS _migrate_locked \gset
\if :_migrate_locked
\else
\echo tok BUSY
\q
\endif
"""
SAME = rf"""SELECT {DIGEST} AS _migrate_digest \gset
SELECT :_migrate_digest = (-7) AS _migrate_same \gset
\if :_migrate_same
\else
\echo tok STALE
\q
\endif
"""
BEGUN = (
    "SELECT pg_catalog.pg_current_xact_id() AS _migrate_xact, pg_catalog.clock_timestamp() AS _migrate_start \\gset\n"
)
TIDY = "RESET ALL \\; DISCARD TEMP \\; UNLISTEN *;\n"
OFF, END = "SET LOCAL synchronous_commit = off \\; ", "\\echo tok END\n"


def elapsed(start: str) -> str:
    return f"(extract(epoch FROM pg_catalog.clock_timestamp() - {start}) * 1000)::integer"


def guard(kept: str, digest: str, version: str) -> str:
    return f"""SELECT CASE WHEN NOT coalesce({kept}, false) THEN 'ENDED ' || {version}
            WHEN {DIGEST} <> {digest} THEN 'MEDDLED ' || {version}
            WHEN NOT pg_catalog.pg_try_advisory_lock(1297044036, 1161909592) THEN 'BUSY'
            ELSE '' END AS fault"""


def prepared(texts: int, change: str) -> str:
    return f"""PREPARE migrate_tok (pg_catalog.xid8, timestamptz, bigint{", text" * texts}) AS
WITH guard AS ({guard("pg_catalog.pg_current_xact_id_if_assigned() = $1", "$3", "$4")}),
change (ms, digest) AS ({change}, $3 # {ROW_HASH})
SELECT fault = '' AS _migrate_good, fault AS _migrate_fault, ms AS _migrate_ms, digest AS _migrate_digest
  FROM guard LEFT JOIN change ON true;
"""


RECORD = prepared(
    5,
    "INSERT INTO public.schema_migrations (version, name, checksum, sql, down_sql, status, duration_ms)\n"
    f"SELECT $4, $5, $6, $7, $8, 'applied', {elapsed('$2')} FROM guard WHERE fault = '' RETURNING duration_ms",
)
FORGET = prepared(
    1,
    f"DELETE FROM public.schema_migrations USING guard WHERE fault = '' AND version = $4 RETURNING {elapsed('$2')}",
)
AGAIN = f"DEALLOCATE ALL \\;\n{RECORD}"
START = "\\echo tok START\n"
SAFE = SAME + RECORD + START
STOPPED = r"""\if :_migrate_good
\else
\echo tok :_migrate_fault
\q
\endif
"""
A, B = migration("001_a"), migration("002_b", "SELECT ':x'", down="DROP x;\n")
A_TEXTS, B_TEXTS = (
    r"E'001', E'a', E'v1:aa', E'SELECT 1;\n', NULL",
    r"E'002', E'b', E'v1:aa', E'SELECT '':x''', E'DROP x;\n'",
)


def included(version: str, more: str = "") -> str:
    return (
        f"\\ir {version}.sql\n\\unrestrict tok\n"
        f"RESET SESSION AUTHORIZATION \\; RESET ROLE \\; RESET client_encoding \\;\n{more}"
    )


def ran(version: str, texts: str = "", more: str = "") -> str:
    values = texts or f"'{version}'"
    row = f"EXECUTE migrate_tok (:'_migrate_xact', :'_migrate_start', :_migrate_digest, {values}) \\gset\n"
    return included(version, more) + row + STOPPED


def done(version: str) -> str:
    return f"{TIDY}\\echo tok DONE {version} :_migrate_ms\n"


ONE = f"BEGIN \\; {BEGUN}{ran('001', A_TEXTS)}COMMIT \\;\n{done('001')}"
OF_TWO = (
    f"BEGIN \\; {OFF}{BEGUN}{ran('001', A_TEXTS)}COMMIT \\;\n{done('001')}"
    f"BEGIN \\; {BEGUN}{ran('002', B_TEXTS)}COMMIT \\;\n{done('002')}"
)
OF_SINGLE = f"{BEGUN}{ran('001', A_TEXTS)}{done('001')}{BEGUN}{ran('002', B_TEXTS)}{done('002')}COMMIT;\n"
LONE_GUARD = guard("pg_catalog.pg_current_xact_id_if_assigned() IS NULL", "(:_migrate_digest)", "'003'")
LONE_ELAPSED = elapsed(":'_migrate_start'::timestamptz")
LONE = rf"""INSERT INTO public.schema_migrations (version, name, checksum, sql, down_sql, status)
VALUES (E'003', E'c', E'v1:aa', NULL, NULL, 'running')
ON CONFLICT (version) DO UPDATE SET status = 'running', applied_at = pg_catalog.clock_timestamp();
SELECT {DIGEST} AS _migrate_digest, pg_catalog.clock_timestamp() AS _migrate_start \gset
SET lock_timeout = '1s';
{included("003", AGAIN)}SELECT fault = '' AS _migrate_good, fault AS _migrate_fault FROM ({LONE_GUARD}) AS guard \gset
{STOPPED}UPDATE public.schema_migrations SET status = 'applied', duration_ms = {LONE_ELAPSED}
WHERE version = '003' RETURNING duration_ms AS _migrate_ms \gset
SELECT {DIGEST} AS _migrate_digest \gset
{done("003")}"""


def driver(*steps: object, **options: object) -> str:
    expected = History((), -7, exists=True)
    return "".join(psql.driver(steps, **{"token": "tok", "expected": expected, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        pytest.param(driver(A), LOCKED + SAFE + ONE + END, id="one file, whose commit waits for the disk"),
        pytest.param(driver(A, B), LOCKED + SAFE + OF_TWO + END, id="two files, the last commit flushes both"),
        pytest.param(
            driver(A, B, single=True),
            f"{LOCKED}{SAME}BEGIN;\n{RECORD}{START}{OF_SINGLE}{END}",
            id="single: one transaction, clean",
        ),
        pytest.param(
            driver(migration("003_c", None, transaction=False, lock_timeout="1s")),
            LOCKED + SAFE + LONE + END,
            id="no transaction: recorded before and after; what is not kept may have taken our statement away",
        ),
        pytest.param(
            driver(A._replace(directives=A.directives._replace(lock_timeout="30s"))),
            LOCKED + SAFE + ONE.replace("BEGIN \\; ", "BEGIN \\; SET LOCAL lock_timeout = '30s' \\; ") + END,
            id="a lock timeout of the file's own",
        ),
        pytest.param(
            driver(migration("001_a", "Deallocate all;\n")),
            LOCKED
            + SAFE
            + ONE.replace(
                ran("001", A_TEXTS),
                ran("001", A_TEXTS.replace("SELECT 1", "Deallocate all"), AGAIN),
            )
            + END,
            id="prepared statements of the file's own go, and ours comes back",
        ),
        pytest.param(
            driver(A._replace(undo=True)),
            f"{LOCKED}{SAME}{FORGET}{START}{ONE.replace(ran('001', A_TEXTS), ran('001'))}{END}",
            id="back: the row goes",
        ),
        pytest.param(
            driver(A, expected=History()),
            f"{LOCKED}SET client_min_messages = warning;\nBEGIN;\n{history.CREATE}COMMIT;\nRESET client_min_messages;\n"
            f"{SAFE.replace('(-7)', '(0)')}{ONE}{END}",
            id="no history yet: it is made under the lock, at once",
        ),
        pytest.param(driver(A, sweep="rm x"), f"{LOCKED}\\! rm x\n{SAFE}{ONE}{END}", id="sweeps under the lock"),
    ],
)
def test_the_driver_is_this_text(actual: str, expected: str) -> None:
    assert actual == expected


OPTIONS = (
    "-c search_path=public -c lock_timeout=5s -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c idle_session_timeout=0 -c client_min_messages=notice"
)


@pytest.mark.parametrize(
    ("version", "is_windows", "expected"),
    [
        pytest.param(150013, False, f"{OPTIONS} -c client_connection_check_interval=500", id="15"),
        pytest.param(
            170000, False, f"{OPTIONS} -c transaction_timeout=0 -c client_connection_check_interval=500", id="17"
        ),
        pytest.param(180004, True, f"{OPTIONS} -c transaction_timeout=0", id="18 on Windows"),
    ],
)
def test_the_session_has_what_this_server_knows(version: int, is_windows: bool, expected: str) -> None:  # noqa: FBT001
    options = psql.session_options(lock_timeout="5s", server_version=version, server_is_windows=is_windows)
    assert options == expected


def said(end: int, sqlstate: str, text: str, **parts: object) -> Message:
    severity = "ERROR" if sqlstate else "error"
    given = {"version": "001", "severity": severity, "end": end, "sqlstate": sqlstate, "text": text, **parts}
    return Message(**given)  # type: ignore[arg-type]


DO_NOTICE = r"""psql:001.sql:6: NOTICE:  00000: first
second
DETAIL:  d1
d2
HINT:  h1
LOCATION:  exec_stmt_raise, pl_exec.c:3909
"""
NOTICE = said(5, "00000", "first\nsecond", severity="NOTICE", detail="d1\nd2", hint="h1")
SAMPLES = [
    pytest.param(
        r"""psql:001.sql:7: ERROR:  42703: column "nam" of relation "a" does not exist
LINE 2:   (id, nam)
               ^
LOCATION:  checkInsertTargets, parse_target.c:1068
psql:001.sql:7: STATEMENT:  INSERT INTO a
  (id, nam)
VALUES (1, 2);
""",
        said(
            6,
            "42703",
            'column "nam" of relation "a" does not exist',
            line=2,
            excerpt=("  (id, nam)", "       ^"),
            statement="INSERT INTO a\n  (id, nam)\nVALUES (1, 2);",
        ),
        id="excerpt, caret, statement of three lines",
    ),
    pytest.param(DO_NOTICE, NOTICE, id="notice of two lines, with detail of two and hint"),
    pytest.param(
        """psql:001.sql:5: ERROR:  P0042: multi
line
DETAIL:  det
HINT:  hint
CONTEXT:  PL/pgSQL function inline_code_block line 3 at RAISE
LOCATION:  exec_stmt_raise, pl_exec.c:3909
psql:001.sql:5: STATEMENT:  DO $$
BEGIN
HINT:  not one
LINE 2: nor this
END $$;
""",
        said(
            4,
            "P0042",
            "multi\nline",
            detail="det",
            hint="hint",
            context="PL/pgSQL function inline_code_block line 3 at RAISE",
            statement="DO $$\nBEGIN\nHINT:  not one\nLINE 2: nor this\nEND $$;",
        ),
        id="a statement is not read as parts of the message",
    ),
    pytest.param(
        """psql:/tmp/x:1/001.sql:8: ERROR:  42703: column "nope" does not exist
LINE 1: (SELECT nope
                ^
QUERY:  (SELECT nope
          FROM pg_class)
CONTEXT:  PL/pgSQL function pg_temp_2.f() line 3 at RETURN
LOCATION:  errorMissingColumn, parse_relation.c:3822
psql:/tmp/x:1/001.sql:8: STATEMENT:  SELECT
  pg_temp.f();
""",
        said(
            7,
            "42703",
            'column "nope" does not exist',
            line=0,
            excerpt=("(SELECT nope", "        ^"),
            context="PL/pgSQL function pg_temp_2.f() line 3 at RETURN",
            statement="SELECT\n  pg_temp.f();",
        ),
        id="in a function: the line is not one of the file",
    ),
    pytest.param(
        """psql:001.sql:4: ERROR:  23505: duplicate key value violates unique constraint "c_pkey"
DETAIL:  Key (id)=(1) already exists.
SCHEMA NAME:  pg_temp_8
TABLE NAME:  c
CONSTRAINT NAME:  c_pkey
LOCATION:  _bt_check_unique, nbtinsert.c:666
psql:001.sql:4: STATEMENT:  INSERT INTO c VALUES (1);
""",
        said(
            3,
            "23505",
            'duplicate key value violates unique constraint "c_pkey"',
            detail="Key (id)=(1) already exists.",
            statement="INSERT INTO c VALUES (1);",
        ),
        id="names of what is concerned",
    ),
    pytest.param(
        "psql:001.sql:3: error: backslash commands are restricted; only \\unrestrict is allowed\n",
        said(2, "", "backslash commands are restricted; only \\unrestrict is allowed"),
        id="psql's own error",
    ),
    pytest.param(
        """psql:001.sql:4: ERROR:  42601: unterminated quoted string at or near "'open
  until the end;"
LINE 1: SELECT 'open
               ^
LOCATION:  scanner_yyerror, scan.l:1237
psql:001.sql:4: STATEMENT:  SELECT 'open
  until the end;
""",
        said(
            3,
            "42601",
            'unterminated quoted string at or near "\'open\n  until the end;"',
            line=1,
            excerpt=("SELECT 'open", "       ^"),
            statement="SELECT 'open\n  until the end;",
        ),
        id="unterminated quote",
    ),
    pytest.param(
        """psql:C:\\Temp\\m\\0042.sql:60004: ERROR:  22P02: invalid input syntax for type integer: "x"
LINE 2: VALUES ('x');
                ^
LOCATION:  pg_strtoint32_safe, numutils.c:615
psql:C:\\Temp\\m\\0042.sql:60004: STATEMENT:  INSERT INTO big
VALUES ('x');
""",
        said(
            60003,
            "22P02",
            'invalid input syntax for type integer: "x"',
            version="0042",
            line=2,
            excerpt=("VALUES ('x');", "        ^"),
            statement="INSERT INTO big\nVALUES ('x');",
        ),
        id="at the end of a large file, on Windows",
    ),
    pytest.param(
        "psql:driver.sql:20: FEHLER:  42501: keine Berechtigung für Tabelle schema_migrations\n",
        said(20, "42501", "keine Berechtigung für Tabelle schema_migrations", version="", severity="FEHLER"),
        id="from the driver, in the server's language",
    ),
    pytest.param(
        'psql: error: connection to server at "h", port 1 failed: refused\n\tIs the server running?\n',
        said(
            0,
            "",
            'psql: error: connection to server at "h", port 1 failed: refused\n\tIs the server running?',
            version="",
        ),
        id="before any file",
    ),
]


@pytest.mark.parametrize(("output", "expected"), SAMPLES)
def test_a_message_is_read_into_its_parts(output: str, expected: Message) -> None:
    assert psql.parse(output.splitlines()) == expected


def read(*lines: tuple[str, str]) -> list[Marker | Message | str]:
    reader = psql.Reader("tok")
    return [*(item for line in lines for item in reader.feed(*line)), *reader.flush(), *reader.flush()]


def errors_of(text: str) -> list[tuple[str, str]]:
    return [("stderr", line) for line in text.splitlines()]


def test_the_reader_gives_each_message_once_it_is_whole_and_markers_and_results_at_once() -> None:
    output = read(
        ("stdout", "tok START"),
        *errors_of(DO_NOTICE),
        ("stdout", "1|tok DONE 001 5"),
        ("stdout", ""),
        *errors_of(DO_NOTICE),
        ("stdout", "tok DONE 001 12"),
        ("stdout", "tok END"),
    )
    assert output == [
        Marker("START", ()),
        "1|tok DONE 001 5",
        "",
        NOTICE,
        Marker("DONE", ("001", "12")),
        Marker("END", ()),
        NOTICE,
    ]


@pytest.mark.parametrize(("output", "expected"), SAMPLES)
def test_the_reader_keeps_the_statement_with_its_error_and_apart_from_what_follows(
    output: str, expected: Message
) -> None:
    assert read(*errors_of(output + DO_NOTICE)) == [expected, NOTICE]


def test_a_lost_connection_is_told_in_three_messages_of_which_all_are_errors() -> None:
    output = read(
        *errors_of("""psql:001.sql:3: FATAL:  57P01: terminating connection due to administrator command
LOCATION:  ProcessInterrupts, postgres.c:3354
psql:001.sql:3: server closed the connection unexpectedly
\tThis probably means the server terminated abnormally
\tbefore or while processing the request.
psql:001.sql:3: error: connection to server was lost
""")
    )
    closed = (
        "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally"
        "\n\tbefore or while processing the request."
    )
    assert output == [
        said(2, "57P01", "terminating connection due to administrator command", severity="FATAL"),
        said(2, "", closed),
        said(2, "", "connection to server was lost"),
    ]
    assert [isinstance(each, Message) and each.is_error for each in output] == [True, True, True]


@pytest.mark.parametrize(
    ("line", "is_error"),
    [
        pytest.param("ERROR:  42703: column does not exist", True, id="error"),
        pytest.param("ERROR:  P0042: our own", True, id="error raised by a function"),
        pytest.param("NOTICE:  00000: table does not exist, skipping", False, id="DROP IF EXISTS"),
        pytest.param("WARNING:  01000: careful", False, id="warning"),
        pytest.param('NOTICE:  42P07: relation "x" already exists, skipping', False, id="CREATE TABLE IF NOT EXISTS"),
        pytest.param("HINWEIS:  42710: Erweiterung »vector« existiert bereits", False, id="likewise, in German"),
    ],
)
def test_only_what_failed_is_an_error(line: str, is_error: bool) -> None:  # noqa: FBT001
    # psql echoes the statement after an error, and after an error only (ECHO=errors)
    statement = ["psql:001.sql:2: STATEMENT:  SELECT 1;"] if is_error else []
    assert psql.parse([f"psql:001.sql:2: {line}", *statement]).is_error is is_error


@pytest.mark.parametrize(
    ("sql", "end", "statement", "line", "expected"),
    [
        pytest.param("SELECT 1;\nSELECT nope;\n", 2, "SELECT nope;", 1, 2, id="one line"),
        pytest.param("--\nINSERT INTO a\n (b)\nVALUES (1);\n", 4, "INSERT INTO a\n (b)\nVALUES (1);", 2, 3, id="three"),
        pytest.param("SELECT 1; SELECT x; SELECT 2;\n", 1, "SELECT x;", 1, 1, id="several on a line"),
        pytest.param("SELECT x;\n-- SELECT x;\nSELECT x;\nSELECT x;\n", 3, "SELECT x;", 1, 3, id="text occurs again"),
        pytest.param(
            "SELECT 1;\n-- psql drops this\n/* keeps\n this */\nSELECT x;\n",
            5,
            "/* keeps\n this */\nSELECT x;",
            3,
            5,
            id="comments before it",
        ),
        pytest.param("COPY c FROM STDIN;\n1\nx\n\\.\n", 4, "COPY c FROM STDIN;", 0, 1, id="COPY ends after its data"),
        pytest.param("SELECT f(\n1);\n", 2, "SELECT f(\n1);", 0, 1, id="no line given: where the statement begins"),
        pytest.param("SELECT x\n\n", 2, "SELECT x", 1, 1, id="no semicolon"),
        pytest.param("SELECT 1;\nSELECT 'a\nb\n\n\n", 5, "SELECT 'a\nb", 1, 2, id="quote open to the end"),
        pytest.param(
            "CREATE TABLE t (\n  a int,\n\n  b nope,\n\n\n  c int\n);\n",
            8,
            "CREATE TABLE t (\n  a int,\n  b nope,\n  c int\n);",
            3,
            4,
            id="psql leaves empty lines out",
        ),
        pytest.param(
            "DO $$\n\nBEGIN\n  SELEC 1;\n\nEND $$;\n",
            6,
            "DO $$\n\nBEGIN\n  SELEC 1;\n\nEND $$;",
            4,
            4,
            id="psql keeps empty lines in quotes",
        ),
        pytest.param("SELECT :v\n;", 2, "SELECT 1\n;", 1, 1, id="text differs: counted back"),
        pytest.param(None, 60003, "INSERT INTO big\nVALUES ('x');", 2, 60003, id="text not kept: counted back"),
        pytest.param("\\! x\nSELECT 1;\n", 1, "", 0, 1, id="psql's own error has no statement"),
    ],
)
def test_an_error_is_located_where_the_server_points_or_where_its_statement_begins(
    sql: str | None, end: int, statement: str, line: int, expected: int
) -> None:
    message = said(end, "42601", "x", line=line, statement=statement)
    assert psql.locate(message, sql) == expected


class Ended:
    """A program that has said what it had to say on standard error."""

    def __init__(self, said: bytes) -> None:
        self.said = said

    def sources(self) -> list[Iterator[tuple[str, bytes]]]:
        return [iter([("stderr", self.said)])]

    def wait(self) -> int:
        return psql.SCRIPT_ERROR


@pytest.mark.parametrize(
    ("sql", "said", "expected"),
    [
        pytest.param(
            "SELECT 1;\n\nSELECT\n  nope\nFROM pg_class;\n",
            b"""psql:001.sql:6: ERROR:  42703: column "nope" does not exist
LINE 2:   nope\r
          ^\r
psql:001.sql:6: STATEMENT:  SELECT\r
  nope\r
FROM pg_class;
""",
            4,
            id="pointed at",
        ),
        pytest.param(
            "-- x\nCREATE TEMP TABLE c (id int);\nCOPY c\n FROM STDIN;\n1\nx\n\\.\nSELECT 1;\n",
            b"""psql:001.sql:8: ERROR:  22P02: invalid input syntax for type integer: "x"
CONTEXT:  COPY c, line 2, column id: "x"
LOCATION:  pg_strtoint32_safe, numutils.c:615
psql:001.sql:8: STATEMENT:  COPY c\r
 FROM STDIN;
""",
            3,
            id="COPY",
        ),
    ],
)
def test_an_error_in_a_file_with_crlf_is_located_like_any_other(sql: str, said: bytes, expected: int) -> None:
    (message,) = read(*(line for line in lines(Ended(said)) if line))
    assert isinstance(message, Message)
    assert psql.locate(message, sql) == expected
    assert "\r" not in message.statement + "".join(message.excerpt)


QUIETLY = ["--no-psqlrc", "--set=ON_ERROR_STOP=1"]


def test_only_somebody_who_types_gets_a_psql_with_their_own_settings() -> None:
    assert psql.shell("", at_terminal=True) == []
    assert psql.shell("", at_terminal=False) == [*QUIETLY, "--file=-"]
    assert psql.shell("SELECT 1", at_terminal=False) == [*QUIETLY, "--command=SELECT 1"]
    assert psql.shell("-1", at_terminal=False) == [*QUIETLY, "--command=-1"]


def test_a_listing_fits_the_terminal_where_there_is_one() -> None:
    assert psql.listing(r"\dt+", width=0) == [*QUIETLY, r"--command=\dt+"]
    fitting = ["--pset=format=wrapped", "--pset=expanded=auto", "--pset=columns=80"]
    assert psql.listing(r"\dt+", width=80) == [*QUIETLY, *fitting, r"--command=\dt+"]


def test_a_described_name_is_quoted_as_a_whole() -> None:
    assert psql.describe("public", "faces") == r'\d+ "public"."faces"'
    assert psql.describe('a"b', "c.d*") == r'\d+ "a""b"."c.d*"'


TWICE = "SELECT 1;\n\nSELECT slow(\n\n  1);\n-- again\nSELECT slow(\n  1);\n"


@pytest.mark.parametrize(
    ("statement", "after", "expected"),
    [
        pytest.param("SELECT 1;", 0, 1, id="the first"),
        pytest.param("SELECT slow(\n  1);", 0, 3, id="without its empty lines"),
        pytest.param("SELECT slow(\n  1", 0, 3, id="cut by the server"),
        pytest.param("SELECT slow(\n  1);", 3, 7, id="the same words again"),
        pytest.param("-- again\nSELECT slow(\n  1);", 0, 6, id="with the comment before it"),
        pytest.param("again", 0, None, id="in a comment only"),
        pytest.param("COMMIT;", 0, None, id="not in the file"),
        pytest.param("SELECT 1;", 8, None, id="after the end"),
    ],
)
def test_a_statement_is_found_by_its_words(statement: str, after: int, expected: int | None) -> None:
    assert psql.first_line(statement, TWICE, after=after) == expected


def test_in_a_file_whose_text_is_not_kept_no_statement_is_found() -> None:
    assert psql.first_line("SELECT 1;", None) is None
