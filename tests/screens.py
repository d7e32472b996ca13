"""The main screens as SVG, for the README: python -m tests.screens (on Linux or macOS, by hand).

Each is what a command really wrote on a terminal of 100 columns, in a checkout with an embedded server of its own.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tests import project
from tests.conftest import free_port, open_folder

if TYPE_CHECKING:
    from tests.project import Project

WIDTH = 100  # columns
TARGET = project.TOP / ".github" / "screens"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # from other people's servers; a reader has a font of their own
ERASED = re.compile(r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\r(?!\n)")
SPINNER = re.compile(r"(?:\x1b\[[0-9;]*m)*[\u2800-\u28ff]")
BROKEN = """\
ALTER TABLE faces ADD COLUMN gaze jsonb;
CREATE INDEX faces_gaze_idx ON faces (tenant_id, gaz);
"""


def main() -> None:
    """Play the scenes and write one file for each."""
    TARGET.mkdir(exist_ok=True)
    with open_folder() as folder:
        checkout = project.copy(
            folder / "mordeaux", DB_SERVER="embedded", DB_PORT=str(free_port()), TERM="xterm-256color"
        )
        for file in (project.TOP / "infra" / "migrations").glob("*.sql"):
            checkout.write(file.name, file.read_bytes())
        try:
            scenes(checkout)
        finally:
            checkout.invoke("db.down", "--volumes", "--yes")


def scenes(checkout: Project) -> None:
    """The run, a failure, a rehearsal, the status, the doctor."""
    show(checkout, "run", "migrate")
    checkout.write("011_add_gaze.sql", BROKEN)
    show(checkout, "failure", "migrate")
    checkout.write("011_add_gaze.sql", BROKEN.replace("gaz)", "gaze)"))
    checkout.write("011_add_gaze.down.sql", "ALTER TABLE faces DROP COLUMN gaze;\n")
    show(checkout, "rehearsal", "migrate-rehearse")
    show(checkout, "status", "migrate-status")
    show(checkout, "doctor", "db.doctor")


def show(checkout: Project, name: str, *words: str) -> None:
    """Run a command on a terminal and write what it showed."""
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    screen.print(Text.from_ansi(typed(checkout, *words)))
    svg = screen.export_svg(title=f"invoke {' '.join(words)}")
    (TARGET / f"{name}.svg").write_text(FONTS.sub("", svg), encoding="utf-8", newline="\n")


def typed(checkout: Project, *words: str) -> str:
    """Return what a command leaves on a terminal."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    size = {"COLUMNS": str(WIDTH), "LINES": "60"}
    run = subprocess.Popen(
        checkout.command(*words),
        cwd=checkout.root,
        env=checkout.environment(**size),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 65536):
            said += data
    except OSError:  # EIO: nobody has the other end open any more
        pass
    os.close(ours)
    run.wait()
    text = said.decode().replace("\r\n", "\n")
    lines = (ERASED.sub("", re.sub(r".*\x1b\[2K", "", line)) for line in text.split("\n"))
    kept = [line for line in lines if not SPINNER.match(line)]  # it was drawn and erased again
    return "\n".join(kept).replace(str(checkout.root) + os.sep, "").replace(sys.prefix, ".venv")


if __name__ == "__main__":
    main()
