"""PostgreSQL's client programs on this machine: installed ones in all versions, and the wheel's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from infra.db.servers import wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where installers put the real programs, several versions side by side.
INSTALLED = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "opt/homebrew/opt/libpq/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/opt/libpq/bin",
    "opt/local/lib/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
WRAPPER = "pg_wrapper"  # what Debian's /usr/bin/psql leads to: a Perl script that costs 50 ms before the real program
ANSWERS_WITHIN = 10  # seconds, for `--version`


def version(path: Path) -> tuple[int, int] | None:
    """Return a program's major and minor version, as in (18, 4); None when it does not say one."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, timeout=ANSWERS_WITHIN, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(rb"\(PostgreSQL\) (\d+)(?:\.(\d+))?", said)
    return (int(number[1]), int(number[2] or 0)) if number else None


def installed(name: str, environment: Mapping[str, str]) -> list[Path]:
    """Return where a program is installed on this machine, in any version."""
    folders = [folder for pattern in INSTALLED for folder in Path("/").glob(pattern)]
    if programs := environment.get("PROGRAMFILES"):
        folders += Path(programs).glob("PostgreSQL/*/bin")
    files = [folder / wheel.file_name(name) for folder in folders]
    if on_path := shutil.which(name, path=environment.get("PATH", "")):
        files.append(Path(on_path))
    return [file for file in files if file.is_file() and file.resolve().name != WRAPPER]


def of_wheel(name: str) -> list[Path]:
    """Return where the wheel has a program: built without TLS, but there wherever the wheel is."""
    return [folder / wheel.file_name(name) for folder in wheel.folders().values()]


def newest(paths: list[Path]) -> list[tuple[tuple[int, int], Path]]:
    """Sort the programs that say their version by it, the newest first."""
    known = [(has, path) for path in paths if (has := version(path))]
    return sorted(known, key=lambda each: each[0], reverse=True)  # the first of equals stays first
