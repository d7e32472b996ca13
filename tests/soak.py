"""Kill something at a random moment of a run, run again, and look whether anything is half done. By hand:

    python -m tests.soak --server embedded --rounds 200 --seed 1
    python -m tests.soak --server docker --rounds 200

The suite plays a few rounds of it (tests/integration/test_soak.py). A violation is printed with its seed and round,
and `--seed S --first N --rounds 1` plays that round again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg

from tests import postgres, project, standin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.project import Project

KINDS = ("tool", "psql", "backend", "server")
FILES = {
    "001_one.sql": "CREATE TABLE one (i int PRIMARY KEY); SELECT pg_sleep(0.1); INSERT INTO one VALUES (1);",
    "002_two.sql": "CREATE TABLE two AS SELECT i FROM generate_series(1, 50000) i; ALTER TABLE one ADD COLUMN j int;",
    "003_three.sql": "INSERT INTO one VALUES (3); SELECT pg_sleep(0.2); UPDATE two SET i = -i;",
    "004_four.sql": "CREATE INDEX two_i ON two (i); SELECT pg_sleep(0.1); CREATE VIEW four AS SELECT i FROM two;",
    "005_five.sql": "CREATE FUNCTION five() RETURNS int LANGUAGE sql AS 'SELECT 5'; INSERT INTO one VALUES (five());",
}
LONGEST = 1.6  # seconds from the start of the command to the kill; a whole run takes about that
STATE = """
SELECT (SELECT array_agg(i ORDER BY i) FROM one), (SELECT count(*) FROM two), (SELECT sum(i) FROM four), five(),
       (SELECT array_agg(version || status ORDER BY version) FROM schema_migrations),
       (SELECT count(*) FROM pg_index WHERE NOT indisvalid)
"""
CLEAN = ([1, 3, 5], 50000, -1250025000, 5, [f"00{n}applied" for n in range(1, 6)], 0)


def play(base: Project, seed: int, number: int) -> str:
    """Play one round on a fresh database; returns what was killed and when.

    Raises:
        AssertionError: something was half done, lost, or left behind.

    """
    chance = random.Random(f"{seed}/{number}")
    kind, moment = chance.choice(KINDS), chance.uniform(0.2, LONGEST)
    here = replace(base, settings={**base.settings, "DB_NAME": f"soak_{secrets.token_hex(4)}"})
    with replace(base, settings={**base.settings, "DB_NAME": "postgres"}).connect() as connection:
        connection.execute(f"CREATE DATABASE {here.settings['DB_NAME']}")
    run = here.start("migrate")
    time.sleep(moment)
    _kill(kind, run, here)
    run.communicate(timeout=120)
    # Also after a kill of psql: where postgres is process 1, an orphan that is killed is a child that crashed to it,
    # and it starts all over.
    done = here.invoke("db.up")
    assert done.code == 0, (kind, moment, done)
    _nothing_half_done(here)
    done = here.invoke("migrate")
    assert done.code == 0, (kind, moment, done)
    assert here.rows(STATE) == [CLEAN], (kind, moment, here.rows(STATE))
    locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND datname = current_database()"
    assert here.rows(f"{locks} WHERE locktype = 'advisory'") == [(0,)], (kind, moment)
    return f"{kind} after {moment:.2f} s"


def _nothing_half_done(here: Project) -> None:
    """Each file that is recorded has done all of its work, each other one none of it, at any moment one looks."""
    if here.rows("SELECT to_regclass('schema_migrations') IS NULL") == [(True,)]:
        assert here.tables() == set()
        return
    # In one statement, because a run whose tool was killed may still be at work and commit between two.
    ((applied, tables),) = here.rows(
        "SELECT coalesce((SELECT array_agg(version ORDER BY version) FROM schema_migrations), '{}'),"
        " (SELECT array_agg(relname::text) FROM pg_class WHERE relname IN ('one', 'two', 'two_i', 'four'))"
    )
    assert applied == [f"00{n}" for n in range(1, len(applied) + 1)], applied
    made = {"001": ["one"], "002": ["two"], "004": ["two_i", "four"]}
    assert sorted(tables or []) == sorted(name for version in applied for name in made.get(version, [])), (
        applied,
        tables,
    )
    if "001" in applied:
        rows = {i for (i,) in here.rows("SELECT i FROM one")}
        done = {1} | ({3} if "003" in applied else set()) | ({5} if "005" in applied else set())
        assert done <= rows, (applied, rows)


def _kill(kind: str, run: subprocess.Popen[bytes], here: Project) -> None:
    if kind == "tool":
        run.kill()
    elif kind == "backend":
        with contextlib.suppress(psycopg.Error):
            here.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'invoke migrate%%'"
            )
    elif here.settings["DB_SERVER"] == "docker":
        name = f"{here.settings['COMPOSE_PROJECT_NAME']}-postgres-1"
        if kind == "server":
            subprocess.run(["docker", "kill", name], capture_output=True, check=True)
        else:
            match = 'case "$(tr "\\0" " " < $p/cmdline)" in *driver.sql*) kill -9 ${p#/proc/};; esac'
            find = f"for p in /proc/[0-9]*; do {match}; done"
            subprocess.run(["docker", "exec", name, "sh", "-c", find], capture_output=True, check=False)
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
        more = {"COMPOSE_PROJECT_NAME": f"soak-{secrets.token_hex(4)}"}
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
    violations = 0
    with checkout(chosen.server) as base:
        for number in range(chosen.first, chosen.first + chosen.rounds):
            try:
                print(f"round {number}: {play(base, chosen.seed, number)}", flush=True)
            except AssertionError as error:
                violations += 1
                print(f"VIOLATION in round {number} of seed {chosen.seed}: {error}", flush=True)
    print(f"{chosen.rounds} rounds on {chosen.server}, seed {chosen.seed}: {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
