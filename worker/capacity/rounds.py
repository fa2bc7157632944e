"""Measuring several candidates in turns within a budget of time.

Candidates take turns within every round, so that whatever disturbs the machine meets all of them, and every other
round goes backwards, so that none always follows the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.ports import Clock

K = TypeVar("K")
V = TypeVar("V")
ROUNDS = 5
LENGTHS = (16, 32, 64, 128, 256, 512)
"""Tokens of a text, special tokens included."""
BOUNDS = (128, 256, 512, 1024, 2048)
"""Padded tokens of a batch."""


class Shape(NamedTuple):
    """A full batch: texts of one length."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length


class Budget(NamedTuple):
    """When measuring has to end."""

    clock: Clock
    deadline: float

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.deadline - self.clock())

    def share(self, part: float) -> Budget:
        """A part of what is left."""
        return Budget(self.clock, self.clock() + part * self.left)


def full(bound: int, length: int) -> Shape:
    """As many texts of a length as a bound on padded tokens allows, at least one."""
    return Shape(max(1, bound // length), length)


def lengths_up_to(longest: int) -> tuple[int, ...]:
    """The lengths to measure for a model that reads so many tokens, that one included."""
    last = min(longest, LENGTHS[-1])
    return (*(length for length in LENGTHS if length < last), last)


def shapes(bounds: Sequence[int], lengths: Sequence[int]) -> list[Shape]:
    """What the bounds make of the lengths, each once, the smallest first."""
    return sorted({full(bound, length) for bound in bounds for length in lengths}, key=lambda shape: shape.tokens)


def affordable(
    bounds: Sequence[int], lengths: Sequence[int], tokens_per_second: float, seconds: float
) -> tuple[Sequence[int], Sequence[int]]:
    """The bounds and lengths that can be measured `ROUNDS` times, and once to warm up, at one run a lane and round.

    The largest bounds are left out first, then the longest texts; one of each always stays.

    Args:
        bounds: on padded tokens, ascending.
        lengths: of texts, ascending.
        tokens_per_second: of one lane while all are at work.
        seconds: that there are.
    """
    while len(bounds) > 1 or len(lengths) > 1:
        tokens = sum(shape.tokens for shape in shapes(bounds, lengths))
        if (ROUNDS + 1) * tokens <= tokens_per_second * seconds:
            break
        if len(bounds) > 1:
            bounds = bounds[:-1]
        else:
            lengths = lengths[:-1]
    return bounds, lengths


def in_turns(
    candidates: Sequence[K], visit: Callable[[K, float], V], budget: Budget, rounds: int = ROUNDS
) -> dict[K, list[V]]:
    """What each candidate's visits gave, the same number for each, at least one and at most `rounds`.

    Args:
        candidates: what is measured.
        visit: measures one for about so many seconds; it may take longer.
        budget: no round is begun that would not end within it, going by the longest so far.
        rounds: how often each is visited.
    """
    found: dict[K, list[V]] = {candidate: [] for candidate in candidates}
    each = budget.left / (rounds * len(candidates))
    longest = 0.0
    for number in range(rounds):
        started = budget.clock()
        if number and longest > budget.left:
            break
        for candidate in candidates if number % 2 == 0 else reversed(candidates):
            found[candidate].append(visit(candidate, each))
        longest = max(longest, budget.clock() - started)
    return found
