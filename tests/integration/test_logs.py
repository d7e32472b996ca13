"""db.logs: the server's own words, running or not, followed or not."""

from __future__ import annotations

import secrets
import signal
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests import project
from tests.conftest import free_port, open_folder
from tests.patience import read_until
from tests.systems import needs_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.project import Project


def leave_in_log(made: Project, words: str) -> None:
    """Make the server log a statement with these words."""
    with made.connect() as connection, pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute(f"SELECT '{words}'::int")


@pytest.fixture(params=["embedded", "docker"])
def own(request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project with a server of its own, which may be stopped."""
    image = request.getfixturevalue("image") if request.param == "docker" else ""
    with open_folder() as folder:
        made = project.copy(
            folder / "checkout",
            image=image,
            DB_SERVER=request.param,
            DB_PORT=str(free_port()),
            DB_NAME="logged",
            DB_PASSWORD="so secret, isn't it",
            COMPOSE_PROJECT_NAME=f"test-{secrets.token_hex(4)}",
        )
        done = made.invoke("db.up")
        assert done.code == 0, done
        yield made
        done = made.invoke("db.down", "--volumes", "--yes")
        assert done.code == 0, done


def test_the_log_is_shown_from_its_beginning_or_only_its_end(anywhere: Project) -> None:
    leave_in_log(anywhere, "first")
    leave_in_log(anywhere, "é, the last")
    whole = anywhere.invoke("db.logs")
    assert (whole.code, whole.err) == (0, "")
    assert whole.out.index("database system is ready to accept connections") < whole.out.index("SELECT 'first'::int")
    end = anywhere.invoke("db.logs", "--tail", "2")
    assert end.code == 0
    head, tail = end.out.splitlines()
    assert 'invalid input syntax for type integer: "é, the last"' in head
    assert "SELECT 'é, the last'::int" in tail
    assert anywhere.invoke("db.logs", "--tail", "0").out == ""


def test_what_is_no_text_is_replaced(anywhere: Project) -> None:
    leave_in_log(anywhere, "red\x1b[31m bell\x07 tab\t.")
    end = anywhere.invoke("db.logs", "--tail", "1")
    assert end.out.endswith("SELECT 'red\N{REPLACEMENT CHARACTER}[31m bell\N{REPLACEMENT CHARACTER} tab\t.'::int\n")


@needs_signals
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_following_goes_on_until_it_is_interrupted_and_then_ends_without_a_word(
    anywhere: Project, kind: signal.Signals
) -> None:
    leave_in_log(anywhere, "before")
    with anywhere.start("db.logs", "--follow", "--tail", "1") as following:
        assert following.stdout
        read_until(following, b"SELECT 'before'::int")
        for words in ("one", "two"):
            leave_in_log(anywhere, words)
            read_until(following, f"SELECT '{words}'::int".encode())
        following.send_signal(kind)
        rest = following.stdout.read()
        assert following.wait(60) == 130
    assert b"Interrupted" not in rest
    assert b"Traceback" not in rest


def test_following_ends_without_a_word_when_nobody_reads_it_any_more(anywhere: Project) -> None:
    following = subprocess.Popen(
        anywhere.command("db.logs", "--follow"),
        cwd=anywhere.root,
        env=anywhere.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with following:
        assert following.stdout
        assert following.stderr
        assert following.stdout.readline()
        following.stdout.close()
        for _ in range(100):
            if following.poll() is not None:
                break
            leave_in_log(anywhere, "nobody reads this")
        assert following.wait(60) == 0
        assert following.stderr.read() == b""


def test_the_log_of_a_stopped_server_is_still_there_and_following_ends_with_the_server(own: Project) -> None:
    with own.start("db.logs", "--follow") as following:
        assert following.stdout
        assert following.stdout.readline()
        assert own.invoke("db.down").code == 0
        followed = following.stdout.read().decode()
        assert following.wait(60) == 0
    assert "database system is shut down" in followed
    for words in (("db.logs",), ("db.logs", "--follow")):
        done = own.invoke(*words)
        assert (done.code, done.err) == (0, "")
        assert "database system is shut down" in done.out
    assert own.invoke("db.logs", "--tail", "1").out == done.out.splitlines(keepends=True)[-1]


def test_the_password_is_not_shown(own: Project) -> None:
    leave_in_log(own, own.settings["DB_PASSWORD"].replace("'", "''"))
    done = own.invoke("db.logs", "--tail", "2")
    assert "SELECT '********'::int" in done.out
    assert 'type integer: "********"' in done.out


def test_bytes_that_are_no_utf_8_are_replaced(embedded_project: Project) -> None:
    with (embedded_project.root / ".postgres" / "server.log").open("ab") as log:
        log.write(b"junk \xff\x00\xc3\n")
    done = embedded_project.invoke("db.logs", "--tail", "1")
    assert done.out == "junk {0}{0}{0}\n".format("\N{REPLACEMENT CHARACTER}")


def test_somebody_elses_log_is_refused_with_where_to_ask(external: Project) -> None:
    done = external.invoke("db.logs")
    assert (done.code, done.out) == (4, "")
    assert "its log cannot be read from here" in done.err
    assert 'invoke db.shell --command "SHOW log_destination"' in done.err
    done = external.invoke("db.shell", "--command", "SHOW log_destination")
    assert done.code == 0


@pytest.mark.parametrize("given", ["x", "-1", "1.5"])
def test_a_tail_that_is_no_count_is_refused(embedded_project: Project, given: str) -> None:
    done = embedded_project.invoke("db.logs", f"--tail={given}")
    assert done.code == 2
    assert f"--tail wants a whole number of 0 or more, like 100; it was given '{given}'." in done.err
