"""One file in the place of many: what they make together, as pg_dump writes it, with the roles that it names.

Pure but for the one query. A database made by the single files goes on without it: the file says at its top what it
replaces (see `plan.compare`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.db.database import Database
    from infra.db.migration import Migration

ARGUMENTS = (
    "--rows-per-insert=100",  # INSERT, not COPY, which has data lines that are no SQL
    "--no-owner",
    "--no-tablespaces",
    "--exclude-table=public.schema_migrations",
)
NAME = "baseline"
# The lines of pg_dump before the first object: settings of its session. Those that matter are set by us; the others are
# unknown to older servers (transaction_timeout) or the same anyway.
OBJECT = re.compile(r"^--\n-- Name: ", re.MULTILINE)
RESTRICT = re.compile(r"^\\(?:un)?restrict .*\n", re.MULTILINE)
# An extension may be there already and be an administrator's, who alone may comment on it.
EXTENSION_COMMENT = re.compile(r"^(COMMENT ON EXTENSION .*?;)(?=\n\n\n)", re.MULTILINE | re.DOTALL)
IF_ALLOWED = r"DO $allowed$ BEGIN\n\1\nEXCEPTION WHEN insufficient_privilege THEN NULL; END $allowed$;"
TOP = """\
-- Squashed by invoke migrate-squash from {first} to {last}: all that they make, as PostgreSQL {major}'s pg_dump writes
-- it. A new database runs this file in their place; one that has them goes on without running it.
{replaces}

SET check_function_bodies = false;
SET client_min_messages = warning;
SET row_security = off;
SET search_path = '';

"""
# The roles that objects here are granted to or policies are for, and the roles those are members of. Roles belong to
# the whole server, so pg_dump leaves them out; they are made when missing, without a password.
ROLES = """
WITH RECURSIVE named AS (
  SELECT DISTINCT refobjid AS oid FROM pg_shdepend
   WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     AND refclassid = 'pg_authid'::regclass AND deptype IN ('a', 'r')
  UNION SELECT m.roleid FROM pg_auth_members m JOIN named n ON n.oid = m.member
)
SELECT quote_ident(rolname), quote_literal(rolname), concat_ws(' ',
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN NOT rolinherit THEN 'NOINHERIT' END,
         CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
         CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
         CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END),
       ARRAY(SELECT quote_ident(g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
              WHERE m.member = r.oid ORDER BY 1)
  FROM pg_roles r JOIN named USING (oid)
 WHERE rolname <> current_user AND rolname !~ '^pg_' ORDER BY 1
"""


def roles(database: Database) -> str:
    """Return the SQL that makes the roles which the objects of a database name, where they are missing."""
    return "".join(
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal}) THEN\n"
        f"    CREATE ROLE {name} {attributes};\n"
        + "".join(f"    GRANT {group} TO {name};\n" for group in groups)
        + "END IF; END $$;\n"
        for name, literal, attributes, groups in database.rows(ROLES)
    )


def compose(files: Sequence[Migration], dump: str, roles_sql: str, major: int) -> str:
    """Return the text of the one file.

    Args:
        files: that it replaces, in order.
        dump: what pg_dump says with `ARGUMENTS` of a database that they made.
        roles_sql: from `roles`.
        major: PostgreSQL's version that they were run on.

    """
    first = OBJECT.search(dump)
    objects = RESTRICT.sub("", dump[first.start() :] if first else "")
    objects = EXTENSION_COMMENT.sub(IF_ALLOWED, objects)
    top = TOP.format(first=files[0].label, last=files[-1].label, replaces="\n".join(_replaces(files)), major=major)
    return f"{top}{roles_sql}\n{objects}"


def _replaces(files: Sequence[Migration]) -> Iterator[str]:
    """Yield what it was squashed from; an earlier squash comes after what that replaced."""
    yield from dict.fromkeys(f"-- migrate: run-time {each}" for file in files for each in file.directives.run_time)
    for file in files:
        for older in file.directives.replaces:
            yield f"-- migrate: replaces {older.label} {older.checksum}"
        yield f"-- migrate: replaces {file.label} {file.text.checksum}"
