"""The words of failures: one tree, one exit code each, four parts."""

from __future__ import annotations

import inspect
import re

import pytest

from infra.db import errors

CODES = {
    "UsageError": 2,
    "MigrationFailed": 3,
    "Refused": 4,
    "ServerError": 5,
    "LockError": 6,
    "CheckFailed": 7,
    "Interrupted": 130,
}
KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ToolError) and kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in KINDS])
def test_every_error_stands_in_the_tree_and_ends_with_its_branchs_exit_code(kind: type[errors.ToolError]) -> None:
    tree = (errors.__doc__ or "").partition("An error says four things")[0]
    assert kind.__name__ in re.findall(r"\w+", tree), f"add {kind.__name__} to the tree in infra/db/errors.py"
    branches = [CODES[base.__name__] for base in kind.__mro__ if base.__name__ in CODES]
    assert kind.exit_code == (branches[0] if branches else 1)


def test_an_error_reads_as_what_where_consequence_next() -> None:
    error = errors.ToolError("It broke.", where="  there", consequence="Nothing was changed.", next="invoke migrate")
    assert str(error) == "It broke.\n  there\nNothing was changed.\ninvoke migrate"


def test_parts_that_are_empty_leave_no_blank_line() -> None:
    assert str(errors.ToolError("It broke.", next="invoke migrate")) == "It broke.\ninvoke migrate"
