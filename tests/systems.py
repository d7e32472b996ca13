"""What a test cannot do on some system, as marks whose reason stands in the report."""

from __future__ import annotations

import socket
import sys

import pytest

WINDOWS = sys.platform == "win32"
# libpq's programs read PGPASSWORD and the like in the code page there, not as UTF-8 (README, Production).
UMLAUT = "" if WINDOWS else "ü"

needs_signals = pytest.mark.skipif(WINDOWS, reason="one process cannot send Ctrl-C to another on Windows")
needs_sigkill = pytest.mark.skipif(WINDOWS, reason="Windows has no SIGKILL; the server's side is the same")
needs_sockets = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Python has no Unix sockets on Windows")
needs_scripts = pytest.mark.skipif(WINDOWS, reason="a shell script is no program on Windows")
needs_utf8_variables = pytest.mark.skipif(WINDOWS, reason="libpq's programs read variables in a code page on Windows")
