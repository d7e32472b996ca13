"""Up, down and up again: each down script brings back exactly what was there before, of new files too."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import postgres
from tests.integration.schema_fixtures import apply, down, empty, owner, run_file, superuser, ups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.schema_fixtures import Schema, Who
    from tests.postgres import Dsn

ROLES = ("mordeaux_app", "mordeaux_readonly", "mordeaux_admin")


def dump(schema: Schema) -> str:
    done = subprocess.run(
        [schema.server.programs / "pg_dump", "--schema-only"],
        env=schema.server.environment(schema.name),
        capture_output=True,
        text=True,
        check=True,
    )
    # \restrict guards the dump's reader with a new random word each time.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def climb(schema: Schema, who: Who) -> list[str]:
    """Apply every file; return the dump before the first and after each."""
    levels = [dump(schema)]
    for path in ups():
        apply(schema, path, who)
        levels.append(dump(schema))
    return levels


def descend(schema: Schema, who: Who) -> list[str]:
    """Undo every file; return the dumps in the order of `climb`."""
    levels = [dump(schema)]
    for path in reversed(ups()):
        apply(schema, down(path), who)
        levels.append(dump(schema))
    return levels[::-1]


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[Dsn]:
    """A server that has never seen our roles."""
    with postgres.running(request.param) as running:
        yield running


def test_up_down_up_gives_the_same_schema_at_each_level(server: Dsn) -> None:
    schema = empty(server, suffix="", owned=False)
    going_up = climb(schema, superuser)
    assert going_up == [*dict.fromkeys(going_up)], "every file changes something"
    assert "EXTENSION" not in going_up[0]
    assert descend(schema, superuser) == going_up
    assert climb(schema, superuser) == going_up
    schema.drop()


def test_each_file_can_be_undone_and_applied_again_on_its_own(server: Dsn) -> None:
    schema = empty(server, suffix="", owned=False)
    before = dump(schema)
    for path in ups():
        apply(schema, path)
        after = dump(schema)
        apply(schema, down(path))
        assert dump(schema) == before, path.name
        apply(schema, path)
        assert dump(schema) == after, path.name
        before = after
    schema.drop()


def test_roles_belong_to_the_server_and_outlive_the_schema(server: Dsn) -> None:
    schema = empty(server, suffix="", owned=False)
    climb(schema, superuser)
    descend(schema, superuser)
    found = schema.rows(superuser, "SELECT rolname FROM pg_roles WHERE rolname LIKE 'mordeaux%'")
    assert {name for (name,) in found} == set(ROLES)
    schema.drop()


@pytest.mark.parametrize("variant", ["18 owner", "16 owner"])
def test_an_owner_who_is_no_superuser_goes_up_and_down_and_an_extension_that_was_there_stays(
    variant: str, templates: Callable[[str], Schema]
) -> None:
    template = templates(variant)
    schema = empty(template.server, suffix=template.suffix, owned=True)
    going_up = climb(schema, owner)
    assert "EXTENSION" in going_up[0]
    assert descend(schema, owner) == going_up
    schema.drop()


def test_data_does_not_keep_a_file_from_being_undone(schema: Schema) -> None:
    """Undoing the newest first never meets a row that something else refers to."""
    who = (
        superuser
        if schema.one(superuser, "SELECT datdba = 10 FROM pg_database WHERE datname = current_database()")
        else owner
    )
    for path in reversed(ups()):
        apply(schema, down(path), who)
    assert schema.tables() == []


def refused(schema: Schema, path: Path, who: Who = superuser) -> list[str]:
    """Apply a file that must be refused; return what psql says, without file and line."""
    before = dump(schema)
    done = run_file(schema, path, who)
    assert done.returncode == 3, "psql's code for an error in a script"
    assert dump(schema) == before
    return [line.partition("ERROR:  ")[2] or line for line in done.stderr.splitlines() if "CONTEXT" not in line]


def test_without_pgvector_the_refusal_says_which_image_or_package_brings_it(server: Dsn, tmp_path: Path) -> None:
    schema = empty(server, suffix="", owned=False)
    assert refused(schema, pretending(tmp_path, "NULL::text")) [:3] == [
        "pgvector is not installed on this server",
        'DETAIL:  Embeddings are stored in a type of the extension "vector", version 0.8.2 or newer.',
        "HINT:  The image pgvector/pgvector:pg18 brings it, and so does the package postgresql-18-pgvector"
        " (for another PostgreSQL, its number instead of 18).",
    ]  # fmt: skip
    schema.drop()


def test_a_pgvector_that_is_too_old_is_refused(server: Dsn, tmp_path: Path) -> None:
    schema = empty(server, suffix="", owned=False)
    assert refused(schema, pretending(tmp_path, "'0.8.1'"))[:3] == [
        "pgvector 0.8.1 is too old, 0.8.2 or newer is needed",
        "DETAIL:  Older ones can leak data while an index is built (CVE-2026-3172)."
        " This database has none, the server offers 0.8.1.",
        "HINT:  The image pgvector/pgvector:pg18 or the package postgresql-18-pgvector brings a newer one;"
        " a database that has an old one then needs: ALTER EXTENSION vector UPDATE;",
    ]
    schema.do(superuser, "CREATE EXTENSION vector")
    schema.do(superuser, "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'")
    assert refused(schema, ups()[0])[0] == "pgvector 0.8.1 is too old, 0.8.2 or newer is needed"
    schema.drop()


def pretending(folder: Path, version: str) -> Path:
    """Return a copy of 001 that believes the server offers another version of pgvector."""
    asked = "(SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector')"
    text = ups()[0].read_text(encoding="utf-8")
    assert text.count(asked) == 1
    path = folder / "001.sql"
    path.write_text(text.replace(asked, version), encoding="utf-8")
    return path


def test_pgvector_in_another_schema_is_refused_with_the_way_out(server: Dsn) -> None:
    schema = empty(server, suffix="", owned=False)
    schema.do(superuser, "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    assert refused(schema, ups()[0])[::2][:2] == [
        "pgvector is installed in the schema extensions, it must be in public",
        "HINT:  As its owner: ALTER EXTENSION vector SET SCHEMA public;",
    ]
    schema.do(superuser, "ALTER EXTENSION vector SET SCHEMA public")
    apply(schema, ups()[0])
    schema.drop()


def test_an_owner_who_may_not_make_what_is_missing_is_told_what_to_ask_for() -> None:
    """First for the extension or the roles, whichever is missing; never a half-made schema."""
    with postgres.running() as server:
        with empty(server, suffix="", owned=False).connect() as connection:
            connection.execute("CREATE ROLE owner_x LOGIN PASSWORD 'only-for-tests'")
        schema = empty(server, suffix="x", owned=True)
        roles = " ".join(f"CREATE ROLE {role} NOLOGIN;" for role in ROLES)
        assert refused(schema, ups()[0], owner)[:3] == [
            "The role owner_x may not create the roles that this database needs",
            "DETAIL:  The application, its reports and the platform connect as members of three roles of the whole"
            " server.",
            f"HINT:  Ask an administrator of the server to run this once, then try again: {roles}",
        ]
        schema.do(superuser, roles)
        schema.do(superuser, "DROP EXTENSION vector")
        assert refused(schema, ups()[0], owner)[::2][:2] == [
            "The role owner_x may not install pgvector in this database",
            "HINT:  Ask an administrator of the server to run this once in this database, then try again:"
            " CREATE EXTENSION vector;",
        ]
        schema.do(superuser, "CREATE EXTENSION vector")
        climb(schema, owner)


def test_a_role_that_may_create_roles_needs_no_administrator_for_them() -> None:
    with postgres.running() as server:
        make_logins_of_an_owner(server)
        schema = empty(server, suffix="x", owned=True)
        climb(schema, owner)


def make_logins_of_an_owner(server: Dsn) -> None:
    with empty(server, suffix="", owned=False).connect() as connection:
        connection.execute("CREATE ROLE owner_x LOGIN CREATEROLE PASSWORD 'only-for-tests'")
