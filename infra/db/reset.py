"""Empty a database in one transaction; the database itself, its settings and its roles stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.db import errors

if TYPE_CHECKING:
    from infra.db.database import Database

_IN_EXTENSION = "SELECT FROM pg_depend e WHERE (e.classid, e.objid) = ({0}) AND e.deptype = 'e'"
_USERS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
# An extension of an administrator (vector, say), which this role could not create again.
_FOREIGN = "NOT pg_has_role(x.extowner, 'USAGE')"
_HOLDS_FOREIGN = f"EXISTS (SELECT FROM pg_extension x WHERE x.extnamespace = n.oid AND {_FOREIGN})"
_NOT_EXTENSIONS = f"""NOT EXISTS ({_IN_EXTENSION.format("'pg_namespace'::regclass, n.oid")})"""
# What lies in the users' schemas by itself: not what belongs to a table or to an extension.
OBJECTS = f"""
SELECT n.oid AS schema, d.classid, d.objid
  FROM pg_depend d JOIN pg_namespace n ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
 WHERE d.deptype = 'n' AND d.classid <> 'pg_extension'::regclass AND {_USERS} AND {_NOT_EXTENSIONS}
   AND NOT EXISTS ({_IN_EXTENSION.format("d.classid, d.objid")})
"""
FOREIGN = f"SELECT x.extname FROM pg_extension x WHERE {_FOREIGN} AND x.extname <> 'plpgsql'"
# Each query returns, in order, the statements that drop one kind of object. Schemas come first, because they take
# most extensions with them; what belongs to an extension goes with it. A schema that holds somebody else's extension
# stays, and what else is in it goes one by one (some with what was dropped before them).
DROPS = (
    f"""SELECT format('DROP EVENT TRIGGER %I CASCADE', evtname) FROM pg_event_trigger t
         WHERE NOT EXISTS ({_IN_EXTENSION.format("'pg_event_trigger'::regclass, t.oid")})""",
    "SELECT format('DROP PUBLICATION %I CASCADE', pubname) FROM pg_publication",
    f"""SELECT format('DROP SCHEMA %I CASCADE', n.nspname) FROM pg_namespace n
         WHERE {_USERS} AND {_NOT_EXTENSIONS} AND NOT {_HOLDS_FOREIGN}""",
    f"""SELECT format('DROP %s IF EXISTS %s CASCADE', regexp_replace(i.type, '^composite | object$', ''), i.identity)
          FROM ({OBJECTS}) o JOIN pg_namespace n ON n.oid = o.schema, pg_identify_object(o.classid, o.objid, 0) i
         WHERE {_HOLDS_FOREIGN}""",
    f"""SELECT format('DROP EXTENSION %I CASCADE', x.extname) FROM pg_extension x
         WHERE x.extname <> 'plpgsql' AND NOT {_FOREIGN}""",
    f"""SELECT format('DROP FOREIGN DATA WRAPPER %I CASCADE', fdwname) FROM pg_foreign_data_wrapper f
         WHERE NOT EXISTS ({_IN_EXTENSION.format("'pg_foreign_data_wrapper'::regclass, f.oid")})""",
    "SELECT format('SELECT lo_unlink(%s)', oid) FROM pg_largeobject_metadata",
)
# As initdb leaves it since PostgreSQL 15 (release notes, E.4.2: public schema).
NEW_PUBLIC = """
CREATE SCHEMA IF NOT EXISTS public AUTHORIZATION pg_database_owner;
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
            for query in DROPS:
                for (statement,) in connection.execute(query).fetchall():
                    connection.execute(statement)
                    dropped += re.findall(r"^DROP (.*) CASCADE$", statement.replace(" IF EXISTS", "", 1))
            connection.execute(NEW_PUBLIC)
    except psycopg.errors.LockNotAvailable as error:
        raise errors.ResetBlocked(str(error).split("\n")[0]) from None
    except psycopg.OperationalError as error:
        raise errors.ServerLost(str(error).split("\n")[0]) from None
    except psycopg.Error as error:
        raise errors.ResetRefused(str(error).strip()) from None
    return dropped
