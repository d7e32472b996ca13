"""migrate-lint as it is typed: what the server knows decides, nothing is changed, and without a server it works."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import review, settings
from infra.db.database import Database
from infra.db.review import Size
from infra.db.servers import Address
from infra.db.statements import Table
from tests import project
from tests.conftest import free_port
from tests.project import TOP, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 100_000
INDEX = "require-concurrent-index-creation"
SAFE_WAY = "CREATE INDEX CONCURRENTLY, in a file of its own that begins with '-- migrate: no-transaction'"
MAKE = "CREATE TABLE content (id bigint, kind text);\nCREATE TABLE few (id bigint);\n"


def linted(checkout: Project, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of migrate-lint."""
    done = checkout.invoke("migrate-lint", "--json", *words)
    assert "Traceback" not in done.err
    return done.code, json.loads(done.out)


def lived_in(made: Project) -> None:
    """Apply a first file and fill one of its tables."""
    made.write("001_make.sql", MAKE)
    assert made.invoke("migrate").code == 0
    made.do(f"INSERT INTO content SELECT i, 'face' FROM generate_series(1, {ROWS}) AS i; INSERT INTO few VALUES (1)")
    made.do("ANALYZE content, few")


def test_what_locks_a_large_table_is_an_error_and_a_small_or_new_one_is_quiet(anywhere: Project) -> None:
    lived_in(anywhere)
    anywhere.write("002_new.sql", "CREATE TABLE new (id bigint);\n")
    anywhere.write(
        "003_index.sql",
        "CREATE INDEX new_id ON new (id);\nCREATE INDEX few_id ON few (id);\nCREATE INDEX content_id ON content (id);\n"
        "ALTER TABLE content DROP COLUMN kind;\n",
    )
    before = anywhere.rows("SELECT oid, relname FROM pg_class ORDER BY 1")
    folder = anywhere.settings["MIGRATIONS_DIR"]
    code, said = linted(anywhere)
    assert code == 4
    shared = {"version": "003", "name": "index", "file": f"{folder}/003_index.sql", "table": "content", "rows": ROWS}
    assert said == {
        "findings": [
            {
                **shared,
                "line": 3,
                "rule": INDEX,
                "level": "error",
                "message": "stops every write to content until the index is built; content has 100,000 rows",
                "help": f"{SAFE_WAY}.",
            },
            {
                **shared,
                "line": 4,
                "rule": "ban-drop-column",
                "level": "warning",
                "message": "deletes a column of content with its data; programs that still use it fail;"
                " content has 100,000 rows",
                "help": "First release programs that do without it; a copy of the data:  invoke migrate --backup",
            },
        ],
        "allowed": [],
        "errors": 1,
        "warnings": 1,
    }
    assert anywhere.rows("SELECT oid, relname FROM pg_class ORDER BY 1") == before
    assert anywhere.status() == {"001": "applied", "002": "pending", "003": "pending"}


def test_people_read_each_finding_with_its_place_and_the_way_out(external: Project) -> None:
    lived_in(external)
    external.write("002_index.sql", "CREATE INDEX content_id ON content (id);\nCREATE INDEX few_id ON few (id);\n")
    done = external.invoke("migrate-lint")
    folder = external.settings["MIGRATIONS_DIR"]
    assert done.code == 4
    assert done.out == (
        f"{folder}/002_index.sql:1: error: {INDEX}\n"
        "    stops every write to content until the index is built; content has 100,000 rows\n"
        f"    {SAFE_WAY}.\n"
        "Not shown: 1 on tables that are new or small on this server.\n"
    )
    assert done.err == (
        "✗ 1 error: such files would lock out or break programs that are running.\n"
        "Nothing was run or changed.\n"
        "Next: Write each the safe way, or excuse it with the reason, at the top of its file:\n"
        "      -- migrate: allow RULE why it does no harm here\n"
    )


def test_an_excused_rule_is_no_error_and_its_reason_is_shown(external: Project) -> None:
    lived_in(external)
    external.write(
        "002_index.sql", f"-- migrate: allow {INDEX} nobody writes at night\nCREATE INDEX content_id ON content (id);\n"
    )
    done = external.invoke("migrate-lint")
    assert done.code == 0
    assert f"002_index.sql:2: allowed: {INDEX}\n" in done.out
    assert "    because nobody writes at night\n" in done.out
    assert "Nothing to say of 1 pending file.\n" in done.out
    code, said = linted(external)
    assert (code, said["findings"], said["errors"], said["warnings"]) == (0, [], 0, 0)
    assert [(each["rule"], each["reason"], each["rows"]) for each in said["allowed"]] == [
        (INDEX, "nobody writes at night", ROWS)
    ]
    assert external.invoke("migrate").code == 0


def test_an_excuse_for_an_unknown_rule_stops_the_lint_and_the_run(external: Project) -> None:
    external.write("001_x.sql", "-- migrate: allow create-index why not\nSELECT 1;\n")
    for task in ("migrate-lint", "migrate"):
        done = external.invoke(task)
        assert done.code == 2
        assert "001_x.sql:1: there is no rule 'create-index' to allow" in done.err


def test_a_file_without_a_transaction_may_build_an_index_concurrently(external: Project) -> None:
    lived_in(external)
    sql = "CREATE INDEX CONCURRENTLY content_id ON content (id);\n"
    external.write("002_index.sql", sql)
    code, said = linted(external)
    assert (code, said["findings"][0]["rule"]) == (4, "ban-concurrent-index-creation-in-transaction")
    external.write("002_index.sql", f"-- migrate: no-transaction\n{sql}")
    assert linted(external) == (0, {"findings": [], "allowed": [], "errors": 0, "warnings": 0})


def test_only_pending_files_are_looked_at_unless_all_are_asked_for(external: Project) -> None:
    lived_in(external)
    external.write("002_drop.sql", "DROP INDEX IF EXISTS none;\nALTER TABLE content ALTER COLUMN id SET NOT NULL;\n")
    assert external.invoke("migrate").code == 0
    assert linted(external)[0] == 0
    assert "Nothing to say of 0 pending files." in external.invoke("migrate-lint").out
    code, said = linted(external, "--all")
    assert code == 4
    assert [each["rule"] for each in said["findings"]] == [
        "require-concurrent-index-deletion",
        "adding-not-nullable-field",
    ]


def test_a_warning_alone_does_not_stop_a_release(external: Project) -> None:
    lived_in(external)
    external.write("002_drop.sql", "DROP TABLE few;\n")
    done = external.invoke("migrate-lint")
    assert done.code == 0
    assert "deletes few with its rows; programs that still use it fail; few has 1 row\n" in done.out
    assert "No errors in 1 pending file.\n" in done.out


@pytest.mark.parametrize("flags", [[], ["--all"]])
def test_without_a_server_all_files_are_looked_at_and_the_worst_is_assumed(
    external_project: Project, tmp_path: Path, flags: list[str]
) -> None:
    gone = {"DB_PORT": str(free_port()), "MIGRATIONS_DIR": str(tmp_path / "migrations")}
    made = replace(external_project, settings={**external_project.settings, **gone})
    made.write("001_make.sql", f"{MAKE}CREATE INDEX few_id ON few (id);\n")
    made.write("002_index.sql", "CREATE INDEX content_id ON content (id);\n")
    done = made.invoke("migrate-lint", "--json", *flags)
    assert done.code == 4
    said = json.loads(done.out)
    assert [(each["version"], each["table"], each["rows"]) for each in said["findings"]] == [("002", "content", None)]
    assert said["findings"][0]["message"] == "stops every write to content until the index is built"
    assert f"Nothing answers at 127.0.0.1:{gone['DB_PORT']}" in done.err
    assert "it is not known which files are pending and how large a table is" in done.err


def test_without_a_docker_engine_it_works_too(tmp_path: Path) -> None:
    made = project.copy(tmp_path / "checkout", DB_SERVER="docker", DOCKER_HOST=f"unix://{tmp_path}/none")
    made.write("001_index.sql", "CREATE INDEX content_id ON content (id);\n")
    done = made.invoke("migrate-lint", "--json")
    assert done.code == 4
    assert json.loads(done.out)["errors"] == 1
    assert "No Docker engine answers. So it is not known which files are pending" in done.err


def test_an_embedded_server_that_was_never_made_is_not_made(embedded_project: Project, tmp_path: Path) -> None:
    never = {"EMBEDDED_DIR": str(tmp_path / "never"), "DB_PORT": str(free_port())}
    made = replace(
        embedded_project,
        settings={**embedded_project.settings, **never, "MIGRATIONS_DIR": str(TOP / "infra/migrations")},
    )
    done = made.invoke("migrate-lint")
    assert done.code == 0, done
    assert "Nothing to say of 10 files." in done.out
    assert not (tmp_path / "never").exists()


def test_there_is_nothing_to_say_of_the_ten_migrations(external: Project) -> None:
    ours = replace(external, settings={**external.settings, "MIGRATIONS_DIR": str(TOP / "infra/migrations")})
    nothing = {"findings": [], "allowed": [], "errors": 0, "warnings": 0}
    assert linted(ours, "--all") == (0, nothing)
    assert ours.invoke("migrate").code == 0
    assert linted(ours, "--all") == (0, nothing)


@pytest.fixture
def database(external: Project) -> Iterator[Database]:
    """A connection of the tool's own."""
    given = {**external.settings, "DB_USER": "postgres"}
    made = Database(settings.read(given, root=external.root, dotenv={}), Address("127.0.0.1", int(given["DB_PORT"])))
    yield made
    made.close()


def sizes(database: Database, *names: str) -> dict[str, Size]:
    """Ask for tables and indexes of schema public."""
    found = review.sizes(database, [Table("public", name) for name in names])
    return {table.name: size for table, size in found.items()}


def test_rows_are_those_of_the_table_its_partitions_and_its_index(external: Project, database: Database) -> None:
    external.do(
        "CREATE TABLE part (id bigint) PARTITION BY RANGE (id); CREATE INDEX part_id ON part (id);"
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000);"
        "CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (1000) TO (9000);"
        "INSERT INTO part SELECT generate_series(0, 4999); ANALYZE part;"
        'CREATE TABLE "Odd ""name" (id bigint); CREATE VIEW seen AS SELECT 1 AS a'
    )
    found = sizes(database, "part", "part_id", "part_1", 'Odd "name', "seen", "nowhere")
    assert {name: size.rows for name, size in found.items()} == {
        "part": 5000,
        "part_id": 5000,
        "part_1": 1000,
        'Odd "name': 0,
    }
    assert found["part_id"].table == Table("public", "part")
    assert found["part"].is_small
    assert review.sizes(database, []) == {}


def test_a_table_that_was_never_counted_and_is_not_empty_has_an_unknown_number(
    external: Project, database: Database
) -> None:
    external.do("CREATE TABLE t WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 9) AS i")
    oid = external.rows("SELECT 't'::regclass::oid")[0][0]
    external.do(f"SELECT pg_stat_force_next_flush(); SELECT pg_stat_reset_single_table_counters({oid})")
    assert (sizes(database, "t")["t"].rows, sizes(database, "t")["t"].is_small) == (None, False)


def test_a_table_that_is_locked_is_not_waited_for(external: Project, database: Database) -> None:
    external.do("CREATE TABLE t AS SELECT generate_series(1, 9) AS i; ANALYZE t")
    found: list[Size] = []
    with external.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE t")
        asking = threading.Thread(target=lambda: found.append(sizes(database, "t")["t"]))
        asking.start()
        asking.join(30)
        assert found == [Size(Table("public", "t"), 9, None)]
