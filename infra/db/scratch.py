"""A throw-away database on the same server: made like the original, used, and always dropped.

Its name says whose it is and when it was made, its comment by which command; so what a killed run left behind can be
told from everything else. Roles and tablespaces belong to the whole server and are shared with the original.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.db import errors
from infra.db.database import Database
from infra.db.migration import COMMENT as COMMENTS
from infra.db.settings import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from infra.db.migration import Migration
    from infra.db.servers import Programs
    from infra.db.servers.process import Process
    from infra.db.settings import Settings

MIDDLE = "_scratch_"
TIME = "%Y%m%dT%H%M%SZ"
NAME = re.compile(rf"(?P<base>.*){MIDDLE}(?P<time>\d{{8}}T\d{{6}}Z)_[0-9a-f]{{8}}", re.DOTALL)
COMMENT = "A throw-away copy of invoke "
LONGEST_BASE = LONGEST_NAME - len(f"{MIDDLE}20260131T120000Z_00000000")  # bytes

# Statements that reach beyond the database they run in: roles, other databases, the server itself, other servers. In
# comments they do no harm; in a text they may be a statement that is put together there.
BEYOND = re.compile(
    r"\b(?:ALTER|DROP)\s+(?:ROLE|USER(?!\s+MAPPING)|GROUP)\b|\b(?:ALTER|CREATE|DROP)\s+(?:DATABASE|TABLESPACE)\b"
    r"|\bALTER\s+SYSTEM\b|\b(?:REASSIGN|DROP)\s+OWNED\b|\bON\s+(?:DATABASE|TABLESPACE|PARAMETER)\b"
    r"|\b(?:GRANT|REVOKE)\s+(?:(?!\bON\b)[^;])+?\s(?:TO|FROM)\b|\bCREATE\s+SUBSCRIPTION\b",
    re.IGNORECASE,
)
# What text means in the original: sorting, upper and lower case decide on indexes and constraints. Columns of later
# versions are read through JSON, so that one query does for all (datlocale is 17's name of daticulocale).
LOCALE = """
SELECT pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datlocprovider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), to_jsonb(d) ->> 'daticurules',
       nullif(t.spcname, 'pg_default')
  FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
 WHERE d.datname = current_database()
"""
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
# ALTER DATABASE SET, and ALTER ROLE IN DATABASE SET for the role that connects.
SETTINGS = """
SELECT s.setrole <> 0, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
  FROM pg_db_role_setting s, unnest(s.setconfig) WITH ORDINALITY AS u (c, n)
 WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.setrole IN (0, current_user::regrole) ORDER BY s.setrole, n
"""
# Nobody is connected to what a killed run left behind; a comment of somebody else's protects a database. Without one,
# the run was killed while the database was being made.
LEFT = """
SELECT d.datname, coalesce(shobj_description(d.oid, 'pg_database'), ''),
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) END
  FROM pg_database d
 WHERE d.datname LIKE '%%' || replace(%s, '_', '\\_') || '%%'
   AND starts_with(coalesce(shobj_description(d.oid, 'pg_database'), %s), %s)
   AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A throw-away database, and what is needed to work on it; a `Migrator` takes the last three as they are.

    Attributes:
        name: of the database.
        programs: psql, pg_dump and pg_restore, connected to it.
        settings: the original's, with this name.
        database: a connection to it.

    """

    name: str
    programs: Programs
    settings: Settings
    database: Database


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a killed run left behind.

    Attributes:
        name: of the database.
        made_at: when.
        comment: what it says of itself; empty when the run was killed while it was being made.
        size: in bytes; None when this role may not know.

    """

    name: str
    made_at: datetime
    comment: str
    size: int | None

    @property
    def removal(self) -> str:
        """The command that removes it."""
        return f"invoke db.shell --command 'DROP DATABASE \"{self.name}\"'"


@contextlib.contextmanager
def database(original: Database, programs: Programs, *, tool: str) -> Iterator[Scratch]:
    """Make an empty database like the original, and drop it at the end, whatever happens.

    Args:
        original: a connection to the original, through which the other one is made and dropped.
        programs: of the original's server.
        tool: the command that wants it, like `migrate-verify`.

    Raises:
        NoScratch: this role may not create databases, or the server could not.

    """
    name = new_name(original.settings.name, datetime.now(UTC))
    settings = replace(original.settings, name=name)
    try:
        _create(original, name, tool)
        with contextlib.closing(_connect(settings, original)) as made:
            yield Scratch(name, _On(programs, name), settings, made)
    except BaseException:
        with contextlib.suppress(errors.ServerError):  # a server that is gone: `leftovers` finds it later
            _drop(original, name)
        raise
    else:
        _drop(original, name)


def beyond_database(files: Iterable[Migration]) -> list[str]:
    """Name the files that would change more than the database they run on: on a copy, the real thing would change."""
    texts = ((file.label, f"{file.text.sql or ''}\n{(file.down.sql if file.down else '') or ''}") for file in files)
    return [label for label, text in texts if BEYOND.search(COMMENTS.sub(" ", text))]


def copy_roles(original: Database, other: Database, files: Iterable[Migration]) -> None:
    """Make the roles of one server on another one, where they may not log in; but not those that files make."""
    there = {name for (name,) in other.rows("SELECT rolname FROM pg_roles")}
    sql = "\n".join(file.text.sql or "" for file in files)
    for (name,) in original.rows("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"):
        made = re.search(rf'(?i)\bCREATE\s+(ROLE|USER|GROUP)\s+"?{re.escape(name)}\b', sql)
        if name not in there and not made:
            other.do(f"CREATE ROLE {_quoted(name)} NOLOGIN")


def drop_roles(original: Database, roles: Iterable[str]) -> list[str]:
    """Drop roles that were made for a throw-away database which is gone; those that somebody uses by now stay."""
    import psycopg  # noqa: PLC0415 - see database

    stayed = []
    with contextlib.closing(original.again()) as fresh:
        for role in sorted(roles):
            try:
                fresh.do(f"DROP ROLE IF EXISTS {_quoted(role)}")
            except psycopg.Error:
                stayed.append(role)
    return stayed


def leftovers(connected: Database) -> list[Leftover]:
    """Return the scratch databases of killed runs on this server: known by name and comment, used by nobody."""
    found = connected.rows(LEFT, MIDDLE, COMMENT, COMMENT)
    return [
        Leftover(name, datetime.strptime(named["time"], TIME).replace(tzinfo=UTC), comment, size)
        for name, comment, size in found
        if (named := NAME.fullmatch(name))
    ]


def new_name(base: str, now: datetime) -> str:
    """Return a name that nobody else has, within PostgreSQL's limit of 63 bytes."""
    short = base.encode()[:LONGEST_BASE].decode(errors="ignore")
    return f"{short}{MIDDLE}{now:{TIME}}_{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class _On:
    """A server's programs, connected to another database of it."""

    programs: Programs
    name: str

    def execute(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        into: Sequence[str] | None = None,
    ) -> Process:
        there = {**(env or {}), "PGDATABASE": self.name}
        return self.programs.execute(program, arguments, folder=folder, env=there, into=into)

    def sweep(self, folder: Path) -> str:  # noqa: ARG002 - the Protocol's
        # The lock under which it would be safe is the original's: a run there may be using its files.
        return ""


def _create(original: Database, name: str, tool: str) -> None:
    import psycopg  # noqa: PLC0415 - see database

    comment = f"{COMMENT}{tool} of {original.settings.name}, made at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    try:
        original.do(f"CREATE DATABASE {_quoted(name)} {_like(original.rows(LOCALE)[0])}")
        original.do(f"COMMENT ON DATABASE {_quoted(name)} IS {_literal(f'{comment}; dropped when that ends.')}")
    except psycopg.errors.InsufficientPrivilege as error:
        raise errors.NoScratch(original.settings.user, str(error).split("\n")[0], may_not=True) from None
    except psycopg.Error as error:
        raise errors.NoScratch(original.settings.user, str(error).strip(), may_not=False) from None
    _copy_settings(original, name)


def _connect(settings: Settings, original: Database) -> Database:
    import psycopg  # noqa: PLC0415

    try:
        return Database(settings, original.address)
    except psycopg.OperationalError as error:  # pg_hba.conf may admit to the original only
        raise errors.NoScratch(settings.user, str(error).strip(), may_not=False) from None


def _like(row: Sequence[Any]) -> str:
    """Return the options of CREATE DATABASE that make another one like it."""
    encoding, collate, ctype, provider, locale, rules, tablespace = row
    options = {
        "ENCODING": encoding,
        "LC_COLLATE": collate,
        "LC_CTYPE": ctype,
        "LOCALE_PROVIDER": PROVIDERS[provider],
        "ICU_LOCALE": locale if provider == "i" else None,
        "ICU_RULES": rules,
        "BUILTIN_LOCALE": locale if provider == "b" else None,
    }
    said = [f"{word} {_literal(value)}" for word, value in options.items() if value]
    where = [f"TABLESPACE {_quoted(tablespace)}"] if tablespace else []
    return " ".join(["TEMPLATE template0", *said, *where])


def _copy_settings(original: Database, name: str) -> None:
    """Give it the settings of the original; what this role may not set, the server's own value stands for.

    Through a session's own value (FROM CURRENT), because only the server knows which settings are lists.
    """
    import psycopg  # noqa: PLC0415

    settings = original.rows(SETTINGS)
    with contextlib.closing(original.again()) as fresh:
        for is_role, setting, value in settings:
            whom = "ROLE CURRENT_USER IN DATABASE" if is_role else "DATABASE"
            with contextlib.suppress(psycopg.Error), fresh.connection.transaction():
                fresh.connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
                fresh.connection.execute(f"ALTER {whom} {_quoted(name)} SET {_parameter(setting)} FROM CURRENT")


def _drop(original: Database, name: str) -> None:
    """Drop it, by a connection of its own: the original's may be in the middle of something."""
    with contextlib.closing(original.again()) as fresh:
        fresh.do(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")


def _parameter(name: str) -> str:
    return ".".join(_quoted(part) for part in name.split("."))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
