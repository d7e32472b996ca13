"""What the doctor found: one value for each thing that it looked at."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.db.errors import PackageMissing, ServerError, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Verdict(enum.StrEnum):
    """How it looks; the words are those of the JSON output."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: what it is about, a word or two.
        verdict: how it looks.
        found: what was found, in words; more than one line where there is more to say.
        mend: what to do about it, words and commands to paste; empty when there is nothing to do.
        exit_code: what a fault ends the doctor with.

    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    exit_code: int = 0


def ok(name: str, found: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, mend: str) -> Check:
    """Return a check that found something which stops no run, or which a run mends by itself."""
    return Check(name, Verdict.WARNING, found, mend)


def fault(name: str, found: str, mend: str, *, exit_code: int = ServerError.exit_code) -> Check:
    """Return a check that found something which stops a run."""
    return Check(name, Verdict.FAULT, found, mend, exit_code)


def skipped(name: str, why: str) -> Check:
    """Return a check that could not be done, and why."""
    return Check(name, Verdict.SKIPPED, f"not checked: {why}")


def failed(name: str, error: ToolError) -> Check:
    """Return the check that an error of ours stands for; nothing was asked for, so its consequence is left out."""
    found = f"{error.what}\n{error.where}".rstrip()
    return fault(name, found, error.next, exit_code=error.exit_code)


def of(name: str, look: Callable[[], Check]) -> Check:
    """Do a check; a failure of ours, or a package that is not there, is what it found."""
    try:
        return look()
    except ToolError as error:
        return failed(name, error)
    except ModuleNotFoundError as error:
        return failed(name, PackageMissing(error.name or "?"))


def each(looks: Mapping[str, Callable[[], Check]], *, why: str = "") -> Iterator[Check]:
    """Do checks that do not depend on each other, or skip them all and say why."""
    for name, look in looks.items():
        yield skipped(name, why) if why else of(name, look)


def in_turn(looks: Mapping[str, Callable[[], Check]], *, why: str = "") -> Iterator[Check]:
    """Do checks of which each needs the one before it: after the first that is not well, the rest is skipped."""
    for name, look in looks.items():
        found = skipped(name, why) if why else of(name, look)
        yield found
        why = why or see([found])


def see(checks: Sequence[Check], *, but: Verdict = Verdict.OK) -> str:
    """Return the words that lead to the first check which is not well; empty when all are.

    Args:
        checks: what was found.
        but: what counts as well enough, beside `ok`.

    """
    return next((f"see {check.name}" for check in checks if check.verdict not in (Verdict.OK, but)), "")


def worst(name: str, checks: Sequence[Check], fine: str) -> Check:
    """Return several findings about one thing as one check, the worst first.

    Args:
        name: the check's.
        checks: what was found.
        fine: what to say when nothing is wrong.

    """
    order = (Verdict.FAULT, Verdict.WARNING)
    bad = sorted((check for check in checks if check.verdict in order), key=lambda check: order.index(check.verdict))
    if not bad:
        return ok(name, fine)
    found = "\n".join(check.found for check in bad)
    mend = "\n".join(dict.fromkeys(check.mend for check in bad if check.mend))
    return Check(name, bad[0].verdict, found, mend, bad[0].exit_code)


def check_object(found: Check) -> dict[str, Any]:
    """Return a check of the doctor as in the JSON output."""
    names = ("name", "verdict", "found", "mend")
    return {name: getattr(found, name) or None for name in names}
