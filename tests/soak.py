"""Kill something at a random moment of a run, run again, and look whether anything is half done. By hand:

    python -m tests.soak --server embedded --rounds 200 --seed 1
    python -m tests.soak --server docker --rounds 200

The suite plays a few rounds of it (tests/integration/test_soak.py). A violation is printed with its seed and round,
and `--seed S --first N --rounds 1` plays that round again.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg

from infra.db.servers import wheel
from tests import postgres, project, standin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.project import Project

# What is killed: the Python process, psql, the PostgreSQL backend, the server (the container, or the postmaster).
KINDS = ("tool", "psql", "backend", "server")
FILES = {
    "001_one.sql": "CREATE TABLE one (i int PRIMARY KEY); SELECT pg_sleep(0.1); INSERT INTO one VALUES (1);",
    "002_two.sql": "CREATE TABLE two AS SELECT i FROM generate_series(1, 50000) i; ALTER TABLE one ADD COLUMN j int;",
    "003_three.sql": "INSERT INTO one VALUES (3); SELECT pg_sleep(0.2); UPDATE two SET i = -i;",
    "004_four.sql": "CREATE INDEX two_i ON two (i); SELECT pg_sleep(0.1); CREATE VIEW four AS SELECT i FROM two;",
    "005_five.sql": "CREATE FUNCTION five() RETURNS int LANGUAGE sql AS 'SELECT 5'; INSERT INTO one VALUES (five());",
    "006_six.sql": "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY six ON two (i);\nSELECT pg_sleep(0.1);",
}
LONGEST_DELAY = 0.5  # seconds from a moment of the run that can be seen to the kill; or half of a whole run
LOOK_EVERY = 0.01  # seconds
MADE = {"001": ["one"], "002": ["two"], "004": ["two_i", "four"]}
STATE = """
SELECT (SELECT array_agg(i ORDER BY i) FROM one), (SELECT count(*) FROM two), (SELECT sum(i) FROM four), five(),
       (SELECT array_agg(version || status ORDER BY version) FROM schema_migrations),
       (SELECT count(*) FROM pg_index WHERE NOT indisvalid)
"""
LOCKS = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND datname = current_database()
 WHERE locktype = 'advisory'
"""


@dataclass(frozen=True, slots=True)
class Clean:
    """What a run comes to when nothing is killed.

    Attributes:
        seconds: how long it takes.
        state: the answer to `STATE`.
        schema: pg_dump's.

    """

    seconds: float
    state: list[tuple[object, ...]]
    schema: str


def undisturbed(base: Project) -> Clean:
    """Run all files without killing anything, twice: the first start of all is slower than the others."""
    for _ in range(2):
        here = _on_fresh_database(base)
        began = time.monotonic()
        done = here.invoke("migrate")
        assert done.code == 0, done
        seconds = time.monotonic() - began
    state = here.rows(STATE)
    assert state[0][:4] == ([1, 3, 5], 50000, -1250025000, 5), state
    return Clean(seconds, state, _schema(here))


def play(base: Project, clean: Clean, seed: int, number: int) -> tuple[str, str]:
    """Play one round on a fresh database; returns what was killed, and when and with what effect.

    Raises:
        AssertionError: something was half done, lost, or left behind.

    """
    chance = random.Random(f"{seed}/{number}")
    kind, after, delay = chance.choice(KINDS), chance.randrange(-1, len(FILES)), chance.uniform(0, LONGEST_DELAY)
    moment = f"{delay:.2f} s after {after} files" if after >= 0 else f"{clean.seconds * delay:.2f} s after the start"
    here = _on_fresh_database(base)
    run = here.start("migrate")
    if after >= 0:
        _wait_for_files(here, after, run)
    time.sleep(delay if after >= 0 else clean.seconds * delay)
    _kill(kind, run, here)
    said = run.communicate(timeout=120)[0].decode()
    assert "Traceback" not in said, (kind, moment, said)
    assert "bug in the tool" not in said, (kind, moment, said)
    if kind in ("tool", "backend"):  # the server is there, and perhaps still at work
        _nothing_half_done(here)
    # Also after a kill of psql: where postgres is process 1, an orphan that is killed is a child that crashed to it,
    # and it starts all over.
    done = here.invoke("db.up")
    assert done.code == 0, (kind, moment, done)
    applied = _nothing_half_done(here)
    _finish(here, said)
    assert here.rows(STATE) == clean.state, (kind, moment, said, here.rows(STATE))
    assert _schema(here) == clean.schema, (kind, moment, said, _schema(here))
    assert here.rows(LOCKS) == [(0,)], (kind, moment, said)
    assert _left_in_container(here) == "", (kind, moment, said)
    with replace(base, settings={**base.settings, "DB_NAME": "postgres"}).connect() as connection:
        connection.execute(
            f"DROP DATABASE {here.settings['DB_NAME']} WITH (FORCE)"
        )  # recovery reads every file of a server
    return kind, f"{moment}: exit code {run.returncode}, then {applied} of {len(FILES)} files applied"


def _wait_for_files(here: Project, count: int, run: subprocess.Popen[bytes]) -> None:
    """Return when psql is at work and has recorded so many files, or the run has ended."""
    at_work = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'invoke migrate %%'"
    recorded = "SELECT version FROM schema_migrations"
    with here.connect() as connection:
        while run.poll() is None and not connection.execute(at_work).fetchall():
            time.sleep(LOOK_EVERY)
        while run.poll() is None and count:
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                if len(connection.execute(recorded).fetchall()) >= count:
                    return
            time.sleep(LOOK_EVERY)


def _on_fresh_database(base: Project) -> Project:
    here = replace(base, settings={**base.settings, "DB_NAME": f"soak_{secrets.token_hex(4)}"})
    with replace(base, settings={**base.settings, "DB_NAME": "postgres"}).connect() as connection:
        connection.execute(f"CREATE DATABASE {here.settings['DB_NAME']}")
    return here


def _schema(here: Project) -> str:
    """Return the schema as pg_dump writes it."""
    program = list(wheel.folders().values())[-1] / wheel.file_name("pg_dump")
    found = {
        "PGHOST": "127.0.0.1",
        "PGPORT": here.settings["DB_PORT"],
        "PGDATABASE": here.settings["DB_NAME"],
        "PGUSER": here.settings.get("DB_USER", "postgres"),
        "PGPASSWORD": here.settings.get("DB_PASSWORD", "postgres"),
    }
    argv = [str(program), "--schema-only", "--restrict-key=same"]
    done = subprocess.run(argv, env=here.environment(**found), capture_output=True, check=True)
    return done.stdout.decode()


def _nothing_half_done(here: Project) -> int:
    """Each file that is recorded has done all of its work, each other one none of it, at any moment one looks.

    Returns:
        How many files are applied.

    """
    query = "SELECT array_agg(relname::text) FROM pg_class WHERE relname IN ('schema_migrations', 'one', 'two', 'four')"
    ((made,),) = here.rows(query)
    if "schema_migrations" not in (made or []):
        assert made is None, made
        return 0
    # In one statement, because a run whose tool was killed may still be at work and commit between two.
    ((versions, statuses, made, valid),) = here.rows(
        "SELECT (SELECT coalesce(array_agg(version ORDER BY version), '{}') FROM schema_migrations),"
        " (SELECT coalesce(array_agg(status ORDER BY version), '{}') FROM schema_migrations),"
        " (SELECT array_agg(relname::text) FROM pg_class WHERE relname IN ('one', 'two', 'two_i', 'four')),"
        " (SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid AND relname = 'six')"
    )
    assert versions == [f"00{n}" for n in range(1, len(versions) + 1)], versions
    assert set(statuses[:5]) <= {"applied"}, statuses
    assert sorted(made or []) == sorted(name for version in versions for name in MADE.get(version, [])), (
        versions,
        made,
    )
    if len(versions) < len(FILES):
        assert valid is None, (versions, valid)  # the file without a transaction is recorded before it starts
    elif statuses[-1] == "applied":
        assert valid is True
    if "001" in versions:
        rows = {i for (i,) in here.rows("SELECT i FROM one")}
        assert {1} | ({3} if "003" in versions else set()) | ({5} if "005" in versions else set()) <= rows, (
            versions,
            rows,
        )
    return int(statuses.count("applied"))


def _finish(here: Project, said: str) -> None:
    """Run again; a file without a transaction that was cut off is settled first, in the words of the refusal."""
    done = here.invoke("migrate")
    if done.code == 4 and "006_six failed half-way" in done.err:
        here.do("DROP INDEX IF EXISTS six")
        done = here.invoke("migrate-resolve", "006", "--pending")
        assert done.code == 0, (said, done)
        done = here.invoke("migrate")
    assert done.code == 0, (said, done)


def _container(here: Project) -> str:
    return f"{here.settings['COMPOSE_PROJECT_NAME']}-postgres-1"


def _left_in_container(here: Project) -> str:
    if here.settings["DB_SERVER"] != "docker":
        return ""
    find = 'for f in /tmp/invoke-*; do [ ! -e "$f" ] || echo "$f"; done'
    done = subprocess.run(["docker", "exec", _container(here), "sh", "-c", find], capture_output=True, check=True)
    return done.stdout.decode()


def _kill(kind: str, run: subprocess.Popen[bytes], here: Project) -> None:
    if kind == "tool":
        run.kill()
    elif kind == "backend":
        with contextlib.suppress(psycopg.Error):
            here.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'invoke migrate%%'"
            )
    elif here.settings["DB_SERVER"] == "docker":
        if kind == "server":
            subprocess.run(["docker", "kill", _container(here)], capture_output=True, check=True)
        else:
            match = 'case "$(tr "\\0" " " < $p/cmdline)" in *driver.sql*) kill -9 ${p#/proc/};; esac'
            find = f"for p in /proc/[0-9]*; do {match}; done"
            subprocess.run(["docker", "exec", _container(here), "sh", "-c", find], capture_output=True, check=False)
    elif kind == "server":
        pid = int((here.root / ".postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
    else:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(run.pid).children(recursive=True):
                if child.name().startswith("psql"):
                    child.kill()


@contextlib.contextmanager
def checkout(server: str) -> Iterator[Project]:
    """Make a checkout with the soak's files on a server of its own, and take both away again."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp" if postgres.AS_ROOT else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        image = ""
        if server == "docker":
            import docker

            client = docker.from_env()
            image = standin.image(client)
            client.close()
        (folder / "temporary").mkdir()  # what killed tools leave there goes with it
        more = {"COMPOSE_PROJECT_NAME": f"soak-{secrets.token_hex(4)}", "TMPDIR": str(folder / "temporary")}
        more["DB_WAIT_TIMEOUT"] = "300"  # recovery takes its time on a busy machine
        port = str(20000 + secrets.randbelow(12000))
        base = project.copy(folder / "checkout", image=image, DB_SERVER=server, DB_PORT=port, **more)
        for file, sql in FILES.items():
            base.write(file, sql)
        base = replace(base, settings={**base.settings, "DB_NAME": "postgres"})
        done = base.invoke("db.up")
        assert done.code == 0, done
        try:
            yield base
        finally:
            base.invoke("db.down", "--volumes", "--yes")


def main() -> int:
    """Play many rounds; the number of violations is the exit code's."""
    arguments = argparse.ArgumentParser(description="Kill something in the middle of runs, and look what is left.")
    arguments.add_argument("--server", choices=("embedded", "docker"), default="embedded")
    arguments.add_argument("--rounds", type=int, default=200)
    arguments.add_argument("--first", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    chosen = arguments.parse_args()
    for stop in (signal.SIGINT, signal.SIGTERM):  # what was made is taken away again, also in the background
        signal.signal(stop, signal.default_int_handler)
    violations = 0
    kinds: collections.Counter[str] = collections.Counter()
    with checkout(chosen.server) as base:
        clean = undisturbed(base)
        print(f"seed {chosen.seed}; an undisturbed run takes {clean.seconds:.1f} s", flush=True)
        for number in range(chosen.first, chosen.first + chosen.rounds):
            try:
                kind, effect = play(base, clean, chosen.seed, number)
                kinds[kind] += 1
                print(f"round {number}: {kind} {effect}", flush=True)
            except (AssertionError, psycopg.Error) as error:
                violations += 1
                print(f"VIOLATION in round {number} of seed {chosen.seed}: {error}", flush=True)
                base.invoke("db.up")
    print(f"{chosen.rounds} rounds on {chosen.server}, seed {chosen.seed}: {violations} violations; {dict(kinds)}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
