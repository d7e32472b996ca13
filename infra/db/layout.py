"""How sizes are said, and how lines that are longer than a terminal is wide are folded: never inside a command."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP = re.compile(r"( {2,})")  # stands between words and a command, and between columns
COMMAND = re.compile(r"(?:invoke|docker|python|createdb|chmod|find|git|pg_isready) ")
QUOTED = re.compile(r"(?<!\w)'[^']{1,60}'(?!\w)")  # to be written into a file, say
LITERAL = re.compile(r" *[-+@^]")  # a line of a difference, or the mark below one of a file
ITEM = range(1, 6)  # blanks before an item of a list; its further lines hang below its words


def size(count: int) -> str:
    """Return a number of bytes as people say it: `12 kB`, `3.4 MB`."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def fold(text: str, width: int) -> str:
    """Return a text with its long lines folded.

    A line is parted where two blanks or more are, and words that do not fit are wrapped. A command, which follows a
    colon or begins with a program's name, gets a line of its own and stays whole, however long it is: what is left to
    the terminal to break can still be copied as one line.

    Args:
        text: lines.
        width: of the terminal, in characters; 0 where there is none.

    """
    return "\n".join(part for line in text.split("\n") for part in _folded(line, width)) if width else text


def _folded(line: str, width: int) -> Iterator[str]:
    if len(line) <= width or LITERAL.match(line):
        yield line
        return
    margin = " " * (len(line) - len(line.lstrip(" ")))
    row, before = "", ""
    for gap, part in _parts(line.strip(" ")):
        if row and len(row + gap + part) <= width:
            row += gap + part
        else:
            if row:
                yield row
            start = margin + "  " if row else margin
            *full, row = [start + part] if _stays_whole(part, before) else _wrapped(part, width, start)
            yield from full
        before = part
    yield row


def _parts(body: str) -> Iterator[tuple[str, str]]:
    """Yield (the blanks before it, the part)."""
    first, *rest = GAP.split(body)
    yield "", first
    yield from zip(rest[::2], rest[1::2], strict=True)


def _stays_whole(part: str, before: str) -> bool:
    return before.endswith(":") or COMMAND.match(part) is not None


def _wrapped(part: str, width: int, start: str) -> list[str]:
    hang = start + "  " if len(start) in ITEM else start
    kept = QUOTED.sub(lambda found: found[0].replace(" ", "\0"), part)
    lines = textwrap.wrap(
        kept, width, initial_indent=start, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]
