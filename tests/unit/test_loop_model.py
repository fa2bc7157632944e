"""The loop beside a model of its promises: at least once, in order, nothing committed past what is not acknowledged.

Any interleaving of arrivals (good, invalid, poison, tombstones), withheld and partial acknowledgements, lanes that
stall or finish out of order, a model in one stage or two, results that are remembered, revokes with and without
enough time, losses, assignments, rewinds, refused commits, drains and crashes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit import InlineLanes, StagedClassifier, StubClassifier, TickingClock, bench, in_windows
from worker.loop import POLL_LIMIT
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.messages import Destination, Forward, Outgoing, Rejection, Skip
from worker.pipeline.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.pipeline.messages import Partition, Record

PARTITIONS = [("in", 0), ("in", 1), ("other", 0)]
IN_FLIGHT = 128
VALUES: dict[str, bytes | None] = {
    "good": b'{"text": "a good message"}',
    "short": b'{"text": "hi"}',
    "long": json.dumps({"text": "word " * 40}).encode(),
    "pages": json.dumps({"text": "word " * 150}).encode(),
    "poison": b'{"text": "poison in it"}',
    "poison pages": json.dumps({"text": "poison " * 150}).encode(),
    "untokenizable": b'{"text": "UNTOKENIZABLE"}',
    "invalid": b"{",
    "empty": b"",
    "tombstone": None,
}
NUMBERED = {f"good {number}": json.dumps({"text": f"a good message {number}"}).encode() for number in range(40)}
"""For bursts: of one text all but the first wait for its answer, of many all lanes and batches fill."""
REASONS = {
    "poison": "model-error",
    "poison pages": "model-error",
    "untokenizable": "tokenizer-error",
    "invalid": "invalid-json",
    "empty": "empty",
}
POLICIES = {
    "skip": Skip(),
    "forward": Forward(),
    "dead": Rejection("decode", "tombstone", "The message has no value.", "InvalidMessage"),
}


def before(texts: list[str]) -> None:
    if any("poison" in text for text in texts):
        raise RuntimeError("poison")


class Taken:
    """One record as it was given to the worker, once each time."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.settled = False


class World:
    """What outlives a worker: the log, what was written, what was acknowledged; and what must come next."""

    def __init__(self, policy: str) -> None:
        self.log = MemoryLog()
        self.policy = policy
        self.kinds: dict[Partition, list[str]] = defaultdict(list)
        self.written: dict[tuple[Partition, int], Outgoing] = {}
        self.acknowledged: set[tuple[Partition, int]] = set()
        self.owned: set[Partition] = set()
        self.taken: dict[Partition, list[Taken]] = {}
        """What the worker was given since the partition was assigned, in order."""
        self.sent_of: dict[Partition, int] = {}
        """How many of those have been written, or are silent and before one that was."""
        self.rewound: set[Partition] = set()

    def silent(self, partition: Partition, offset: int) -> bool:
        return self.policy == "skip" and self.kinds[partition][offset] == "tombstone"

    def assigned(self, partition: Partition) -> None:
        self.owned.add(partition)
        self.taken[partition], self.sent_of[partition] = [], 0
        self.rewound.discard(partition)

    def prefixes(self, partition: Partition, before: int) -> set[int]:
        """What a revoke may have committed: the end of what is settled; silent messages at it may be in or not."""
        possible: set[int] = set()
        for taken in self.taken[partition]:
            if taken.settled:
                possible.clear()
                continue
            possible.add(taken.offset)
            if not self.silent(partition, taken.offset):
                return possible
        return possible | {self.taken[partition][-1].offset + 1 if self.taken[partition] else before}

    def sent(self, outgoing: Outgoing) -> Taken:
        partition = outgoing.source
        assert partition in self.owned, "written for a partition that belongs to somebody else"
        place = self.sent_of[partition]
        while self.silent(partition, self.taken[partition][place].offset):
            place += 1
        self.sent_of[partition] = place + 1
        taken = self.taken[partition][place]
        self.check(outgoing, partition, taken.offset)
        earlier = self.written.setdefault((partition, taken.offset), outgoing)
        assert earlier == outgoing, "a repetition is identical to the byte"
        return taken

    def check(self, outgoing: Outgoing, partition: Partition, offset: int) -> None:
        """It is the outcome of the next message of its partition: nothing left out, nothing doubled, in order."""
        kind = self.kinds[partition][offset]
        if kind in REASONS or (kind == "tombstone" and self.policy == "dead"):
            assert outgoing.destination is Destination.DEAD_LETTER
            headers = dict(outgoing.headers)
            assert headers["__connect.errors.offset"] == str(offset).encode()
            assert headers["winnow.errors.reason"] == REASONS.get(kind, "tombstone").encode()
        else:
            assert outgoing.destination is Destination.OUTPUT
            if kind != "tombstone":
                assert json.loads(outgoing.value or b"")["source"]["offset"] == offset


class Sink(MemorySink):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        taken = self.world.sent(outgoing)

        def acknowledged() -> None:
            self.world.acknowledged.add((outgoing.source, taken.offset))
            taken.settled = True
            delivered()

        super().send(outgoing, acknowledged)


class Source(MemorySource):
    def __init__(self, world: World) -> None:
        super().__init__(world.log)
        self.world = world

    @property
    def untold(self) -> int:
        return len(self._events)

    def rewind(self, partition: Partition, offset: int = 0) -> None:
        self.world.rewound.add(partition)
        super().rewind(partition, min(offset, self._positions[partition]))

    def poll(self, limit: int, timeout: float) -> Sequence[Record]:
        records = super().poll(limit, timeout)
        for record in records:
            self.world.taken[record.topic, record.partition].append(Taken(record.offset))
        return records

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        for partition, offset in offsets.items():
            assert partition in self.world.owned, "committed for somebody else"
            backwards = offset < self.world.log.committed.get(partition, 0)
            assert not backwards or partition in self.world.rewound, "committed backwards"
        super().commit(offsets, wait=wait)

    def _tell(self, event: str, partitions: list[Partition]) -> None:
        world, before = self.world, dict(self.world.log.committed)
        if event == "assigned":
            for partition in partitions:
                world.assigned(partition)
        elif event == "lost":
            world.owned -= set(partitions)
        super()._tell(event, partitions)
        if event == "assigned":
            return
        world.owned -= set(partitions)
        for partition in partitions:
            was, now = before.get(partition, 0), world.log.committed.get(partition, 0)
            kept = event == "lost" or self.refusing
            assert now in ({was} if kept else world.prefixes(partition, was))


class LoopMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(sorted(POLICIES)), lanes=st.integers(1, 3), interval=st.sampled_from([0.0, 0.1]),
        staged=st.booleans(), remembers=st.booleans(),
    )  # fmt: skip
    def begin(self, policy: str, lanes: int, interval: float, staged: bool, remembers: bool) -> None:
        self.clock = TickingClock()
        self.world = World(policy)
        self.lanes, self.interval = lanes, interval
        self.staged, self.remembers = staged, remembers
        self.start()

    def start(self) -> None:
        self.world.owned.clear()
        self.windows = in_windows(longest=50, limit=3)
        model = StagedClassifier(lambda text: "o" in text, before) if self.staged else StubClassifier(before)
        repeats = Repeats(1 << 20) if self.remembers else None
        self.worker = bench(
            model, inline=True, repeats=repeats, log=self.world.log, source=Source(self.world), sink=Sink(self.world),
            clock=self.clock, tombstone=POLICIES[self.world.policy], lanes=self.lanes, commit_interval=self.interval,
            in_flight=IN_FLIGHT, drain=0.2, revoke=0.2, windows=self.windows,
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
            self.world.log.append(*partition, (VALUES | NUMBERED)[kind])
        self.world.kinds[partition] += kinds

    @rule(partition=st.sampled_from(PARTITIONS), count=st.integers(50, 200), texts=st.sampled_from([1, 7, 40]))
    def burst(self, partition: Partition, count: int, texts: int) -> None:
        self.arrive(partition, [f"good {number % texts}" for number in range(count)])

    @rule(count=st.integers(1, 6))
    def turns(self, count: int) -> None:
        self.turn(count)

    @rule(seconds=st.sampled_from([0.02, 1.0, 3.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(held=st.booleans(), newest_first=st.booleans())
    def lanes_change(self, held: bool, newest_first: bool) -> None:
        self.inline.held, self.inline.newest_first = held, newest_first

    @rule(acknowledging=st.booleans())
    def the_sink_changes(self, acknowledging: bool) -> None:
        self.worker.sink.acknowledging = acknowledging

    @rule(count=st.integers(1, 20))
    def some_acknowledgements_come(self, count: int) -> None:
        self.worker.sink.acknowledge(count)

    @precondition(lambda self: len(self.world.owned) < len(PARTITIONS))
    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        free = [p for p in PARTITIONS if p not in self.world.owned]
        chosen = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        self.worker.source.assign(*chosen)
        self.turn_until_told()

    @precondition(lambda self: self.world.owned)
    @rule(data=st.data(), how=st.sampled_from(["revoke", "lose"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.world.owned)), min_size=1, unique=True))
        getattr(self.worker.source, how)(*chosen)
        self.turn_until_told()

    def turn_until_told(self) -> None:
        """A worker without room polls only after a while; what the group tells it waits that long."""
        while self.worker.source.untold:
            self.turn()

    @precondition(lambda self: self.world.owned)
    @rule(data=st.data(), offset=st.integers(0, 20))
    def rewind(self, data: st.DataObject, offset: int) -> None:
        self.worker.source.rewind(data.draw(st.sampled_from(sorted(self.world.owned))), offset)

    @rule(refusing=st.booleans())
    def the_group_changes(self, refusing: bool) -> None:
        self.worker.source.refusing = refusing

    @rule()
    def crash(self) -> None:
        self.start()

    @rule()
    def stop_and_start(self) -> None:
        self.worker.loop.run(lambda: True)
        assert self.worker.source.closed
        self.start()

    @invariant()
    def nothing_is_committed_past_an_outcome_that_is_not_acknowledged(self) -> None:
        if not hasattr(self, "world"):
            return
        for partition, end in self.world.log.committed.items():
            for offset in range(end):
                done = (partition, offset) in self.world.acknowledged or self.world.silent(partition, offset)
                assert done, f"{partition} was committed up to {end}, and {offset} is not done"

    @invariant()
    def work_in_flight_is_bounded(self) -> None:
        if hasattr(self, "worker"):
            assert self.worker.ledger.in_flight <= IN_FLIGHT + POLL_LIMIT
            assert self.inline.pending <= 2 * self.lanes
            assert 0 <= self.windows.out <= 3

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.inline.held, self.worker.sink.acknowledging, self.worker.source.refusing = False, True, False
        free = [p for p in PARTITIONS if p not in self.world.owned]
        self.worker.source.assign(*free)
        ends = {p: len(kinds) for p, kinds in self.world.kinds.items() if kinds}
        for _ in range(3_000):
            if self.world.log.committed == ends:
                break
            self.turn()
        assert self.world.log.committed == ends, "lost"
        # Windows of a text that has failed already may still be out.
        self.turn(10)
        assert (self.windows.out, self.worker.batcher.bytes) == (0, 0)
        assert self.worker.loop._repeats is None or self.worker.loop._repeats.waiting == 0
        self.nothing_is_committed_past_an_outcome_that_is_not_acknowledged()


TestLoopMachine = LoopMachine.TestCase
TestLoopMachine.settings = settings(stateful_step_count=30)
