"""Exactly once beside a model of its promise: a `read_committed` reader sees each message's outcome once, in order.

Any interleaving of arrivals, lanes that stall or finish out of order, transactional calls that fail, have to be
repeated or take effect unanswered, revokes, losses (known to the group before the worker), assignments, drains and
crashes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit import InlineLanes, StagedClassifier, TickingClock, bench
from worker.loop import POLL_LIMIT
from worker.memory import MemoryLog, MemoryTransactions
from worker.pipeline.messages import Destination, Outgoing
from worker.pipeline.repeats import Repeats
from worker.ports import AbortNeeded, NotYet, RenewalNeeded

if TYPE_CHECKING:
    from worker.pipeline.messages import Partition

PARTITIONS = [("in", 0), ("in", 1), ("other", 0)]
IN_FLIGHT = 128
VALUES: dict[str, bytes | None] = {
    "good": b'{"text": "a good message"}',
    "long": json.dumps({"text": "word " * 40}).encode(),
    "poison": b'{"text": "poison in it"}',
    "invalid": b"{",
    "tombstone": None,
}
FAILURES: dict[str, list[type[Exception]]] = {
    "send": [AbortNeeded, RenewalNeeded],
    "send_offsets": [NotYet, AbortNeeded, RenewalNeeded],
    "commit": [NotYet, AbortNeeded, RenewalNeeded],
    "abort": [NotYet, RenewalNeeded],
    "renew": [NotYet],
}


def before(texts: list[str]) -> None:
    if any("poison" in text for text in texts):
        raise RuntimeError("poison")


def place(outgoing: Outgoing) -> int:
    """The offset that it came from."""
    if outgoing.destination is Destination.OUTPUT:
        return int(json.loads(outgoing.value or b"")["source"]["offset"])
    return int(dict(outgoing.headers)["__connect.errors.offset"] or b"")


class ExactlyOnceMachine(RuleBasedStateMachine):
    @initialize(lanes=st.integers(1, 3), interval=st.sampled_from([0.0, 0.1]))
    def begin(self, lanes: int, interval: float) -> None:
        self.clock = TickingClock()
        self.log = MemoryLog()
        self.kinds: dict[Partition, list[str]] = defaultdict(list)
        self.lanes, self.interval = lanes, interval
        self.seen: list[Outgoing] = []
        self.start()

    def start(self) -> None:
        """A new worker; the one before it is gone, and with it its open transaction."""
        self.owned: set[Partition] = set()
        self.transactions = MemoryTransactions(self.log)
        self.transactions.visible = self.seen
        self.worker = bench(
            StagedClassifier(lambda text: "o" in text, before), inline=True, repeats=Repeats(1 << 20),
            log=self.log, transactions=self.transactions, clock=self.clock,
            lanes=self.lanes, commit_interval=self.interval, in_flight=IN_FLIGHT, drain=0.2, revoke=0.2,
        )  # fmt: skip

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.worker.loop.turn()

    @property
    def inline(self) -> InlineLanes:
        assert isinstance(self.worker.lanes, InlineLanes)
        return self.worker.lanes

    @rule(partition=st.sampled_from(PARTITIONS), kinds=st.lists(st.sampled_from(sorted(VALUES)), min_size=1))
    def arrive(self, partition: Partition, kinds: list[str]) -> None:
        for kind in kinds:
            self.log.append(*partition, VALUES[kind])
        self.kinds[partition] += kinds

    @rule(count=st.integers(1, 6))
    def turns(self, count: int) -> None:
        self.turn(count)

    @rule(seconds=st.sampled_from([0.02, 1.0, 3.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(held=st.booleans(), newest_first=st.booleans())
    def lanes_change(self, held: bool, newest_first: bool) -> None:
        self.inline.held, self.inline.newest_first = held, newest_first

    @rule(data=st.data(), call=st.sampled_from(sorted(FAILURES)))
    def calls_are_to_fail(self, data: st.DataObject, call: str) -> None:
        self.transactions.failing[call] = data.draw(st.lists(st.sampled_from(FAILURES[call]), max_size=4))

    @rule(error=st.sampled_from([NotYet, RenewalNeeded]))
    def an_answer_is_to_be_lost(self, error: type[Exception]) -> None:
        self.transactions.unanswered = error

    @rule(data=st.data())
    def somebody_else_goes_on(self, data: st.DataObject) -> None:
        """Whoever has a partition that is not this worker's answers some of its messages.

        One that was lost is not, even before the worker hears of it; one that is revoked is, until it lets it go.
        """
        mine = self.owned | {p for event, some in self.worker.source._events if event == "revoked" for p in some}
        others = [p for p in PARTITIONS if p not in mine and self.log.committed.get(p, 0) < len(self.kinds[p])]
        if not others:
            return
        partition = data.draw(st.sampled_from(others))
        start = self.log.committed.get(partition, 0)
        end = data.draw(st.integers(start + 1, len(self.kinds[partition])))
        for offset in range(start, end):
            if self.kinds[partition][offset] != "tombstone":
                value = json.dumps({"source": {"offset": offset}}).encode()
                self.seen.append(Outgoing(Destination.OUTPUT, "out", None, value, [], partition))
        self.log.committed[partition] = end

    @precondition(lambda self: len(self.owned) < len(PARTITIONS))
    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        free = [p for p in PARTITIONS if p not in self.owned]
        chosen = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        self.worker.source.assign(*chosen)
        self.owned |= set(chosen)

    @precondition(lambda self: self.owned)
    @rule(data=st.data(), how=st.sampled_from(["revoke", "lose"]), told=st.booleans())
    def leave(self, data: st.DataObject, how: str, told: bool) -> None:
        """The worker learns of it with its next poll, or a while later."""
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.owned)), min_size=1, unique=True))
        getattr(self.worker.source, how)(*chosen)
        self.owned -= set(chosen)
        if told:
            self.turn()

    @rule()
    def crash(self) -> None:
        self.start()

    @rule()
    def stop_and_start(self) -> None:
        self.worker.loop.run(lambda: True)
        self.start()

    @invariant()
    def each_committed_message_is_seen_once_and_in_order(self) -> None:
        if not hasattr(self, "seen"):
            return
        places: dict[Partition, list[int]] = defaultdict(list)
        for outgoing in self.seen:
            places[outgoing.source].append(place(outgoing))
        for partition, kinds in self.kinds.items():
            end = self.log.committed.get(partition, 0)
            expected = [offset for offset in range(end) if kinds[offset] != "tombstone"]
            assert places[partition] == expected, f"{partition} is committed up to {end}"

    @invariant()
    def work_in_flight_is_bounded(self) -> None:
        if hasattr(self, "worker"):
            waiting = self.worker.loop._delivery.waiting
            assert self.worker.ledger.in_flight - waiting <= IN_FLIGHT + POLL_LIMIT

    def teardown(self) -> None:
        if not hasattr(self, "seen"):
            return
        self.transactions.failing.clear()
        self.start()
        self.worker.source.assign(*PARTITIONS)
        ends = {p: len(kinds) for p, kinds in self.kinds.items() if kinds}
        for _ in range(3_000):
            if self.log.committed == ends:
                break
            self.turn()
        assert self.log.committed == ends, "lost"
        self.each_committed_message_is_seen_once_and_in_order()


TestExactlyOnceMachine = ExactlyOnceMachine.TestCase
TestExactlyOnceMachine.settings = settings(stateful_step_count=40, max_examples=150)
