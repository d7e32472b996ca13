r"""Put a backup back: what is in the database goes and the backup's content comes in one and the same transaction.

pg_restore writes its script into a psql, whose driver has taken the run's lock, begun a transaction and dropped what
was there. The COMMIT is the last statement of that script (`--single-transaction`), and pg_restore does not write it
when it could not read the whole dump; so whatever dies in the middle, the old content stays. The script begins with
`\restrict` and a random key, under which psql refuses every backslash command of a dump that was made to harm.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra.db import backup, errors, layout, psql, reset, staging
from infra.db.servers.process import lines, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from infra.db.database import Database
    from infra.db.servers import Server

MAGIC = b"PGDMP"  # the first bytes of the custom format
SCRIPT = ("--single-transaction", "--use-list=contents", "--file=-")
LOCK_NOT_AVAILABLE = "55P03"
# What is there, in numbers; the first is 0 in an empty database.
HOLDINGS = f"""
SELECT (SELECT count(*) FROM ({reset.OBJECTS}) o)
       + (SELECT count(*) FROM pg_namespace n WHERE n.nspname !~ '^pg_|^(public|information_schema)$'
             AND NOT EXISTS (SELECT FROM pg_extension x WHERE x.extnamespace = n.oid))
       + (SELECT count(*) FROM pg_largeobject_metadata),
       count(*) FILTER (WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition),
       pg_database_size(current_database()),
       to_regnamespace('public') IS NOT NULL
  FROM pg_class c JOIN ({reset.OBJECTS}) o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid
"""


@dataclass(frozen=True, slots=True)
class Dump:
    """A backup, and what pg_restore says it holds.

    Attributes:
        file: where it is.
        database: the name of the database it was made of.
        made_at: when, in the words of pg_restore.
        version: of the server it was made of, like `18.4`.
        tables: how many; partitions are not counted.
        listing: all of it, as `pg_restore --use-list` takes it.

    """

    file: Path
    database: str
    made_at: str
    version: str
    tables: int
    listing: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is in a database.

    Attributes:
        objects: tables, views, functions, types, schemas, ...; 0 in an empty database.
        tables: how many.
        size: of the database on the disk, in bytes; asked without touching a table, which somebody may hold.
        has_public: whether there is a schema public, as in every new database.

    """

    objects: int
    tables: int
    size: int
    has_public: bool

    def __str__(self) -> str:
        return f"{self.tables} tables ({layout.size(self.size)} on the disk)"


def refuse_other_files(file: Path, shown: str) -> bool:
    """Stop before anything is started for a file that is no backup, or no longer the one that was written.

    Returns:
        Whether it has a record, with which it was compared.

    Raises:
        NotABackup: it is something else, or not there.
        BackupDamaged: it differs from its record.

    """
    try:
        with file.open("rb") as opened:
            if opened.read(len(MAGIC)) != MAGIC:
                raise errors.NotABackup(shown, "it does not begin as one")
        return backup.check(file, shown)
    except FileNotFoundError:
        raise errors.NotABackup(shown) from None
    except OSError as error:
        raise errors.NotABackup(shown, error.strerror or "it cannot be read") from None


def contents(server: Server, file: Path, shown: str) -> Dump:
    """Look into a dump.

    Raises:
        NotABackup: pg_restore cannot read it.

    """
    with staging.folder("restore") as folder:
        code, listing, said = outcome(server.execute("pg_restore", ["--list", file], folder=folder))
    if code:
        raise errors.NotABackup(shown, said.strip() or f"pg_restore ended with exit code {code}")
    return Dump(
        file=file,
        database=_head(listing, "    dbname"),
        made_at=_head(listing, "Archive created at", colon=" "),
        version=_head(listing, "    Dumped from database version"),
        tables=_entries(listing, "TABLE (?!DATA |ATTACH )") - _entries(listing, "TABLE ATTACH "),
        listing=listing,
    )


def _entries(listing: str, kind: str) -> int:
    return len(re.findall(rf"^\d+; \d+ \d+ {kind}", listing, re.MULTILINE))


def _head(listing: str, name: str, *, colon: str = ": ") -> str:
    found = re.search(rf"^; {re.escape(name + colon)}(.*)$", listing, re.MULTILINE)
    return found[1].strip() if found else ""


def refuse_newer(dump: Dump, database: Database, shown: str) -> None:
    """Stop before the content of a newer server is put into an older one.

    Raises:
        BackupTooNew: it is.

    """
    has = database.facts().version // 10000
    if int(dump.version.partition(".")[0] or 0) > has:
        raise errors.BackupTooNew(shown, dump.version, has)


def holdings(database: Database) -> Holdings:
    """Return what is in the database; what extensions brought is not counted."""
    return Holdings(*database.rows(HOLDINGS)[0])


def put_back(server: Server, database: Database, dump: Dump, tell: Callable[[str], None], *, emptied: bool) -> bool:
    """Replace what is in the database by what is in a dump, in one transaction, under the run's lock.

    Args:
        server: runs pg_restore and psql.
        database: the watching connection.
        dump: what to put back.
        tell: called with a few words on how far it is.
        emptied: drop what is there. Without it nothing is dropped: what turned up since somebody looked stays,
            and stops the restore.

    Returns:
        False when another run has the lock; nothing was done.

    Raises:
        RestoreFailed: everything is as before.
        RestoreBlocked: another session holds a table; everything is as before.
        Interrupted: and how that ended.

    """
    token = secrets.token_hex(16)
    facts = database.facts()
    application = f"invoke db.restore {token[:8]}"
    options = psql.session_options(
        lock_timeout=database.settings.lock_timeout, server_version=facts.version, server_is_windows=facts.is_windows
    )
    with staging.folder("restore") as folder:
        (folder / "contents").write_text(_wanted(dump, database), encoding="utf-8", newline="\n")
        with (folder / "driver.sql").open("w", encoding="utf-8", newline="\n") as script:
            script.writelines(driver(token, sweep=server.sweep(folder), emptied=emptied))
        process = server.execute(
            "pg_restore",
            [*SCRIPT, dump.file],
            folder=folder,
            env={"PGAPPNAME": application, "PGOPTIONS": options},
            into=psql.ARGUMENTS,
        )
        run = _Run(psql.Reader(token))
        try:
            for line in lines(process):
                if line:
                    run.note(*line)
                else:
                    with contextlib.suppress(errors.ServerLost):  # psql's own end tells more
                        # Nobody else can see the names of tables that are not committed yet.
                        tell(re.sub(r" (into|on) \d+", "", database.progress(application)) or "restoring")
            code = process.wait()
        except KeyboardInterrupt:
            done = _is_committed(database, application, run.xact)
            raise errors.RestoreInterrupted(is_done=done) from None
    database.revive()
    if run.ended == "BUSY":
        return False
    if not _is_committed(database, application, run.xact):  # asked, however well psql has ended
        raise run.failure(code)
    return True


def driver(token: str, *, sweep: str, emptied: bool) -> Iterator[str]:
    """Yield what psql runs before and after pg_restore's script, piece by piece."""
    yield (
        f"SELECT pg_catalog.pg_try_advisory_lock({psql.LOCK[0]}, {psql.LOCK[1]}) AS _restore_locked \\gset\n"
        f"\\if :_restore_locked\n\\else\n\\echo {token} BUSY\n\\q\n\\endif\n"
    )
    if sweep:
        yield f"\\! {sweep}\n"
    yield "BEGIN;\nSELECT pg_catalog.pg_current_xact_id() AS _restore_xact \\gset\n"
    yield f"\\echo {token} BEGUN :_restore_xact\n"
    if emptied:
        yield "SET LOCAL client_min_messages = warning;\n"
        yield from (f"{drop}\n\\gexec\n" for drop in reset.DROPS)
        yield reset.NEW_PUBLIC
    yield f"\\i -\n\\echo {token} END\n"


@dataclass(slots=True)
class _Run:
    """What pg_restore and psql have said so far."""

    reader: psql.Reader
    ended: str = ""  # BUSY, END; empty when psql stopped by itself
    xact: str = ""
    complaints: list[str] = field(default_factory=list)
    error: psql.Message | None = None

    def note(self, stream: str, line: str) -> None:
        """Take one line."""
        if line.startswith("pg_restore: "):
            self.complaints.append(line)
        elif stream != "feeder":
            self.take(self.reader.feed(stream, line))

    def take(self, items: Iterable[psql.Marker | psql.Message | str]) -> None:
        """Take what the lines meant."""
        for item in items:
            match item:
                case psql.Marker("BEGUN", (xact,)):
                    self.xact = xact
                case psql.Marker(word):
                    self.ended = word
                case psql.Message() if item.is_error:
                    self.error = self.error or item

    def failure(self, code: int) -> errors.ToolError:
        """Say why it failed; when pg_restore stopped, what psql says of it is no news."""
        self.take(self.reader.flush())
        error = self.error
        if self.complaints or error is None:
            return errors.RestoreFailed(
                "\n".join(self.complaints) or f"psql ended with exit code {code} and committed nothing"
            )
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            return errors.RestoreBlocked(error.text)
        statement = f"in: {error.statement.strip().splitlines()[0]}" if error.statement.strip() else ""
        said = [error.text, error.detail, error.hint, statement]
        return errors.RestoreFailed("\n".join(filter(None, said)), error.sqlstate)


def _is_committed(database: Database, application: str, xact: str) -> bool:
    """End the session, if it is still there, and tell whether its transaction was committed."""
    with contextlib.closing(database.again()) as fresh:
        fresh.terminate(application)
        return bool(xact) and fresh.rows("SELECT pg_xact_status(%s::xid8)", xact)[0][0] == "committed"


def _wanted(dump: Dump, database: Database) -> str:
    """Leave out the comments on extensions that are an administrator's: they stay, and are not ours to comment on."""
    names = "|".join(re.escape(name) for (name,) in database.rows(reset.FOREIGN))
    comment = rf"^\d+; 0 0 COMMENT - EXTENSION ({names}) .*\n"
    return re.sub(comment, "", dump.listing, flags=re.MULTILINE) if names else dump.listing
