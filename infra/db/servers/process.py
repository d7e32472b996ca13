"""A program that runs beside us: its output as it comes, its exit code when it has ended."""

from __future__ import annotations

import codecs
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CHUNK = 65536  # bytes; a pipe's usual size on Linux
LITTLE = 4096  # bytes; who reads so little goes too often, and takes the processor from psql, which has more to say
PAUSE = 0.002  # seconds; the last line of all is waited for as long, too
PATIENCE = 1.0  # seconds; psql that is interrupted first cancels its statement in the server
STREAMS = ("stdout", "stderr", "feeder")  # the last one is the standard error of what feeds a psql
HEAD = 4096  # bytes of pg_restore's script that hold its settings


class Process(Protocol):
    """A started program. Its standard input is empty, always (see the design: nothing depends on half-closing)."""

    def sources(self) -> Sequence[Iterator[tuple[str, bytes]]]:
        """Blocking iterators of (one of `STREAMS`, bytes), each to be drained by a thread of its own."""

    def wait(self) -> int:
        """Return the exit code, after the output has ended."""


class LocalProcess:
    """A program of this machine."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], folder: Path | None, into: Sequence[str] | None = None
    ) -> None:
        """Start it in a process group of its own, so that a terminal's Ctrl-C reaches only us and we cancel in order.

        Args:
            argv: the program and its arguments; no secret belongs here.
            env: its whole environment.
            folder: its current directory.
            into: a psql and its arguments, which reads what the program (pg_restore) writes; its output and its exit
                code are the process's.

        Raises:
            OSError: when it cannot be started.

        """
        self._feeder = _start(argv, env, folder) if into else None
        self._popen = _start(into or argv, env, folder, stdin=subprocess.PIPE if into else subprocess.DEVNULL)

    def sources(self) -> Sequence[Iterator[tuple[str, bytes]]]:
        """All pipes."""
        out, err = cast("BinaryIO", self._popen.stdout), cast("BinaryIO", self._popen.stderr)
        sources = [_read("stdout", out), _read("stderr", err)]
        if self._feeder:
            script, said = cast("BinaryIO", self._feeder.stdout), cast("BinaryIO", self._feeder.stderr)
            sources += [_feed(script, cast("BinaryIO", self._popen.stdin)), _read("feeder", said)]
        return sources

    def wait(self) -> int:
        """Wait for its end."""
        if self._feeder:
            self._feeder.wait()
        return self._popen.wait()


class Recorded:
    """What somebody else has written and perhaps goes on writing, to be read like a program's output."""

    def __init__(self, source: Iterator[tuple[str, bytes]]) -> None:
        """Keep it.

        Args:
            source: (`stdout` or `stderr`, bytes); it may block.

        """
        self._source = source

    def sources(self) -> Sequence[Iterator[tuple[str, bytes]]]:
        """Return the one source."""
        return [self._source]

    def wait(self) -> int:
        """Return 0: nothing has run."""
        return 0


def foreground(argv: Sequence[str], *, env: Mapping[str, str], at_terminal: bool) -> int:
    """Run a program of this machine with our own standard streams, in our process group, until it ends.

    A terminal sends Ctrl-C and changes of its size to the whole group. Where somebody sits at one, Ctrl-C is the
    program's alone: psql cancels the statement, or its pager stays, and so do we. Otherwise it ends both of us.

    Args:
        argv: the program and its arguments; no secret belongs here.
        env: its whole environment.
        at_terminal: whether standard input is a terminal.

    Returns:
        Its exit code; 128 and the signal's number where a signal ended it.

    Raises:
        KeyboardInterrupt: we were interrupted; the program has ended.

    """
    before = signal.getsignal(signal.SIGINT)
    if at_terminal:
        signal.signal(signal.SIGINT, lambda *_: None)  # a function of ours, unlike SIG_IGN, is not inherited
    try:
        started = subprocess.Popen(argv, env=env)
        try:
            code = started.wait()
        except KeyboardInterrupt:
            _end(started)
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _end(started: subprocess.Popen[bytes]) -> None:
    """End psql so that its statement ends too: the first signal cancels it, which the second alone would not."""
    kinds = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    for kind in kinds:
        started.send_signal(kind)
        with suppress(subprocess.TimeoutExpired):
            started.wait(PATIENCE)
            return


def absolute(argument: str | Path) -> str:
    """Return an argument as a program of this machine understands it in any current directory."""
    return argument if isinstance(argument, str) else str(argument.resolve())


def _start(
    argv: Sequence[str], env: Mapping[str, str], folder: Path | None, *, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    own_group = 0
    if sys.platform == "win32":
        own_group = subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=folder,
        creationflags=own_group,
        start_new_session=sys.platform != "win32",
    )


def _feed(script: BinaryIO, target: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Hand pg_restore's script to psql; yields nothing. When either of them dies, the other one finds its pipe closed.

    pg_restore 17 and newer resets a setting that older servers do not know. The session has it reset already.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionError, OSError), target, script:
        target.write(script.read(HEAD).replace(b"SET transaction_timeout = 0;\n", b"", 1))
        shutil.copyfileobj(script, target, CHUNK)
    yield from ()


def _read(name: str, pipe: BinaryIO) -> Iterator[tuple[str, bytes]]:
    with pipe:
        while chunk := os.read(pipe.fileno(), CHUNK):
            yield name, chunk
            if len(chunk) < LITTLE:
                time.sleep(PAUSE)


def chunks(process: Process, *, tick: float) -> Iterator[tuple[str, bytes] | None]:
    """Yield the process's output as it comes, and None after each `tick` seconds of silence.

    Reading happens in threads, so that the caller keeps its hands free: for Ctrl-C on every platform,
    and for looking at the server while the program is quiet.

    Raises:
        Exception: whatever a source raised, in the caller's thread.

    """
    waiting: queue.Queue[tuple[str, bytes] | BaseException | None] = queue.Queue(maxsize=64)

    def drain(source: Iterator[tuple[str, bytes]]) -> None:
        try:
            for item in source:
                waiting.put(item)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody can handle it
            waiting.put(error)

    sources = process.sources()
    for source in sources:
        threading.Thread(target=drain, args=(source,), daemon=True).start()
    open_ends = len(sources)
    while open_ends:
        try:
            item = waiting.get(timeout=tick)
        except queue.Empty:
            yield None
            continue
        if isinstance(item, BaseException):
            raise item
        if item is None:
            open_ends -= 1
        else:
            yield item


def lines(process: Process, *, tick: float = 0.25) -> Iterator[tuple[str, str] | None]:
    """Yield (one of `STREAMS`, line without its end) as UTF-8 text, and None at each quiet tick."""
    decoders = {name: codecs.getincrementaldecoder("utf-8")(errors="replace") for name in STREAMS}
    rest = dict.fromkeys(STREAMS, "")
    for item in chunks(process, tick=tick):
        if item is None:
            yield None
            continue
        name, data = item
        *whole, rest[name] = (rest[name] + decoders[name].decode(data)).split("\n")
        for line in whole:
            yield name, line.removesuffix("\r")
    for name, left in rest.items():
        if left:
            yield name, left


def outcome(process: Process, *, tick: float = 0.25) -> tuple[int, str, str]:
    """Run a program to its end; its exit code, output and error output."""
    said = dict.fromkeys(STREAMS, b"")
    for item in chunks(process, tick=tick):
        if item:
            said[item[0]] += item[1]
    return process.wait(), said["stdout"].decode("utf-8", "replace"), said["stderr"].decode("utf-8", "replace")
