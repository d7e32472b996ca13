"""What a task works with, for a project of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.db import settings
from infra.db.console import Console
from infra.db.session import Session

if TYPE_CHECKING:
    from tests.project import Project


def session_of(project: Project) -> Session:
    """Return the session that a task of this project would have."""
    return Session(Console(), settings.read(project.environment(), root=project.root, dotenv={}))
