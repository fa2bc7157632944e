"""How long a training takes, over all the sessions that it was stopped and resumed in."""

from __future__ import annotations

import time


class Clock:
    """Wall time in seconds by phase; what an earlier session took can be added.

    Args:
        begun: when the first phase, `preparing`, began, by `time.monotonic`; None: now.
    """

    def __init__(self, begun: float | None = None) -> None:
        self._since = time.monotonic() if begun is None else begun
        self._name = "preparing"
        self._seconds: dict[str, float] = {}

    def phase(self, name: str) -> None:
        """Another phase begins; one that was there before goes on."""
        self._count()
        self._name = name

    def add(self, seconds: dict[str, float]) -> None:
        """Adds what `phases` said at the end of an earlier session."""
        for name, value in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + value

    def phases(self) -> dict[str, float]:
        """Each phase's time up to now."""
        self._count()
        return {name: round(value, 3) for name, value in self._seconds.items()}

    def seconds(self) -> float:
        """The time of all phases."""
        return round(sum(self.phases().values()), 3)

    def _count(self) -> None:
        now = time.monotonic()
        self.add({self._name: now - self._since})
        self._since = now
