"""How long a run takes, beside other tools and two floors, as whole processes on one server of its own. By hand:

    python -m tests.benchmarks.run > table.md
    python -m tests.benchmarks.run --workloads ten,nothing --runs 1 --peers external,dbmate,psql,invoke

The other tools are downloaded by pip, npm and apt-get into a folder for temporary files (`--cache`), where they stay
for the next time; one that cannot be had is left out with a line that says so. Each run has a new database, made before
the measurement; all are dropped at the end, with their server. Tools take turns, so that a slow minute hits them all.
Autovacuum is off, fsync is on. At the end every database is dumped and compared: all tools must have built the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests import postgres, project
from tests.benchmarks import cold, peers
from tests.benchmarks.peers import PEERS, Kitchen, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tests.benchmarks.peers import Command

SETTINGS = {  # what a server has by itself, where tests/postgres.py is quicker than any real one
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "autovacuum": "off",
}
COPY_BYTES = 50_000_000
KINDS = (
    "CREATE TABLE t{n} (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, name text NOT NULL, at date);",
    "ALTER TABLE t{last} ADD COLUMN note text CHECK (note <> '');\nCREATE INDEX ON t{last} (tenant_id, at);",
    "INSERT INTO t{last} SELECT n, n % 7, 'row ' || n, '2026-01-01' FROM generate_series(1, 50) n;",
    "CREATE FUNCTION f{n}(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN n + {n};\nEND;\n$$;",
    "CREATE VIEW v{n} AS SELECT tenant_id, count(*) AS names FROM t{last} GROUP BY tenant_id;",
    "COMMENT ON TABLE t{last} IS 'Made by {n}';\nUPDATE t{last} SET note = 'even' WHERE id % 2 = 0;",
)
TABLES = {  # workload -> which files, and which command
    "ten": ("ten", "migrate"),
    "many": ("many", "migrate"),
    "nothing": ("many", "again"),
    "status": ("many", "status"),
    "huge": ("huge", "migrate"),
    "copy": ("copy", "migrate"),
}
TITLES = {
    "ten": "10 files",
    "many": "400 files",
    "nothing": "nothing to do (400)",
    "status": "status (400)",
    "huge": "2,000 files",
    "copy": "50 MB of COPY",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took.

    Attributes:
        seconds: from its start to its end.
        cpu: seconds of user and system time, of the process and those it waited for; not of the server.
        peak: bytes of memory of the largest of them.

    """

    seconds: float
    cpu: float
    peak: int


@dataclass(slots=True)
class Bench:
    """One call: the tools, and what was measured and built so far.

    Attributes:
        work: where files are put.
        tools: by their names for `--peers`.
        results: (tool, workload) -> its runs.
        built: (tool, database, files) of every database.

    """

    work: Path
    tools: dict[str, Peer]
    results: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    built: list[tuple[str, str, str]] = field(default_factory=list)

    def folder(self, tool: str, files: str) -> Path:
        """Return the folder of a tool with its files; written when it is first asked for."""
        folder, source = self.work / f"{files}-{tool}", self.work / files
        if not source.is_dir():
            source.mkdir()
            FILES[files](source)
        if not folder.is_dir():
            folder.mkdir()
            self.tools[tool].write(folder, sorted(source.iterdir()))
        return folder

    def database(self, tool: str, files: str) -> str:
        """Make a database for a tool, to be filled with files; its name."""
        name = f"bench_{len(self.built)}"
        self.built.append((tool, name, files))
        with psycopg.connect(self.tools[tool].server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def run(self, tool: str, files: str, database: str, kind: str = "migrate") -> Run:
        """Run one command of a tool: one of those in `TABLES`."""
        peer = self.tools[tool]
        words = {"migrate": peer.migrate, "again": peer.again or peer.migrate, "status": peer.status}[kind]
        return measure(peer.command(words, self.folder(tool, files), database))

    def measure(self, workload: str, runs: int) -> None:
        """Measure one workload with all tools, in turns."""
        files, kind = TABLES[workload]
        tools = [tool for tool, peer in self.tools.items() if peer.copies or files != "copy"]
        tools = [tool for tool in tools if tool != "invoke" or kind != "migrate"]
        count = runs if kind == "migrate" else 1
        databases = {tool: [self.database(tool, files) for _ in range(count)] * (runs // count) for tool in tools}
        if kind != "migrate":
            for tool in tools:
                self.run(tool, files, databases[tool][0])
        for server in {self.tools[tool].server.port: self.tools[tool].server for tool in tools}.values():
            with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                connection.execute("CHECKPOINT")
        for turn in range(runs):
            for tool in tools:
                taken = self.run(tool, files, databases[tool][turn], kind)
                self.results.setdefault((tool, workload), []).append(taken)
                say(f"{workload} {turn + 1}/{runs}  {tool}: {taken.seconds:.2f} s, {taken.cpu:.2f} s CPU")

    def differing(self) -> list[str]:
        """Compare all databases, without the tools' own tables; say which are not as the first of the same files."""
        first: dict[str, str] = {}
        wrong = []
        for tool, database, files in self.built:
            if tool != "invoke" and (found := fingerprint(self.tools[tool], database)) != first.setdefault(
                files, found
            ):
                wrong.append(f"{self.tools[tool].name} has built something else of {files}: {database}")
        return wrong


class FailedError(Exception):
    """A command did not succeed."""


def measure(command: Command) -> Run:
    """Run a command to its end."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.argv, cwd=command.folder, env=command.env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise FailedError(f"{' '.join(command.argv)}\n{said.read().decode(errors='replace')[-2000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def fingerprint(peer: Peer, database: str) -> str:
    """Return a hash of all that is in a database, but for the tool's own tables."""
    if peer.forget:
        with psycopg.connect(peer.server.url(database), autocommit=True) as connection:
            connection.execute(peer.forget)
    digest = hashlib.sha256()
    argv = [str(peer.server.programs / "pg_dump"), "--restrict-key=x", "--no-owner", database]
    with subprocess.Popen(argv, env=peer.server.environment(database), stdout=subprocess.PIPE) as dump:
        while dump.stdout and (data := dump.stdout.read(1 << 20)):
            digest.update(data)
    return digest.hexdigest()


# -- files -------------------------------------------------------------------------------------------------------------


def ten(folder: Path) -> None:
    """Write the project's own migrations."""
    for path in (project.TOP / "infra" / "migrations").glob("*.sql"):
        if not path.name.endswith(".down.sql"):
            shutil.copy(path, folder)


def mixed(count: int) -> Callable[[Path], None]:
    """Return what writes small files of several kinds."""

    def write(folder: Path) -> None:
        for number in range(count):
            kind = number % len(KINDS)
            sql = KINDS[kind].format(n=number + 1, last=number + 1 - kind)
            (folder / f"{number + 1:04}_change.sql").write_text(f"{sql}\n", encoding="utf-8")

    return write


def rows(folder: Path) -> None:
    """Write one file of COPY data."""
    with (folder / "001_rows.sql").open("w", encoding="utf-8") as file:
        file.write("CREATE TABLE big (id bigint, name text, score float);\nCOPY big FROM stdin;\n")
        number = 0
        while file.tell() < COPY_BYTES:
            file.writelines(f"{n}\tsome words about row {n}\t{n / 7}\n" for n in range(number, number + 1000))
            number += 1000
        file.write("\\.\n")


FILES = {"ten": ten, "many": mixed(400), "huge": mixed(2000), "copy": rows}


# -- words -------------------------------------------------------------------------------------------------------------


def table(bench: Bench, workloads: Sequence[str], cell: Callable[[Sequence[Run], Sequence[Run]], str]) -> Iterator[str]:
    """Yield a Markdown table: a row for each tool, a column for each workload."""
    yield f"| | {' | '.join(TITLES[name] for name in workloads)} |"
    yield f"|---|{'---:|' * len(workloads)}"
    base = next(iter(bench.tools))
    for tool, peer in bench.tools.items():
        runs = [(bench.results.get((tool, name), ()), bench.results.get((base, name), ())) for name in workloads]
        yield f"| {peer.name} | {' | '.join(cell(*both) if both[0] else '-' for both in runs)} |"


def in_seconds(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """Write the median, and how many times that of the first tool it is."""
    seconds = statistics.median(run.seconds for run in runs)
    return f"{seconds:.2f} s ({seconds / statistics.median(run.seconds for run in base):.2f}x)"


def in_cpu(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """Write the median of the processor's time, likewise; an idle wait costs none."""
    cpu = statistics.median(run.cpu for run in runs)
    return f"{cpu:.2f} s ({cpu / statistics.median(run.cpu for run in base):.2f}x)"


def machine(kitchen: Kitchen) -> str:
    """Describe where it was measured, for the line above a table."""
    with psycopg.connect(kitchen.server.url("postgres")) as connection:
        server = connection.info.server_version // 10000
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(": ")[2] for line in cpuinfo.read_text("utf-8").splitlines() if line.startswith("model name")
    ]
    processor = f"{os.cpu_count()} x {names[0] if names else platform.machine()}"
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{processor}, {platform.system()}, {load}, PostgreSQL {server}, Python {platform.python_version()}"


def say(text: str) -> None:
    """Write how far it is, to standard error; standard output is for the tables."""
    print(text, file=sys.stderr, flush=True)


# -- all of it ---------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure what was asked for; 1 when two tools have built different things."""
    given = arguments()
    given.cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        kitchen = Kitchen(given.cache, stack.enter_context(postgres.running(18, **SETTINGS)), stack)
        print(f"Medians of {given.runs} runs. {machine(kitchen)}.\n")
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.cache, prefix="work-")))
        work.chmod(0o755)
        workloads = [name for name in given.workloads if name != "cold"]
        bench = Bench(work, installed(given.peers, kitchen) if workloads else {})
        for workload in workloads:
            bench.measure(workload, given.runs)
        if workloads:
            report(bench, workloads)
        if "cold" in given.workloads:
            print("\n".join(cold.table(kitchen, given.runs)))
        wrong = bench.differing()
        say("\n".join(wrong) or f"Each of {len(bench.built)} databases is as the others of the same files.")
        return 1 if wrong else 0


def installed(names: Sequence[str], kitchen: Kitchen) -> dict[str, Peer]:
    """Install the tools and try each once, uncounted; those that fail are left out, with a line."""
    tools: dict[str, Peer] = {}
    for name, peer in peers.install(names, kitchen):
        if isinstance(peer, Peer):
            try:
                with tempfile.TemporaryDirectory(dir=kitchen.cache) as folder:
                    Path(folder).chmod(0o755)
                    trial = Bench(Path(folder), {name: peer})
                    with psycopg.connect(peer.server.url("postgres"), autocommit=True) as connection:
                        connection.execute(f"CREATE DATABASE trial_{name}")
                    trial.run(name, "ten", f"trial_{name}")
                tools[name] = peer
            except FailedError as error:
                print(f"{name} is left out: {error}\n")
        else:
            print(f"{name} is left out: {peer}\n")
    return tools


def report(bench: Bench, workloads: Sequence[str]) -> None:
    """Write the tables, and the memory that the large file took (a process counts at least what this one has)."""
    print("\n".join(table(bench, workloads, in_seconds)))
    print("\nProcessor time, without the server's:\n\n" + "\n".join(table(bench, workloads, in_cpu)))
    runs = {peer.name: bench.results.get((tool, "copy"), ()) for tool, peer in bench.tools.items()}
    peaks = [f"{name} {max(run.peak for run in taken) / 1e6:.0f} MB" for name, taken in runs.items() if taken]
    print(f"\nPeak memory with {TITLES['copy']}: {', '.join(peaks)}.\n" if peaks else "")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*TABLES, "cold"]
    parser.add_argument("--workloads", type=_listed(known), default=known, help=f"some of {','.join(known)}")
    parser.add_argument("--peers", type=_listed(PEERS), default=list(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns (5)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "migrate-benchmark")
    return parser.parse_args()


def _listed(known: Collection[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        if unknown := [word for word in text.split(",") if word not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return text.split(",")

    return read


if __name__ == "__main__":
    sys.exit(main())
