"""The one thread that owns the Kafka clients: poll, decode, tokenize, batch, hand over, publish, commit, drain.

It never blocks on inference. Work in flight is bounded; while the bound is reached it waits for lanes instead
of polling, and where that lasts, it pauses the partitions and goes on polling, so that the group never evicts
a worker that is merely busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.pipeline.batches import CloseReason, Item
from worker.pipeline.decode import decoded
from worker.pipeline.messages import Rejection, Request, Result
from worker.pipeline.tokenization import portions, tokenize_each
from worker.reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.health import Health
    from worker.lanes import Completed
    from worker.pipeline.breaker import Breaker
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Forward, Outcome, Partition, Record, Skip
    from worker.ports import Clock, Delivery, Observer, Source, Tracing
    from worker.steps import Bounds, Steps

log = structlog.get_logger("loop")
POLL_LIMIT = 64
"""Records taken in at once: their tokenizing must not keep the lanes waiting."""
BUSY_WAIT = 0.001
"""Seconds to wait for the lanes while they are at work, before looking for records again."""
FULL_WAIT = 0.01
"""The same while there is no room for more records, so that nothing but the lanes can go on."""
ACKNOWLEDGEMENT_WAIT = 0.005
"""Seconds to wait for records while only acknowledgements are missing."""
IDLE_WAIT = 0.1
"""The same while nothing is in flight."""
PAUSE_AFTER = 1.0
"""Seconds without room after which partitions are paused and polled rather than left alone."""
BEHIND_FOR = 1.0
"""Seconds for which a worker that had no room counts as one with a backlog."""
LAST_COMMITS = 50
"""Times the last commit is tried where it is refused, `IDLE_WAIT` apart: a rebalance takes its members' time to end."""


class Loop:
    """Moves records from a source through the steps into a sink. Listens to the source's rebalances."""

    def __init__(
        self,
        source: Source,
        delivery: Delivery,
        steps: Steps,
        *,
        bounds: Bounds,
        breaker: Breaker,
        tombstone: Skip | Forward | Rejection,
        clock: Clock,
        observer: Observer,
        health: Health,
        tracing: Tracing | None = None,
    ) -> None:
        self._source = source
        self._delivery = delivery
        self._decode, self._tokenize, self._batcher, self._lanes = steps[:4]
        self._ledger, self._encode, self._windows, self._repeats = steps[4:]
        self._bounds = bounds
        self._breaker = breaker
        self._tombstone = tombstone
        self._clock = clock
        self._observer = observer
        self._health = health
        self._tracing = tracing
        self._full_since: float | None = None
        self._paused = False
        self._paused_since = 0.0
        self._last_commit = clock()
        self._refused = False
        self._reporter = Reporter(source, self._ledger, observer, health, clock())
        self._crowded = float("-inf")
        self._assigned: dict[Partition, None] = {}

    # The way through

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until `stopping` says so, or too much is refused; then drain, commit and leave the group.

        Raises:
            Fatal: the worker cannot go on; nothing unfinished was committed.
        """
        self._source.start(self)
        while not (stopping() or self._breaker.tripped):
            self.turn()
        self._drain()
        self._breaker.check()

    def turn(self) -> None:
        """One pass: take in, move on, write out, commit what is due."""
        self._health.beat()
        records = self._poll()
        if records:
            self._admit(records)
        sent = self._advance()
        # A full poll says that more is there, with which what was sent can travel.
        if sent and len(records) < POLL_LIMIT and not self._ledger.unreleased():
            self._delivery.flush()
        self._housekeeping()

    def _poll(self) -> Sequence[Record]:
        if self._has_room():
            self._full_since = None
            self._pause(False)
            return self._poll_with_room()
        now = self._clock()
        self._full_since = now if self._full_since is None else self._full_since
        self._crowded = now
        self._finish(self._lanes.collect(FULL_WAIT))
        if now - self._full_since < PAUSE_AFTER:
            return ()
        self._pause(True)
        return self._source.poll(POLL_LIMIT, 0.0)

    def _poll_with_room(self) -> Sequence[Record]:
        if not self._lanes.pending:
            return self._source.poll(POLL_LIMIT, ACKNOWLEDGEMENT_WAIT if self._ledger.in_flight else IDLE_WAIT)
        records = self._source.poll(POLL_LIMIT, 0.0)
        if not records:
            self._finish(self._lanes.collect(BUSY_WAIT))
        return records

    def _has_room(self) -> bool:
        ledger, bounds = self._ledger, self._bounds
        at_work = ledger.in_flight - self._delivery.waiting
        held = ledger.bytes_in_flight + self._windows.bytes + self._batcher.bytes
        return at_work + POLL_LIMIT <= bounds.in_flight and held < bounds.bytes_in_flight

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            now = self._clock()
            self._note_pause(now)
            self._paused, self._paused_since = paused, now
            (self._source.pause if paused else self._source.resume)()

    def _admit(self, records: Sequence[Record]) -> None:
        """Decode, tokenize and batch; whatever is wrong with a record is its outcome."""
        now = self._clock()
        self._observer.consumed(len(records))
        repeats, requests = self._repeats, []
        for record in records:
            slot = self._ledger.open(record, now)
            if record.value is None:
                self._observer.tombstone()
            found = decoded(record, self._decode, self._tombstone)
            if not isinstance(found, Request):
                self._ledger.finish(slot, found)
            elif repeats is None:
                requests.append((slot, found))
            elif (result := repeats.find(found)) is not None:
                self._ledger.finish(slot, result)
            elif not repeats.waits(slot, found):
                requests.append((slot, found))
        self._observer.decoded(len(records), self._clock() - now)
        if requests:
            self._batch(requests)

    def _batch(self, requests: list[tuple[Slot, Request]], arrived: float | None = None) -> None:
        """Tokenize and batch; `arrived` is when the batcher gets them, where that is not when they were taken in."""
        texts = [request.text for _, request in requests]
        for some in portions(texts):
            if some.start:
                # Tokenizing long texts takes its time; the lanes are not to stand idle meanwhile.
                self._finish(self._lanes.collect())
                self._hand_over(None)
            self._tokenize_some(requests[some], texts[some], arrived)

    def _tokenize_some(self, requests: list[tuple[Slot, Request]], texts: list[str], arrived: float | None) -> None:
        started = self._clock()
        encoded = tokenize_each(self._tokenize, texts)
        add, longest = self._batcher.add, self._windows.longest
        for (slot, request), tokens in zip(requests, encoded, strict=True):
            if isinstance(tokens, Rejection):
                self._said(slot, tokens)
                continue
            ids, cut, spans = tokens
            cut = cut or request.truncated
            if len(ids) > longest:
                self._windows.add(slot, request, ids, cut)
            else:
                add(Item(slot, request, ids, cut, slot.arrived if arrived is None else arrived, spans))
        self._observer.tokenized(len(requests), self._clock() - started)

    def _advance(self, hurry: CloseReason | None = None) -> bool:
        """Take back what the lanes finished, write it out in order, and hand over what is due.

        Returns whether something was sent.
        """
        self._finish(self._lanes.collect())
        if self._repeats is not None:
            self._take_up(self._repeats.left(POLL_LIMIT))
        self._feed()
        self._hand_over(hurry)
        sent = self._publish()
        self._delivery.poll()
        return sent

    def _finish(self, completed: Iterable[Completed]) -> None:
        for done in completed:
            self._observer.ran(done.batch, done.queued, done.seconds)
            if self._tracing is not None:
                self._tracing.ran(done)
            for slot, outcome in self._windows.outcomes(done.items, done.outcomes):
                self._said(slot, outcome)
            if done.unsure:
                self._go_on(done.unsure)

    def _said(self, slot: Slot, outcome: Result | Rejection) -> None:
        """Note what became of a request, and of those that waited for the same answer."""
        self._ledger.finish(slot, outcome)
        if self._repeats is not None:
            for other, same in self._repeats.answered(slot, outcome):
                self._ledger.finish(other, same)

    def _go_on(self, items: Sequence[Item]) -> None:
        """Give the batcher what has only been through the first stage, but for what has gone meanwhile."""
        now = self._clock()
        self._windows.taken_back([item for item in items if item.idle])
        for item in items:
            if not item.idle:
                self._batcher.add(item._replace(arrived=now))

    def _take_up(self, left: Iterable[tuple[Slot, Request, Result | None]]) -> None:
        """Go on with those that waited for the answer to another message in vain."""
        requests = []
        for slot, request, result in left:
            if result is None:
                requests.append((slot, request))
            else:
                self._ledger.finish(slot, result)
        if requests:
            self._batch(requests, self._clock())

    def _feed(self) -> None:
        """Give the batcher the next windows of long texts."""
        for item in self._windows.feed(self._clock()):
            self._batcher.add(item)

    def _hand_over(self, hurry: CloseReason | None) -> None:
        while self._lanes.room:
            idle = CloseReason.IDLE if self._lanes.idle else None
            batch = self._batcher.take(self._clock(), hurry or idle)
            if batch is None:
                return
            self._observer.closed(batch)
            self._lanes.submit(batch)

    def _publish(self) -> bool:
        """Send what is next in order. Returns whether there was something to send."""
        slots = self._ledger.release()
        if not slots:
            return False
        encode, send, tracing = self._encode, self._delivery.send, self._tracing
        result, note = self._observer.result, self._breaker.note
        started = self._clock()
        encoded = [encode(slot.record, _outcome(slot)) for slot in slots]
        now = self._clock()
        self._observer.encoded(len(slots), now - started)
        for slot, (outgoing, rejection) in zip(slots, encoded, strict=True):
            if outgoing is None:
                self._ledger.settle(slot)
                continue
            if rejection is not None:
                self._observer.dead_letter(rejection)
                note(rejection.reason)
            elif isinstance(slot.outcome, Result):
                result(slot.outcome)
                note(None)
            send(slot, outgoing if tracing is None else tracing.outgoing(slot, outgoing), now)
        return any(outgoing is not None for outgoing, _ in encoded)

    def _housekeeping(self) -> None:
        now = self._clock()
        self._lanes.watch()
        self._observer.state(self._ledger.in_flight, self._paused, self._lanes.busy)
        if (repeats := self._repeats) is not None:
            self._observer.cache(repeats.hits, repeats.misses, repeats.bytes)
        self._note_pause(now)
        if now - self._last_commit >= self._commit_interval(now) or self._delivery.full:
            self._last_commit = now
            self._delivery.commit()
        self._reporter.turn(now)

    def _note_pause(self, now: float) -> None:
        if self._paused:
            self._observer.paused(now - self._paused_since)
            self._paused_since = now

    def _commit_interval(self, now: float) -> float:
        bounds = self._bounds
        if bounds.commit_interval_behind is None or now - self._crowded > BEHIND_FOR:
            return bounds.commit_interval
        return bounds.commit_interval_behind

    # Stopping and rebalancing

    def _drain(self) -> None:
        """Finish what is in flight within the budget, commit, leave."""
        self._health.draining()
        log.info("draining", in_flight=self._ledger.in_flight)
        deadline = self._clock() + self._bounds.drain
        self._settle_all(None, deadline)
        self._commit_last(deadline)
        given_up = self._ledger.drop(list(self._assigned))
        if given_up:
            log.warning("the drain budget is spent; what is in flight will be delivered again", messages=given_up)
        self._source.close()
        self._delivery.close()
        self._lanes.close(max(0.0, deadline - self._clock()))

    def _commit_last(self, deadline: float) -> None:
        """Commit what is settled; a group that rebalances refuses until this member has polled that to its end."""
        for trial in range(LAST_COMMITS):
            self._refused = False
            self._delivery.finish(None)
            if not self._refused or self._clock() >= deadline:
                return
            if not trial:
                self._source.pause()
            self._health.beat()
            self._source.poll(POLL_LIMIT, IDLE_WAIT)  # what comes is not taken in: whoever has it next reads it

    def _settle_all(self, partitions: Sequence[Partition] | None, deadline: float) -> None:
        hurry = CloseReason.DRAIN if partitions is None else CloseReason.REBALANCE
        while self._ledger.unsettled(partitions) and self._clock() < deadline:
            self._health.beat()
            self._finish(self._lanes.collect(BUSY_WAIT))
            self._advance(hurry)
            self._delivery.settle(partitions)
            self._lanes.watch()

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self._assigned.update(dict.fromkeys(partitions))
        self._note_pause(self._clock())
        self._paused = False
        self._changed("assigned", partitions, 0, 0.0)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        started = self._clock()
        self._settle_all(partitions, started + self._bounds.revoke)
        self._delivery.finish(partitions)
        self._give_up("revoked", partitions, started)

    def refused(self) -> None:
        self._refused = True
        self._ledger.unmark_committed()

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        if offsets:
            self._ledger.confirm(offsets)
            self._observer.committed(offsets)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._give_up("lost", partitions, self._clock())

    def _give_up(self, kind: str, partitions: Sequence[Partition], started: float) -> None:
        given_up = self._ledger.drop(partitions)
        self._windows.taken_back(self._batcher.discard(lambda item: item.slot.dropped))
        self._windows.discard()
        if self._repeats is not None:
            self._repeats.dropped()
        self._delivery.dropped(partitions)
        for partition in partitions:
            self._assigned.pop(partition, None)
        self._changed(kind, partitions, given_up, self._clock() - started)

    def _changed(self, kind: str, partitions: Sequence[Partition], given_up: int, seconds: float) -> None:
        assigned = list(self._assigned)
        names = [f"{topic}/{number}" for topic, number in partitions]
        log.info(f"partitions {kind}", partitions=names, has_now=len(assigned), given_up=given_up)
        self._health.assigned(len(assigned))
        self._observer.rebalanced(kind, assigned, given_up, seconds)


def _outcome(slot: Slot) -> Outcome:
    if slot.outcome is None:
        raise AssertionError("the ledger released a slot without an outcome")
    return slot.outcome
