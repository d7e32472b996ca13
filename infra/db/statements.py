"""Just enough SQL to know which table a statement works on. Pure; where in doubt, nothing is said.

squawk parses, but tells only the place of a finding. So the statement at that place is looked at: its first words,
with comments and strings taken out. What is not recognised has no table, and is then treated as the worst case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A name in double quotes is kept as it is; all else here is not code. A comment is as in `lint.COMMENT`.
NOT_CODE = re.compile(
    r"""(?xs)
    (?P<name>"(?:[^"]|"")*")
    | --[^\n]*
    | /\*(?:[^*/]++|\*(?!/)|/(?!\*)|/\*.*?\*/)*+\*/
    | (?<!\w)[eE]'(?:\\.|''|[^'\\])*'
    | '(?:''|[^'])*'
    | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    """
)
PIECE = re.compile(r'(?:"(?:[^"]|"")*"|[^;"])+')
PART = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
KEYWORD = r"(?:all|full|freeze|verbose|analyze)\b"
NAME = rf"(?!{KEYWORD})(?P<name>{PART}(?:\s*\.\s*{PART})?)(?![\w$&\"]|\s*[.,])"  # one table; a list is in doubt
EXISTS = r"(?:if\s+(?:not\s+)?exists\s+)?"
WORKS_ON = re.compile(
    rf"""(?isx)\s*(?:
      alter\s+(?:table|materialized\s+view)\s+{EXISTS}(?:only\s+)?
    | create\s+(?:unique\s+)?index\s+(?:concurrently\s+)?{EXISTS}(?:(?!on\b){PART}\s+)?on\s+(?:only\s+)?
    | drop\s+(?:table|materialized\s+view|(?P<index>index))\s+(?:concurrently\s+)?{EXISTS}
    | truncate\s+(?:table\s+)?(?:only\s+)?
    | reindex\s+(?:\([^)]*\)\s*)?(?:table|(?P<rebuilt>index))\s+(?:concurrently\s+)?
    | vacuum\s+(?:\([^)]*\)\s*|full\s+|freeze\s+|verbose\s+|analyze\s+)*
    | cluster\s+(?:\([^)]*\)\s*|verbose\s+)?
    ){NAME}"""
)
CREATES = re.compile(rf"(?is)\s*create\s+(?:unlogged\s+)?(?:table|materialized\s+view)\s+(?P<maybe>{EXISTS}){NAME}")
SETS_PATH = re.compile(r"(?i)\s*set\s+(?:session\s+|local\s+)?search_path\b")


@dataclass(frozen=True, slots=True)
class Table:
    """The name of a table or of an index.

    Attributes:
        schema: `public` where the statement names none: the run sets search_path.
        name: as PostgreSQL keeps it.

    """

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        start: where it begins, in characters of the file; the blanks before it count as its own.
        end: where it ends, likewise.
        table: the one that it works on; None when it is not known for sure.
        index: the index that it works on, which stands for its table.
        creates: the table that it makes.
        maybe: whether it makes it only if it is not there.

    """

    start: int
    end: int
    table: Table | None
    index: Table | None
    creates: Table | None
    maybe: bool

    @property
    def tables(self) -> tuple[Table, ...]:
        """All that it names."""
        return tuple(table for table in (self.table, self.index, self.creates) if table)


def split(sql: str) -> Iterator[Statement]:
    """Yield the statements of a file, in order."""
    code = NOT_CODE.sub(lambda found: found[0] if found["name"] else _blank(found[0]), sql)
    pieces = list(PIECE.finditer(code))
    # A file that sets the path may mean another schema than public.
    plain = "'search_path'" not in sql and not any(SETS_PATH.match(piece[0]) for piece in pieces)
    for piece in pieces:
        made, works = CREATES.match(piece[0]), WORKS_ON.match(piece[0])
        target = _table(works["name"], plain=plain) if works else None
        of_index = works is not None and bool(works["index"] or works["rebuilt"])
        yield Statement(
            piece.start(),
            piece.end(),
            table=None if of_index else target,
            index=target if of_index else None,
            creates=_table(made["name"], plain=plain) if made else None,
            maybe=bool(made and made["maybe"]),
        )


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _table(name: str, *, plain: bool) -> Table | None:
    parts = [_folded(part) for part in re.findall(PART, name)]
    if len(parts) == 1 and not plain:
        return None
    return Table(parts[0] if len(parts) > 1 else "public", parts[-1])


def _folded(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
