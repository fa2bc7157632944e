"""How released results leave, and how offsets follow them: at least once, or exactly once.

Either way the ledger decides what may be committed. At least once, an offset follows the acknowledgement of what was
written. Exactly once, results, dead letters and offsets are parts of one transaction: they count together or not at
all, and a slot is settled when its transaction is committed.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from worker.ports import AbortNeeded, NotYet, RenewalNeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.pipeline.ledger import Ledger, Slot
    from worker.pipeline.messages import Outgoing, Partition
    from worker.ports import Clock, Observer, Sink, Source, Transactions

log = structlog.get_logger("delivery")
MOST_IN_TRANSACTION = 10_000
"""Messages after which a transaction is committed before its time."""


class AtLeastOnce:
    """Offsets are committed after the acknowledgement of what was written. See `worker.ports.Delivery`."""

    waiting = 0
    full = False

    def __init__(self, source: Source, sink: Sink, ledger: Ledger, clock: Clock, observer: Observer) -> None:
        self._source = source
        self._sink = sink
        self._ledger = ledger
        self._clock = clock
        self._observer = observer

    def send(self, slot: Slot, outgoing: Outgoing, now: float) -> None:
        self._sink.send(outgoing, partial(self._delivered, slot, now))

    def flush(self) -> None:
        self._sink.flush()

    def poll(self) -> None:
        self._sink.poll()

    def commit(self) -> None:
        self._commit(self._ledger.committable(), wait=False)

    def settle(self, partitions: Sequence[Partition] | None) -> None:
        """Acknowledgements come by themselves."""

    def finish(self, partitions: Sequence[Partition] | None) -> None:
        self._commit(self._ledger.settled(partitions), wait=True)

    def dropped(self, partitions: Sequence[Partition]) -> None:
        """What was written of them is written; its offsets are never committed."""

    def close(self) -> None:
        self._sink.close()

    def _commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        if offsets:
            self._ledger.mark_committed(offsets)
            self._source.commit(offsets, wait=wait)

    def _delivered(self, slot: Slot, handed: float) -> None:
        self._ledger.settle(slot)
        now = self._clock()
        self._observer.delivered(slot.record.timestamp, now - slot.arrived, now - handed)


class _Written(NamedTuple):
    slot: Slot
    outgoing: Outgoing
    handed: float
    """When it was released: it may have to wait for the next transaction."""


class ExactlyOnce:
    """Results, dead letters and offsets in one transaction. See `worker.ports.Delivery`.

    A transaction begins with the first record after the last one's end. To end one takes calls that may each have to be
    repeated: `_step` is the one that is to be made next, None while records may be written. What is released meanwhile
    waits for the next transaction. After an abort everything that the transaction held is written again, but for
    partitions that have gone: the results are known, so nothing has to be read or classified again.
    """

    def __init__(
        self,
        source: Source,
        transactions: Transactions,
        ledger: Ledger,
        clock: Clock,
        observer: Observer,
        most_bytes: int,
    ) -> None:
        """Make it; `most_bytes` of message values are the most that a transaction takes before it is committed."""
        self._source = source
        self._transactions = transactions
        self._ledger = ledger
        self._clock = clock
        self._observer = observer
        self._written: list[_Written] = []
        self._next: deque[_Written] = deque()
        self._most_bytes = most_bytes
        self._bytes = 0
        self._offsets: dict[Partition, int] = {}
        self._step: Callable[[], None] | None = None
        self._commit_tried = False

    @property
    def waiting(self) -> int:
        return min(len(self._written) + len(self._next), MOST_IN_TRANSACTION)

    @property
    def full(self) -> bool:
        return len(self._written) >= MOST_IN_TRANSACTION or self._bytes >= self._most_bytes

    def send(self, slot: Slot, outgoing: Outgoing, now: float) -> None:
        self._next.append(_Written(slot, outgoing, now))
        self._write()

    def flush(self) -> None:
        """What is written counts with the end of its transaction, and that sends all of it."""

    def poll(self) -> None:
        self._transactions.poll()
        self._go_on()

    def commit(self) -> None:
        if self._step is None and (offsets := self._ledger.released()):
            self._offsets = offsets
            self._step = self._send_offsets
            self._go_on()

    def settle(self, partitions: Sequence[Partition] | None) -> None:
        if not self._ledger.unreleased(partitions):
            self.commit()

    def finish(self, partitions: Sequence[Partition] | None) -> None:  # noqa: ARG002 - a transaction is of all
        self.commit()

    def dropped(self, partitions: Sequence[Partition]) -> None:
        """What was written for partitions that have gone must not count, unless its commit is under way.

        Neither may their offsets: those that are to be sent again would go under a membership that has not got them.
        """
        self._next = deque(each for each in self._next if not each.slot.dropped)
        written = any(each.slot.dropped for each in self._written)
        sending = self._step == self._send_offsets
        if (written and (sending or self._step is None)) or (
            sending and not self._offsets.keys().isdisjoint(partitions)
        ):
            self._step = self._abort
        self._go_on()

    def close(self) -> None:
        self._transactions.close()

    def _write(self) -> None:
        """Write what waits, while the transaction takes records."""
        while self._next and self._step is None:
            written = self._next.popleft()
            self._written.append(written)
            self._bytes += len(written.slot.record.value or b"")
            try:
                self._transactions.send(written.outgoing)
            except (AbortNeeded, RenewalNeeded) as needed:
                self._react(needed)

    def _go_on(self) -> None:
        """Make the steps that are due, as far as they can be made now."""
        try:
            while self._step is not None:
                try:
                    self._step()
                except (AbortNeeded, RenewalNeeded) as needed:
                    self._react(needed)
        except NotYet:
            return
        self._write()

    def _react(self, needed: AbortNeeded | RenewalNeeded) -> None:
        self._step = self._abort if isinstance(needed, AbortNeeded) else self._renew

    # Steps: each names the one after it

    def _send_offsets(self) -> None:
        membership = self._source.membership()
        if membership is None:
            raise AbortNeeded
        self._transactions.send_offsets(self._offsets, membership)
        self._step = self._commit

    def _commit(self) -> None:
        self._commit_tried = True
        self._transactions.commit()
        self._committed()

    def _committed(self) -> None:
        done = self._written
        self._begin_anew()
        now = self._clock()
        for slot, _, handed in done:
            self._ledger.settle(slot)
            self._observer.delivered(slot.record.timestamp, now - slot.arrived, now - handed)
        self._ledger.mark_committed(self._offsets)
        self._ledger.confirm(self._offsets)
        self._observer.committed(self._offsets)

    def _abort(self) -> None:
        self._transactions.abort()
        self._take_back()

    def _renew(self) -> None:
        self._transactions.renew()
        log.warning("the transactional producer was made anew", consequence="its transaction is written again")
        if self._commit_tried:
            self._step = self._look
        else:
            self._take_back()

    def _look(self) -> None:
        """A commit whose answer never came may have taken effect: the group's offsets tell.

        Nobody but this worker commits those of partitions that it still has; what is written for others is dropped.
        """
        held = self._ledger.positions().keys()
        offsets = {partition: offset for partition, offset in self._offsets.items() if partition in held}
        if offsets and self._source.committed(offsets) == offsets:
            self._committed()
        else:
            self._take_back()

    def _take_back(self) -> None:
        """What was aborted is the first of what is to be written next."""
        self._observer.aborted()
        held = sum(not each.slot.dropped for each in self._written)
        log.info("a transaction was aborted; what it held is written again", messages=held)
        self._next = deque(each for each in (*self._written, *self._next) if not each.slot.dropped)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._written, self._bytes = [], 0
        self._step, self._commit_tried = None, False
