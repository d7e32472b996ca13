"""Look at everything that a run needs, and name the mend for each fault. Nothing is started, created or changed.

`Doctor` gathers the facts, in order, and works when nothing works: what cannot be looked at because of something found
before is skipped and says so. The functions below it judge; each takes facts and returns a check.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import shlex
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db import check, database, errors, git, migration, plan, scratch, staging
from infra.db.servers import health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from infra.db.check import Check
    from infra.db.database import Database, Facts
    from infra.db.history import History
    from infra.db.migration import Migration
    from infra.db.servers import Address, Examination, Server
    from infra.db.settings import Settings

OLD = 24 * 3600  # seconds; a file of a run that has not been written to for that long belongs to no run any more
LITTLE, TOO_LITTLE = 1 << 30, 100 << 20  # bytes of free space
OLDEST_PGVECTOR = (0, 7)  # the first that has halfvec
UPDATE = 'invoke db.shell --command "ALTER EXTENSION vector UPDATE"'
SHOWN_FILES = 5
SERVER = ("connection", "identity")
DATABASE = ("version", "pgvector", "rights", "encoding", "collation", "changes", "pooler", "history")
FILES = ("files", "line ends", "drift", "disk space", "leftovers")
DETAILS = """
SELECT current_setting('server_version'),
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),
       (SELECT extversion FROM pg_extension WHERE extname = 'vector'),
       r.rolsuper OR (has_database_privilege(d.oid, 'CREATE')
                      AND EXISTS (SELECT FROM pg_available_extension_versions
                                   WHERE name = 'vector' AND (trusted OR NOT superuser))),
       r.rolsuper OR r.rolcreatedb,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate),
       d.datcollversion, pg_database_collation_actual_version(d.oid)
  FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class Details:
    """What the doctor asks a database beyond its `Facts`.

    Attributes:
        version: of the server, as it says it.
        pgvector: the version that could be installed; None when the server has none.
        installed: the version of pgvector in this database; None when it is not in it.
        may_extend: whether the role may install it.
        may_create_databases: whether the role may create databases.
        collation: the database's.
        recorded: the version of the collation that its indexes were made with; None for one that has no versions.
        actual: the version that the server's system has now.

    """

    version: str
    pgvector: str | None
    installed: str | None
    may_extend: bool
    may_create_databases: bool
    collation: str
    recorded: str | None
    actual: str | None


class Doctor:
    """One examination.

    Attributes:
        kind: the server's, as in the JSON output; None while it is not known.

    """

    def __init__(self, root: Path, read: Callable[[], Settings], choose: Callable[[Settings], Server]) -> None:
        """Look at nothing yet.

        Args:
            root: the project's top folder.
            read: reads the settings.
            choose: chooses the server.

        """
        self.kind: str | None = None
        self._root = root
        self._read = read
        self._choose = choose
        self._settings: Settings | None = None
        self._server: Server | None = None
        self._examination: Examination | None = None
        self._address: Address | None = None
        self._database: Database | None = None
        self._facts: Facts | None = None
        self._details: Details | None = None
        self._refusal: errors.ToolError | None = None
        self._files: tuple[Migration, ...] | None = None
        self._history: History | None = None

    def close(self) -> None:
        """Let go of the connection."""
        if self._database:
            self._database.close()

    def checks(self) -> Iterator[Check]:
        """Look at everything, in order."""
        yield check.of("settings", self._settings_check)
        yield from self._machine_checks()
        if self._settings is None:
            yield from (check.skipped(name, "see settings") for name in ("server", *SERVER, *DATABASE, *FILES))
            return
        yield from self._server_checks(self._settings)
        yield from self._database_checks(self._settings)
        yield from self._file_checks(self._settings)

    # --- this machine ---

    def _settings_check(self) -> Check:
        settings = self._settings = self._read()
        self.kind = None if settings.server == "auto" else settings.server
        who = f"{settings.user} to {settings.name} on {settings.host}:{settings.port}"
        origin = "the environment and .env" if (self._root / ".env").is_file() else "the environment; there is no .env"
        return check.ok("settings", f"{who}, from {origin}")

    def _machine_checks(self) -> Iterator[Check]:
        try:
            with (self._root / "pyproject.toml").open("rb") as file:
                project = tomllib.load(file)["project"]
        except (OSError, ValueError, KeyError):
            yield from (check.skipped(name, "there is no pyproject.toml to read") for name in ("Python", "packages"))
            return
        yield check.of("Python", lambda: python(platform.python_version(), project["requires-python"]))
        yield check.of("packages", lambda: packages(project["dependencies"], _installed))

    # --- the server ---

    def _server_checks(self, settings: Settings) -> Iterator[Check]:
        try:
            self._server = self._choose(settings)
        except errors.EngineUnavailable as error:
            yield check.ok("server", chosen(settings, settings.server))
            yield check.failed("Docker endpoint", error)
        except ModuleNotFoundError as error:
            yield check.failed("server", errors.PackageMissing(error.name or "?"))
        else:
            self.kind = self._server.kind
            yield check.ok("server", chosen(settings, self._server.kind))
            self._connect(settings, self._server)  # first, because who answers decides which programs will do
            self._examination = self._server.examine()
            yield from self._examination.checks

    def _connect(self, settings: Settings, server: Server) -> None:
        try:
            self._address = server.address()
            if self._address:
                self._database = database.connect(server, settings, self._address)
        except errors.ToolError as error:
            self._refusal = error
        except ModuleNotFoundError as error:
            self._refusal = errors.PackageMissing(error.name or "?")

    def _database_checks(self, settings: Settings) -> Iterator[Check]:
        looks = {"connection": lambda: self._connection_check(settings), "identity": self._identity_check}
        answered = list(check.in_turn(looks))
        yield from answered
        if self._database is None:
            why = check.see(answered)
            yield from (check.skipped(name, why) for name in DATABASE)
        else:
            yield from self._inside_checks(settings, self._database)

    def _connection_check(self, settings: Settings) -> Check:
        """Say how the connection went, unless another check has said already why it cannot be."""
        examined = self._examination.checks if self._examination else ()
        refusal, place = self._refusal, f"{self._address.host}:{self._address.port}" if self._address else ""
        if self._database:
            tls = ", with TLS" if self._database.connection.pgconn.ssl_in_use else ""
            return check.ok("connection", f"{settings.user} to {settings.name} on {place}{tls}")
        if refusal is None:
            why = check.see(examined, but=check.Verdict.WARNING) or "the server is not running"
            return check.skipped("connection", why if self._server else "there is no server to ask")
        if isinstance(refusal, errors.WrongServer):
            return check.ok("connection", f"{place} answers")
        if said := [each for each in examined if refusal.what in each.found]:
            return check.skipped("connection", f"see {said[0].name}")
        if isinstance(refusal, errors.DatabaseMissing) and self.kind == "embedded":  # made when it is needed
            return check.warning("connection", refusal.what, "invoke db.up")
        raise refusal

    def _identity_check(self) -> Check:
        if self._database is None or self._server is None:
            raise self._refusal or errors.ServerLost("it did not answer")
        since = self._database.facts().identity.started_at.partition(".")[0]
        return check.ok("identity", f"{self._server.place()}, running since {since} UTC")

    def _inside_checks(self, settings: Settings, connected: Database) -> Iterator[Check]:
        asked = check.of("version", lambda: self._version_check(settings, connected))
        yield asked
        if self._facts is None or self._details is None:
            yield from (check.skipped(name, "see version") for name in DATABASE[1:])
            return
        facts, details = self._facts, self._details
        refused = {type(error): error for error in database.unfit(facts, settings)}

        def unless(kind: type[errors.ServerError], name: str, fine: str) -> Check:
            return check.failed(name, refused[kind]) if kind in refused else check.ok(name, fine)

        yield pgvector(details)
        yield rights(settings, details, refused.get(errors.NoRight))
        yield unless(errors.WrongEncoding, "encoding", facts.encoding)
        yield collation(settings.name, details)
        yield unless(errors.ReadOnlyServer, "changes", "the server takes them")
        yield unless(errors.PoolerInBetween, "pooler", "none in between")
        yield check.of("history", lambda: self._history_check(connected))

    def _version_check(self, settings: Settings, connected: Database) -> Check:
        """Ask everything about the server, unless it is older than the questions."""
        facts = connected.facts()
        for error in database.unfit(facts, settings):
            if isinstance(error, errors.ServerTooOld):
                raise error
        self._facts, self._details = facts, Details(*connected.rows(DETAILS)[0])
        return check.ok("version", f"PostgreSQL {self._details.version}")

    def _history_check(self, connected: Database) -> Check:
        self._history = connected.history()
        if not self._history.rows:
            plan.refuse_unrecorded(connected.unrecorded())
        count = len(self._history.rows)
        return check.ok(
            "history", f"ours, {count} row{'' if count == 1 else 's'}" if count else "empty, as no table is there"
        )

    # --- the files, and what is around them ---

    def _file_checks(self, settings: Settings) -> Iterator[Check]:
        yield check.of("files", lambda: self._files_check(settings))
        yield line_ends(settings.migrations_dir, settings.shown(settings.migrations_dir))
        yield check.of("drift", lambda: self._drift_check(settings))
        yield disk_space(_space(settings, self._examination))
        yield check.of("leftovers", lambda: self._leftovers_check(settings))

    def _files_check(self, settings: Settings) -> Check:
        shown = settings.shown(settings.migrations_dir)
        self._files = migration.read_folder(settings.migrations_dir, shown)
        downs = sum(each.down is not None for each in self._files)
        return check.ok("files", f"{len(self._files)} in {shown}, {downs} of them with a down script")

    def _drift_check(self, settings: Settings) -> Check:
        if self._files is None:
            return check.skipped("drift", "see files")
        if self._history is None or self._database is None:
            return check.skipped("drift", "see history")
        busy = self._database.holder() is not None
        entries = plan.compare(self._files, self._history.rows, busy=busy)
        plan.steps(entries, folder=settings.shown(settings.migrations_dir))
        counts = Counter(entry.status.value for entry in entries)
        running = "; a run is at work" if busy else ""
        return check.ok(
            "drift", (", ".join(f"{count} {status}" for status, count in counts.items()) or "none") + running
        )

    def _leftovers_check(self, settings: Settings) -> Check:
        left = dict(_left_here(settings, before=time.time() - OLD))
        if self._database:
            left |= {f"the database {each.name}": each.removal for each in scratch.leftovers(self._database)}
        if self._examination:
            left |= self._examination.leftovers
        return leftovers(left)


# --- facts of this machine ---


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _space(settings: Settings, examination: Examination | None) -> dict[str, int]:
    temporary = Path(tempfile.gettempdir())
    here = {settings.shown(settings.backup_dir): settings.backup_dir, str(temporary): temporary}
    there = examination.space if examination else {}
    return {**there, **{shown: health.free(folder) for shown, folder in here.items()}}


def _left_here(settings: Settings, *, before: float) -> Iterator[tuple[str, str]]:
    """Yield what killed runs left on this machine, each with the command that removes it.

    Args:
        settings: where backups go.
        before: what was last written to before then (seconds since 1970) is in nobody's use.

    """
    ours = ((folder, pattern) for folder in staging.places() for pattern in staging.names())
    for folder, pattern in (*ours, (settings.backup_dir, ".*.partial")):
        for found in sorted(folder.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):  # its run has just ended
                if found.lstat().st_mtime < before:
                    yield settings.shown(found), removal(folder, pattern)


# --- judging ---


def python(has: str, needs: str) -> Check:
    """Compare Python's version with what pyproject.toml asks for."""
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - may be missing, which is a finding

    if SpecifierSet(needs).contains(has, prereleases=True):
        return check.ok("Python", f"{has} ({sys.executable})")
    return check.fault(
        "Python",
        f"This is Python {has} ({sys.executable}); the tasks need {needs}.",
        f"Install a newer one (https://www.python.org/downloads), and with it:  {errors.PackageMissing.MEND}",
        exit_code=errors.UsageError.exit_code,
    )


def packages(needs: Sequence[str], installed: Callable[[str], str | None]) -> Check:
    """Compare the installed packages with what pyproject.toml asks for.

    Args:
        needs: its requirements.
        installed: returns a package's version; None when it is not there.

    """
    from packaging.requirements import Requirement  # noqa: PLC0415

    wanted = [each for each in map(Requirement, needs) if each.marker is None or each.marker.evaluate()]
    bad = []
    for each in wanted:
        has = installed(each.name)
        if has is None or not each.specifier.contains(has, prereleases=True):
            bad.append(f"{each.name} {each.specifier} is needed, and {has or 'none'} is installed.")
    if bad:
        return check.fault(
            "packages", "\n".join(bad), errors.PackageMissing.MEND, exit_code=errors.UsageError.exit_code
        )
    return check.ok("packages", f"{len(wanted)}, as pyproject.toml asks for them")


def chosen(settings: Settings, kind: str) -> str:
    """Say which server it is, and which rule chose it."""
    if settings.server != "auto":
        return f"{kind}, because DB_SERVER={settings.server}"
    reasons = {
        "external": f"DB_HOST={settings.host} is not this machine",
        "docker": "a Docker engine answers",
        "embedded": "no Docker engine answers",
    }
    return f"{kind}, because {reasons[kind]} (DB_SERVER=auto)"


def pgvector(details: Details) -> Check:
    """Judge the extension that the embeddings need."""
    has = details.installed or details.pgvector
    if has is None:
        return check.fault(
            "pgvector",
            "The server has no extension vector (pgvector), which the embeddings need.",
            "Use the image of infra/docker-compose.yml (DB_SERVER=docker), or install it where the server runs:"
            "\n  Debian, Ubuntu: apt install postgresql-18-pgvector    macOS: brew install pgvector",
        )
    if _number(has) < OLDEST_PGVECTOR:
        return check.fault(
            "pgvector",
            f"pgvector is {has}; the embeddings need halfvec, which came with 0.7.",
            f"Install a newer one where the server runs, then:\n  {UPDATE}",
        )
    if details.installed is None:
        return check.ok("pgvector", f"{has} is available; a migration installs it")
    if details.pgvector and _number(details.installed) < _number(details.pgvector):
        return check.warning(
            "pgvector",
            f"{details.installed} is installed in this database, {details.pgvector} is available.",
            UPDATE,
        )
    return check.ok("pgvector", f"{has} is installed")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def rights(settings: Settings, details: Details, refused: errors.ServerError | None) -> Check:
    """Judge what the role may do.

    Args:
        settings: who it is.
        details: what it may do.
        refused: that it may not create tables.

    """
    bad = [check.failed("rights", refused)] if refused else []
    if details.pgvector and not details.installed and not details.may_extend:
        mend = f"As a superuser, in the database {settings.name}:  CREATE EXTENSION vector;"
        bad.append(check.fault("rights", f"The role {settings.user} may not install pgvector.", mend))
    if not details.may_create_databases:
        found = f"The role {settings.user} may not create databases, which migrate-rehearse and migrate-verify do."
        bad.append(check.warning("rights", found, f'As a superuser:  ALTER ROLE "{settings.user}" CREATEDB;'))
    return check.worst("rights", bad, f"{settings.user} may create tables, databases and the extension")


def collation(name: str, details: Details) -> Check:
    """Compare the collation that the indexes were made with, and the system's: text may sort otherwise since."""
    if details.recorded == details.actual:
        return check.ok("collation", details.collation + (f", version {details.actual}" if details.actual else ""))
    return check.warning(
        "collation",
        f"The indexes were made with version {details.recorded} of the collation {details.collation};"
        f" the server's system has {details.actual}, which may sort otherwise.",
        f'Build them anew, then accept it:\n  invoke db.shell --command "REINDEX DATABASE {_quoted(name)}"\n'
        f'  invoke db.shell --command "ALTER DATABASE {_quoted(name)} REFRESH COLLATION VERSION"',
    )


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '\\"' + name.replace('"', '\\"\\"') + '\\"'


def line_ends(folder: Path, shown: str) -> Check:
    """Look for CRLF in the files, and for the rule that keeps Git from making them.

    Neither stops a run: the checksum is taken over LF. But what PostgreSQL keeps, a function's body say, differs.

    Args:
        folder: of the migrations.
        shown: likewise, as people type it.

    """
    if not folder.is_dir():
        return check.skipped("line ends", "see files")
    bad = []
    if crlf := [path.name for path in sorted(folder.glob("*.sql")) if path.is_file() and _has_crlf(path)]:
        names = ", ".join(crlf[:SHOWN_FILES]) + (
            f" and {len(crlf) - SHOWN_FILES} more" if len(crlf) > SHOWN_FILES else ""
        )
        code = (
            f"[p.write_bytes(p.read_bytes().replace(b'\\r\\n', b'\\n')) for p in pathlib.Path('{shown}').glob('*.sql')]"
        )
        mend = f'python -c "import pathlib; {code}"'
        bad.append(check.warning("line ends", f"Lines end in CRLF instead of LF in {shown}: {names}.", mend))
    if not _keeps_lf(folder):
        mend = "Add the line  *.sql text eol=lf  to .gitattributes, then:  git add --renormalize ."
        found = "No .gitattributes keeps *.sql at LF, so that Git on Windows may check the files out with CRLF."
        bad.append(check.warning("line ends", found, mend))
    return check.worst("line ends", bad, "LF everywhere")


def _has_crlf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return any(line.endswith(b"\r\n") for line in file)
    except OSError:  # reading the files says so
        return False


def _keeps_lf(folder: Path) -> bool:
    """Ask Git by which rule it would check a file out; where there is no Git, none is needed."""
    said = git.git(folder, "check-attr", "eol", "--", "001.sql")
    return said is None or said.strip().endswith(": lf")


def disk_space(free: Mapping[str, int]) -> Check:
    """Judge how much room there is in each place.

    Args:
        free: bytes by place.

    """
    said = [f"{place}: {count / 1e9:,.1f} GB free" for place, count in free.items()]
    mend = "Make room there. What Docker could give back:  docker system df"
    bad = [
        check.fault("disk space", f"There is too little room, {count / 1e6:,.0f} MB, in {place}.", mend)
        if count < TOO_LITTLE
        else check.warning("disk space", f"There is little room, {count / 1e6:,.0f} MB, in {place}.", mend)
        for place, count in free.items()
        if count < LITTLE
    ]
    return check.worst("disk space", bad, "\n".join(said))


def leftovers(left: Mapping[str, str]) -> Check:
    """List what killed runs left behind.

    Args:
        left: what it is, and the command that removes it.

    """
    if not left:
        return check.ok("leftovers", "none")
    names = list(left)
    more = [f"and {len(names) - SHOWN_FILES} more"] if len(names) > SHOWN_FILES else []
    found = "\n".join(["Killed runs left behind:", *(f"  {name}" for name in names[:SHOWN_FILES]), *more])
    return check.warning("leftovers", found, "\n".join(dict.fromkeys(left.values())))


def removal(folder: Path, pattern: str) -> str:
    """Return the command that removes what matches in a folder and is more than a day old, for this system's shell."""
    if sys.platform == "win32":
        old = "Where-Object LastWriteTime -lt (Get-Date).AddDays(-1)"
        return f'Get-ChildItem -Force "{folder}" -Filter "{pattern}" | {old} | Remove-Item -Recurse -Force'
    return f"find {shlex.quote(str(folder))} -maxdepth 1 -name '{pattern}' -mtime +0 -exec rm -r {{}} +"
