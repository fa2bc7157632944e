"""From FP32 to the most INT8 that still says the same: all of it, or all but the parts that INT8 hurts most.

A part is what one product input feeds (`layer.3.activation`), or the embedding table (`words`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.model.graph.builder import build
from worker.model.session import open_session, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.model.graph.network import Network
    from worker.model.graph.quantize import Range
    from worker.model.importing.gate import Comparison

WORDS = "words"
_BATCH = 8


@dataclass(frozen=True)
class Candidate:
    """One INT8 graph and how it did; `fp32_parts` stayed as they were."""

    model: bytes
    fp32_parts: tuple[str, ...]
    comparison: Comparison


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


class Quantizer:
    """Builds INT8 graphs of one network.

    Args:
        network: what is quantized.
        ranges: of every part.
        weight_limit: the largest weight code.
    """

    def __init__(self, network: Network, ranges: Mapping[str, Range], weight_limit: int) -> None:
        self._network = network
        self._ranges = ranges
        self._weight_limit = weight_limit
        self.parts = (*ranges, WORDS)

    def without(self, fp32_parts: Sequence[str]) -> bytes:
        """The graph with these parts in FP32 and all others in INT8."""
        ranges = {name: found for name, found in self._ranges.items() if name not in fp32_parts}
        return self._build(ranges, WORDS not in fp32_parts)

    def only(self, part: str) -> bytes:
        """The graph with this part in INT8 and all others in FP32."""
        return self._build({name: found for name, found in self._ranges.items() if name == part}, part == WORDS)

    def _build(self, ranges: Mapping[str, Range], int8_words: bool) -> bytes:
        model = build(self._network, ranges, weight_limit=self._weight_limit, int8_words=int8_words)
        return bytes(model.SerializeToString())


def quantize(quantizer: Quantizer, judge: Judge, sample: Sample, say: Callable[[str], object]) -> Candidate:
    """The first candidate that passes, else the best of those that failed.

    All parts are tried first. Where that is not good enough, each part is tried alone, and the worst stay FP32: one,
    two, four, … of them, up to half; then the number is brought down as far as the judge allows.
    """
    everything = _try(quantizer, judge, ())
    if judge.passes(everything.comparison):
        return everything
    say("INT8 alone is too far from FP32: looking for the parts that it hurts most")
    ranked = sensitivities(quantizer, sample, say)
    failed, count, found = [everything], 1, None
    while found is None and count <= max(1, len(ranked) // 2):
        candidate = _try(quantizer, judge, ranked[:count])
        if judge.passes(candidate.comparison):
            found = candidate
        else:
            failed.append(candidate)
            count *= 2
    if found is None:
        return max(failed, key=lambda each: each.comparison.agreement.same_label)
    return _fewest(quantizer, judge, ranked, found, len(failed[-1].fp32_parts))


def _fewest(quantizer: Quantizer, judge: Judge, ranked: Sequence[str], found: Candidate, too_few: int) -> Candidate:
    """Halves the gap between a number of parts that is enough and one that is not."""
    while len(found.fp32_parts) - too_few > 1:
        middle = (len(found.fp32_parts) + too_few) // 2
        candidate = _try(quantizer, judge, ranked[:middle])
        if judge.passes(candidate.comparison):
            found = candidate
        else:
            too_few = middle
    return found


def sensitivities(quantizer: Quantizer, sample: Sample, say: Callable[[str], object]) -> list[str]:
    """All parts, those first that move the logits most when they alone are INT8."""
    moved = {}
    for number, part in enumerate(quantizer.parts, 1):
        say(f"trying {part} alone in INT8 ({number} of {len(quantizer.parts)})")
        found = run_each(open_session(quantizer.only(part)), sample.rows, _BATCH)
        apart = [float(np.abs(a - b).mean()) for a, b in zip(found, sample.fp32, strict=True)]
        moved[part] = float(np.mean(apart))
    return sorted(moved, key=lambda part: -moved[part])


def _try(quantizer: Quantizer, judge: Judge, fp32_parts: Sequence[str]) -> Candidate:
    model = quantizer.without(fp32_parts)
    logits = run_each(open_session(model), judge.rows, _BATCH)
    return Candidate(model, tuple(fp32_parts), judge.compare(logits))
