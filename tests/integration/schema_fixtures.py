"""A migrated database with two tenants and everybody who acts on it; each test gets a copy of its own."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from tests import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.postgres import Dsn

MIGRATIONS = Path(__file__).resolve().parents[2] / "infra" / "migrations"
A = "aaaaaaaa-0000-7000-8000-00000000000a"
B = "bbbbbbbb-0000-7000-8000-00000000000b"
PASSWORD = "only-for-tests"
LOGINS = {"app": "mordeaux_app", "readonly": "mordeaux_readonly", "admin": "mordeaux_admin", "owner": None}
# One number, 512 times: its length is 1.
UNIT = "array_fill(1 / sqrt(512::float8)::real, ARRAY[512])::halfvec(512)"
TABLES = """
    SELECT c.oid, c.relname, EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant
    FROM pg_class c
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace"""

# What each tenant starts with: one row in every table but event_audit, which the triggers fill.
FILL = f"""
    INSERT INTO sources (id, name, type) VALUES (:id, 'crawler', 'crawler');
    INSERT INTO content (id, source_id, s3_key_raw, external_id, sha256, site)
        VALUES (:id, :id, 'raw/1', 'ext-1', sha256('1'), 'example.org');
    INSERT INTO faces (id, content_id, face_index, bbox_x, bbox_y, bbox_width, bbox_height, phash)
        VALUES (:id, :id, 0, 1, 2, 30, 40, 12345);
    INSERT INTO embeddings (id, face_id, model_name, model_version, embedding)
        VALUES (:id, :id, 'buffalo_l', '1', {UNIT});
    INSERT INTO clusters (id, algorithm, cluster_type, name) VALUES (:id, 'manual', 'person', 'somebody');
    INSERT INTO cluster_members (id, cluster_id, face_id, similarity_score, added_by) VALUES (:id, :id, :id, 1, 'user');
    INSERT INTO policies (id, name, is_default, rules) VALUES (:id, 'default', true, '[{{"type": "block"}}]');
    INSERT INTO alerts (id, alert_type, severity, title) VALUES (:id, 'match', 'high', 'seen');
"""


def ups() -> list[Path]:
    """List the migrations in order; a new one is in it by itself."""
    return sorted(path for path in MIGRATIONS.glob("*.sql") if not path.name.endswith(".down.sql"))


def down(path: Path) -> Path:
    """Return the file that undoes one."""
    return path.with_suffix(".down.sql")


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody at work on the database.

    Attributes:
        login: whom they log in as: a key of LOGINS, or `postgres`.
        tenant: what they set for each transaction; nothing when empty.

    """

    login: str
    tenant: str = ""


a = Who("app", A)
b = Who("app", B)
nobody_in_particular = Who("app")  # forgot to set a tenant
reader = Who("readonly", A)
admin = Who("admin")
owner = Who("owner")
superuser = Who("postgres")


@dataclass(frozen=True, slots=True)
class Schema:
    """A database with the schema in it.

    Attributes:
        server: where it is.
        name: of the database.
        suffix: what tells this server's login roles from others.

    """

    server: Dsn
    name: str
    suffix: str

    def connect(self, who: Who = superuser, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Log in as somebody, with their own password; no tenant is set yet."""
        return psycopg.connect(self.server.url(self.name, **self.login(who)), **more)

    def login(self, who: Who) -> dict[str, str]:
        """Return the name and password that somebody logs in with; none for the superuser."""
        return {} if who is superuser else {"user": f"{who.login}_{self.suffix}", "password": PASSWORD}

    @contextlib.contextmanager
    def transaction(self, who: Who, **settings: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Do something as the application does: one transaction, in which the tenant is set."""
        with self.connect(who) as connection:
            if who.tenant:
                settings = {"tenant_id": who.tenant, **settings}
            for setting, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, true)", (f"app.{setting}", value))
            yield connection

    def rows(self, who: Who, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask as somebody."""
        with self.transaction(who) as connection:
            return connection.execute(query, values or None).fetchall()

    def one(self, who: Who, query: str, *values: object) -> Any:
        """Ask for a single value."""
        ((value,),) = self.rows(who, query, *values)
        return value

    def do(self, who: Who, statement: str, *values: object, **settings: str) -> int:
        """Do something as somebody; return how many rows it touched."""
        with self.transaction(who, **settings) as connection:
            return connection.execute(statement, values or None).rowcount

    def refusal(self, who: Who, statement: str, *values: object, **settings: str) -> str:
        """Try something as somebody; return the SQLSTATE of the refusal, or nothing when it went through."""
        try:
            self.do(who, statement, *values, **settings)
        except psycopg.Error as error:
            return error.sqlstate or str(error)
        return ""

    def tables(self) -> list[str]:
        """Name the tables from the catalogue, so that a new one is not forgotten."""
        return [name for (name,) in self.rows(superuser, f"SELECT relname FROM ({TABLES}) t ORDER BY relname")]

    def copy(self) -> Schema:
        """Copy the database."""
        name = f"copy_{secrets.token_hex(6)}"
        owned_by = self.one(
            superuser, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
        )
        _create(self.server, name, self.name, owned_by)
        return Schema(self.server, name, self.suffix)

    def drop(self) -> None:
        """Throw the database away."""
        with _maintenance(self.server) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


def _maintenance(server: Dsn) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(server.url("postgres"), autocommit=True)


def _create(server: Dsn, name: str, template: str = "template0", owned_by: str = "") -> None:
    with _maintenance(server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(owned_by or server.user)
            )
        )


def run_file(schema: Schema, path: Path, who: Who = superuser) -> subprocess.CompletedProcess[str]:
    """Run a file as the tasks do: by psql, stopped by the first error, in one transaction."""
    return subprocess.run(
        [
            schema.server.programs / "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            f"--file={path}",
        ],
        env={
            **schema.server.environment(schema.name, **schema.login(who)),
            "PGOPTIONS": "-c search_path=public",
            "LC_ALL": "C",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def apply(schema: Schema, path: Path, who: Who = superuser) -> None:
    """Run a file that must go through, and say nothing about it."""
    done = run_file(schema, path, who)
    assert (done.returncode, done.stderr) == (0, ""), path.name


def make_logins(server: Dsn, suffix: str) -> None:
    """Make people who log in with their own password and own nothing; `owner` is no superuser and may make no roles."""
    with _maintenance(server) as connection:
        for login, group in LOGINS.items():
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(f"{login}_{suffix}"), sql.Literal(PASSWORD)
                )
            )
            if group:
                made = connection.execute("SELECT to_regrole(%s) IS NULL", (group,)).fetchone()
                if made == (True,):
                    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(group)))
                connection.execute(
                    sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(f"{login}_{suffix}"))
                )


def empty(server: Dsn, *, suffix: str, owned: bool) -> Schema:
    """Make a database without the schema: of the superuser, or of an owner for whom an administrator prepared it."""
    schema = Schema(server, f"schema_{secrets.token_hex(6)}", suffix)
    _create(server, schema.name, owned_by=f"owner_{suffix}" if owned else "")
    if owned:
        schema.do(superuser, "CREATE EXTENSION vector")
    return schema


def migrated(server: Dsn, *, suffix: str, owned: bool) -> Schema:
    """Make a database with the schema and two tenants, filled by the tenants themselves."""
    schema = empty(server, suffix=suffix, owned=owned)
    for path in ups():
        apply(schema, path, owner if owned else superuser)
    for who, slug in ((a, "a"), (b, "b")):
        schema.do(admin, "INSERT INTO tenants (id, name, slug) VALUES (%s, %s, %s)", who.tenant, slug, slug)
        schema.do(who, FILL.replace(":id", f"'{who.tenant}'"))
    return schema


@pytest.fixture(scope="session")
def templates(private: Dsn) -> Iterator[Callable[[str], Schema]]:
    """Return a function that gives the template of a variant: `18 superuser`, `18 owner`, `16 owner`."""
    made: dict[str, Schema] = {}
    suffix = f"of_{secrets.token_hex(3)}"
    with contextlib.ExitStack() as stack:
        servers: dict[str, Dsn] = {}

        def template(variant: str) -> Schema:
            major, _, kind = variant.partition(" ")
            if major not in servers:
                servers[major] = private if major == "18" else stack.enter_context(postgres.running(int(major)))
                make_logins(servers[major], suffix)
            if variant not in made:
                made[variant] = migrated(servers[major], suffix=suffix, owned=kind == "owner")
            return made[variant]

        yield template


def _fresh(template: Schema) -> Iterator[Schema]:
    schema = template.copy()
    yield schema
    schema.drop()


@pytest.fixture(params=["18 superuser", "18 owner", "16 owner"])
def schema(request: pytest.FixtureRequest, templates: Callable[[str], Schema]) -> Iterator[Schema]:
    """A fresh, filled database: rules hold whoever owns the tables, on the newest PostgreSQL and on an old one."""
    yield from _fresh(templates(request.param))


@pytest.fixture
def owned(templates: Callable[[str], Schema]) -> Iterator[Schema]:
    """A fresh, filled database whose owner is no superuser: where one variant is enough."""
    yield from _fresh(templates("18 owner"))


def fails(check: Callable[[Schema], None], schema: Schema) -> bool:
    """Tell whether a check fails on a database with a planted fault."""
    try:
        check(schema)
    except (AssertionError, psycopg.Error, pytest.fail.Exception):
        return True
    return False


def flat(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Join each row to one readable line."""
    return [" ".join(str(value) for value in row) for row in rows]
