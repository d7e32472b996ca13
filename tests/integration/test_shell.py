"""db.shell on every server: somebody at a terminal, a script that pipes, and one command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.project import Project
    from tests.terminal import Terminal

PROMPT = r"test_\w+=# "
SLEEP = "SELECT pg_sleep(600)"
# A machine without any psql: what looks for one finds none.
WITHOUT_PSQL = """
import sys
sys.path.insert(0, ".")
from infra.db.servers import clients
clients.newest = lambda paths: []
from invoke.main import program
program.run(["invoke", *sys.argv[1:]])
"""
terminals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no pseudo terminals to play somebody who types; look at it by hand"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder whose psqlrc is heard."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".psqlrc").write_text("\\echo psqlrc was read\n")
    return folder


@contextlib.contextmanager
def sitting_at(project: Project, home: Path, argv: list[str]) -> Iterator[Terminal]:
    from tests import terminal

    with terminal.opened(argv, project.root, project.environment(HOME=str(home))) as opened:
        yield opened


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleeping(project: Project) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> "
    return bool(project.rows(query + "pg_backend_pid() AND datname = current_database()"))


@terminals
def test_at_a_terminal_it_is_an_interactive_psql(everywhere: Project, home: Path) -> None:
    everywhere.do("CREATE TABLE uniquely_named (a int)")
    with sitting_at(everywhere, home, everywhere.command("db.shell")) as terminal:
        terminal.until("psqlrc was read")
        terminal.until(PROMPT)
        assert terminal.settings() != terminal.untouched  # the line editor has it
        terminal.type("SELECT 6 * 7 AS answer;\n")
        terminal.until(r"answer(?s:.*)\n +42\n")
        terminal.type("SELECT count(*) FROM uniq\t;\n")
        terminal.until(r"FROM uniquely_named ;(?s:.*)\n +0\n")
        terminal.type("\x1b[A\n")  # the key for what was typed last
        terminal.until(r"FROM uniquely_named ;(?s:.*)\n +0\n")
        terminal.type("\\q\n")
        assert terminal.ends() == 0
        assert terminal.settings() == terminal.untouched
    assert "uniquely_named" in (home / ".psql_history").read_text()


@terminals
def test_ctrl_c_cancels_the_statement_and_leaves_the_shell(everywhere: Project, home: Path) -> None:
    with sitting_at(everywhere, home, everywhere.command("db.shell")) as terminal:
        terminal.until(PROMPT)
        for _ in range(2):
            terminal.type(f"{SLEEP};\n")
            wait_for(lambda: sleeping(everywhere))
            terminal.type("\x03")
            terminal.until("canceling statement due to user request")
            terminal.until(PROMPT)
            assert not sleeping(everywhere)
        terminal.type("SELECT 'half\n")
        terminal.until("' *# |'# ")
        terminal.type("\x03")  # and at the prompt, what was begun
        terminal.until(PROMPT)
        terminal.type("SELECT 6 * 7 AS answer;\n")
        terminal.until(r"\n +42\n(?s:.*)" + PROMPT)
        terminal.type("\x04")  # Ctrl-D
        assert terminal.ends() == 0


@terminals
def test_it_knows_the_size_of_the_window_and_follows_it(everywhere: Project, home: Path) -> None:
    with sitting_at(everywhere, home, everywhere.command("db.shell")) as terminal:
        terminal.until(PROMPT)
        terminal.type("\\! stty size\n")
        terminal.until("\n30 100\n")
        terminal.type("\\pset format wrapped\n")
        terminal.until(PROMPT)
        terminal.resize(40, 60)
        terminal.type("\\! stty size\n")
        terminal.until("\n40 60\n")
        terminal.type("SELECT repeat('x', 90) AS wide;\n")
        terminal.until(r"x{20,58}\.\n")
        terminal.type("\\q\n")
        assert terminal.ends() == 0


@terminals
def test_one_command_at_a_terminal_is_cancelled_by_psql_too(anywhere: Project, home: Path) -> None:
    with sitting_at(anywhere, home, anywhere.command("db.shell", "--command", SLEEP)) as terminal:
        wait_for(lambda: sleeping(anywhere))
        terminal.type("\x03")
        assert "psqlrc" not in terminal.until("canceling statement due to user request")
        assert terminal.ends() == 1
        assert terminal.settings() == terminal.untouched


@terminals
def test_sigterm_ends_the_shell_and_its_statement(everywhere: Project, home: Path) -> None:
    with sitting_at(everywhere, home, everywhere.command("db.shell")) as terminal:
        terminal.until(PROMPT)
        terminal.type(f"{SLEEP};\n")
        wait_for(lambda: sleeping(everywhere))
        terminal.program.terminate()
        assert terminal.ends() == 130
        wait_for(lambda: not sleeping(everywhere))
        assert terminal.settings() == terminal.untouched


@needs_signals
def test_the_password_is_in_no_argument(everywhere: Project) -> None:
    secret = everywhere.settings.get("DB_PASSWORD", "postgres")
    with everywhere.start("db.shell", "--command", SLEEP) as running:
        wait_for(lambda: sleeping(everywhere))
        [psql] = psutil.Process(running.pid).children(recursive=True)
        name, *words = psql.cmdline()
        assert "psql" in name
        assert secret not in " ".join(words)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)


@needs_signals
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_command_ends_in_the_server_too(everywhere: Project, kind: signal.Signals) -> None:
    with everywhere.start("db.shell", "--command", SLEEP) as running:
        wait_for(lambda: sleeping(everywhere))
        running.send_signal(kind)
        said = running.communicate(timeout=60)[0].decode()
        assert running.returncode == 130
    assert "Interrupted." in said
    assert "Traceback" not in said
    wait_for(lambda: not sleeping(everywhere))


def test_one_command_is_run_as_psql_would(everywhere: Project, home: Path) -> None:
    done = everywhere.invoke("db.shell", "--command", "SELECT 'é' AS letter", HOME=str(home))
    assert (done.code, done.out, done.err) == (0, " letter \n--------\n é\n(1 row)\n\n", "")
    done = everywhere.invoke("db.shell", "--command", "\\conninfo")
    assert everywhere.settings["DB_NAME"] in done.out


def test_piped_input_is_run_without_the_users_psqlrc(everywhere: Project, home: Path) -> None:
    done = everywhere.invoke("db.shell", stdin="SELECT 1 AS one;\nSELECT 'é' AS two", HOME=str(home))
    assert done.code == 0
    assert done.out == " one \n-----\n   1\n(1 row)\n\n two \n-----\n é\n(1 row)\n\n"
    assert done.err == ""


def test_a_command_reads_data_from_a_pipe(everywhere: Project) -> None:
    everywhere.do("CREATE TABLE many (n int, filling text)")
    data = "".join(f"{n}\t{'x' * 100}\n" for n in range(50_000))  # 5 MB: more than any pipe holds
    done = everywhere.invoke("db.shell", "--command", "COPY many FROM STDIN", stdin=data)
    assert (done.code, done.out) == (0, "COPY 50000\n")
    assert everywhere.rows("SELECT count(*) FROM many") == [(50_000,)]


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        pytest.param(("--command", "SELECT 1/0"), "", 1, "ERROR:  division by zero", id="command"),
        pytest.param((), "SELECT 1;\nSELECT 1/0;\nSELECT 2;\n", 3, "psql:<stdin>:2: ERROR:  division", id="script"),
        pytest.param(
            (),
            "SELECT pg_terminate_backend(pg_backend_pid());\nSELECT 2;",
            2,
            "connection to server was lost",
            id="lost",
        ),
    ],
)
def test_the_exit_code_is_psqls(everywhere: Project, words: tuple[str, ...], stdin: str, code: int, said: str) -> None:
    done = everywhere.invoke("db.shell", *words, stdin=stdin)
    assert done.code == code, done
    assert said in done.err
    assert "Traceback" not in done.err
    assert "2\n" not in done.out.replace("(1 row)", "")


def test_after_a_command_that_went_well_further_tasks_follow(anywhere: Project) -> None:
    done = anywhere.invoke("db.shell", "--command", "CREATE TABLE made (a int)", "db.describe", "made")
    assert done.code == 0
    assert 'Table "public.made"' in done.out
    done = anywhere.invoke("db.shell", "--command", "SELECT 1/0", "db.describe", "made")
    assert (done.code, done.out) == (1, "")


@terminals
def test_without_a_psql_here_the_containers_own_is_used(
    docker_project: Project, fresh: Callable[[Project], Project], home: Path
) -> None:
    project = fresh(docker_project)
    argv = [sys.executable, "-c", WITHOUT_PSQL, "db.shell"]
    with sitting_at(project, home, argv) as terminal:
        terminal.until(PROMPT)
        terminal.type(f"{SLEEP};\n")
        wait_for(lambda: sleeping(project))
        terminal.type("\x03")
        terminal.until("canceling statement due to user request")
        terminal.type("SELECT inet_client_addr() IS NULL AS by_socket;\n")
        terminal.until(r"\n +t\n")
        terminal.type("\\q\n")
        assert terminal.ends() == 0
        assert terminal.settings() == terminal.untouched
    ran = subprocess.run(
        argv, cwd=project.root, env=project.environment(), input=b"SELECT 1/0;", capture_output=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (3, b"psql:<stdin>:1: ERROR:  division by zero\n")


def test_without_any_way_to_a_psql_it_says_what_to_install(
    docker_project: Project, fresh: Callable[[Project], Project]
) -> None:
    project = fresh(docker_project)
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_PSQL, "db.shell"],
        cwd=project.root,
        env=project.environment(PATH=""),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert ran.returncode == 5
    assert "nor the program docker" in ran.stderr
    assert "brew install libpq" in ran.stderr


@pytest.mark.parametrize("words", [("db.shell",), ("db.tables",), ("db.describe", "faces"), ("db.logs",)])
@pytest.mark.parametrize("server", ["embedded", "docker"])
def test_nothing_is_started_for_a_look(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, words: tuple[str, ...]
) -> None:
    if server == "docker":
        request.getfixturevalue("docker_client")
    from tests.project import copy

    project = copy(tmp_path / "never", DB_SERVER=server, DB_PORT="21999", COMPOSE_PROJECT_NAME=f"never-{os.getpid()}")
    done = project.invoke(*words)
    assert done.code == 5
    assert "is not running" in done.err
    assert "Next: invoke db.up" in done.err
    assert not (project.root / ".postgres").exists()
