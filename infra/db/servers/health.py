"""How the things that a server stands on look: values in, checks out. Pure, but for a look at this machine's disks."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.db import check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from infra.db.check import Check

# What the server in a container holds, has room for, and has been left with; `stat -f` is in coreutils and busybox.
LOOK = """\
cd "$1" && for f in PG_VERSION data/PG_VERSION */docker/PG_VERSION; do [ -f "$f" ] && echo "data $(cat "$f")"; done
for p in "$1" /tmp; do echo "free $p $(stat -f -c '%a %S' "$p")"; done
find /tmp -maxdepth 1 -name 'invoke-*' -mtime +0
exit 0
"""
KILLED = 128  # exit codes above it are signals: a stop, a kill, a machine that was switched off


@dataclass(frozen=True, slots=True)
class Inside:
    """What `LOOK` said.

    Attributes:
        majors: PostgreSQL's major version of each data folder.
        space: bytes that are free in each place.
        left: folders of runs that are more than a day old, and so in nobody's use.

    """

    majors: tuple[str, ...] = ()
    space: Mapping[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def inside(said: str) -> Inside:
    """Read what `LOOK` said; a line that its programs could not complete is left out."""
    majors = re.findall(r"^data (\d+)$", said, re.MULTILINE)
    free = re.findall(r"^free (\S+) (\d+) (\d+)$", said, re.MULTILINE)
    space = {place: int(blocks) * int(size) for place, blocks, size in free}
    return Inside(tuple(dict.fromkeys(majors)), space, tuple(re.findall(r"^/tmp/invoke-.+$", said, re.MULTILINE)))


def free(folder: Path) -> int:
    """Return the bytes that are free where a folder is or will be."""
    for each in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(each).free
    return 0


def engine(version: Mapping[str, Any]) -> Check:
    """Return which engine answers, judged by its own `version`."""
    components = version.get("Components") or [{}]
    name = str(components[0].get("Name") or "Engine").replace("Podman Engine", "Podman")
    name = f"Docker {name}" if name == "Engine" else name
    said = (
        f"{name} {version.get('Version')}, API {version.get('ApiVersion')}, {version.get('Os')}/{version.get('Arch')}"
    )
    if version.get("Os") == "windows":
        return check.fault(
            "Docker engine",
            f"{said}\nIt runs Windows containers, and PostgreSQL's image is one for Linux.",
            "Choose 'Switch to Linux containers' in Docker Desktop's tray menu,\n"
            "or do without it: set DB_SERVER=embedded, in the environment or in .env.",
        )
    return check.ok("Docker engine", said)


def major(environment: Sequence[str]) -> str:
    """Return PostgreSQL's major version by an image's variables; empty when they do not say it."""
    said = dict(line.split("=", 1) for line in environment if "=" in line)
    in_path = re.search(r"/(\d+)(/|$)", said.get("PGDATA", ""))
    return said.get("PG_MAJOR") or (in_path[1] if in_path else "")


def image(name: str, has: str | None, made_by: Sequence[str], *, volume: str) -> Check:
    """Compare the image that the compose file names with the data.

    Args:
        name: the image.
        has: its major version; None when it is not here, empty when it does not say.
        made_by: the major versions of the data that is there.
        volume: where that is.

    """
    if has is None:
        return check.warning(
            "image", f"{name} is not on this machine; a run that needs it pulls it.", f"docker pull {name}"
        )
    others = ", ".join(each for each in made_by if each != has)
    if has and others and has not in made_by:
        return check.fault(
            "image",
            f"{name} is PostgreSQL {has}; the data in volume {volume} was made by PostgreSQL {others}.",
            f"Name the image of PostgreSQL {others} in infra/docker-compose.yml again."
            "\nTo move the data, with that image:\n  invoke db.backup"
            "\nthen with the new one:\n  invoke db.down --volumes\n  invoke db.restore FILE",
        )
    if has and others:
        return check.warning(
            "image",
            f"{name} opens the data of PostgreSQL {has}; volume {volume} also holds data of PostgreSQL {others}.",
            f"If that is the data you miss, name the image of PostgreSQL {others} in infra/docker-compose.yml,"
            "\nand take a backup of it:  invoke db.backup",
        )
    same = f", and so is the data in volume {volume}" if has and made_by else ""
    return check.ok("image", f"{name} is PostgreSQL {has or '(it does not say which)'}{same}")


def container(name: str, state: Mapping[str, Any]) -> Check | None:
    """Judge a container by its state; None when it has died and its log has to say why."""
    status, health = state.get("Status"), state.get("Health") or {}
    if status == "running":
        return _running(name, health)
    if status == "created":
        return check.warning("container", f"{name} has never been started.", "invoke db.up")
    code = int(state.get("ExitCode") or 0)
    if status == "exited" and (code == 0 or code > KILLED) and not state.get("OOMKilled"):
        how = f" (exit code {code}: it was killed)" if code else ""
        return check.warning("container", f"{name} is stopped{how}.", "invoke db.up")
    return None


def _running(name: str, health: Mapping[str, Any]) -> Check:
    status = health.get("Status", "none")
    if status == "unhealthy":
        probes = health.get("Log") or [{}]
        said = str(probes[-1].get("Output", "")).strip()
        return check.warning(
            "container",
            f"{name} runs, but its health check fails{': ' + said if said else '.'}",
            f"Look into its log:  docker logs --tail 50 {name}",
        )
    known = f", {status}" if status in ("healthy", "starting") else ""
    return check.ok("container", f"{name} runs{known}")
