"""From what was measured to what to set. Pure arithmetic; `docs/tuning.md` explains it."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from worker.capacity.rounds import full

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capacity.rounds import Shape
    from worker.pipeline.infer import Allocation

K = TypeVar("K")
ENOUGH = 0.98
"""Of the best rate: what comes so close to it with less (a smaller batch, fewer lanes) is preferred."""
NEARLY = 0.95
"""Likewise of what costs nothing either way: a smaller difference may be chance."""
SHORTEST = 16
"""Tokens from which on the bound on tokens is the one that a batch meets, not the one on messages."""
MOST_MESSAGES = 1024
"""What `batching.max_messages` may be."""


class Visit(NamedTuple):
    """Runs of one shape on some lanes at the same time."""

    rate: float
    """Messages a second, of all lanes."""
    seconds: tuple[float, ...]
    """Of each run."""


class Row(NamedTuple):
    """The capacity for texts of one length."""

    length: int
    rows: int
    """Messages of a batch."""
    rate: float
    """Messages a second on all lanes; the median of the rounds."""
    least: float
    most: float
    p99: float
    """Seconds of a run."""
    runs: int


class Recommendation(NamedTuple):
    """What to set."""

    max_tokens: int
    max_messages: int
    lanes: int
    """As `model.lanes` has it: 0 for as many as there are cores."""
    allocation: Allocation
    lag_threshold: int = 0

    @property
    def settings(self) -> dict[str, dict[str, int | str]]:
        """By section and name."""
        return {
            "batching": {"max_messages": self.max_messages, "max_tokens": self.max_tokens},
            "model": {"lanes": self.lanes, "allocation": self.allocation},
        }


def row(shape: Shape, visits: Sequence[Visit]) -> Row:
    """A line of the capacity table."""
    rates = [visit.rate for visit in visits]
    seconds = [each for visit in visits for each in visit.seconds]
    return Row(
        shape.length, shape.rows, statistics.median(rates), min(rates), max(rates), quantile(seconds, 0.99),
        len(seconds),
    )  # fmt: skip


def quantile(values: Sequence[float], q: float) -> float:
    """The value below or at which a share `q` of the values lies; of few values the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)]


def best_bound(
    measured: Mapping[Shape, Sequence[Visit]],
    bounds: Sequence[int],
    lengths: Sequence[int],
    texts: Sequence[int],
) -> int:
    """The least bound on padded tokens that is as good as the best one for texts of so many tokens each."""
    return _first_of_the_best({bound: mixed_rates(measured, bound, lengths, texts) for bound in sorted(bounds)})


def best_lanes(visits: Mapping[int, Sequence[Visit]]) -> int:
    """The least number of lanes that is as good as the best one."""
    return _first_of_the_best({lanes: [visit.rate for visit in visits[lanes]] for lanes in sorted(visits)})


def best_allocation(visits: Mapping[Allocation, Sequence[Visit]]) -> Allocation:
    """The first that is nearly as good as the best one."""
    return _first_of_the_best({each: [visit.rate for visit in visits[each]] for each in visits}, NEARLY)


def mixed_rates(
    measured: Mapping[Shape, Sequence[Visit]], bound: int, lengths: Sequence[int], texts: Sequence[int]
) -> list[float]:
    """Messages a second, round by round, of texts of so many tokens each, in batches full to a bound."""
    by_length = [[1 / visit.rate for visit in measured[full(bound, length)]] for length in lengths]
    return [1 / _mean_cost(lengths, costs, texts) for costs in zip(*by_length, strict=True)]


def _mean_cost(lengths: Sequence[int], costs: Sequence[float], texts: Sequence[int]) -> float:
    """Seconds a message: between the lengths measured on a straight line, beyond the longest in proportion."""
    tokens = np.asarray(texts, np.float64)
    on_line = np.interp(tokens, lengths, costs)
    return float(np.mean(on_line * np.maximum(1.0, tokens / lengths[-1])))


def _first_of_the_best(rates: Mapping[K, Sequence[float]], enough: float = ENOUGH) -> K:
    """Compared round by round: what disturbed a round disturbed all."""
    best = max(rates, key=lambda each: statistics.median(rates[each]))
    for each in rates:
        if statistics.median(a / b for a, b in zip(rates[each], rates[best], strict=True)) >= enough:
            return each
    return best


def lane_counts(most: int) -> list[int]:
    """1, 2, 4 … and `most`."""
    return sorted({most, *(1 << n for n in range(most.bit_length()) if 1 << n <= most)})


def max_messages(max_tokens: int) -> int:
    """So many that batches of texts of 16 tokens and more are bounded by their tokens."""
    return min(MOST_MESSAGES, max(1, max_tokens // SHORTEST))


def lag_threshold(rate: float, target: float, headroom: float) -> int:
    """Messages of lag that one replica works off within the latency target.

    Args:
        rate: messages a second that one replica does.
        target: seconds after which a message should be answered.
        headroom: share of the rate kept for what arrives meanwhile, and for the Kafka client.
    """
    return max(1, int(rate * (1 - headroom) * target))
