"""The two rules that cannot be wrong, checked before anything runs; squawk parses, we do not."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.db.errors import CannotWork

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.db.migration import Migration

COPY_DATA = re.compile(r"(?ims)^([^\n]*\bcopy\b[^;]*\bfrom\s+stdin\b[^;]*;)[^\n]*\n.*?^\\\.$")
TRANSACTION_CONTROL = "transaction-nesting"
CONCURRENTLY = "ban-concurrent-index-creation-in-transaction"
TO_SAVEPOINT = re.compile(r"(?i)rollback\s+((work|transaction)\s+)?to\b")  # ends no transaction, though squawk says so


def _program() -> str:
    """Return the squawk that was installed beside this Python, whatever PATH says."""
    beside = Path(sysconfig.get_path("scripts")) / "squawk"
    return str(beside) if beside.exists() or beside.with_suffix(".exe").exists() else "squawk"


def without_copy_data(sql: str) -> str:
    """Blank the data lines of COPY FROM STDIN: they are not SQL, and a parser would stop there."""
    return COPY_DATA.sub(lambda found: found[1] + "\n" * (found[0].count("\n") - found[1].count("\n")), sql)


def refuse_what_cannot_work(steps: Sequence[Migration], folder: str) -> None:
    """Stop before a file that ends its transaction, or builds an index concurrently inside one, is run.

    Args:
        steps: the migrations that are about to run.
        folder: where the files are, as people type it.

    Raises:
        CannotWork: with file and line of each finding.

    """
    checked = {step.path.name: step for step in steps if step.directives.transaction and step.text.sql}
    if not checked:
        return
    with tempfile.TemporaryDirectory(prefix="migrate-lint-") as name:
        here = Path(name)
        for step in checked.values():
            (here / step.path.name).write_text(without_copy_data(step.text.sql or ""), encoding="utf-8", newline="\n")
        findings = _squawk(here, sorted(checked))
    if findings:
        raise CannotWork([(f"{folder}/{file}:{line}", rule == CONCURRENTLY) for file, line, rule in findings])


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
    lines = (folder / item["file"]).read_text(encoding="utf-8").split("\n")
    return TO_SAVEPOINT.match("\n".join(lines[item["line"] :])[item["column"] :]) is not None
