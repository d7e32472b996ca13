"""What happens in a run, as the migrator tells it and the console shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from infra.db.migration import Migration


class Started(NamedTuple):
    """A file begins."""

    migration: Migration


class Finished(NamedTuple):
    """A file is applied and recorded."""

    migration: Migration
    duration_ms: int


class Said(NamedTuple):
    """A file, or the server while it ran, said something: a notice, a warning, a query's result."""

    migration: Migration | None
    text: str


class Doing(NamedTuple):
    """What a long statement is doing at this moment."""

    migration: Migration
    text: str


class Slow(NamedTuple):
    """A statement took longer than `watch.SLOW`.

    Attributes:
        migration: whose it is.
        line: where it begins in the file; None when it is not found there (our own COMMIT, a file that is not kept).
        seconds: how long it took, to about a quarter of a second.
        text: its first line.

    """

    migration: Migration
    line: int | None
    seconds: float
    text: str


class Waiting(NamedTuple):
    """Another run holds the lock."""

    holder: str


class Retrying(NamedTuple):
    """A file met its lock_timeout and was rolled back; it is tried again after a pause."""

    migration: Migration
    blockers: tuple[str, ...]
    attempt: int
    pause: float


Event = Started | Finished | Said | Doing | Slow | Waiting | Retrying
