"""An external server, for real: one with TLS, one without, and what is wrong with a connection to either."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from infra.db import errors, settings
from infra.db.servers import Address, Identity, accounts, clients, external, process, refusals, wheel
from infra.db.servers.embedded import Embedded
from infra.db.servers.external import External
from infra.db.servers.postmaster import port_in_the_way
from tests.systems import needs_scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "db.test.invalid"
PASSWORD = "only a test's"


class Site:
    """A server that somebody else runs, as its administrator knows it."""

    def __init__(self, root: Path, port: int, *, certificate: Path | None = None) -> None:
        self.root = root
        self.port = port
        self.certificate = certificate

    def settings(self, **given: str) -> settings.Settings:
        own = {"DB_HOST": "127.0.0.1", "DB_PORT": str(self.port), "DB_NAME": "postgres", "DB_PASSWORD": PASSWORD}
        own |= {"DB_SERVER": "external", "PATH": os.environ["PATH"]}
        return settings.read({**own, **given}, root=self.root, dotenv={})

    def server(self, **given: str) -> External:
        return External(self.settings(**given))

    def psql(self, query: str, **given: str) -> tuple[int, str]:
        """Return the exit code and what was said."""
        running = self.server(**given).execute("psql", ["-XAtc", query], env={"PGCONNECT_TIMEOUT": "5"})
        said = "\n".join(line[1] for line in process.lines(running) if line)
        return running.wait(), said

    def refusal(self, **given: str) -> errors.ServerError:
        """Return the error for what psycopg and psql both say."""
        with pytest.raises(psycopg.OperationalError) as caught:
            self.connect(**given)
        which = self.settings(**given)
        address = Address(which.host, which.port)
        error = refusals.words(str(caught.value), which, address)
        code, said = self.psql("SELECT 1", **given)
        assert code == 2
        assert type(refusals.words(said, which, address)) is type(error)
        assert self.server(**given).explain(error) is error
        assert PASSWORD not in str(error)
        return error

    def connect(self, **given: str) -> psycopg.Connection[tuple[object, ...]]:
        who = self.settings(**given)
        tls = {name.removeprefix("PG").lower(): text for name, text in given.items() if name.startswith("PGSSL")}
        return psycopg.connect(
            host=who.host,
            port=who.port,
            dbname=who.name,
            user=who.user,
            password=who.password or None,
            connect_timeout=5,
            autocommit=True,
            **tls,  # type: ignore[arg-type]
        )


def free_port() -> int:
    return next(port for port in range(26000 + os.getpid() % 5000, 32700) if not port_in_the_way(port))


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp" if os.name != "nt" else None, prefix="test-external-") as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def plain() -> Iterator[Site]:
    """The wheel's server: it knows no TLS."""
    with open_folder() as root:
        site = Site(root, free_port())
        given = {"DB_PORT": str(site.port), "DB_NAME": "postgres", "DB_PASSWORD": PASSWORD}
        server = Embedded(settings.read(given, root=root, dotenv={}))
        server.start(lambda _line: None)
        yield site
        server.stop()


def with_tls() -> Path:
    """Return the programs of a PostgreSQL that was built with TLS; the wheel's was not."""
    for folder in sorted(Path("/").glob("usr/lib/postgresql/*/bin"), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail("REQUIRE_DOCKER=1 asks for real parts, but there is no PostgreSQL server with TLS here")
    pytest.skip("needs a PostgreSQL server with TLS, like Debian's:  apt install postgresql openssl")


def run_as(account: accounts.Account | None, *argv: str | Path) -> None:
    other = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd="/", **other)  # type: ignore[call-overload]


def make_certificate(folder: Path, name: str) -> Path:
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    argv = ["openssl", "req", "-new", "-x509", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(argv, check=True, capture_output=True)
    return folder / "certificate"


@pytest.fixture(scope="module")
def tls() -> Iterator[Site]:
    """A server that admits nobody without TLS, and role `stranger` and database `closed` not at all."""
    programs = with_tls()
    with open_folder() as root:
        account = accounts.of(root)
        certificate = make_certificate(root, NAME)
        (root / "pw").write_text(PASSWORD)
        for path in (root, root / "pw", root / "key"):
            accounts.give(path, account)
        (root / "key").chmod(0o600)
        site = Site(root, free_port(), certificate=certificate)
        data = root / "data"
        run_as(
            account,
            programs / "initdb",
            "-N",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            f"--pwfile={root / 'pw'}",
            data,
        )
        (data / "pg_hba.conf").write_text(
            "host all stranger 127.0.0.1/32 reject\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {site.port}\nunix_socket_directories = ''\nfsync = off\n"
                f"ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{root / 'key'}'\n"
                "max_connections = 6\nsuperuser_reserved_connections = 1\n"
            )
        run_as(account, programs / "pg_ctl", "start", "-s", "-w", "-D", data, "-l", root / "log")
        try:
            with site.connect() as connection:
                connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
                connection.execute("CREATE ROLE nologin PASSWORD 'plain'")
                connection.execute("CREATE DATABASE closed")
                connection.execute("REVOKE CONNECT ON DATABASE closed FROM public")
            yield site
        finally:
            run_as(account, programs / "pg_ctl", "stop", "-s", "-m", "fast", "-w", "-D", data)


def test_it_is_where_the_settings_say_and_not_ours_to_start_stop_or_delete(plain: Site) -> None:
    server = plain.server()
    address = Address("127.0.0.1", plain.port)
    assert (server.place(), server.exists(), server.address()) == (f"127.0.0.1:{plain.port}", True, address)
    told: list[str] = []
    assert (server.start(told.append), told, server.trouble()) == (address, [], None)
    server.verify(Identity("10.0.0.7", "1", "2026-01-01"))
    with pytest.raises(errors.NotStopped, match=f"127.0.0.1:{plain.port} is not a server that this project started"):
        server.stop()
    with pytest.raises(errors.NotDeleted) as caught:
        server.destroy()
    assert caught.value.next == "To empty the configured database itself:  invoke migrate-reset"
    assert plain.psql("SELECT 1") == (0, "1")


@pytest.mark.parametrize("name", ["plain", "tls"])
def test_psql_runs_connected_as_configured(name: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(name)
    query = (
        "SELECT current_user || ' ' || current_database() || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    assert site.psql(query) == (0, f"postgres postgres {'true' if site.certificate else 'false'}")


def test_a_missing_database_is_told(plain: Site) -> None:
    error = plain.refusal(DB_NAME="mordeaux")
    assert type(error) is errors.DatabaseMissing
    assert error.next.splitlines()[0] == f"Create it:  createdb -h 127.0.0.1 -p {plain.port} -U postgres mordeaux"


@pytest.mark.parametrize("given", [{"DB_PASSWORD": "wrong"}, {"DB_USER": "nobody_there"}])
@pytest.mark.parametrize("name", ["plain", "tls"])
def test_a_wrong_password_or_role_is_told(name: str, given: dict[str, str], request: pytest.FixtureRequest) -> None:
    error = request.getfixturevalue(name).refusal(**given)
    assert type(error) is errors.PasswordRefused


def test_an_absent_password_is_told(plain: Site) -> None:
    assert type(plain.refusal(DB_PASSWORD="", PGPASSFILE="/nonexistent")) is errors.PasswordRefused


def test_a_refused_connection_is_told(plain: Site) -> None:
    assert type(plain.refusal(DB_PORT=str(free_port()))) is errors.ConnectionRefused


def test_an_unknown_host_is_told(plain: Site) -> None:
    error = plain.refusal(DB_HOST="no-such-host.invalid")
    assert type(error) is errors.HostUnknown
    assert error.what == "The host no-such-host.invalid is unknown: its name could not be turned into an address."


def test_a_server_without_tls_where_it_is_demanded_is_told(plain: Site) -> None:
    assert type(plain.refusal(PGSSLMODE="require")) is errors.TlsNotOffered


def test_a_server_that_demands_tls_is_told(tls: Site) -> None:
    assert type(tls.refusal(PGSSLMODE="disable")) is errors.TlsRequired


def test_a_certificate_of_an_unknown_authority_is_told(tls: Site, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other.invalid")
    assert type(tls.refusal(PGSSLMODE="verify-full", PGSSLROOTCERT=str(other))) is errors.CertificateRefused


def test_a_certificate_for_another_name_is_told(tls: Site) -> None:
    given = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(tls.certificate)}
    error = tls.refusal(**given)
    assert type(error) is errors.CertificateRefused
    assert f'server certificate for "{NAME}"' in error.where
    assert 'does not match host name "127.0.0.1"' in error.where


def test_a_missing_certificate_file_is_told(tls: Site) -> None:
    given = {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": str(tls.root / "nothing")}
    assert type(tls.refusal(**given)) is errors.TlsSettings


def test_a_verified_certificate_is_accepted(tls: Site) -> None:
    given = {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": str(tls.certificate)}
    assert tls.psql("SELECT 1", **given) == (0, "1")


def test_a_role_that_the_server_does_not_admit_is_told(tls: Site) -> None:
    assert type(tls.refusal(DB_USER="stranger")) is errors.NotAdmitted


def test_a_role_that_may_not_log_in_is_told(tls: Site) -> None:
    assert type(tls.refusal(DB_USER="nologin", DB_PASSWORD="plain")) is errors.RoleRefused


def test_a_database_that_is_closed_to_the_role_is_told(tls: Site) -> None:
    assert type(tls.refusal(DB_USER="plain", DB_PASSWORD="plain", DB_NAME="closed")) is errors.DatabaseClosed


def test_a_server_without_a_free_connection_is_told(tls: Site) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(tls.connect(DB_USER="plain", DB_PASSWORD="plain"))
        assert type(tls.refusal(DB_USER="plain", DB_PASSWORD="plain")) is errors.ServerFull


def test_something_else_than_postgresql_is_told(plain: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with contextlib.suppress(OSError):  # until the listener is closed
                while True:
                    caller, _ = other.accept()
                    with caller:
                        caller.recv(64)  # a web server would wait for the rest of a line that never comes
                        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        port = str(other.getsockname()[1])
        assert type(plain.refusal(DB_PORT=port)) is errors.NotPostgres
        with contextlib.suppress(OSError):  # Linux alone can do that to one that listens
            other.shutdown(socket.SHUT_RDWR)  # wakes the thread


def fake(folder: Path, name: str, says: str) -> Path:
    """Plant a program that only knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {says}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no PostgreSQL is installed, but the wheel."""
    monkeypatch.setattr(clients, "INSTALLED", (f"{str(tmp_path)[1:]}/postgresql/*/bin",))
    return tmp_path


@needs_scripts
def test_the_newest_program_is_used(plain: Site, bare: Path) -> None:
    for version in ("9.6.24", "15.18", "17.10", "16.14"):
        fake(bare / "postgresql" / version / "bin", "psql", version)
    newest = bare / "postgresql" / "17.10" / "bin" / "psql"
    assert plain.server(PATH="").program("psql") == newest
    assert clients.version(newest) == (17, 10)
    on_path = fake(bare / "conda", "psql", "18.1 (conda-forge)")
    assert plain.server(PATH=str(on_path.parent)).program("psql") == on_path


@needs_scripts
def test_debians_wrapper_is_passed_over(plain: Site, bare: Path) -> None:
    wrapper = fake(bare / "share", clients.WRAPPER, "99.0")
    (bare / "usr").mkdir()
    (bare / "usr" / "psql").symlink_to(wrapper)
    found = plain.server(PATH=str(bare / "usr")).program("psql")
    assert found == next(reversed(wheel.folders().values())) / wheel.file_name("psql")


@needs_scripts
def test_a_psql_without_restrict_is_passed_over_for_an_older_major_that_has_it(plain: Site, bare: Path) -> None:
    fake(bare / "postgresql" / "17" / "bin", "psql", "17.5")
    older = fake(bare / "postgresql" / "16" / "bin", "psql", "16.10")
    assert plain.server(PATH="").program("psql") == older


@needs_scripts
def test_pg_dump_needs_no_restrict(plain: Site, bare: Path) -> None:
    old = fake(bare / "postgresql" / "17" / "bin", "pg_dump", "17.5")
    assert plain.server(PATH="").program("pg_dump") == old


@needs_scripts
def test_too_old_programs_are_named_with_what_to_install(
    plain: Site, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "folders", dict)
    newer = fake(bare / "postgresql" / "17" / "bin", "psql", "17.5")
    older = fake(bare / "postgresql" / "9" / "bin", "psql", "9.6.24")
    with pytest.raises(errors.ClientMissing) as caught:
        plain.server(PATH="").program("psql")
    lacks = "is too old: it lacks \\restrict, which fences migrations in"
    assert str(caught.value) == (
        "PostgreSQL's program psql is needed on this machine for an external server; there is none that can be used.\n"
        f"  {newer} (17.5) {lacks} (17.6 has it)\n"
        f"  {older} (9.6) {lacks} (13.22 has it)\n"
        "Nothing was changed.\n"
        "Install PostgreSQL's client programs, the newest version you can get:\n"
        "  Debian, Ubuntu: apt install postgresql-client    Fedora: dnf install postgresql\n"
        "  macOS: brew install libpq    Windows: winget install PostgreSQL.PostgreSQL.18"
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, True),
        ({"PGSSLMODE": "disable"}, True),
        ({"PGSSLMODE": "prefer"}, True),
        ({"PGSSLMODE": "require"}, False),
        ({"PGSSLMODE": "verify-full"}, False),
        ({"PGSSLROOTCERT": "system"}, False),
    ],
)
@pytest.mark.usefixtures("bare")
def test_the_wheels_programs_are_used_only_where_tls_is_not_demanded(
    plain: Site, given: dict[str, str], *, found: bool
) -> None:
    server = plain.server(PATH="", **given)
    if found:
        assert server.program("psql").is_file()
        return
    with pytest.raises(errors.ClientMissing, match="there is none that can be used") as caught:
        server.program("psql")
    assert "was built without TLS, which the server, PGSSLMODE or PGSSLROOTCERT demands" in caught.value.where


def test_the_wheels_programs_know_no_tls() -> None:
    for folder in wheel.folders().values():
        asked = subprocess.run(
            [folder / wheel.file_name("psql"), "-c", "SELECT 1"],
            env={"PGSSLMODE": "require", "PGHOST": "127.0.0.1", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "invalid when SSL support is not compiled in" in asked.stderr


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        *[((19, 0), True), ((18, 0), True), ((17, 6), True), ((17, 5), False), ((16, 10), True), ((16, 9), False)],
        *[((15, 14), True), ((14, 18), False), ((13, 22), True), ((13, 21), False), ((12, 99), False), ((9, 6), False)],
    ],
)
def test_restrict_came_with_known_versions(version: tuple[int, int], *, knows: bool) -> None:
    assert external.knows_restrict(version) is knows


def test_a_file_that_is_no_program_has_no_version(tmp_path: Path) -> None:
    assert clients.version(tmp_path / "nothing") is None
    assert clients.version(fake(tmp_path, "psql", "of somebody")) is None
