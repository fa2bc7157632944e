"""A stop where too many messages are refused: something is wrong with all of them, or with the settings."""

from __future__ import annotations

from collections import Counter, deque

from worker.errors import TopicError


class Breaker:
    """Trips where more than a share of the latest messages became dead letters, and stays so.

    Args:
        window: how many of the latest messages are looked at.
        share: the largest share that is let pass, or None to let pass everything.
        least: below this number of messages nothing is judged.
    """

    def __init__(self, window: int, share: float | None, least: int = 1) -> None:
        self._window = window
        self._share = share
        self._least = least
        self._recent: deque[str | None] = deque()
        self._reasons: Counter[str] = Counter()
        self._refused = 0
        self._why: str | None = None

    def note(self, reason: str | None) -> None:
        """One more message: the reason for which it was refused, or None where it has its result."""
        if self._share is None or self.tripped:
            return
        if len(self._recent) == self._window:
            self._count(self._recent.popleft(), -1)
        self._recent.append(reason)
        self._count(reason, 1)
        seen = len(self._recent)
        if seen >= self._least and self._refused > self._share * seen:
            self._why = self._sentence(self._share)

    def _count(self, reason: str | None, by: int) -> None:
        if reason is not None:
            self._reasons[reason] += by
            self._refused += by

    @property
    def tripped(self) -> bool:
        return self._why is not None

    def check(self) -> None:
        """Raise TopicError where it has tripped."""
        if self._why is not None:
            raise TopicError(self._why)

    def _sentence(self, share: float) -> str:
        reason, times = self._reasons.most_common(1)[0]
        return (
            f"{self._refused} of the last {len(self._recent)} messages became dead letters, {times} of them as "
            f"{reason!r}: more than dead_letters.max_share = {share:g}. Mend what writes them, or [input] if it is "
            "read in a wrong way; what was not acknowledged is not committed and is read again."
        )
