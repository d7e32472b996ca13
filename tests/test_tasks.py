"""The command line: exactly the tasks and flags of the contract, each explained, and quick to list."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import tasks
from tests import project
from tests.project import TOP

if TYPE_CHECKING:
    from pathlib import Path

    from invoke.parser import ParserContext

# Flags that end in = take a value; words in capitals are given by position. --renumber, --anyway and migrate-squash are
# additions to the contract.
CONTRACT = {
    "migrate": "--to= --plan --single --out-of-order --backup --json",
    "migrate-status": "--check --json",
    "migrate-reset": "--yes --no-backup",
    "migrate-rollback": "--steps= --to= --plan --yes",
    "migrate-new": "NAME --no-transaction --renumber",
    "migrate-baseline": "--to= --anyway",
    "migrate-squash": "--to=",
    "migrate-resolve": "VERSION --applied --pending",
    "migrate-rehearse": "--to= --schema-only --json",
    "migrate-verify": "--json",
    "migrate-lint": "--all --json",
    "db.up": "",
    "db.down": "--volumes --yes",
    "db.wait": "--timeout=",
    "db.logs": "--follow --tail=",
    "db.shell": "--command=",
    "db.tables": "--json",
    "db.describe": "TABLE --json",
    "db.url": "--password",
    "db.backup": "--out=",
    "db.restore": "FILE --yes",
    "db.doctor": "--json",
    "db.docs": "--check",
}
DEVELOPERS = {"dev.test": "--only=", "dev.lint": "", "dev.bench": "--schema", "dev.docs": ""}  # in no contract
FIRST = {"migrate", "migrate-status", "migrate-reset", "db.up", "db.down", "db.wait", "db.url"}
FIRST |= {"db.logs", "db.shell", "db.tables", "db.describe"}
HEAVY = {"psycopg", "docker", "rich", "yaml", "dotenv", "requests", "infra.db.session", "infra.db.work"}
CONTEXTS: dict[str, ParserContext] = {str(context.name): context for context in tasks.ns.to_contexts()}
TASKS = [pytest.param(name, id=name) for name in sorted(CONTEXTS)]


def test_there_are_the_first_tasks_and_none_that_the_contract_does_not_know() -> None:
    assert FIRST <= set(CONTEXTS) - set(DEVELOPERS) <= set(CONTRACT)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_exactly_the_flags_of_the_contract(name: str) -> None:
    context = CONTEXTS[name]
    words = [str(argument.name).upper() for argument in context.positional_args]
    flags = {
        f"--{str(argument.name).replace('_', '-')}{'=' if argument.takes_value else ''}"
        for argument in context.args.values()
        if not argument.positional
    }
    assert set({**CONTRACT, **DEVELOPERS}[name].split()) == {*words, *flags}
    assert not context.inverse_flags


@pytest.mark.parametrize("name", TASKS)
def test_a_task_and_each_of_its_flags_is_explained_in_one_line(name: str) -> None:
    doc = tasks.ns[name].__doc__
    assert doc.strip().endswith(".")
    assert "\n" not in doc
    for argument in CONTEXTS[name].args.values():
        assert argument.help.endswith("."), argument
        assert "\n" not in argument.help, argument


def test_listing_the_tasks_shows_the_developers_last_and_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import json, sys; from invoke.main import program; before = set(sys.modules);"  # Invoke uses yaml itself
        " program.run(['invoke', '--list'], exit=False);"
        f" print(json.dumps(sorted({HEAVY!r} & set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, check=True, encoding="utf-8", timeout=60
    )
    *listed, loaded = done.stdout.splitlines()
    assert json.loads(loaded) == []
    names = [line.split()[0] for line in listed if re.match(r"  \w", line)]
    assert names[0] == "migrate"
    assert set(names) == set(CONTEXTS)  # and so none under a name of the code
    assert set(names[-len(DEVELOPERS) :]) == set(DEVELOPERS)


def test_an_older_python_is_told_so_in_words() -> None:
    source = (TOP / "tasks.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))  # it must get as far as the words
    code = "import sys; sys.version_info = (3, 10, 0, 'final', 0); import tasks"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, check=False, encoding="utf-8", timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.10 is too old: these tasks need Python 3.11 or newer.\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "way"),
    [
        ("migrate --nope", "--help migrate"),
        ("migrate 005", "--help migrate"),
        ("migrate --to", "--help migrate"),
        ("migrate-resolve", "--help migrate-resolve"),
        ("db.describe", "--help db.describe"),
        ("nope", "--list"),
        ("--nope", "--list"),
    ],
)
def test_a_slip_of_the_tongue_is_answered_without_a_traceback_and_with_what_to_type(line: str, way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *line.split()],
        cwd=TOP,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 1
    said, *more = done.stderr.splitlines()
    assert said.strip()
    assert more == ["Nothing was done.", f"Next: invoke {way}"]


@pytest.mark.parametrize(("unwanted", "files"), [("", 1), ("1", 0)])
def test_what_python_compiled_is_kept_for_the_next_task_unless_it_shall_not(
    tmp_path: Path, unwanted: str, files: int
) -> None:
    made = project.copy(tmp_path / "checkout", DB_SERVER="external")
    assert made.invoke("db.url", PYTHONDONTWRITEBYTECODE=unwanted).code == 0
    assert len(list(made.root.glob("infra/db/__pycache__/session.*.pyc"))) == files
