"""The two rules that cannot be wrong, checked before anything runs; squawk parses, we do not."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.db import staging
from infra.db.errors import CannotWork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from infra.db.migration import Migration

GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"  # what may stand between two words
QUOTED = r"""--[^\n]*|/\*.*?\*/|[eE]'(?:\\.|''|[^'\\])*'|'[^']*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
COPY_DATA = re.compile(
    rf"(?is){QUOTED}|(?P<copy>\bcopy\b(?:--[^\n]*|/\*.*?\*/|'[^']*'|\"[^\"]*\"|[^;'\"])*?\bfrom{GAP}+stdin\b"
    r"(?:'[^']*'|[^;'])*;[^\n]*)\n(?:(?!\\\.\n).*?\n)??\\\.(?=\n|\Z)"
)
PREPARED = re.compile(rf"(?is){QUOTED}|(?P<prepared>\bprepare{GAP}+transaction\b)")  # squawk does not know it
LARGEST = 8 << 20  # bytes; parsing takes half a second and 30 MB for each MB of statements
TRANSACTION_CONTROL = "transaction-nesting"
CONCURRENTLY = "ban-concurrent-index-creation-in-transaction"
# ROLLBACK TO ends no transaction, though squawk says so.
TO_SAVEPOINT = re.compile(rf"(?is)rollback{GAP}+((work|transaction){GAP}+)?to\b")


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


def refuse_what_cannot_work(steps: Sequence[Migration], folder: str) -> None:
    """Stop before a file that ends its transaction, or builds an index concurrently inside one, is run.

    Args:
        steps: the migrations that are about to run.
        folder: where the files are, as people type it.

    Raises:
        CannotWork: with file and line of each finding.

    """
    checked = {step.file_name: sql for step in steps if step.directives.transaction and (sql := _sql(step))}
    if not checked:
        return
    findings = [finding for file, sql in checked.items() for finding in _prepared(file, sql)]
    with staging.folder() as here:
        for file, sql in checked.items():
            (here / file).write_text(_for_squawk(sql), encoding="utf-8", newline="\n")
        findings += _squawk(here, sorted(checked))
    if findings:
        raise CannotWork([(f"{folder}/{file}:{line}", rule == CONCURRENTLY) for file, line, rule in findings])


def _sql(step: Migration) -> str | None:
    """Return what a file says, also when the history does not keep it; None for one that is too large to parse.

    In such a file, a transaction that it ends is only noticed when it has ended (`psql.driver`).
    """
    if step.text.sql is None and step.path and step.path.stat().st_size <= LARGEST:
        return step.path.read_text(encoding="utf-8-sig")
    return step.text.sql


def _prepared(file: str, sql: str) -> Iterator[tuple[str, int, str]]:
    heard = without_copy_data(sql)
    for found in PREPARED.finditer(heard):
        if found["prepared"]:
            yield file, heard.count("\n", 0, found.start()) + 1, TRANSACTION_CONTROL


def _for_squawk(sql: str) -> str:
    """Take away what would hide a finding: COPY data, comments that silence squawk, being the only statement."""
    heard = without_copy_data(sql).replace("squawk-ignore", "squawk_ignore")
    return f"{heard}\n;\nSELECT 1;\n"


def _squawk(folder: Path, names: Iterable[str]) -> list[tuple[str, int, str]]:
    """Return (file, line, rule) of what the two rules find; squawk exits 1 when anything is found at all."""
    config = folder / ".squawk.toml"
    config.write_text("", encoding="utf-8")  # not the project's: its exclusions are for style, these rules are not
    done = subprocess.run(
        [_program(), f"--config={config}", "--reporter=json", "--assume-in-transaction", *names],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return [
        (item["file"], item["line"] + 1, item["rule_name"])
        for item in json.loads(done.stdout or b"[]")
        if item["rule_name"] in (TRANSACTION_CONTROL, CONCURRENTLY) and not _goes_to_savepoint(folder, item)
    ]


def _goes_to_savepoint(folder: Path, item: dict[str, Any]) -> bool:
    lines = (folder / item["file"]).read_bytes().split(b"\n")  # squawk counts bytes
    rest = b"\n".join(lines[item["line"] :])[item["column"] :]
    return TO_SAVEPOINT.match(rest.decode()) is not None
