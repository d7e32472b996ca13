"""What the README tells people to type is what there is, and what CI types."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.project import TOP
from tests.test_tasks import CONTEXTS

README = (TOP / "README.md").read_text(encoding="utf-8")
TYPED = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
CI = yaml.safe_load((TOP / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", sorted(CONTEXTS))
def test_every_task_is_in_the_readme(task: str) -> None:
    assert re.search(rf"`(?:invoke )?{re.escape(task)}\b", README)


def test_every_command_of_the_readme_is_one() -> None:
    names = re.findall(r"invoke ((?:migrate|db\.|dev\.)[a-z.-]*)", README)
    assert {name.rstrip(".") for name in names} <= set(CONTEXTS)


def test_no_command_needs_a_shell_that_sets_variables_in_front_of_it() -> None:
    assert not re.search(r"\b[A-Z]+_[A-Z]+=\S+ invoke\b", README)


def test_ci_types_the_two_commands_as_they_stand_in_each_systems_own_shell() -> None:
    steps = {step.get("run"): step for step in CI["jobs"]["suite"]["steps"]}
    first, second = (line for line in TYPED if line.startswith("python -m pip install -e "))
    assert "shell" not in steps[first] | steps[second]


def test_ci_may_only_read() -> None:
    assert CI["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in CI["jobs"].values())
