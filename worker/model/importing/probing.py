"""The texts that come with Winnow: calibration where nobody gives any, and the golden probes of every bundle.

They were written for this project. Probes never come from a user's texts, which a bundle must not carry along.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import BundleError
from worker.model.manifest import Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    LogitsOf = Callable[[str], tuple[np.ndarray, np.ndarray | None]]
    """A text's logits, and those of the early head, where there is one."""

# Of the sample's lines, chosen for their lengths and for what is in them: a few words, names, an emoji, another script.
_CHOSEN = (1, 2, 6, 27, 42, 65)
_LONG = slice(-17, -12)
TOLERANCE = 0.1
"""By how much a logit may differ on another CPU."""
_DIGITS = 5


def neutral_texts() -> list[str]:
    """About 200 neutral sentences of several registers, most of them English."""
    return (Path(__file__).parent / "neutral.txt").read_text("utf-8").splitlines()


def probe_texts() -> list[str]:
    """Short and long ones, the same for every bundle."""
    lines = neutral_texts()
    return [*(lines[i] for i in _CHOSEN), " ".join(lines[_LONG])]


def probes(logits_of: LogitsOf) -> tuple[Probe, ...]:
    """What a graph answers on this machine.

    Raises:
        BundleError: an answer is no number.
    """
    return tuple(_probe(text, *logits_of(text)) for text in probe_texts())


def _probe(text: str, logits: np.ndarray, early_logits: np.ndarray | None) -> Probe:
    both = [np.asarray([] if each is None else each, np.float64).reshape(-1) for each in (logits, early_logits)]
    if not all(np.isfinite(each).all() for each in both):
        raise BundleError("The model answers with logits that are not finite numbers: its weights are damaged.")
    last, early = (tuple(round(x, _DIGITS) for x in each.tolist()) for each in both)
    return Probe(text=text, logits=last, early_logits=early)


def tolerance(made: tuple[Probe, ...], task: str) -> float:
    """How far off a probe may be; a regression's values may be of any size."""
    if task != "regression":
        return TOLERANCE
    largest = max(abs(x) for probe in made for x in probe.logits)
    return round(max(TOLERANCE, 0.02 * largest), _DIGITS)
