"""The way to the server, and what it must be: there, ready, new enough, writable, ours."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from infra.db.errors.base import Refused, ServerError


class NotRunning(ServerError):
    """The server is there, but stopped."""

    def __init__(self, place: str) -> None:
        """Say how to start it."""
        super().__init__(
            f"The database server ({place}) is not running.",
            consequence="So nothing can be said about it, and nothing was changed.",
            next="invoke db.up",
        )


class NotReady(ServerError):
    """It did not become ready in time."""

    def __init__(self, place: str, waited: float, last: str) -> None:
        """Say what it answered last."""
        super().__init__(
            f"PostgreSQL ({place}) was not ready after {waited:.0f} s.",
            where=f"  its last answer: {last}",
            consequence="Nothing was changed.",
            next="Is it still starting? Give it longer with DB_WAIT_TIMEOUT=180, or look into its log:  invoke db.logs",
        )


class ServerLost(ServerError):
    """The connection broke, or the server went away."""

    def __init__(self, said: str, consequence: str = "") -> None:
        """Say what the client library said."""
        super().__init__(
            "The connection to PostgreSQL was lost.",
            where=f"  {said}",
            consequence=consequence or "What had not been committed was rolled back by the server.",
            next="Run the same command again; it goes on where the history ends.",
        )


class ServerTooOld(ServerError):
    """It is older than what the migrations are written for."""

    def __init__(self, major: int) -> None:
        """Say which it is."""
        super().__init__(
            f"The server is PostgreSQL {major}; version 15 or newer is needed.",
            consequence="Nothing was changed.",
            next="Upgrade it, or use the image of infra/docker-compose.yml (DB_SERVER=docker).",
        )


class PoolerInBetween(ServerError):
    """A connection pooler stands between us and the server."""

    def __init__(self, where: str) -> None:
        """Say where."""
        super().__init__(
            "A connection pooler (PgBouncer?) answers instead of PostgreSQL itself.",
            where=f"  {where}",
            consequence="It may give each statement another session, so that no lock would hold. Nothing was changed.",
            next="Set DB_HOST and DB_PORT to the server's own address (often port 5432).",
        )


class ReadOnlyServer(ServerError):
    """It takes no writes."""

    def __init__(self, database: str, *, standby: bool) -> None:
        """Say why."""
        why = "is a standby, which only follows its primary" if standby else "has default_transaction_read_only on"
        reset = f'ALTER DATABASE "{database}" RESET default_transaction_read_only;'
        mend = "Set DB_HOST to the primary." if standby else f"If that is not on purpose, as its owner:  {reset}"
        super().__init__(
            f"The server of database {database} takes no changes: it {why}.",
            consequence="Nothing was changed.",
            next=mend,
        )


class WrongEncoding(ServerError):
    """The database is not UTF-8."""

    def __init__(self, database: str, encoding: str) -> None:
        """Say what it is."""
        super().__init__(
            f"The database {database} is encoded in {encoding}; the files are UTF-8.",
            consequence="Nothing was changed.",
            next=f"Create it anew:  createdb --encoding=UTF8 --template=template0 {database}",
        )


class NoRight(ServerError):
    """The role lacks a right."""

    def __init__(self, user: str, right: str, database: str, *, grant: str = "CREATE, USAGE ON SCHEMA public") -> None:
        """Say which, and what would give it."""
        super().__init__(
            f"The role {user} may not {right} (database {database}).",
            consequence="Nothing was changed.",
            next=f'As a superuser:  GRANT {grant} TO "{user}";  or set DB_USER to the owner.',
        )


class NotStopped(Refused):
    """Somebody else's server is not ours to stop."""

    def __init__(self, place: str) -> None:
        """Say whose it is not."""
        super().__init__(
            f"{place} is not a server that this project started.",
            consequence="It was left alone.",
            next="Stop it the way it was started.",
        )


class NotDeleted(Refused):
    """Somebody else's data is not ours to delete."""

    def __init__(self, place: str) -> None:
        """Say whose it is not."""
        super().__init__(
            f"{place} is not a server that this project started, so its data is not deleted.",
            consequence="It was left alone.",
            next="To empty the configured database itself:  invoke migrate-reset",
        )


class LogElsewhere(Refused):
    """Somebody else's server writes its log where only they know."""

    def __init__(self, place: str) -> None:
        """Say how to find out."""
        super().__init__(
            f"{place} is not a server that this project started, so its log cannot be read from here.",
            next="Ask whoever runs it. Where the server writes to, if your role may know:\n"
            '  invoke db.shell --command "SHOW log_destination"\n'
            '  invoke db.shell --command "SELECT pg_current_logfile()"',
        )


class ClientMissing(ServerError):
    """No usable psql, pg_dump or pg_restore on this machine."""

    def __init__(self, program: str, passed_over: list[str]) -> None:
        """Say what was found and why it does not do.

        Args:
            program: `psql`, `pg_dump` or `pg_restore`.
            passed_over: each one found, with its version and what is wrong with it.

        """
        found = "none that can be used" if passed_over else "none"
        super().__init__(
            f"PostgreSQL's program {program} is needed on this machine for an external server; there is {found}.",
            where="\n".join(f"  {each}" for each in passed_over),
            consequence="Nothing was changed.",
            next="Install PostgreSQL's client programs, the newest version you can get:\n"
            "  Debian, Ubuntu: apt install postgresql-client    Fedora: dnf install postgresql\n"
            "  macOS: brew install libpq    Windows: winget install PostgreSQL.PostgreSQL.18",
        )


class Attempt(NamedTuple):
    """A connection that failed: who wanted to go where, and the line that came back."""

    host: str
    port: int
    database: str
    user: str
    said: str

    @property
    def place(self) -> str:
        """The server as one word."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def login(self) -> str:
        """How libpq's programs are told to go there as this role."""
        return f"-h {shlex.quote(self.host)} -p {self.port} -U {shlex.quote(self.user)}"


class ConnectionFailed(ServerError):
    """A connection failed for good; the base of those whose reason is known, and the words for any other."""

    what = "PostgreSQL at {place} could not be used."
    mend = "Check DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD:  invoke db.url"

    def __init__(self, attempt: Attempt) -> None:
        """Fill in the attempt."""
        known = {
            "place": attempt.place,
            "host": attempt.host,
            "port": attempt.port,
            "login": attempt.login,
            "database": attempt.database,
            "user": attempt.user,
            "quoted_database": '"' + attempt.database.replace('"', '""') + '"',
            "quoted_user": '"' + attempt.user.replace('"', '""') + '"',
            "shell_database": shlex.quote(attempt.database),
        }
        super().__init__(
            self.what.format(**known),
            where=f"  it said: {attempt.said}" if attempt.said else "",
            consequence="Nothing was changed.",
            next=self.mend.format(**known),
        )


class DatabaseMissing(ConnectionFailed):
    """The server answers, the database is not there."""

    what = "There is no database {database} on the server {place}."
    mend = (
        "Create it:  createdb {login} {shell_database}\n"
        "or, in psql as a role that may:  CREATE DATABASE {quoted_database} OWNER {quoted_user};\n"
        "or name another one with DB_NAME."
    )


class PasswordRefused(ConnectionFailed):
    """The password, or the role, is not the server's."""

    what = "The server {place} refused the role {user} or its password."
    mend = "Set DB_USER and DB_PASSWORD, in the environment or in .env, to a role of that server and its password."


class RoleRefused(ConnectionFailed):
    """The role is not there or may not log in."""

    what = "The role {user} cannot log in to the server {place}."
    mend = (
        "Set DB_USER to another role, or let a superuser of that server create it or let it in:\n"
        "  CREATE ROLE {quoted_user} LOGIN;    or, when it exists:  ALTER ROLE {quoted_user} LOGIN;\n"
        "then give it a password in psql:  \\password {user}"
    )


class DatabaseClosed(ConnectionFailed):
    """The database admits nobody, or not this role."""

    what = "The role {user} may not connect to the database {database} on the server {place}."
    mend = (
        "As the database's owner:  GRANT CONNECT ON DATABASE {quoted_database} TO {quoted_user};\n"
        "or, if it was closed to everybody:  ALTER DATABASE {quoted_database} ALLOW_CONNECTIONS true;"
    )


class ConnectionRefused(ConnectionFailed):
    """Nothing listens there."""

    what = "Nothing answers at {place}: the connection was refused."
    mend = (
        "Is PostgreSQL running there, and does it listen on that address (listen_addresses) and port? Try:\n"
        "  pg_isready -h {host} -p {port}\n"
        "or set DB_HOST and DB_PORT to where it is."
    )


class HostUnknown(ConnectionFailed):
    """The name has no address."""

    what = "The host {host} is unknown: its name could not be turned into an address."
    mend = "Check the spelling of DB_HOST, and whether this machine's network (VPN?) knows that name."


class HostUnreachable(ConnectionFailed):
    """No answer of any kind."""

    what = "The server {place} cannot be reached: no answer came back."
    mend = "Check DB_HOST and DB_PORT, and whether a firewall or a missing VPN stands in between."


class NotPostgres(ConnectionFailed):
    """Something else than PostgreSQL answers there."""

    what = "What answers at {place} is not PostgreSQL."
    mend = "Set DB_HOST and DB_PORT to where PostgreSQL is."


class TlsRequired(ConnectionFailed):
    """The server admits this role only with TLS."""

    what = "The server {place} does not admit the role {user} to the database {database} without TLS."
    mend = (
        "Turn TLS on: set PGSSLMODE=require (or verify-full, with PGSSLROOTCERT).\n"
        "If it is on: the program that connected was built without TLS; install PostgreSQL's own client programs.\n"
        "If TLS is not wanted, the server needs a line for it in pg_hba.conf."
    )


class TlsNotOffered(ConnectionFailed):
    """TLS is demanded here and not offered there."""

    what = "The server {place} offers no TLS, and the settings of this machine demand it."
    mend = "Turn TLS on in the server (ssl = on), or do not demand it: set PGSSLMODE=prefer, and no PGSSLROOTCERT."


class CertificateRefused(ConnectionFailed):
    """The server's certificate could not be verified."""

    what = "The certificate of the server {place} could not be verified."
    mend = (
        "Set PGSSLROOTCERT to the file of the authority that signed it (`system` for the public ones), and DB_HOST\n"
        "to a name that is in it. PGSSLMODE=require encrypts without verifying."
    )


class TlsSettings(ConnectionFailed):
    """The TLS settings of this machine make no sense, or lack a file."""

    what = "The TLS settings for {place} cannot be used on this machine."
    mend = (
        "Check PGSSLMODE (disable, prefer, require, verify-ca or verify-full), PGSSLROOTCERT, PGSSLCERT, PGSSLKEY\n"
        "and PGGSSENCMODE: each file must exist, and a key must be readable by its owner only."
    )


class NotAdmitted(ConnectionFailed):
    """The server's pg_hba.conf has no place for us."""

    what = "The server {place} admits no connection of the role {user} to the database {database} from this machine."
    mend = (
        "Its owner has to add a line for this machine to pg_hba.conf, and reload it:  SELECT pg_reload_conf();\n"
        "  hostssl  {quoted_database}  {quoted_user}  THIS-MACHINE'S-ADDRESS/32  scram-sha-256"
    )


class ServerFull(ConnectionFailed):
    """All connections are taken."""

    what = "The server {place} has no connection left for the role {user} and the database {database}."
    mend = (
        "Close what is not needed, then run the same command again. Who is connected:\n"
        "  SELECT pid, usename, datname, application_name, state FROM pg_stat_activity;"
    )
