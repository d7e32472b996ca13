"""Empty a database in one transaction; the database itself, its settings and its roles stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.db import errors

if TYPE_CHECKING:
    from infra.db.database import Database

# Each query names, in order, what one kind of object is called in a DROP. Schemas come first, because
# they take most extensions with them; what belongs to an extension goes with it.
_NOT_OF_EXTENSION = "NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = {0}.oid AND d.deptype = 'e')"
DROPS = (
    ("EVENT TRIGGER", f"SELECT quote_ident(evtname) FROM pg_event_trigger e WHERE {_NOT_OF_EXTENSION.format('e')}"),
    ("PUBLICATION", "SELECT quote_ident(pubname) FROM pg_publication"),
    (
        "SCHEMA",
        f"""SELECT quote_ident(nspname) FROM pg_namespace n
             WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND {_NOT_OF_EXTENSION.format("n")}""",
    ),
    ("EXTENSION", "SELECT quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql'"),
    ("FOREIGN DATA WRAPPER", "SELECT quote_ident(fdwname) FROM pg_foreign_data_wrapper"),
)
# As initdb leaves it since PostgreSQL 15 (release notes, E.4.2: public schema).
NEW_PUBLIC = """
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
COMMENT ON SCHEMA public IS 'standard public schema';
"""


def empty(database: Database, lock_timeout: str) -> list[str]:
    """Drop everything in the database, in one transaction.

    Args:
        database: the connection, which holds the run's lock.
        lock_timeout: how long to wait for a table that somebody uses, in PostgreSQL's notation.

    Returns:
        What was dropped, as `SCHEMA app`.

    Raises:
        Refused: something could not be dropped; everything is as before.
        LockError: somebody uses a table; everything is as before.

    """
    import psycopg  # noqa: PLC0415 - see database

    connection = database.connection
    dropped = []
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout])
            for kind, query in DROPS:
                for (name,) in connection.execute(query).fetchall():
                    connection.execute(f"DROP {kind} {name} CASCADE")
                    dropped.append(f"{kind} {name}")
            connection.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
            connection.execute(NEW_PUBLIC)
    except psycopg.errors.LockNotAvailable as error:
        raise errors.ResetBlocked(str(error).split("\n")[0]) from None
    except psycopg.OperationalError as error:
        raise errors.ServerLost(str(error).split("\n")[0]) from None
    except psycopg.Error as error:
        raise errors.ResetRefused(str(error).strip()) from None
    return dropped
