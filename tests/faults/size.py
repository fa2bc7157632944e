"""How much of each fault is run: `WINNOW_FAULTS` is `full` for the guide's counts, `reduced` for CI's."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")
VARIABLE = "WINNOW_FAULTS"
ASKED = os.environ.get(VARIABLE, "")
FULL = ASKED == "full"
EMBEDDED = bool(os.environ.get("WINNOW_FAULTS_EMBEDDED"))
"""On librdkafka's cluster, what the guide marks with M."""


def pick(*, reduced: T, full: T) -> T:
    return full if FULL else reduced


PROTOCOLS = ("classic", "consumer")


def protocols(*reduced: str) -> tuple[str, ...]:
    """Of groups: both in full, those named in the reduced run."""
    return pick(reduced=reduced, full=PROTOCOLS)
