"""What the probes and the views are told of the worker's state. Written by the loop, read by other threads."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.ports import Clock

STALLED_AFTER = 30.0
"""Seconds without a turn of the loop after which the worker counts as dead."""


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Health:
    """Single writer (the loop), any readers; each attribute is replaced whole."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat = clock()
        self.state = State.STARTING
        self.partitions = 0
        self.connected = True
        """Whether a broker is there."""
        self.started = False
        """Whether the loop has begun to turn: bundle and probes are behind it."""

    def beat(self) -> None:
        """The loop made a turn."""
        self._beat = self._clock()
        self.started = True

    def assigned(self, partitions: int) -> None:
        """The group gave this worker so many partitions; none means it stands by."""
        self.partitions = partitions
        if self.state is State.STARTING:
            self.state = State.READY

    def draining(self) -> None:
        self.state = State.DRAINING

    @property
    def obstacle(self) -> str:
        """Why it is not ready, in a few words."""
        if not self.alive:
            return "the loop has not turned for a while"
        return str(self.state) if self.connected else "no broker is there"

    @property
    def alive(self) -> bool:
        """Whether the loop turns. Never asks the broker."""
        return self._clock() - self._beat < STALLED_AFTER

    @property
    def ready(self) -> bool:
        return self.alive and self.connected and self.state is State.READY
