"""What the demo has seen, and the figures drawn from it."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

LATEST = 12
RATE_WINDOW = 5.0


class Seen(NamedTuple):
    """One result or dead letter as a reader of the topics sees it."""

    labels: tuple[str, ...] | None
    """What it counts for: labels, or types of entities; None for a dead letter."""
    score: float | None
    """None where there is none."""
    reason: str
    """Why, for a dead letter."""
    text: str
    latency: float | None
    """Seconds between the timestamps of the message and of what was written for it."""


class Tally:
    """Counts results and dead letters. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        """Results by label; one with several counts for each."""
        self.reasons: Counter[str] = Counter()
        self.latest: deque[Seen] = deque(maxlen=LATEST)
        self.results = 0
        self._latencies: list[float] = []
        self._recent: deque[tuple[float, int]] = deque()
        self._first: float | None = None
        self._last: float | None = None

    @property
    def dead_letters(self) -> int:
        return self.reasons.total()

    @property
    def total(self) -> int:
        return self.results + self.dead_letters

    def add(self, seen: Seen, now: float) -> None:
        if seen.labels is None:
            self.reasons[seen.reason] += 1
        else:
            self.results += 1
            self.labels.update(seen.labels)
        if seen.latency is not None:
            self._latencies.append(seen.latency)
        self.latest.append(seen)
        self._recent.append((now, 1))
        self._first = now if self._first is None else self._first
        self._last = now

    def rate(self, now: float) -> float:
        """Messages a second over the last few seconds."""
        while self._recent and self._recent[0][0] < now - RATE_WINDOW:
            self._recent.popleft()
        if self._first is None:
            return 0.0
        return len(self._recent) / max(0.1, min(RATE_WINDOW, now - self._first))

    def mean_rate(self) -> float:
        """Messages a second between the first and the last seen."""
        if self._first is None or self._last is None or self._last <= self._first:
            return 0.0
        return (self.total - 1) / (self._last - self._first)

    def latency(self, quantile: float) -> float | None:
        """Seconds; None before anything was seen."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]
