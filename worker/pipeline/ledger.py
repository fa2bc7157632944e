"""Order, commit, revoke and drain, answered by one structure.

Per partition a window of slots, one for each record taken in, in offset order. Batches finish out of
order; a slot's outcome is *released* when all before it in its partition are, so output order is input
order. Released slots are *settled* when the broker has acknowledged what was written for them (or when
there is nothing to write), and what may be committed is the settled prefix.

States of a slot: open -> finished (has an outcome) -> released -> settled. Dropping a partition closes
its window: whatever happens later to its slots is ignored.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.pipeline.messages import Headers, Outcome, Partition, Record


class Progress(NamedTuple):
    """How far a partition is."""

    done: int
    """The next offset to read after a restart, were everything committed that may be."""
    committed: int
    """The last one whose commit is known to have taken effect; before that, the first that was read."""
    timestamp: int | None
    """Milliseconds since the epoch: of the first record that is not done with, or, without one, of the last that is."""
    arrived: float | None
    """When the first record that is not done with was taken in; None without one."""


class Slot:
    """The place of one record in its partition's window."""

    __slots__ = ("arrived", "outcome", "record", "settled", "trace", "window")

    def __init__(self, record: Record, arrived: float, window: _Window) -> None:
        self.record = record
        self.arrived = arrived
        self.window = window
        self.outcome: Outcome | None = None
        self.settled = False
        self.trace: Headers | None = None
        """The context that goes out with what is written of the record, in place of the record's own."""

    @property
    def dropped(self) -> bool:
        """Whether the partition has gone, so that nothing of this slot matters any more."""
        return self.window.closed


class _Window:
    __slots__ = ("closed", "committed", "confirmed", "first", "last", "released", "timestamp", "waiting")

    def __init__(self, first: int) -> None:
        self.waiting: deque[Slot] = deque()
        self.released: deque[Slot] = deque()
        self.closed = False
        self.first = first
        self.last = first - 1
        self.committed: int | None = first
        self.confirmed = first
        self.timestamp: int | None = None

    def __len__(self) -> int:
        return len(self.waiting) + len(self.released)


class Ledger:
    """Windows of all partitions, bounded by the caller through `in_flight` and `bytes_in_flight`."""

    def __init__(self) -> None:
        self._windows: dict[Partition, _Window] = {}
        self._finished: dict[_Window, None] = {}  # an ordered set: release in order of finishing
        self.in_flight = 0
        """Slots not yet part of a settled prefix."""
        self.bytes_in_flight = 0
        self.rewinds = 0
        """How often an offset was not beyond the one before it."""

    def open(self, record: Record, arrived: float) -> Slot:
        """Take a record in.

        An offset that is not beyond the last one means that the log was rewound under us: its topic was made anew
        or truncated, or the client reads again. Then everything is taken in again, and what may be committed goes
        back with it: rather twice than never.
        """
        partition = (record.topic, record.partition)
        window = self._windows.get(partition)
        if window is None:
            window = self._windows[partition] = _Window(record.offset)
        if record.offset <= window.last:
            self.rewinds += 1
            window.confirmed = min(window.confirmed, record.offset)
        window.last = record.offset
        slot = Slot(record, arrived, window)
        window.waiting.append(slot)
        self.in_flight += 1
        self.bytes_in_flight += _size(record)
        return slot

    def finish(self, slot: Slot, outcome: Outcome) -> None:
        """Note a slot's outcome. Later outcomes of the same slot, and those of dropped windows, are ignored."""
        if slot.outcome is None and not slot.window.closed:
            slot.outcome = outcome
            self._finished[slot.window] = None

    def release(self) -> list[Slot]:
        """The finished slots that are now next in order, each exactly once, by partition in offset order."""
        ready: list[Slot] = []
        for window in self._finished:
            waiting = window.waiting
            while waiting and waiting[0].outcome is not None:
                slot = waiting.popleft()
                window.released.append(slot)
                ready.append(slot)
        self._finished.clear()
        return ready

    def settle(self, slot: Slot) -> None:
        """Note that what a released slot left behind is acknowledged, or that it leaves nothing behind."""
        slot.settled = True
        window = slot.window
        if window.closed:
            return
        released = window.released
        while released and released[0].settled:
            record = released.popleft().record
            window.timestamp = record.timestamp
            self._forget(record)

    def committable(self) -> dict[Partition, int]:
        """Per partition the next offset to read after a restart, where it is not the one that was last marked."""
        return {p: end for p, w in self._windows.items() if (end := _prefix_end(w)) != w.committed}

    def settled(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """The same where it moved since the partition came, or since it was last marked: for the last commit."""
        chosen = self._windows if partitions is None else [p for p in partitions if p in self._windows]
        windows = {p: self._windows[p] for p in chosen}
        return {p: end for p, w in windows.items() if (end := _prefix_end(w)) != w.first or end != w.committed}

    def released(self) -> dict[Partition, int]:
        """Per partition the next offset to read once all that was released is settled, where that is to be committed.

        A log that went backwards may end where it was committed, and still there is something to settle.
        """
        return {p: end for p, w in self._windows.items() if (end := _released_end(w)) != w.committed or w.released}

    def positions(self) -> dict[Partition, int]:
        """The next offset to read after a restart, for each partition that had a record."""
        return {p: _prefix_end(w) for p, w in self._windows.items()}

    def progress(self) -> dict[Partition, Progress]:
        """How far each partition is that had a record."""
        return {p: _progress(w) for p, w in self._windows.items()}

    def confirm(self, offsets: Mapping[Partition, int]) -> None:
        """Commits have taken effect."""
        for partition, offset in offsets.items():
            if (window := self._windows.get(partition)) is not None:
                window.confirmed = offset

    def mark_committed(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            if (window := self._windows.get(partition)) is not None:
                window.committed = offset

    def unmark_committed(self) -> None:
        """A commit was refused: nothing that was marked may be taken for committed."""
        for window in self._windows.values():
            window.committed = None

    def unsettled(self, partitions: Iterable[Partition] | None = None) -> int:
        """Slots not yet part of a settled prefix, in the given partitions or in all."""
        if partitions is None:
            return self.in_flight
        return sum(len(self._windows[p]) for p in partitions if p in self._windows)

    def unreleased(self, partitions: Iterable[Partition] | None = None) -> int:
        """Slots whose outcome is not known, or not that of one before it, in the given partitions or in all."""
        chosen = self._windows if partitions is None else [p for p in partitions if p in self._windows]
        return sum(len(self._windows[p].waiting) for p in chosen)

    def drop(self, partitions: Iterable[Partition]) -> int:
        """Forget partitions that are no longer ours. Returns how many unsettled slots were given up."""
        given_up = 0
        for partition in partitions:
            window = self._windows.pop(partition, None)
            if window is None:
                continue
            window.closed = True
            self._finished.pop(window, None)
            given_up += len(window)
            for slot in (*window.waiting, *window.released):
                self._forget(slot.record)
            # Slots know their window: both would wait for the collector, with their messages.
            window.waiting.clear()
            window.released.clear()
        return given_up

    def _forget(self, record: Record) -> None:
        self.in_flight -= 1
        self.bytes_in_flight -= _size(record)


def _first(window: _Window) -> Slot | None:
    if window.released:
        return window.released[0]
    return window.waiting[0] if window.waiting else None


def _prefix_end(window: _Window) -> int:
    first = _first(window)
    return window.last + 1 if first is None else first.record.offset


def _progress(window: _Window) -> Progress:
    first = _first(window)
    if first is None:
        return Progress(window.last + 1, window.confirmed, window.timestamp, None)
    return Progress(first.record.offset, window.confirmed, first.record.timestamp, first.arrived)


def _released_end(window: _Window) -> int:
    return window.waiting[0].record.offset if window.waiting else window.last + 1


def _size(record: Record) -> int:
    return len(record.value) if record.value is not None else 0
