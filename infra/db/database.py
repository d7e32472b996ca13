"""The watching side: one psycopg connection that proves readiness, reads the history, shows who blocks, and cancels.

It never runs a migration; psql does. Everything it reads comes back as a frozen value, everything that
psycopg raises as one of our errors.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.db import errors, history, psql
from infra.db.servers import Identity, refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import psycopg

    from infra.db.migration import Migration
    from infra.db.servers import Address, Server
    from infra.db.settings import Settings

TLS = {
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl",
    "PGCHANNELBINDING": "channel_binding",
}
OLDEST_SERVER = 150000
PROBE_EVERY = 0.1  # seconds; a probe is one connection attempt, a millisecond or so of the server's time
DEAD_EVERY = 0.5  # seconds between looks at whether the server process has died
LOCK_POLL = 0.2  # seconds
READ_WITHIN = "1s"  # nobody holds the history for longer, except who replaces the whole database
# What passes by itself when one waits; everything else is final at once.
TRANSIENT = re.compile(
    r"starting up|shutting down|not yet accepting|recovery mode|closed the connection unexpectedly|refused"
    r"|timeout expired|timed out|connection reset|reset by peer|too many clients|remaining connection slots"
    r"|too many connections|no response",
    re.IGNORECASE,
)

FACTS = """
SELECT current_setting('server_version_num')::int,
       pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::bool,
       coalesce(host(inet_server_addr()), ''),
       CASE WHEN has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
            THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END,
       to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
       coalesce(has_schema_privilege(to_regnamespace('public'), 'CREATE'), false),
       version() ~* '(windows|mingw|visual c)',
       pg_backend_pid(),
       to_regnamespace('public') IS NOT NULL,
       pg_encoding_to_char(encoding)
  FROM pg_database WHERE datname = current_database()
"""
TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = 'public'
   AND c.oid <> coalesce(to_regclass(%s), 0)
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 1
"""
SESSION = """
SELECT a.pid, a.usename, coalesce(host(a.client_addr), 'local'), a.backend_start, a.application_name, a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change, a.backend_start))::float8,
       left(regexp_replace(a.query, '\\s+', ' ', 'g'), 200)
  FROM pg_stat_activity a
"""
HOLDER = f"""{SESSION}
  JOIN pg_locks l ON l.pid = a.pid
 WHERE l.locktype = 'advisory' AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.classid = {psql.LOCK[0]} AND l.objid = {psql.LOCK[1]} AND l.objsubid = 2
"""
BLOCKERS = f"""{SESSION}
 WHERE a.pid IN (SELECT unnest(pg_blocking_pids(b.pid)) FROM pg_stat_activity b WHERE b.application_name = %s)
"""
PROGRESS = """
SELECT ci.phase, ci.index_relid::regclass::text, ci.relid::regclass::text, ci.blocks_done, ci.blocks_total,
       ci.tuples_done, ci.tuples_total, co.relid::regclass::text, co.tuples_processed
  FROM pg_stat_activity a
  LEFT JOIN pg_stat_progress_create_index ci USING (pid)
  LEFT JOIN pg_stat_progress_copy co USING (pid)
 WHERE a.application_name = %s
"""
# A parallel worker has its leader's name and statement.
STATEMENT = """
SELECT query_start, extract(epoch FROM clock_timestamp() - query_start)::float8, query
  FROM pg_stat_activity
 WHERE application_name = %s AND state = 'active' AND leader_pid IS NULL
"""
RENAME = "SELECT set_config('application_name', %s, false), set_config('idle_session_timeout', '0', false)"
INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i WHERE NOT i.indisvalid ORDER BY 1
"""


class Facts(NamedTuple):
    """What the server says of itself when it is first asked.

    Attributes:
        version: `server_version_num`, like 180004.
        is_standby: it only replays another server's changes.
        is_read_only: `default_transaction_read_only` is on for this role or database.
        identity: what tells it from another server.
        may_create: whether the role may create tables in schema public.
        has_public: whether there is a schema public.
        is_windows: whether it runs on Windows.
        is_pooled: whether a connection pooler stands in between: the process that answers is not the one that
            the connection was told of.
        encoding: of the database.

    """

    version: int
    is_standby: bool
    is_read_only: bool
    identity: Identity
    may_create: bool
    has_public: bool
    is_windows: bool
    is_pooled: bool
    encoding: str


class Backend(NamedTuple):
    """Somebody else's session.

    Attributes:
        pid: its backend.
        user: its role.
        host: where the client is.
        since: when it connected.
        application: its application_name.
        state: `active`, `idle in transaction`, ...
        age: seconds since its transaction began, or since it last did something.
        query: its last statement, on one line, cut.

    """

    pid: int
    user: str
    host: str
    since: datetime
    application: str
    state: str
    age: float
    query: str


class Statement(NamedTuple):
    """What a session is running.

    Attributes:
        since: when it began, by the server's clock.
        age: seconds since then.
        text: what it says, cut by the server (track_activity_query_size).

    """

    since: datetime
    age: float
    text: str


class Database:
    """A connection to the configured database."""

    def __init__(self, settings: Settings, address: Address, *, name: str = "invoke") -> None:
        """Connect, once.

        Raises:
            psycopg.OperationalError: as libpq says it.

        """
        import psycopg  # noqa: PLC0415 - costs as much as invoke itself; not every task connects

        self._psycopg = psycopg
        self.settings = settings
        self.address = address
        self.name = name
        self.connection = self._connect()
        self._facts: Facts | None = None

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        tls: dict[str, Any] = {
            keyword: value
            for variable, keyword in TLS.items()
            if (value := self.settings.environment.get(variable))  # from .env too, which libpq does not read
        }
        return self._psycopg.connect(
            host=self.address.host,
            hostaddr="127.0.0.1" if self.address.host == "127.0.0.1" else "",  # not PGHOSTADDR's
            port=self.address.port,
            dbname=self.settings.name,
            user=self.settings.user,
            password=self.settings.password or None,
            application_name=self.name,
            connect_timeout=5,
            client_encoding="UTF8",
            autocommit=True,
            options="",  # not PGOPTIONS'
            **tls,
        )

    def revive(self) -> None:
        """Connect again if the connection was lost, which shows only when it is used.

        Raises:
            ServerLost: the server does not answer.

        """
        try:
            self.rows("SELECT 1")
        except errors.ServerLost:
            self._facts = None
            try:
                self.connection = self._connect()
            except self._psycopg.OperationalError as error:
                raise errors.ServerLost(_first_line(error)) from None

    def again(self) -> Database:
        """Return a second connection: this one may be in the middle of a query.

        Raises:
            ServerLost: the server does not answer.

        """
        try:
            return Database(self.settings, self.address, name=self.name)
        except self._psycopg.OperationalError as error:
            raise errors.ServerLost(_first_line(error)) from None

    def refusal(self, said: str) -> errors.ServerError:
        """Return the error for what a program of libpq said when it could not connect."""
        return refusals.words(said, self.settings, self.address)

    def close(self) -> None:
        """Let go of the connection."""
        self.connection.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one query of ours.

        Raises:
            ServerError: the connection is lost.

        """
        with self._told():
            return self.connection.execute(query, values or None).fetchall()

    def do(self, statement: str, *values: object) -> None:
        """Run one statement of ours, in a transaction of its own."""
        with self._told():
            self.connection.execute(statement, values or None)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.OperationalError as error:
            if not self.connection.broken and not self.connection.closed:
                raise
            raise errors.ServerLost(_first_line(error)) from None

    def facts(self) -> Facts:
        """Return everything that decides whether a run can start; asked once a connection, in one round trip."""
        if self._facts is None:
            self._facts = self._asked(self.rows(FACTS)[0])
        return self._facts

    def _asked(self, row: tuple[Any, ...]) -> Facts:
        return Facts(
            version=row[0],
            is_standby=row[1],
            is_read_only=row[2],
            identity=Identity(
                address=row[3],
                system_identifier=row[4],
                started_at=row[5],
                major=row[0] // 10000,
                tls=bool(self.connection.pgconn.ssl_in_use),
            ),
            may_create=row[6],
            is_windows=row[7],
            is_pooled=row[8] != self.connection.info.backend_pid,
            has_public=row[9],
            encoding=row[10],
        )

    def history(self) -> history.History:
        """Read the history.

        Raises:
            Refused: the table is not ours.
            HistoryIsHeld: somebody has it for himself (a restore, a reset); it is not waited for.

        """
        try:
            with self._told():
                cursor = self.connection.execute(f"SET LOCAL lock_timeout = '{READ_WITHIN}'; {history.READ}")
                cursor.nextset()
                rows = cursor.fetchall()
        except self._psycopg.errors.LockNotAvailable:
            holder = self.holder()
            raise errors.HistoryIsHeld(history.TABLE, describe(holder) if holder else "") from None
        except self._psycopg.errors.UndefinedTable:
            return history.History()
        except (self._psycopg.errors.UndefinedColumn, self._psycopg.errors.WrongObjectType):
            columns = self.rows(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                history.TABLE,
            )
            raise errors.ForeignHistory(history.TABLE, [column for (column,) in columns]) from None
        except self._psycopg.errors.InsufficientPrivilege:
            raise self._no_right_to("read") from None
        if not rows:
            return history.History(exists=True)
        return history.History(
            rows=tuple(
                history.Applied(
                    version=row[0],
                    name=row[1],
                    status=row[2],
                    checksum=row[3],
                    applied_at=row[4],
                    applied_by=row[5],
                    duration_ms=row[6],
                )
                for row in rows
            ),
            digest=rows[0][7],
            exists=True,
        )

    def kept_sql(self, version: str) -> str | None:
        """Return the SQL that the history keeps of a version."""
        rows = self.rows(f"SELECT sql FROM {history.TABLE} WHERE version = %s", version)
        return rows[0][0] if rows else None

    def kept_down(self, version: str) -> str | None:
        """Return the down script that the history keeps of a version."""
        rows = self.rows(f"SELECT down_sql FROM {history.TABLE} WHERE version = %s", version)
        return rows[0][0] if rows else None

    def tables(self) -> list[str]:
        """Name the user's tables in schema public, the history and those of extensions left out."""
        return [name for (name,) in self.rows(TABLES, history.TABLE)]

    def unrecorded(self) -> list[str]:
        """Name the user's tables while nothing is in the history.

        The tables are asked for first: a run that is at its first files at this moment records them with their tables.
        """
        tables = self.tables()
        return [] if tables and self.history().rows else tables

    def holder(self) -> Backend | None:
        """Return who holds the lock of a run."""
        rows = self.rows(HOLDER)
        return Backend(*rows[0]) if rows else None

    def blockers(self, application: str) -> list[Backend]:
        """Return who holds what the session named `application` waits for."""
        return [Backend(*row) for row in self.rows(BLOCKERS, application)]

    def progress(self, application: str) -> str:
        """Say in a few words what a long statement of the session is doing; empty when there is nothing to say."""
        for phase, index, table, blocks, all_blocks, rows, all_rows, copied, count in self.rows(PROGRESS, application):
            if phase:
                done, whole = (blocks, all_blocks) if all_blocks else (rows, all_rows)
                share = f", {100 * done // whole} %" if whole else ""
                return f"{index if index != '-' else 'index'} on {table}: {phase}{share}"
            if copied:
                return f"copying into {copied}: {count:,} rows"
        return ""

    def statement(self, application: str) -> Statement | None:
        """Return what the session named `application` is running at this moment."""
        rows = self.rows(STATEMENT, application)
        return Statement(*rows[0]) if rows else None

    def terminate(self, application: str) -> None:
        """End the sessions named `application` and wait until they are gone: their transactions are rolled back."""
        self.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", application
        )

    def flush(self) -> None:
        """Commit something that waits for the disk: every earlier commit is on the disk after it.

        A transaction that writes no WAL would not wait (PostgreSQL source, RecordTransactionCommit), hence a message.
        """
        self.rows("SELECT pg_logical_emit_message(true, 'invoke migrate', '')")

    def invalid_indexes(self) -> list[str]:
        """Name the indexes that a failed CREATE INDEX CONCURRENTLY left behind."""
        return [name for (name,) in self.rows(INVALID_INDEXES)]

    def mark_failed(self, version: str) -> None:
        """Record that a file without a transaction did not finish."""
        self.do(f"UPDATE {history.TABLE} SET status = 'failed' WHERE version = %s AND status = 'running'", version)

    @contextlib.contextmanager
    def run_lock(self, told: Callable[[Backend | None], None], *, name: str = "") -> Iterator[None]:
        """Hold the lock of a run in this session.

        Args:
            told: called once with who holds it, when it has to be waited for.
            name: what the session is called meanwhile, for those who wait for it.

        Raises:
            LockError: it was not to be had within the wait time-out.

        """
        deadline = time.monotonic() + self.settings.wait_timeout
        while not self.rows("SELECT pg_try_advisory_lock(%s, %s)", *psql.LOCK)[0][0]:
            self.wait_for_lock(deadline, told)
        try:
            # A quiet hour, while pg_dump is at work, must not end the session and the lock with it.
            self.rows(RENAME, name or self.name)
            yield
        finally:
            if not self.connection.closed:
                with contextlib.suppress(errors.ServerLost):  # the lock has gone with the session
                    self.rows(RENAME, self.name)
                    self.rows("SELECT pg_advisory_unlock(%s, %s)", *psql.LOCK)

    def wait_for_lock(self, deadline: float, told: Callable[[Backend | None], None]) -> None:
        """Return when nobody holds the lock of a run; short queries, so that nothing ever waits for our snapshot.

        Raises:
            LockError: it was still held at the deadline (of `time.monotonic`).

        """
        shown: int | None = None
        while holder := self.holder():
            if holder.pid != shown:
                told(holder)
                shown = holder.pid
            if time.monotonic() > deadline:
                raise errors.RunIsHeld(describe(holder), holder.pid, self.settings.wait_timeout)
            time.sleep(LOCK_POLL)

    def record(self, migrations: Sequence[Migration], status: str) -> None:
        """Write history rows by hand, without running anything (baseline, resolve)."""
        with self._writing(), self._told(), self.connection.transaction():
            self.connection.execute(f"SET LOCAL client_min_messages = warning; {history.CREATE}")
            for each in migrations:
                for other in each.directives.replaces:
                    self.connection.execute(f"DELETE FROM {history.TABLE} WHERE version::numeric = %s", [other.number])
                self.connection.execute(
                    f"INSERT INTO {history.TABLE} (version, name, status, checksum, sql, down_sql)"
                    " VALUES (%(version)s, %(name)s, %(status)s, %(checksum)s, %(sql)s, %(down)s)"
                    " ON CONFLICT (version) DO UPDATE SET name = excluded.name, status = excluded.status,"
                    " checksum = excluded.checksum, sql = excluded.sql, down_sql = excluded.down_sql",
                    {
                        "version": each.version,
                        "name": each.name,
                        "status": status,
                        "checksum": each.text.checksum,
                        "sql": each.text.sql,
                        "down": each.down.sql if each.down else None,
                    },
                )

    def forget(self, version: str) -> None:
        """Delete a history row."""
        with self._writing():
            self.do(f"DELETE FROM {history.TABLE} WHERE version = %s", version)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.errors.InsufficientPrivilege:
            raise self._no_right_to("write") from None

    def _no_right_to(self, verb: str) -> errors.NoRight:
        """Return the error of a role that may not use the history."""
        return errors.NoRight(
            self.settings.user, f"{verb} {history.TABLE}", self.settings.name, grant=f"ALL ON TABLE {history.TABLE}"
        )


def describe(session: Backend) -> str:
    """Return a session in one line."""
    said = f"pid {session.pid}, user {session.user}, from {session.host}, {session.application or 'unnamed'}"
    return f"{said}, since {session.since:%Y-%m-%d %H:%M:%S}, {session.state or 'state hidden'} for {session.age:.0f} s"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


def connect(server: Server, settings: Settings, address: Address) -> Database:
    """Connect once, and know that it is the right server that answered.

    Raises:
        ServerError: in the words for what libpq said.

    """
    import psycopg  # noqa: PLC0415

    try:
        database = Database(settings, address)
    except psycopg.OperationalError as error:
        raise server.explain(refusals.words(str(error), settings, address)) from None
    return _verified(server, database, database.facts().identity)


def _verified(server: Server, database: Database, identity: Identity) -> Database:
    """Return the connection, or close it when somebody else answered."""
    try:
        server.verify(identity)
    except errors.ServerError:
        database.close()
        raise
    return database


def wait_until_ready(server: Server, settings: Settings, address: Address, tell: Callable[[str], None]) -> Database:
    """Return a connection as soon as the server answers a query over TCP as the configured user, and goes on answering.

    A server that was not there at first must answer twice from one and the same postmaster: the image's first start
    runs a temporary one that is stopped again.

    Args:
        server: whose server it is.
        settings: who connects, and how long to wait.
        address: where.
        tell: called once when there is something to wait for.

    Raises:
        ServerError: it died, refused for good, is somebody else's, or was not ready in time.

    """
    import psycopg  # noqa: PLC0415

    deadline = time.monotonic() + settings.wait_timeout
    look = time.monotonic() + DEAD_EVERY
    seen: str | None = ""  # "" before the first failure; None while waiting; then the start time of a postmaster
    while True:
        try:
            database = Database(settings, address)
            identity = database.facts().identity
            if seen in ("", identity.started_at):
                return _verified(server, database, identity)
            seen = identity.started_at
            database.close()
        except (psycopg.OperationalError, errors.ServerLost) as error:
            if not TRANSIENT.search(str(error)):
                raise server.explain(refusals.words(str(error), settings, address)) from None
            if time.monotonic() > deadline:
                if server.kind == "external":
                    raise server.explain(refusals.words(str(error), settings, address)) from None
                raise errors.NotReady(server.place(), settings.wait_timeout, _first_line(error)) from None
            if seen == "":
                tell(f"Waiting for PostgreSQL ({server.place()}) to be ready")
            seen = None
            if time.monotonic() > look:
                look = time.monotonic() + DEAD_EVERY
                if trouble := server.trouble():
                    raise trouble from None
            time.sleep(PROBE_EVERY)


def refuse_unfit(facts: Facts, settings: Settings, *, needs_public: bool = True) -> None:
    """Stop before a run that this server cannot carry.

    Args:
        facts: what the server says of itself.
        settings: who connects to what.
        needs_public: whether tables are going to be created in schema public.

    Raises:
        ServerError: it is too old, read-only, behind a pooler, or the role lacks a right.

    """
    for error in unfit(facts, settings, needs_public=needs_public):
        raise error


def unfit(facts: Facts, settings: Settings, *, needs_public: bool = True) -> Iterator[errors.ServerError]:
    """Yield everything for which this server cannot carry a run; see `refuse_unfit`."""
    if facts.version < OLDEST_SERVER:
        yield errors.ServerTooOld(facts.version // 10000)
    if facts.is_pooled:
        yield errors.PoolerInBetween(f"{settings.host}:{settings.port}")
    if facts.is_standby or facts.is_read_only:
        yield errors.ReadOnlyServer(settings.name, standby=facts.is_standby)
    if facts.encoding != "UTF8":
        yield errors.WrongEncoding(settings.name, facts.encoding)
    if needs_public and not (facts.has_public and facts.may_create):
        yield errors.NoRight(settings.user, "create tables in schema public", settings.name)
