"""The words of failures: one tree, one exit code each, four parts."""

from __future__ import annotations

import inspect
import re

import pytest

from infra.db import errors
from tests.project import TOP

CODES = {
    "UsageError": 2,
    "MigrationFailed": 3,
    "Refused": 4,
    "ServerError": 5,
    "LockError": 6,
    "CheckFailed": 7,
    "Interrupted": 130,
}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ToolError)]
ROW = re.compile(r"^ {4}(?P<room>[a-z]*) +(?P<code>\d*)  (?P<names>[A-Z]\w+(?:, \w+)*),?$", re.MULTILINE)


def places() -> dict[str, tuple[str, int]]:
    """Where the docstring says each failure stands: its module, its exit code."""
    found: dict[str, tuple[str, int]] = {}
    room, code = "", 0
    for row in ROW.finditer(errors.__doc__ or ""):
        room, code = row["room"] or room, int(row["code"] or code)
        found |= dict.fromkeys(row["names"].split(", "), (room, code))
    return found


PLACES = places() | dict.fromkeys(["ToolError"], ("base", 1)) | {name: ("base", code) for name, code in CODES.items()}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in KINDS])
def test_every_error_stands_in_the_tree_by_its_module_and_ends_with_its_branchs_exit_code(
    kind: type[errors.ToolError],
) -> None:
    assert PLACES.get(kind.__name__) == (kind.__module__.rpartition(".")[2], kind.exit_code), (
        f"put {kind.__name__} into its place in the tree in infra/db/errors/__init__.py"
    )
    branches = [CODES[base.__name__] for base in kind.__mro__ if base.__name__ in CODES]
    assert kind.exit_code == (branches[0] if branches else 1)


def test_the_tree_names_only_errors_that_there_are_and_each_is_handed_on() -> None:
    assert set(PLACES) == {kind.__name__ for kind in KINDS} == {*errors.__all__} - {"Attempt"}
    defined = {
        name
        for _, module in inspect.getmembers(errors, inspect.ismodule)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__.startswith(errors.__name__)
    }
    assert defined == {*errors.__all__}


def test_no_next_command_needs_a_posix_shell() -> None:
    """`NAME=value command` is no command in PowerShell, and a bare `NAME=value` does nothing in any shell."""
    sources = [path.read_text(encoding="utf-8") for path in (TOP / "infra").rglob("*.py")]
    shown = re.compile(r"\b(?:DB|PG|COMPOSE|EMBEDDED|BACKUP)_?[A-Z]+=\S+ (?:invoke|pytest)\b|:  [A-Z_]+=")
    assert [found[0] for text in sources for found in shown.finditer(text)] == []


def test_an_error_reads_as_what_where_consequence_next() -> None:
    error = errors.ToolError("It broke.", where="  there", consequence="Nothing was changed.", next="invoke migrate")
    assert str(error) == "It broke.\n  there\nNothing was changed.\ninvoke migrate"


def test_parts_that_are_empty_leave_no_blank_line() -> None:
    assert str(errors.ToolError("It broke.", next="invoke migrate")) == "It broke.\ninvoke migrate"
