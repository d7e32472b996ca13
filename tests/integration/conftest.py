"""What only the stories on real servers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.schema_fixtures import owned, schema, templates

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.project import Project

__all__ = ["owned", "schema", "templates"]


@pytest.fixture(params=["embedded", "docker", "external"])
def everywhere(request: pytest.FixtureRequest, fresh: Callable[[Project], Project]) -> Project:
    """A project with a fresh database, on each of the three servers."""
    return fresh(request.getfixturevalue(f"{request.param}_project"))
