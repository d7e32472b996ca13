"""A program in a terminal of its own, and somebody who types to it. Not for Windows, which has no pseudo terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PATIENCE = 60  # seconds until what has to come is given up
# Standard input becomes the terminal that Ctrl-C and the size of the window come from.
BECOME = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])|[\x07\r]")


class Terminal:
    """What is on the screen, and the keys."""

    def __init__(self, argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Open it with 30 lines of 100 characters, and start the program."""
        self.keys, self.end = pty.openpty()
        self.resize(30, 100)
        self.untouched = self.settings()
        self.shown = ""
        self.program = subprocess.Popen(
            [sys.executable, "-c", BECOME, *argv],
            cwd=folder,
            env=environment,
            stdin=self.end,
            stdout=self.end,
            stderr=self.end,
        )

    def resize(self, lines: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self.keys, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def settings(self) -> list[Any]:
        """Return how the terminal treats keys."""
        return termios.tcgetattr(self.end)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.keys, text.encode())

    def until(self, pattern: str) -> str:
        """Wait until the screen shows it; take everything up to its end off the screen."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self.keys], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} does not come; there is:\n{self.shown}"
            self.shown = ESCAPES.sub("", self.shown + os.read(self.keys, 65536).decode(errors="replace"))
        taken, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return taken

    def ends(self) -> int:
        """Wait for the program's end; its exit code."""
        return self.program.wait(PATIENCE)


@contextlib.contextmanager
def opened(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Open a terminal for as long as the block lasts."""
    terminal = Terminal(argv, folder, {**environment, "TERM": "xterm", "INPUTRC": os.devnull, "LC_ALL": "C.UTF-8"})
    try:
        yield terminal
    finally:
        terminal.program.kill()
        terminal.program.wait()
        os.close(terminal.keys)
        os.close(terminal.end)
