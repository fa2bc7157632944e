"""How far the worker is behind, by partition: in messages and in seconds. Time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.pipeline.ledger import Progress
    from worker.pipeline.messages import Partition


class Lag(NamedTuple):
    """Of one partition."""

    messages: int
    """Stored and not yet done with."""
    uncommitted: int
    """Stored, and read again by whoever has the partition after a crash."""
    timestamp: int | None
    """Milliseconds since the epoch: of the oldest message that is not done with; where it was not read yet, of the one
    before it. None where neither has one."""
    waiting: float = 0.0
    """Seconds since the oldest message in flight was read; 0 without one."""


def lags(
    progress: Mapping[Partition, Progress],
    ends: Mapping[Partition, int],
    positions: Mapping[Partition, int],
    now: float,
) -> dict[Partition, Lag]:
    """Of the partitions whose end is known, and of which something was read or the next offset to be read is known.

    Args:
        progress: by the ledger.
        ends: the next offsets to be written, as `worker.ports.Source` has them.
        positions: the next offsets to be read, likewise.
        now: seconds, on the clock of the records' arrival.
    """
    read = {p: _lag(at, ends[p], positions.get(p, 0), now) for p, at in progress.items() if p in ends}
    unread = {p: max(0, ends[p] - start) for p, start in positions.items() if p in ends and p not in progress}
    return read | {p: Lag(waiting, waiting, None) for p, waiting in unread.items()}


def _lag(at: Progress, end: int, position: int, now: float) -> Lag:
    if at.arrived is not None:
        return Lag(max(0, end - at.done), max(0, end - at.committed), at.timestamp, now - at.arrived)
    # What follows may be no message: each transaction ends with an offset that holds none, which only the client knows.
    done = max(at.done, position)
    committed = done if at.committed == at.done else at.committed
    return Lag(max(0, end - done), max(0, end - committed), at.timestamp)


class Ages:
    """Since when the oldest message that is not done with is stored, at most.

    By its own timestamp where it was read, else by that of the message before it, which is no younger. Neither says
    much where timestamps are the producer's, or messages are rare: what a partition holds that was done with all of
    it a moment ago cannot be older than that moment, and what was read ten minutes ago is not younger than that. A
    timestamp of the future is none.
    """

    def __init__(self) -> None:
        self._clear: dict[Partition, float | None] = {}

    def seconds(self, lags: Mapping[Partition, Lag], now: float) -> dict[Partition, float]:
        """The ages of all partitions that the worker has; 0 where nothing waits.

        Args:
            lags: as they are now. Partitions that are not among them are forgotten.
            now: seconds since the epoch.
        """
        self._clear = {p: self._cleared(p, lag, now) for p, lag in lags.items()}
        return {p: _age(lag, self._clear[p], now) for p, lag in lags.items()}

    def _cleared(self, partition: Partition, lag: Lag, now: float) -> float | None:
        """When nothing of a partition was left to do; without that and timestamps, when it was first seen."""
        if lag.messages == 0:
            return now
        cleared = self._clear.get(partition)
        return now if cleared is None and lag.timestamp is None else cleared


def _age(lag: Lag, cleared: float | None, now: float) -> float:
    if not lag.messages:
        return 0.0
    stamp = None if lag.timestamp is None else lag.timestamp / 1000
    known = [] if cleared is None else [cleared]
    if stamp is not None and stamp <= now:
        known.append(stamp)
    return max(0.0, lag.waiting, now - max(known, default=now))
