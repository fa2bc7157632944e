"""From FP32 to the most INT8 that still says the same: all but the parts that INT8 hurts most.

A part is what one product input feeds (`layer.3.activation`), or the embedding table (`words`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.model.graph.switched import Switched
    from worker.model.importing.gate import Comparison

BATCH = 8
_TEXTS, _TOKENS = 16, 1024
"""On how much the parts are tried one by one: as many texts, and no more tokens unless one text has them."""


@dataclass(frozen=True)
class Candidate:
    """Which parts stay FP32, and how the graph does with them; `most` is how many were tried at once to find it."""

    fp32_parts: tuple[str, ...]
    comparison: Comparison
    most: int = 0


@dataclass(frozen=True)
class Judge:
    """What candidates are measured with.

    Attributes:
        rows: token ids of the texts that the gate compares on.
        compare: the logits on them, one array a text, to a comparison with FP32.
        passes: whether a comparison is good enough.
    """

    rows: Sequence[Sequence[int]]
    compare: Callable[[Sequence[np.ndarray]], Comparison]
    passes: Callable[[Comparison], bool]


@dataclass(frozen=True)
class Sample:
    """Calibration texts on which the parts are tried one at a time: token ids, and what FP32 says of them."""

    rows: Sequence[Sequence[int]]
    fp32: Sequence[np.ndarray]


def sample(rows: Sequence[Sequence[int]], fp32: Sequence[np.ndarray]) -> Sample:
    """The first of `rows`, as many as the search has time for."""
    count = tokens = 0
    for row in rows[:_TEXTS]:
        tokens += len(row)
        if count and tokens > _TOKENS:
            break
        count += 1
    return Sample(rows[:count], fp32[:count])


def search(
    switched: Switched, judge: Judge, few: Sample, everything: Comparison, say: Callable[[str], object]
) -> Candidate:
    """As few parts in FP32 as pass; if not even half of them do, what agreed best.

    `everything` is how INT8 alone does.
    """
    ranked = sensitivities(switched, few, say)
    tried, count, found = [Candidate((), everything)], 1, None
    while found is None and count <= max(1, len(ranked) // 2):
        candidate = _try(switched, judge, ranked[:count], say)
        if judge.passes(candidate.comparison):
            found = candidate
        else:
            tried.append(candidate)
            count *= 2
    if found is None:
        best = max(tried, key=lambda each: each.comparison.closeness)
        return replace(best, most=len(tried[-1].fp32_parts))
    too_few = len(tried[-1].fp32_parts)
    while len(found.fp32_parts) - too_few > 1:
        middle = (len(found.fp32_parts) + too_few) // 2
        candidate = _try(switched, judge, ranked[:middle], say)
        if judge.passes(candidate.comparison):
            found = candidate
        else:
            too_few = middle
    return found


def sensitivities(switched: Switched, few: Sample, say: Callable[[str], object]) -> list[str]:
    """All parts, those first that move the logits most when they alone are INT8."""
    moved = {}
    for number, part in enumerate(switched.parts, 1):
        say(f"trying {part} alone in INT8 ({number} of {len(switched.parts)})")
        found = switched(few.rows, {part})
        moved[part] = float(np.mean([np.abs(a - b).mean() for a, b in zip(found, few.fp32, strict=True)]))
    return sorted(moved, key=lambda part: -moved[part])


def _try(switched: Switched, judge: Judge, fp32_parts: Sequence[str], say: Callable[[str], object]) -> Candidate:
    say(f"comparing with {len(fp32_parts)} of {len(switched.parts)} parts in FP32")
    logits = switched(judge.rows, set(switched.parts) - set(fp32_parts), BATCH)
    return Candidate(tuple(fp32_parts), judge.compare(logits))
