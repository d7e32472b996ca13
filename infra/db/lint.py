"""squawk, which parses what we do not: run on texts, its remarks as values; and the two rules that cannot be wrong."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.db import staging
from infra.db.errors import CannotWork
from infra.db.rules import CONCURRENTLY, HARD, TRANSACTION_CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from infra.db.migration import Migration

GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"  # what may stand between two words
# A comment may hold another one. Nothing in it is tried twice (`++`), so that many without an end keep nobody waiting.
COMMENT = r"--[^\n]*|/\*(?:[^*/]++|\*(?!/)|/(?!\*)|/\*.*?\*/)*+\*/"
QUOTED = rf"""{COMMENT}|[eE]'(?:\\.|''|[^'\\])*'|'[^']*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
COPY_DATA = re.compile(
    rf"(?is){QUOTED}|(?P<copy>\bcopy\b(?:--[^\n]*|/\*.*?\*/|'[^']*'|\"[^\"]*\"|[^;'\"])*?\bfrom{GAP}+stdin\b"
    r"(?:'[^']*'|[^;'])*;[^\n]*)\n(?:(?!\\\.\n).*?\n)??\\\.(?=\n|\Z)"
)
NOT_CODE = re.compile(f"(?is){QUOTED}")
PREPARED = re.compile(rf"(?is){QUOTED}|(?P<prepared>\bprepare{GAP}+transaction\b)")  # squawk does not know it
# The words without which no file can end its transaction or build an index concurrently: most have none, and no parser
# is started for them.
SUSPECT = re.compile(r"(?i)\b(?:abort|begin|commit|concurrently|end|prepare|rollback|start)\b")
LARGEST = 8 << 20  # bytes; parsing takes half a second and 30 MB for each MB of statements
# ROLLBACK TO ends no transaction, though squawk says so.
TO_SAVEPOINT = re.compile(rf"(?is)rollback{GAP}+((work|transaction){GAP}+)?to\b")


@dataclass(frozen=True, slots=True)
class Remark:
    """What squawk says of one place.

    Attributes:
        file: the name its text was given under.
        line: of that text.
        start: where the place begins, in characters of the text.
        end: where it ends, likewise.
        rule: squawk's name for it.
        message: squawk's words.
        help: what squawk advises; may be empty.

    """

    file: str
    line: int
    start: int
    end: int
    rule: str
    message: str
    help: str


def _program() -> str:
    """Return the squawk that was installed beside this Python, whatever PATH says."""
    beside = Path(sysconfig.get_path("scripts")) / "squawk"
    return str(beside) if beside.exists() or beside.with_suffix(".exe").exists() else "squawk"


def without_copy_data(sql: str) -> str:
    """Blank the data lines of COPY FROM STDIN: they are not SQL, and a parser would stop there."""
    return COPY_DATA.sub(
        lambda found: (
            found["copy"] + "\n" * (found[0].count("\n") - found["copy"].count("\n")) if found["copy"] else found[0]
        ),
        sql,
    )


def prepared(sql: str) -> str:
    """Take away what would hide a finding: COPY data, comments that tell squawk something, being the only statement."""
    heard = without_copy_data(sql).replace("squawk-", "squawk_")
    return f"{heard}\n;\nSELECT 1;\n"


def refuse_what_cannot_work(steps: Sequence[Migration], folder: str) -> None:
    """Stop before a file that ends its transaction, or builds an index concurrently inside one, is run.

    Args:
        steps: the migrations that are about to run.
        folder: where the files are, as people type it.

    Raises:
        CannotWork: with file and line of each finding.

    """
    texts = {step.file_name: _sql(step) for step in steps if step.directives.transaction}
    checked = {file: sql for file, sql in texts.items() if sql and _is_suspect(sql)}
    findings = [(f"{folder}/{file}:{line}", False) for file, sql in checked.items() for line in _prepared(sql)]
    findings += [
        (f"{folder}/{each.file}:{each.line}", each.rule == CONCURRENTLY)
        for each in remarks({file: prepared(sql) for file, sql in checked.items()}, in_transaction=True)
        if each.rule in HARD
    ]
    if findings:
        raise CannotWork(findings)


def _sql(step: Migration) -> str | None:
    """Return what a file says, also when the history does not keep it; None for one that is too large to parse.

    In such a file, a transaction that it ends is only noticed when it has ended (`psql.driver`).
    """
    if step.text.sql is None and step.path and step.path.stat().st_size <= LARGEST:
        return step.path.read_text(encoding="utf-8-sig")
    return step.text.sql


def _is_suspect(sql: str) -> bool:
    """Say whether a parser has to look: BEGIN and END in the body of a function, which is a string, are no reason."""
    return bool(SUSPECT.search(sql) and SUSPECT.search(NOT_CODE.sub("", without_copy_data(sql))))


def _prepared(sql: str) -> Iterator[int]:
    """Yield the lines on which a transaction is prepared, which ends it here as well."""
    heard = without_copy_data(sql)
    for found in PREPARED.finditer(heard):
        if found["prepared"]:
            yield heard.count("\n", 0, found.start()) + 1


def remarks(texts: Mapping[str, str], *, in_transaction: bool, server_version: str = "") -> list[Remark]:
    """Return what squawk says of some files.

    Args:
        texts: name of each file, with .sql, and its prepared text.
        in_transaction: whether each runs in one transaction.
        server_version: like `18.4`; empty for squawk's own choice.

    """
    if not texts:
        return []
    with staging.folder() as here:
        for file, text in texts.items():
            (here / file).write_text(text, encoding="utf-8", newline="\n")
        options = ["--assume-in-transaction"] if in_transaction else []
        options += [f"--pg-version={server_version}"] if server_version else []
        said = _squawk(here, options)
    places = {file: _Places(text) for file, text in texts.items()}
    found = [_remark(item, places[item["file"]]) for item in said]
    return [
        each
        for each in sorted(found, key=lambda each: (each.file, each.start))
        if each.rule != TRANSACTION_CONTROL or not TO_SAVEPOINT.match(texts[each.file], each.start)
    ]


def _squawk(folder: Path, options: Sequence[str]) -> list[dict[str, Any]]:
    """Run squawk on all files of a folder; it exits with 1 when it has something to say."""
    config = folder / ".squawk.toml"
    config.write_text("", encoding="utf-8")  # not the project's: what it leaves out is for style
    command = [_program(), f"--config={config}", "--reporter=json", *options, "*.sql"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"squawk ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    said: list[dict[str, Any]] = json.loads(done.stdout)
    return said


class _Places:
    """The lines of a text, and where each begins."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._starts = list(itertools.accumulate((len(line) + 1 for line in self._lines), initial=0))

    def offset(self, line: int, column: int) -> int:
        """Return a place in characters; squawk counts lines from 0, and bytes within one."""
        return self._starts[line] + len(self._lines[line].encode()[:column].decode(errors="ignore"))


def _remark(item: Mapping[str, Any], places: _Places) -> Remark:
    return Remark(
        file=item["file"],
        line=item["line"] + 1,
        start=places.offset(item["line"], item["column"]),
        end=places.offset(item["line_end"], item["column_end"]),
        rule=item["rule_name"],
        message=item["message"],
        help=item["help"] or "",
    )
