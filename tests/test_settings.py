"""Environment and `.env` in; one value, or one error with every problem, out."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tasks
from infra.db import settings
from infra.db.errors import SettingsError, UsageError
from tests.project import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path("/project").absolute()
SECRET = "hunter2 not to be seen"


def read(environment: Mapping[str, str] | None = None, dotenv: Mapping[str, str | None] | None = None) -> Any:
    return settings.read(environment or {}, root=ROOT, dotenv=dotenv or {})


def refused(environment: Mapping[str, str] | None = None, dotenv: Mapping[str, str | None] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(environment, dotenv)
    return str(caught.value)


def one_problem(problem: str) -> str:
    return (
        f"One setting does not make sense.\n  {problem}\nNothing was started or changed.\n"
        "Mend them in the environment or in .env; .env.example documents every setting."
    )


def test_without_any_setting_the_documented_defaults_hold() -> None:
    assert read() == settings.Settings(
        host="127.0.0.1",
        port=5432,
        name="mordeaux",
        user="postgres",
        password="postgres",
        server="auto",
        wait_timeout=60.0,
        lock_timeout="5s",
        lock_retries=5,
        migrations_dir=ROOT / "infra" / "migrations",
        embedded_dir=ROOT / ".postgres",
        backup_dir=ROOT / "backups",
        backup_keep=10,
        root=ROOT,
        environment={},
    )


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        pytest.param("DB_HOST", "db.example.org", "host", "db.example.org", id="host"),
        pytest.param("DB_HOST", "", "host", "127.0.0.1", id="host empty"),
        pytest.param("DB_HOST", "LocalHost", "host", "127.0.0.1", id="host localhost in any case"),
        pytest.param("DB_HOST", "0.0.0.0", "host", "127.0.0.1", id="host any address of this machine"),
        pytest.param("DB_HOST", "::1", "host", "127.0.0.1", id="host IPv6 loopback"),
        pytest.param("DB_HOST", "fe80::7", "host", "fe80::7", id="host IPv6"),
        pytest.param("DB_PORT", "1", "port", 1, id="port lowest"),
        pytest.param("DB_PORT", "65535", "port", 65535, id="port highest"),
        pytest.param("DB_NAME", "é" * 31 + "x", "name", "é" * 31 + "x", id="name of 63 bytes"),
        pytest.param("DB_USER", 'An "o" n', "user", 'An "o" n', id="user to be quoted"),
        pytest.param("DB_PASSWORD", "", "password", "", id="password empty"),
        pytest.param("DB_PASSWORD", " p'\\ä$x", "password", " p'\\ä$x", id="password with anything"),
        pytest.param("DB_SERVER", "docker", "server", "docker", id="server docker"),
        pytest.param("DB_SERVER", "embedded", "server", "embedded", id="server embedded"),
        pytest.param("DB_SERVER", "external", "server", "external", id="server external, here"),
        pytest.param("DB_WAIT_TIMEOUT", "0.5", "wait_timeout", 0.5, id="wait half a second"),
        pytest.param("DB_WAIT_TIMEOUT", "86400", "wait_timeout", 86400.0, id="wait a day"),
        pytest.param("DB_LOCK_TIMEOUT", "0", "lock_timeout", "0", id="lock timeout for ever"),
        pytest.param("DB_LOCK_TIMEOUT", "250", "lock_timeout", "250", id="lock timeout in milliseconds"),
        pytest.param("DB_LOCK_TIMEOUT", "1.5 min", "lock_timeout", "1.5min", id="lock timeout with a space"),
        pytest.param("DB_LOCK_RETRIES", "0", "lock_retries", 0, id="no retries"),
        pytest.param("DB_LOCK_RETRIES", "1000", "lock_retries", 1000, id="most retries"),
        pytest.param("MIGRATIONS_DIR", "sql/up", "migrations_dir", ROOT / "sql" / "up", id="folder from the top"),
        pytest.param("EMBEDDED_DIR", "~/pg", "embedded_dir", Path.home() / "pg", id="folder in the home"),
        pytest.param("BACKUP_DIR", str(ROOT / "b"), "backup_dir", ROOT / "b", id="folder absolute"),
        pytest.param("BACKUP_KEEP", "0", "backup_keep", 0, id="all backups"),
    ],
)
def test_a_good_value_takes_effect_from_the_environment_and_from_the_file(
    name: str, text: str, attribute: str, value: object
) -> None:
    assert getattr(read({name: text}), attribute) == value
    assert getattr(read({}, {name: text}), attribute) == value


PORT, SECONDS = (
    "is not a port; give a number from 1 to 65535",
    "is not a number of seconds above 0 and up to a day, like 60",
)
DURATION, COUNT = "is not a duration; write 500ms, 5s or 2min (0 waits for ever)", "is not a number from 0 to 1000"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        pytest.param(
            "DB_HOST", "/run/postgresql", "is a socket directory; give a host name or an address", id="socket"
        ),
        pytest.param("DB_HOST", "a,b", "is not one host name or address", id="two hosts"),
        pytest.param("DB_HOST", "a b", "is not one host name or address", id="host with a space"),
        pytest.param("DB_HOST", "postgres://h", "is not one host name or address", id="host as URL"),
        pytest.param("DB_HOST", "ann@h", "is not one host name or address", id="host with a user"),
        pytest.param("DB_PORT", "", PORT, id="port empty"),
        pytest.param("DB_PORT", "0", PORT, id="port 0"),
        pytest.param("DB_PORT", "65536", PORT, id="port too high"),
        pytest.param("DB_PORT", "5432 ", PORT, id="port with a space"),
        pytest.param("DB_PORT", "-1", PORT, id="port negative"),
        pytest.param("DB_NAME", "", "is not a name of 1 to 63 bytes", id="name empty"),
        pytest.param("DB_NAME", "é" * 32, "is not a name of 1 to 63 bytes", id="name of 64 bytes"),
        pytest.param("DB_USER", "a\0b", "is not a name of 1 to 63 bytes", id="user with a NUL"),
        pytest.param("DB_SERVER", "Docker", "is none of auto, docker, embedded, external", id="server in capitals"),
        pytest.param("DB_WAIT_TIMEOUT", "0", SECONDS, id="wait 0"),
        pytest.param("DB_WAIT_TIMEOUT", "60s", SECONDS, id="wait with a unit"),
        pytest.param("DB_WAIT_TIMEOUT", "inf", SECONDS, id="wait for ever"),
        pytest.param("DB_WAIT_TIMEOUT", "86400.1", SECONDS, id="wait longer than a day"),
        pytest.param("DB_LOCK_TIMEOUT", "5 seconds", DURATION, id="lock timeout in words"),
        pytest.param("DB_LOCK_TIMEOUT", "-1", DURATION, id="lock timeout negative"),
        pytest.param("DB_LOCK_TIMEOUT", "5s -c x=y", DURATION, id="lock timeout with another option"),
        pytest.param("DB_LOCK_RETRIES", "1001", COUNT, id="too many retries"),
        pytest.param("DB_LOCK_RETRIES", "2.5", COUNT, id="half a retry"),
        pytest.param("MIGRATIONS_DIR", "", "is empty; name a folder", id="folder empty"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_its_text_and_its_origin(name: str, text: str, why: str) -> None:
    assert refused({name: text}) == one_problem(f"{name}={text!r} (environment) {why}")
    assert refused({}, {name: text}) == one_problem(f"{name}={text!r} (.env) {why}")


@pytest.mark.parametrize("text", [pytest.param(f"{SECRET}\n", id="line break"), pytest.param(f"{SECRET}\0", id="NUL")])
def test_a_password_that_cannot_be_sent_is_refused_without_being_shown(text: str) -> None:
    why = "holds a line break or a NUL, which no client can send"
    assert refused({"DB_PASSWORD": text}) == one_problem(f"DB_PASSWORD (environment) {why}")


def test_all_problems_are_in_one_error_with_suggestions_and_without_any_secret() -> None:
    environment = {"DB_PASSWD": SECRET, "DB_X": "1", "DB_PORT": "high"}
    dotenv = {"DB_HOSTS": "h", "DB_LOCK_RETRIES": "many", "DB_PASSWORD": f"{SECRET}\n", "DB_UNSAID": None}
    assert refused(environment, dotenv) == (
        "6 settings do not make sense.\n"
        "  DB_HOSTS (.env) is not a setting; did you mean DB_HOST?\n"
        "  DB_PASSWD (environment) is not a setting; did you mean DB_PASSWORD?\n"
        "  DB_X (environment) is not a setting\n"
        f"  DB_PORT='high' (environment) {PORT}\n"
        "  DB_PASSWORD (.env) holds a line break or a NUL, which no client can send\n"
        f"  DB_LOCK_RETRIES='many' (.env) {COUNT}\n"
        "Nothing was started or changed.\n"
        "Mend them in the environment or in .env; .env.example documents every setting."
    )


def test_the_environment_beats_the_file_and_both_are_handed_on() -> None:
    made = read({"DB_PORT": "5433", "PGSSLMODE": "require"}, {"DB_PORT": "bad", "NO_COLOR": "1", "DB_USER": None})
    assert (made.port, made.user) == (5433, "postgres")
    assert made.environment == {"DB_PORT": "5433", "PGSSLMODE": "require", "NO_COLOR": "1"}


def test_the_password_is_not_in_the_repr() -> None:
    assert SECRET not in repr(read({"DB_PASSWORD": SECRET}))


@pytest.mark.parametrize("server", [pytest.param("docker", id="docker"), pytest.param("embedded", id="embedded")])
def test_a_server_of_this_machine_with_a_foreign_host_is_refused(server: str) -> None:
    assert refused({"DB_SERVER": server, "DB_HOST": "db.example.org"}) == one_problem(
        f"DB_SERVER={server} runs on this machine, but DB_HOST='db.example.org' does not name it;"
        " leave DB_HOST out or set DB_SERVER=external"
    )


@pytest.mark.parametrize(
    ("host", "is_local"),
    [pytest.param("localhost", True, id="this machine"), pytest.param("db.example.org", False, id="another")],
)
def test_only_a_host_that_names_this_machine_is_local(host: str, is_local: bool) -> None:  # noqa: FBT001
    assert read({"DB_HOST": host}).is_local is is_local


def test_a_path_is_shown_from_the_top_folder_or_in_full() -> None:
    outside = Path("/elsewhere/b").absolute()
    assert read().shown(ROOT / "infra" / "migrations") == "infra/migrations"
    assert read().shown(outside) == str(outside)


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's top folder for tasks.py, on a machine without any of our variables."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    return tmp_path


def test_a_file_with_a_byte_order_mark_is_read_from_its_first_line(top: Path) -> None:
    (top / ".env").write_bytes(codecs.BOM_UTF8 + 'DB_PORT=5433\r\nDB_PASSWORD="pä ss"\r\n'.encode())
    made = tasks._settings({"DB_WAIT_TIMEOUT": "7"})
    assert (made.port, made.password, made.wait_timeout, made.root) == (5433, "pä ss", 7.0, top)


@pytest.mark.parametrize(
    "encoding", [pytest.param("utf-16", id="UTF-16, as PowerShell writes"), pytest.param("latin-1", id="Latin-1")]
)
def test_a_file_that_is_not_utf8_is_refused_in_words(top: Path, encoding: str) -> None:
    (top / ".env").write_bytes("DB_PASSWORD=pä\n".encode(encoding))
    with pytest.raises(UsageError, match=r"\.env.* UTF-8"):
        tasks._settings({})
