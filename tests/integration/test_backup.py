"""Backups, for real: complete or not there, private, checked, few enough, and in nobody's way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from infra.db import backup, database, errors, psql, settings
from infra.db.servers import clients, wheel
from infra.db.servers.external import External
from tests.systems import needs_scripts, needs_signals, needs_utf8_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.project import Project

PATIENCE = 60  # seconds until a test gives up waiting for what must come
NAME = r"{}-\d{{8}}T\d{{6}}\.\d{{6}}Z\.dump"


def until(what: Callable[[], object]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def folder(project: Project) -> Path:
    return project.root / project.settings["BACKUP_DIR"]


def kept(project: Project) -> list[str]:
    """Name what lies in the backup folder."""
    return sorted(path.name for path in folder(project).iterdir()) if folder(project).is_dir() else []


def dumping(project: Project) -> list[int]:
    """The backends that pg_dump of a backup works by."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'invoke db.backup _%%' AND datname = %s"
    return [pid for (pid,) in project.rows(query, project.settings["DB_NAME"])]


@contextlib.contextmanager
def held(project: Project, table: str = "two") -> Iterator[None]:
    """Hold a table for oneself, so that pg_dump waits in the middle of its work."""
    with project.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


@contextlib.contextmanager
def waiting_backup(project: Project, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a backup that waits for a table."""
    with held(project):
        started = project.start(*(words or ("db.backup",)))
        until(lambda: dumping(project))
        yield started


def finish(started: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, _ = started.communicate(timeout=PATIENCE)
    return started.returncode, out.decode()


def read_until(started: subprocess.Popen[bytes], words: bytes) -> None:
    """Read a started command's output up to a line with these words."""
    assert started.stdout
    said = b""
    while words not in said:
        said = started.stdout.readline()
        assert said, f"it ended without saying {words!r}"


def with_tables(project: Project) -> Project:
    project.write("001_one.sql", "CREATE TABLE one (i int); INSERT INTO one SELECT generate_series(1, 1000);")
    project.write("002_two.sql", "CREATE TABLE two (t text);")
    assert project.invoke("migrate").code == 0
    return project


@pytest.fixture
def filled(anywhere: Project) -> Project:
    return with_tables(anywhere)


@pytest.fixture
def outside(external: Project) -> Project:
    """The same, on an external server."""
    return with_tables(external)


def test_a_backup_is_private_and_has_a_record_that_sha256sum_takes(filled: Project) -> None:
    done = filled.invoke("db.backup")
    assert done.code == 0, done
    dump, record = (folder(filled) / name for name in kept(filled))
    assert re.fullmatch(NAME.format(filled.settings["DB_NAME"]), dump.name)
    assert record.name == f"{dump.name}.sha256"
    assert [path.stat().st_mode & 0o777 for path in (dump, record)] == [0o600, 0o600]
    comment, line, end = record.read_text().split("\n")
    assert comment.startswith("# made by invoke db.backup of server ")
    assert (line, end) == (f"{hashlib.sha256(dump.read_bytes()).hexdigest()}  {dump.name}", "")
    assert f"{dump.name} ({dump.stat().st_size / 1e3:.0f} kB)" in done.out
    assert f"Next: invoke db.restore {dump}" in done.out


def test_a_backup_may_go_to_a_file_of_its_own_but_never_over_another_one(filled: Project, tmp_path: Path) -> None:
    out = tmp_path / "with space" / "before.dump"
    done = filled.invoke("db.backup", "--out", str(out))
    assert done.code == 0, done
    assert f'invoke db.restore "{out}"' in done.out
    assert sorted(path.name for path in out.parent.iterdir()) == ["before.dump", "before.dump.sha256"]
    assert kept(filled) == []
    old = out.read_bytes()
    refused = filled.invoke("db.backup", "--out", str(out))
    assert (refused.code, out.read_bytes()) == (2, old)
    assert "is there already" in refused.err
    out.rename(out.with_name("away"))
    assert filled.invoke("db.backup", "--out", str(out)).code == 2  # the record of another one is there
    assert not out.exists()


@needs_utf8_variables
def test_a_database_and_a_role_with_odd_names_and_passwords_have_backups_of_their_own(
    external_project: Project, tmp_path: Path
) -> None:
    odd, secret = 'a/b "é" %s \\', "p'\\ä$x @:/"
    base = replace(external_project, settings={**external_project.settings, "DB_NAME": "postgres"})
    literal = secret.replace("'", "''")
    base.do(f"SET password_encryption = 'scram-sha-256'; CREATE ROLE \"{odd[5]}\" SUPERUSER LOGIN PASSWORD '{literal}'")
    name = odd.replace('"', '""')
    base.do(f'CREATE DATABASE "{name}"')
    given = {"DB_NAME": odd, "DB_USER": odd[5], "DB_PASSWORD": secret, "BACKUP_DIR": str(tmp_path)}
    try:
        done = external_project.invoke("db.backup", **given)
        assert done.code == 0, done
        [file] = tmp_path.glob("*.dump")
        assert re.fullmatch(NAME.format("a%2Fb%20%22%C3%A9%22%20%25s%20%5C"), file.name)
        again = external_project.invoke("db.restore", str(file), "--yes", **given)
        assert again.code == 0, again
        assert secret not in done.out + done.err + again.out + again.err
    finally:
        base.do(f'DROP DATABASE "{name}" WITH (FORCE)')
        base.do(f'DROP ROLE "{odd[5]}"')


def test_a_backup_starts_and_creates_nothing(embedded_project: Project, tmp_path: Path) -> None:
    done = embedded_project.invoke("db.backup", EMBEDDED_DIR=str(tmp_path / "none"), BACKUP_DIR=str(tmp_path / "b"))
    assert done.code == 5
    assert "Next: invoke db.up" in done.err
    assert list(tmp_path.iterdir()) == []


# --- faults ---


def test_a_full_disk_leaves_no_file(filled: Project) -> None:
    filled.do("CREATE TABLE noise AS SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 30000)")
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
    limited = f"{code} os.execv(sys.executable, [sys.executable, '-m', 'invoke', 'db.backup'])"
    done = subprocess.run(
        [sys.executable, "-c", limited], cwd=filled.root, env=filled.environment(), capture_output=True, check=False
    )
    assert done.returncode == 4, done
    assert b"File too large" in done.stderr
    assert b"No backup file was left" in done.stderr
    assert b"Warning" not in done.stderr  # pg_dump had ended before we did
    assert kept(filled) == []
    assert dumping(filled) == []


def test_a_killed_tool_leaves_no_backup_and_the_next_one_clears_up_after_it(filled: Project) -> None:
    with waiting_backup(filled) as started:
        until(lambda: kept(filled))
        started.kill()
        started.communicate()
        [left] = kept(filled)
        assert left.startswith(f".{filled.settings['DB_NAME']}-")
        assert left.endswith(".partial")
    foreign = [f".other.dump.{backup._node()}-{os.getpid()}.partial", ".mine.partial", "x.dump.host-1.partial"]
    for name in foreign:
        (folder(filled) / name).touch()
    done = filled.invoke("db.backup")
    assert done.code == 0, done
    assert len(kept(filled)) == 2 + len(foreign)
    assert set(foreign) < set(kept(filled))
    assert dumping(filled) == []


def test_a_killed_tool_leaves_no_pg_dump_in_the_way_of_the_next_backup(filled: Project) -> None:
    with waiting_backup(filled) as started:
        [orphan] = dumping(filled)
        started.kill()
        started.communicate()
        next_one = filled.start("db.backup")
        # On Docker nobody but the next backup ends it; here it may have ended by itself.
        until(lambda: dumping(filled) and orphan not in dumping(filled))
    assert finish(next_one)[0] == 0


@pytest.mark.parametrize("what", ["backend", "client"])
def test_a_killed_pg_dump_leaves_no_file(filled: Project, what: str) -> None:
    with waiting_backup(filled) as started:
        if what == "backend":
            filled.rows("SELECT pg_terminate_backend(%s)", *dumping(filled))
        else:
            kill_client(filled)
        code, said = finish(started)
        assert code == 4
    assert "The backup could not be taken." in said
    assert kept(filled) == []
    until(lambda: not dumping(filled))


def kill_client(project: Project) -> None:
    """Kill pg_dump, which runs on this machine, be it in a container."""
    killed = 0
    for each in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):  # somebody else's, which has just ended
            if (
                each.info["name"] == wheel.file_name("pg_dump")
                and each.environ().get("PGDATABASE") == project.settings["DB_NAME"]
            ):
                each.kill()
                killed += 1
    assert killed == 1


@needs_signals
def test_ctrl_c_ends_pg_dump_and_leaves_no_file(filled: Project) -> None:
    with waiting_backup(filled) as started:
        started.send_signal(signal.SIGINT)
        code, said = finish(started)
        assert code == 130
        assert dumping(filled) == []
    assert "The backup was interrupted." in said
    assert kept(filled) == []


def test_a_folder_that_cannot_be_written_is_told(filled: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = filled.invoke("db.backup", BACKUP_DIR=str(tmp_path / "file"))
    assert done.code == 4
    assert f"{tmp_path / 'file'}" in done.err
    until(lambda: not dumping(filled))


@needs_scripts
def test_an_older_pg_dump_is_refused_before_anything_is_written(
    outside: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.18'\n")
    old.chmod(0o755)
    monkeypatch.setattr(clients, "INSTALLED", ())
    monkeypatch.setattr(wheel, "folders", dict)
    given = settings.read({**outside.settings, "PATH": str(old.parent)}, root=outside.root, dotenv={})
    server = External(given)
    connected = database.connect(server, given, server.start(print))
    with contextlib.closing(connected), pytest.raises(errors.ClientMissing) as caught:
        backup.take(server, connected, given, print)
    assert f"{old} (15.18) is older than the server, PostgreSQL 18" in caught.value.where
    assert not folder(outside).exists()


def test_what_cannot_be_read_back_is_no_backup(outside: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings.read(outside.environment(), root=outside.root, dotenv={})
    server = External(given)
    connected = database.connect(server, given, server.start(print))
    whole = backup._Dump.run

    def cut(dump: backup._Dump, write: Callable[[bytes], object]) -> None:
        whole(dump, lambda data: write(data[:-50]))  # as a transport that loses the end would

    monkeypatch.setattr(backup._Dump, "run", cut)
    with contextlib.closing(connected), pytest.raises(errors.BackupFailed, match="could not be taken") as caught:
        backup.take(server, connected, given, lambda _: None)
    assert "what was written cannot be read back" in caught.value.where
    assert kept(outside) == []


def test_how_far_it_is_is_told_in_bytes_and_tables(outside: Project) -> None:
    outside.do("INSERT INTO two SELECT md5(i::text) FROM generate_series(1, 200000) i")
    given = settings.read(outside.environment(), root=outside.root, dotenv={})
    server, told = External(given), list[str]()
    connected = database.connect(server, given, server.start(print))
    with contextlib.closing(connected):
        taken = backup.take(server, connected, given, told.append)
    assert any(re.fullmatch(r"[\d.]+ MB, table \d of 3: public\.two", each) for each in told), told
    assert f"{taken.size / 1e6:,.1f} MB, table 3 of 3: " in told[-2]  # the last one is about reading it back


def test_a_role_that_row_security_holds_back_is_told_what_it_needs(outside: Project) -> None:
    outside.do("CREATE TABLE three (i int); ALTER TABLE three ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    outside.do(
        "CREATE ROLE test_owner LOGIN PASSWORD 'x'; GRANT ALL ON one, two, three, schema_migrations TO test_owner"
    )
    try:
        done = outside.invoke("db.backup", DB_USER="test_owner", DB_PASSWORD="x")
        assert done.code == 4
        assert "BYPASSRLS" in done.err
        assert kept(outside) == []
    finally:
        outside.do("DROP OWNED BY test_owner; DROP ROLE test_owner")


@pytest.mark.parametrize("words", [("migrate", "--backup"), ("migrate-reset", "--yes")])
def test_what_wants_a_backup_first_does_nothing_without_it(filled: Project, words: tuple[str, ...]) -> None:
    filled.write("003_more.sql", "CREATE TABLE three (i int);")
    before = filled.tables(), filled.applied()
    (filled.root / "a-file").write_text("where a folder should be")
    done = filled.invoke(*words, BACKUP_DIR="a-file")
    assert done.code == 4, done
    assert (filled.tables(), filled.applied()) == before


# --- keeping the newest ---


def test_the_newest_are_kept_and_nothing_else_is_ever_removed(filled: Project) -> None:
    name = filled.settings["DB_NAME"]
    stamp = "20200101T000000.000000Z"
    assert filled.invoke("db.backup", BACKUP_KEEP="2").code == 0
    first = folder(filled) / kept(filled)[0]
    record = first.with_name(f"{first.name}.sha256").read_text()

    def plant(file: str, text: str | None) -> list[str]:
        (folder(filled) / file).write_text("somebody's")
        if text is not None:
            (folder(filled) / f"{file}.sha256").write_text(text)
        return [file, *([] if text is None else [f"{file}.sha256"])]

    digest = "0" * 64
    origin = record.split("\n")[0]
    foreign = [
        *plant(f"{name}-{stamp}.dump", None),  # no record
        *plant(f"{name}-{stamp[:-2]}1Z.dump", f"{digest}  {name}-{stamp[:-2]}1Z.dump\n"),  # sha256sum's
        *plant(f"{name}-{stamp[:-2]}2Z.dump", f"{origin}\n{digest}  copied-from.dump\n"),  # of another file
        *plant(f"{name}-{stamp[:-2]}3Z.dump", f"{origin}0\n{digest}  {name}-{stamp[:-2]}3Z.dump\n"),  # other server
        *plant(f"{name}-x-{stamp}.dump", f"{origin}\n{digest}  {name}-x-{stamp}.dump\n"),  # another database
        *plant(f"{name}-before-release.dump", f"{origin}\n{digest}  {name}-before-release.dump\n"),
    ]
    taken = [first.name]
    for _ in range(3):
        done = filled.invoke("db.backup", BACKUP_KEEP="2")
        assert done.code == 0, done
        taken += [
            each for each in kept(filled) if re.fullmatch(NAME.format(name), each) and each not in foreign + taken
        ]
    assert len(taken) == 4
    assert kept(filled) == sorted(foreign + [each for new in taken[-2:] for each in (new, f"{new}.sha256")])
    assert f"Removed, to keep the newest 2 (BACKUP_KEEP): {taken[1]}." in done.out


def test_zero_keeps_all_and_a_file_of_ones_own_removes_none(filled: Project, tmp_path: Path) -> None:
    for _ in range(3):
        assert filled.invoke("db.backup", BACKUP_KEEP="0").code == 0
    assert filled.invoke("db.backup", "--out", str(tmp_path / "x.dump"), BACKUP_KEEP="1").code == 0
    assert len(kept(filled)) == 6


# --- the lock ---


def test_a_run_waits_for_a_backup_and_says_so(filled: Project) -> None:
    filled.write("003_alter.sql", "ALTER TABLE one ADD COLUMN j int;")
    with waiting_backup(filled) as started:
        run = filled.start("migrate")
        read_until(run, b"invoke db.backup")
    assert finish(started)[0] == 0
    assert finish(run)[0] == 0
    assert filled.applied() == ["001", "002", "003"]


def test_a_backup_waits_for_a_run_but_not_for_ever(filled: Project) -> None:
    with filled.connect(application_name="a run") as run:
        run.execute("SELECT pg_advisory_lock(%s, %s)", psql.LOCK)
        done = filled.invoke("db.backup", DB_WAIT_TIMEOUT="1")
    assert done.code == 6
    assert "a run" in done.err
    assert kept(filled) == []


def test_a_table_that_another_session_holds_is_not_waited_for_for_ever(filled: Project) -> None:
    with held(filled):
        done = filled.invoke("db.backup", DB_WAIT_TIMEOUT="2")
    assert done.code == 6
    assert "another session holds a table" in done.err
    assert "  pid " in done.err
    assert kept(filled) == []


def test_no_backup_is_taken_while_another_run_waits_for_a_table(filled: Project) -> None:
    filled.write("003_alter.sql", "-- migrate: lock-timeout 60s\nALTER TABLE two ADD COLUMN j int;")
    with filled.connect() as other, other.transaction():
        other.execute("SELECT FROM two")
        first = filled.start("migrate")
        until(lambda: filled.rows("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'two'::regclass"))
        second = filled.start("migrate", "--backup")
        read_until(second, b"Another run works on this database")
        assert dumping(filled) == []
    assert finish(first)[0] == 0
    code, said = finish(second)
    assert code == 0, said
    assert "Taking a backup" not in said
    assert kept(filled) == []  # the other run has done it all


def test_a_run_takes_one_backup_however_often_it_tries(filled: Project) -> None:
    filled.write("003_alter.sql", "ALTER TABLE two ADD COLUMN j int;")
    filled.write("004_more.sql", "CREATE TABLE four (i int);")
    with filled.connect() as other, other.transaction():
        other.execute("SELECT FROM two")
        run = filled.start("migrate", "--backup", DB_LOCK_TIMEOUT="100ms")
        read_until(run, b"try 3 follows")
    assert finish(run)[0] == 0
    assert len(kept(filled)) == 2
    assert filled.applied() == ["001", "002", "003", "004"]


def test_no_backup_is_taken_when_there_is_nothing_to_do(filled: Project) -> None:
    assert filled.invoke("migrate", "--backup").out.startswith("Nothing to do")
    assert kept(filled) == []
