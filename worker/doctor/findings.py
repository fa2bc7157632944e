"""What a check found, and its mend."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.errors import Fatal


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """A worker starts, and does less, or less safely, than one may think."""
    PROBLEM = "problem"
    """A worker does not start, or stops, or loses what it should not."""
    NOT_CHECKED = "not checked"


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    """A fixed name; where there is one for each topic, the topic follows."""
    status: Status
    found: str
    mend: str = ""
    """What to do about it; empty where there is nothing to do."""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    return Finding(check, Status.WARNING, found, mend)


def problem(check: str, found: str, mend: str) -> Finding:
    return Finding(check, Status.PROBLEM, found, mend)


def not_checked(check: str, why: str, mend: str = "") -> Finding:
    return Finding(check, Status.NOT_CHECKED, why, mend)


def refused(check: str, error: Fatal, mend: str) -> Finding:
    """A problem of which an error speaks: its first sentence is what was found, the others are the mend.

    Args:
        check: which.
        error: what was raised.
        mend: where the error is one sentence.
    """
    found, _, rest = str(error).partition(". ")
    return problem(check, found if found.endswith("?") else found.rstrip(".") + ".", rest or mend)


def worst(findings: Sequence[Finding]) -> Status:
    """The gravest of all; what was not checked counts as a warning."""
    found = {finding.status for finding in findings}
    if Status.PROBLEM in found:
        return Status.PROBLEM
    return Status.WARNING if found & {Status.WARNING, Status.NOT_CHECKED} else Status.OK
