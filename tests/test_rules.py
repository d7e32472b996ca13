"""The table of rules decides on every rule that the installed squawk has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.db import lint, rules

DECIDED = {*rules.RULES, *rules.OFF} - {rules.UNREADABLE, rules.UNCHECKED}


def test_no_rule_is_both_reported_and_off() -> None:
    assert not set(rules.RULES) & set(rules.OFF)
    assert {name for pair in rules.SAID_BETTER.items() for name in (pair[0], *pair[1])} <= set(rules.RULES)


@pytest.mark.parametrize("name", sorted(DECIDED - {"unused-ignore"}))
def test_every_rule_of_the_table_is_one_of_squawks(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [lint._program(), f"--exclude={name}", "--no-error-on-unmatched-pattern", "none.sql"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert b"invalid rule name" not in done.stderr


def test_every_rule_of_the_installed_squawk_is_decided() -> None:
    # squawk lists its rules nowhere, but its names lie side by side among the program's strings.
    program = Path(shutil.which(lint._program()) or lint._program()).read_bytes()
    together = [
        text.decode()
        for text in re.findall(rb"[a-z][a-z-]{99,}", program)
        if sum(name.encode() in text for name in DECIDED) > 20
    ]
    assert together, "the names are no longer found; look for another way to list them"
    known = "|".join(sorted(DECIDED, key=len, reverse=True))
    rest = [name for text in together for name in re.findall(r"[a-z]+(?:-[a-z]+)+", re.sub(known, "\n", text))]
    assert not rest, f"{rest}: new in squawk; give each a level in RULES of infra/db/rules.py, or a reason in OFF"


@pytest.mark.parametrize("name", sorted(rules.RULES))
def test_a_rule_without_words_of_its_own_uses_squawks(name: str) -> None:
    rule = rules.RULES[name]
    assert not rule.message.endswith("."), "a message is no sentence: the number of rows may follow"
    assert not rule.help or rule.help[0].isupper()
    assert "{table}" in rule.message or rule.matters in (rules.Matters.ALWAYS, rules.Matters.IN_USE)
