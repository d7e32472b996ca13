"""The settings: environment and `.env` in, one frozen value out, or one error that lists every problem."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.db.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SERVERS = ("auto", "docker", "embedded", "external")
THIS_MACHINE = frozenset({"", "localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - names of this machine, not an address to bind
DURATION = re.compile(r"\d+(\.\d+)?\s*(us|ms|s|min|h|d)?")
LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer identifiers silently (NAMEDATALEN - 1)
OLDEST_TIME_LIMIT = 24 * 3600  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the tasks run with.

    Attributes:
        host: the server's name or address; 127.0.0.1 where the server is this machine.
        port: its TCP port.
        name: the database.
        user: the role to connect as.
        password: its password; never shown.
        server: one of `SERVERS`.
        wait_timeout: seconds to wait for readiness, and for the lock of a concurrent run.
        lock_timeout: PostgreSQL's `lock_timeout` for each migration, in its own notation.
        lock_retries: how often a file that met its lock_timeout is tried again.
        migrations_dir: where the `.sql` files are.
        embedded_dir: the data directory of the embedded server.
        backup_dir: where backups go.
        backup_keep: how many of them stay there; 0 for all.
        root: the project's top folder; relative paths start there.
        environment: all variables, `.env` included, for what Docker and libpq define themselves.

    """

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    server: str
    wait_timeout: float
    lock_timeout: str
    lock_retries: int
    migrations_dir: Path
    embedded_dir: Path
    backup_dir: Path
    backup_keep: int
    root: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether DB_HOST names this machine."""
        return self.host == "127.0.0.1"

    def without_tls(self) -> Settings:
        """Return the settings without libpq's own for TLS."""
        plain = {name: value for name, value in self.environment.items() if not name.startswith("PGSSL")}
        return replace(self, environment=plain)

    def shown(self, path: Path) -> str:
        """Return a path as a person would type it from the project's top folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def _host(text: str) -> str:
    if text.startswith("/"):
        raise ValueError("is a socket directory; give a host name or an address")
    if re.search(r"[\s,@]|://", text):
        raise ValueError("is not one host name or address")
    return "127.0.0.1" if text.lower() in THIS_MACHINE else text


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError("is not a port; give a number from 1 to 65535")
    return int(text)


def _identifier(text: str) -> str:
    if not text or "\0" in text or len(text.encode()) > LONGEST_NAME:
        raise ValueError(f"is not a name of 1 to {LONGEST_NAME} bytes")
    return text


def _password(text: str) -> str:
    if "\0" in text or "\n" in text:
        raise ValueError("holds a line break or a NUL, which no client can send")
    return text


def _server(text: str) -> str:
    if text not in SERVERS:
        raise ValueError(f"is none of {', '.join(SERVERS)}")
    return text


def seconds(text: str) -> float:
    """Read a time limit in seconds.

    Raises:
        ValueError: with the words for the person who wrote it.

    """
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not 0 < float(text) <= OLDEST_TIME_LIMIT:
        raise ValueError("is not a number of seconds above 0 and up to a day, like 60")
    return float(text)


def duration(text: str) -> str:
    """Check a PostgreSQL duration: a number with or without one of its units, milliseconds when without.

    Raises:
        ValueError: with the words for the person who wrote it.

    """
    if not DURATION.fullmatch(text):
        raise ValueError("is not a duration; write 500ms, 5s or 2min (0 waits for ever)")
    return text.replace(" ", "")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise ValueError("is not a number from 0 to 1000")
    return int(text)


def _text(text: str) -> str:
    if not text:
        raise ValueError("is empty; name a folder")
    return text


# name: (field, default, how it is read)
KNOWN: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "DB_HOST": ("host", "localhost", _host),
    "DB_PORT": ("port", "5432", _port),
    "DB_NAME": ("name", "mordeaux", _identifier),
    "DB_USER": ("user", "postgres", _identifier),
    "DB_PASSWORD": ("password", "postgres", _password),
    "DB_SERVER": ("server", "auto", _server),
    "DB_WAIT_TIMEOUT": ("wait_timeout", "60", seconds),
    "DB_LOCK_TIMEOUT": ("lock_timeout", "5s", duration),
    "DB_LOCK_RETRIES": ("lock_retries", "5", _count),
    "MIGRATIONS_DIR": ("migrations_dir", "infra/migrations", _text),
    "EMBEDDED_DIR": ("embedded_dir", ".postgres", _text),
    "BACKUP_DIR": ("backup_dir", "backups", _text),
    "BACKUP_KEEP": ("backup_keep", "10", _count),
}
SECRET = frozenset({"DB_PASSWORD"})


def read(environment: Mapping[str, str], *, root: Path, dotenv: Mapping[str, str | None]) -> Settings:
    """Read the settings.

    Args:
        environment: the process's own variables; they win.
        root: the project's top folder, where relative paths start.
        dotenv: what `.env` says; a name without a value counts as not said.

    Raises:
        SettingsError: listing every unknown `DB_*` name and every value that makes no sense.

    """
    said = {name: value for name, value in dotenv.items() if value is not None}
    merged = {**said, **environment}
    problems = [
        f"{name} ({_origin(name, environment)}) is not a setting{_meant(name)}"
        for name in merged
        if name.startswith("DB_") and name not in KNOWN
    ]
    values: dict[str, Any] = {}
    for name, (attribute, default, convert) in KNOWN.items():
        text = merged.get(name, default)
        try:
            values[attribute] = convert(text)
        except ValueError as error:
            shown = "" if name in SECRET else f"={text!r}"
            problems.append(f"{name}{shown} ({_origin(name, environment)}) {error}")
    if not problems and values["server"] in ("docker", "embedded") and values["host"] != "127.0.0.1":
        problems.append(
            f"DB_SERVER={values['server']} runs on this machine, but DB_HOST={values['host']!r} does not name it;"
            " leave DB_HOST out or set DB_SERVER=external"
        )
    if problems:
        raise SettingsError(problems)
    for attribute in ("migrations_dir", "embedded_dir", "backup_dir"):
        values[attribute] = root / Path(values[attribute]).expanduser()
    return Settings(root=root, environment=merged, **values)


def _origin(name: str, environment: Mapping[str, str]) -> str:
    return "environment" if name in environment else ".env"


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, KNOWN, n=1)
    return f"; did you mean {close[0]}?" if close else ""
