"""db.tables and db.describe on every server: what psql shows, and the same as values."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.project import Project

SCHEMA = """
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE people (
    region text, number int GENERATED ALWAYS AS IDENTITY, name text NOT NULL DEFAULT 'nobody',
    length int GENERATED ALWAYS AS (length(name)) STORED, gone int,
    CONSTRAINT people_pkey PRIMARY KEY (number, region),
    CONSTRAINT named CHECK (name <> '')
);
ALTER TABLE people DROP COLUMN gone;
COMMENT ON TABLE people IS 'Who there is.';
COMMENT ON COLUMN people.name IS 'As it is written.';
CREATE UNIQUE INDEX one_name ON people (lower(name)) WHERE name <> 'nobody';
COMMENT ON INDEX one_name IS 'Looking somebody up.';
CREATE TRIGGER changed BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION change();
ALTER TABLE people DISABLE TRIGGER changed;
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON people AS RESTRICTIVE FOR UPDATE USING (name = current_user) WITH CHECK (true);
CREATE TABLE pets (
    owner int, home text, CONSTRAINT owned FOREIGN KEY (owner, home) REFERENCES people (number, region)
) PARTITION BY LIST (home);
CREATE TABLE pets_here PARTITION OF pets FOR VALUES IN ('here');
INSERT INTO people (region, name) SELECT 'here', 'p' || n FROM generate_series(1, 100) AS n;
ANALYZE people;
"""
PEOPLE: dict[str, Any] = {
    "schema": "public",
    "name": "people",
    "kind": "table",
    "rows_estimate": 100,
    "comment": "Who there is.",
    "primary_key": {"name": "people_pkey", "columns": ["number", "region"]},
    "indexes": [
        {
            "name": "people_pkey",
            "unique": True,
            "primary": True,
            "valid": True,
            "definition": "CREATE UNIQUE INDEX people_pkey ON public.people USING btree (number, region)",
            "comment": None,
        },
        {
            "name": "one_name",
            "unique": True,
            "primary": False,
            "valid": True,
            "definition": "CREATE UNIQUE INDEX one_name ON public.people USING btree (lower(name))"
            " WHERE (name <> 'nobody'::text)",
            "comment": "Looking somebody up.",
        },
    ],
    "foreign_keys": [],
    "referenced_by": [
        {
            "name": "owned",
            "schema": "public",
            "table": "pets",
            "columns": ["owner", "home"],
            "referenced_schema": "public",
            "referenced_table": "people",
            "referenced_columns": ["number", "region"],
            "definition": "FOREIGN KEY (owner, home) REFERENCES people(number, region)",
        }
    ],
    "checks": [{"name": "named", "definition": "CHECK ((name <> ''::text))"}],
    "triggers": [
        {
            "name": "changed",
            "enabled": False,
            "definition": "CREATE TRIGGER changed BEFORE UPDATE ON public.people FOR EACH ROW"
            " EXECUTE FUNCTION change()",
        }
    ],
    "policies": [
        {
            "name": "mine",
            "permissive": False,
            "command": "UPDATE",
            "roles": ["public"],
            "using": "(name = CURRENT_USER)",
            "check": "true",
        }
    ],
    "row_security": {"enabled": True, "forced": False},
    "partition_key": None,
    "partition_of": None,
    "partitions": [],
}


def column(name: str, kind: str, **more: object) -> dict[str, object]:
    plain = {"nullable": True, "default": None, "generated": None, "identity": None, "comment": None}
    return {"name": name, "type": kind, **plain, **more}


def as_json(project: Project, *words: str) -> dict[str, Any]:
    done = project.invoke(*words, "--json")
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_tables_are_listed_as_psql_lists_them_and_as_values(everywhere: Project) -> None:
    everywhere.do(SCHEMA + "CREATE VIEW v AS SELECT 1; CREATE SCHEMA aside; CREATE TABLE aside.unseen (a int)")
    done = everywhere.invoke("db.tables")
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")] for line in done.out.splitlines() if "|" in line]
    assert [row[1:3] for row in rows] == [
        ["Name", "Type"],
        ["people", "table"],
        ["pets", "partitioned table"],
        ["pets_here", "table"],
    ]
    assert rows[1][-1] == "Who there is."
    found = as_json(everywhere, "db.tables")
    assert found["database"] == everywhere.settings["DB_NAME"]
    assert found["tables"][0] == {
        "schema": "public",
        "name": "people",
        "kind": "table",
        "rows_estimate": 100,
        "size_bytes": everywhere.rows("SELECT pg_table_size('people')")[0][0],
        "comment": "Who there is.",
    }
    assert [(each["name"], each["kind"], each["rows_estimate"]) for each in found["tables"][1:]] == [
        ("pets", "partitioned table", None),
        ("pets_here", "table", None),
    ]


def test_an_empty_database_is_told_with_what_makes_the_tables(anywhere: Project) -> None:
    done = anywhere.invoke("db.tables")
    assert done.code == 0
    assert done.out.startswith("There are no tables in ")
    assert "Next: invoke migrate" in done.out
    assert as_json(anywhere, "db.tables")["tables"] == []


def test_a_table_is_described_as_psql_describes_it_and_as_values(everywhere: Project) -> None:
    everywhere.do(SCHEMA)
    done = everywhere.invoke("db.describe", "people")
    assert (done.code, done.err) == (0, "")
    for part in ('Table "public.people"', "As it is written.", '"one_name" UNIQUE', "Referenced by:", 'POLICY "mine"'):
        assert part in done.out
    found = as_json(everywhere, "db.describe", "people")
    assert found.pop("columns") == [
        column("region", "text", nullable=False),
        column("number", "integer", nullable=False, identity="always"),
        column("name", "text", nullable=False, default="'nobody'::text", comment="As it is written."),
        column("length", "integer", generated="length(name)"),
    ]
    assert found.pop("size_bytes") > 0
    assert found == PEOPLE
    pets = as_json(everywhere, "db.describe", "pets")
    assert [(key["name"], key["columns"]) for key in pets["foreign_keys"]] == [("owned", ["owner", "home"])]
    assert (pets["partition_key"], pets["primary_key"]) == ("LIST (home)", None)
    assert pets["partitions"] == [{"schema": "public", "name": "pets_here", "bound": "FOR VALUES IN ('here')"}]
    here = as_json(everywhere, "db.describe", "pets_here")
    assert here["partition_of"] == {"schema": "public", "table": "pets", "bound": "FOR VALUES IN ('here')"}


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        pytest.param("Capitals", "Capitals", id="capitals"),
        pytest.param('we"ird', '"we""ird"', id="quotes"),
        pytest.param("f*", "f*", id="a pattern of psql"),
        pytest.param("a.b", "a.b", id="a dot"),
        pytest.param(
            "$1 :x `touch pwned` \\! touch pwned", "$1 :x `touch pwned` \\! touch pwned", id="psql's own signs"
        ),
        pytest.param("x'; DROP TABLE faces; --", "x'; DROP TABLE faces; --", id="SQL"),
    ],
)
def test_a_name_is_only_a_name(anywhere: Project, name: str, typed: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    anywhere.do(f"CREATE TABLE faces (a int); CREATE TABLE {quoted} (the_one int); CREATE TABLE a (b int)")
    done = anywhere.invoke("db.describe", typed)
    assert done.code == 0, done
    assert done.out.count("Table ") == 1
    assert f'Table "public.{name}"' in done.out
    assert "the_one" in done.out
    assert anywhere.tables() == {"faces", name, "a"}
    assert not (anywhere.root / "pwned").exists()


def test_a_view_is_described_too(anywhere: Project) -> None:
    anywhere.do("CREATE VIEW seen AS SELECT 1 AS one")
    assert 'View "public.seen"' in anywhere.invoke("db.describe", "public.seen").out
    assert as_json(anywhere, "db.describe", "seen")["kind"] == "view"


def test_a_table_that_is_not_there_is_no_crash(anywhere: Project) -> None:
    anywhere.do("CREATE TABLE faces (a int)")
    for words in (("fases",), ("fases", "--json")):
        done = anywhere.invoke("db.describe", *words)
        assert (done.code, done.out) == (2, "")
        assert "There is no table fases.\n  Did you mean faces?\nNext: invoke db.tables" in done.err


def test_a_reader_that_stops_early_is_no_crash(anywhere: Project) -> None:
    anywhere.do(SCHEMA)
    with subprocess.Popen(
        anywhere.command("db.tables"),
        cwd=anywhere.root,
        env=anywhere.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as listing:
        assert listing.stdout
        assert listing.stderr
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 0


def test_a_table_that_somebody_has_locked_is_told_instead_of_waited_for(anywhere: Project) -> None:
    anywhere.do("CREATE TABLE faces (a int)")
    with anywhere.connect() as other, other.transaction():
        other.execute("LOCK TABLE faces IN ACCESS EXCLUSIVE MODE")
        done = anywhere.invoke("db.tables", DB_LOCK_TIMEOUT="100ms")
    assert (done.code, done.out) == (6, "")
    assert "Another session has locked a table" in done.err
    assert anywhere.invoke("db.tables", DB_LOCK_TIMEOUT="100ms").code == 0
