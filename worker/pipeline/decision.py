"""What is made of scores once they are known: when to abstain, and what to do with a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIONS = ("accept", "review", "reject")


class Decision(NamedTuple):
    """The bounds that the settings set; by default none."""

    min_score: float = 0.0
    """Single-label: the chosen label's least score."""
    fallback: str | None = None
    """The label where none is good enough."""
    accept: float | None = None
    """The least score of the action `accept`; None for no action at all."""
    review: float | None = None
    """The least score of the action `review`, at most `accept`; None for no such action."""
    unwanted: tuple[int, ...] = ()
    """Ids of labels that speak against a message; without them the action goes by the best label's score."""

    def action(self, scores: Sequence[float], score: float) -> str | None:
        """What to do with a message.

        Args:
            scores: of all labels, in the order of their ids.
            score: of the best one.
        """
        if self.accept is None:
            return None
        if self.unwanted:
            score = 1.0 - max(scores[i] for i in self.unwanted)
        if score >= self.accept:
            return "accept"
        return "review" if self.review is not None and score >= self.review else "reject"
