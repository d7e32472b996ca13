"""From no container to a migrated database, in parts: where the time of a first `invoke migrate` on Docker goes.

What is ours is told from what is the engine's and the server's by the lines that the task prints, by the engine's and
the server's own clocks, and by the moment at which the session that watches connected (a last migration notes it). On
an engine in a virtual machine these clocks may differ by some milliseconds.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING

from tests import project
from tests.benchmarks import peers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from tests.benchmarks.peers import Kitchen
    from tests.project import Project

NOTICED = "CREATE TABLE noticed AS SELECT backend_start AS at FROM pg_stat_activity WHERE application_name = 'invoke';"
READY = re.compile(r"^(\S+) .*database system is ready to accept connections", re.MULTILINE)
PARTS = {
    "start, files, image": "ours, and a pull if the image is not there",
    "create the container": "the engine",
    "start the container": "the engine",
    "initialise the server": "the image's entrypoint and initdb",
    "notice that it is ready": "ours",
    "run 10 files": "ours and the server",
}


def table(kitchen: Kitchen, runs: int) -> Iterator[str]:
    """Yield a Markdown table of the medians of some cold starts."""
    try:
        made, client = peers.docker_project(kitchen)
    except peers.LeftOutError as error:
        yield f"The cold start is left out: {error}"
        return
    for path in (project.TOP / "infra" / "migrations").glob("???_*.sql"):
        made.write(path.name, path.read_bytes())
    made.write("900_noticed.sql", NOTICED)
    measured = [_start(made, client) for _ in range(runs)]
    yield f"Cold start on Docker, medians of {runs}:\n"
    yield "| part | whose | seconds |\n|---|---|---:|"
    for (part, whose), seconds in zip(PARTS.items(), zip(*measured, strict=True), strict=True):
        yield f"| {part} | {whose} | {statistics.median(seconds):.2f} |"
    yield f"| all | | {statistics.median(map(sum, measured)):.2f} |"


def _start(made: Project, client: DockerClient) -> list[float]:
    """Migrate once without a container, and remove it; the seconds of each part."""
    try:
        began = time.time()
        creating, starting, ended = _lines(made)
        container = client.containers.get(f"{made.settings['COMPOSE_PROJECT_NAME']}-postgres-1")
        started = _epoch(container.attrs["State"]["StartedAt"])
        ready = _epoch(READY.findall(container.logs(timestamps=True).decode())[-1])
        noticed = made.rows("SELECT at FROM noticed")[0][0].timestamp()
        moments = (began, creating, starting, started, ready, noticed, ended)
        return [after - before for before, after in itertools.pairwise(moments)]
    finally:
        made.invoke("db.down", "--volumes", "--yes")


def _lines(made: Project) -> list[float]:
    """Return when `Creating container` and `Starting container` were printed, and when the process ended."""
    at = {}
    with made.start("migrate", PYTHONUNBUFFERED="1") as process:
        said = []
        for line in process.stdout or ():
            at[line.split(b" ")[0]] = time.time()
            said.append(line.decode())
    if process.returncode:
        raise RuntimeError("".join(said))
    return [at[b"Creating"], at[b"Starting"], time.time()]


def _epoch(text: str) -> float:
    """Read the engine's time, which has nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)).timestamp()
