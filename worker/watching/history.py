"""The snapshots that are kept of a worker while somebody looks: denser the nearer, and bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.watching.snapshot import Between

if TYPE_CHECKING:
    from worker.watching.snapshot import Snapshot

HORIZON = 900.0
"""Seconds for which snapshots are kept."""
SPACING = 0.3
"""Two neighbours may be so far from each other, as a share of their age."""
POINTS = 150
"""Of the rate's course."""
DELIVERED = "winnow_delivered_total"


@dataclass(frozen=True)
class Point:
    """Messages a second, up to a time in seconds since the epoch."""

    at: float
    rate: float


class History:
    """Snapshots of one worker. Forgets all when another process answers in its place, or the clock was set back."""

    def __init__(self) -> None:
        self._snapshots: list[Snapshot] = []
        self._points: deque[Point] = deque(maxlen=POINTS)

    @property
    def points(self) -> list[Point]:
        """The course of the rate while somebody looked, oldest first."""
        return list(self._points)

    @property
    def last(self) -> Snapshot | None:
        return self._snapshots[-1] if self._snapshots else None

    @property
    def watched(self) -> float:
        """For how many seconds somebody has looked, as far as it is remembered."""
        return self._snapshots[-1].at - self._snapshots[0].at if self._snapshots else 0.0

    def __len__(self) -> int:
        return len(self._snapshots)

    def add(self, snapshot: Snapshot) -> None:
        """One more, later than those before."""
        last = self.last
        if last is not None and not (last.complete and snapshot.follows(last)):
            self._snapshots.clear()
            self._points.clear()
            last = None
        self._note(last, snapshot)
        self._snapshots.append(snapshot)
        self._thin()

    def over(self, seconds: float) -> Between:
        """What happened in the last so many seconds, or in as many as are known; since the start where that is all.

        Raises:
            IndexError: nothing was ever added.
        """
        later = self._snapshots[-1]
        started = later.started
        if len(self._snapshots) == 1 or (started is not None and 0 <= later.at - started <= seconds):
            return Between(None, later)
        return Between(min(self._snapshots[:-1], key=lambda one: abs(later.at - one.at - seconds)), later)

    def _note(self, last: Snapshot | None, snapshot: Snapshot) -> None:
        if last is not None and (rate := Between(last, snapshot).rate(DELIVERED)) is not None:
            self._points.append(Point(snapshot.at, rate))

    def _thin(self) -> None:
        """Drop what is too old, and whoever stands between two that are near enough to each other without it."""
        now = self._snapshots[-1].at
        kept = [self._snapshots[-1]]
        older = [one for one in self._snapshots[:-1] if now - one.at <= HORIZON]
        for number in range(len(older) - 1, -1, -1):
            before = older[number - 1] if number else None
            if before is None or kept[-1].at - before.at > SPACING * (now - before.at):
                kept.append(older[number])
        self._snapshots = kept[::-1]
