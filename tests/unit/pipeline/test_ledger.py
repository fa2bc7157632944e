"""The ledger: release in order, settled prefix, drop, counters."""

from __future__ import annotations

import gc
import weakref

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit import record
from worker.pipeline.ledger import Ledger, Progress, Slot
from worker.pipeline.messages import Record, Rejection, Skip

PARTITION = ("in", 0)
REJECTED = Rejection("decode", "empty", "The message has no value.", "InvalidMessage")


def opened(ledger: Ledger, *offsets: int, partition: int = 0) -> list[Slot]:
    return [ledger.open(record(offset, b"four", partition=partition), 0.0) for offset in offsets]


def settle(ledger: Ledger, *slots: Slot) -> None:
    for slot in slots:
        ledger.finish(slot, Skip())
    ledger.release()
    for slot in slots:
        ledger.settle(slot)


def test_a_later_slot_waits_for_the_earlier_one():
    """A finished slot is released only when all before it in its partition are finished."""
    ledger = Ledger()
    first, second = opened(ledger, 0, 1)
    ledger.finish(second, Skip())
    assert ledger.release() == []
    ledger.finish(first, Skip())
    assert ledger.release() == [first, second]
    assert ledger.release() == []


def test_partitions_do_not_wait_for_each_other():
    """An unfinished slot holds back its own partition alone."""
    ledger = Ledger()
    opened(ledger, 0, partition=0)
    (other,) = opened(ledger, 0, partition=1)
    ledger.finish(other, Skip())
    assert ledger.release() == [other]


def test_only_the_settled_prefix_may_be_committed():
    """An acknowledgement out of order commits nothing until the gap before it is closed."""
    ledger = Ledger()
    slots = opened(ledger, 5, 6, 7)
    for slot in slots:
        ledger.finish(slot, Skip())
    ledger.release()
    ledger.settle(slots[1])
    assert ledger.committable() == {}
    ledger.settle(slots[0])
    assert ledger.committable() == {PARTITION: 7}
    ledger.settle(slots[2])
    assert ledger.committable() == {PARTITION: 8}


def test_gaps_between_offsets_are_passed():
    """Offsets that compaction or transactions left out are no reason to wait."""
    ledger = Ledger()
    first, second = opened(ledger, 5, 90)
    ledger.finish(first, Skip())
    ledger.release()
    ledger.settle(first)
    assert ledger.committable() == {PARTITION: 90}
    assert ledger.unsettled() == 1
    ledger.finish(second, Skip())
    ledger.release()
    ledger.settle(second)
    assert ledger.committable() == {PARTITION: 91}


def test_an_offset_not_beyond_the_last_one_is_counted_and_taken_in_again():
    """A rewound log is read again, in the order in which its records came, behind what was in flight."""
    ledger = Ledger()
    slots = opened(ledger, 3, 3, 2, 4)
    assert (ledger.rewinds, ledger.in_flight) == (2, 4)
    for slot in reversed(slots):
        ledger.finish(slot, Skip())
    assert ledger.release() == slots


def test_after_a_rewind_what_may_be_committed_goes_back():
    """Once the old log's records are settled, the prefix is that of the new log, though it is the smaller one."""
    ledger = Ledger()
    settle(ledger, *opened(ledger, 0, 1, 2))
    ledger.mark_committed(ledger.committable())
    (old,) = opened(ledger, 3)
    (new,) = opened(ledger, 0)
    assert ledger.committable() == {}
    settle(ledger, old)
    assert ledger.committable() == ledger.settled() == {PARTITION: 0}
    settle(ledger, new)
    assert ledger.committable() == ledger.settled() == {PARTITION: 1}


def test_a_mark_is_exactly_what_was_committed():
    """A mark may be smaller than the one before it."""
    ledger = Ledger()
    settle(ledger, *opened(ledger, 0, 1, 2))
    ledger.mark_committed({PARTITION: 3})
    assert ledger.committable() == {}
    ledger.mark_committed({PARTITION: 1})
    assert ledger.committable() == {PARTITION: 3}


def test_after_a_refused_commit_all_may_be_committed_again():
    """Nothing that was marked is taken for committed, though nothing has moved since."""
    ledger = Ledger()
    settle(ledger, *opened(ledger, 0, 1))
    ledger.mark_committed(ledger.committable())
    ledger.unmark_committed()
    assert ledger.committable() == {PARTITION: 2}


def test_a_commit_back_to_the_first_offset_that_is_refused_is_not_forgotten():
    """Of a log made anew, whose first record is in flight, the offset to go back to is due until it is committed."""
    ledger = Ledger()
    settle(ledger, *opened(ledger, 0, 1))
    ledger.mark_committed(ledger.committable())
    opened(ledger, 0)
    ledger.mark_committed(ledger.committable())
    ledger.unmark_committed()
    assert ledger.committable() == ledger.settled() == {PARTITION: 0}


def test_what_was_committed_is_not_committable_again_until_it_moves():
    """`committable` speaks of news only, `settled` of everything since the partition came."""
    ledger = Ledger()
    (slot,) = opened(ledger, 0)
    ledger.finish(slot, Skip())
    ledger.release()
    ledger.settle(slot)
    ledger.mark_committed(ledger.committable())
    assert ledger.committable() == {}
    assert ledger.settled() == {PARTITION: 1}
    assert ledger.settled([PARTITION]) == {PARTITION: 1}
    assert ledger.settled([("in", 9)]) == {}


def test_the_first_outcome_stands():
    """A second outcome for the same slot, from a run that was thought lost, changes nothing."""
    ledger = Ledger()
    (slot,) = opened(ledger, 0)
    ledger.finish(slot, REJECTED)
    ledger.finish(slot, Skip())
    assert slot.outcome == REJECTED


def test_a_dropped_partition_forgets_everything_and_ignores_what_comes_later():
    """Results and acknowledgements of a partition that has gone change no counter and commit nothing."""
    ledger = Ledger()
    finished, unfinished, sent = opened(ledger, 0, 1, 2)
    ledger.finish(finished, Skip())
    ledger.release()
    assert ledger.drop([PARTITION]) == 3
    ledger.finish(unfinished, Skip())
    ledger.settle(finished)
    assert ledger.release() == []
    assert ledger.committable() == {}
    assert (ledger.in_flight, ledger.bytes_in_flight) == (0, 0)
    assert sent.dropped
    assert ledger.drop([PARTITION]) == 0


def test_a_partition_that_comes_back_starts_anew():
    """After a drop, offsets that were taken in before are taken in again."""
    ledger = Ledger()
    opened(ledger, 5, 6)
    ledger.drop([PARTITION])
    (again,) = opened(ledger, 5)
    assert not again.dropped
    assert ledger.positions() == {PARTITION: 5}


def test_progress_tells_what_is_done_committed_and_how_old_the_rest_is():
    """Committed is what is known to be, from the first record on; the timestamp is the oldest unfinished one's."""
    ledger = Ledger()
    slots = [ledger.open(record(offset, timestamp=100 + offset), 3.0) for offset in (5, 6, 7)]
    assert ledger.progress() == {PARTITION: Progress(5, 5, 105, 3.0)}
    for slot in slots[:2]:
        ledger.finish(slot, Skip())
    ledger.release()
    ledger.settle(slots[1])
    assert ledger.progress() == {PARTITION: Progress(5, 5, 105, 3.0)}
    ledger.settle(slots[0])
    ledger.mark_committed({PARTITION: 7})
    assert ledger.progress() == {PARTITION: Progress(7, 5, 107, 3.0)}
    ledger.confirm({PARTITION: 7, ("gone", 0): 1})
    ledger.finish(slots[2], Skip())
    ledger.release()
    ledger.settle(slots[2])
    assert ledger.progress() == {PARTITION: Progress(8, 7, 107, None)}


def test_what_was_committed_goes_back_with_a_log_that_was_rewound():
    """Else fewer messages would wait for a commit than for an answer."""
    ledger = Ledger()
    settle(ledger, *opened(ledger, 0, 1, 2))
    ledger.confirm({PARTITION: 3})
    opened(ledger, 0)
    assert ledger.progress()[PARTITION].committed == 0
    opened(ledger, 1)
    assert ledger.progress()[PARTITION].committed == 0


def test_bytes_in_flight_count_values_and_tombstones_weigh_nothing():
    """The bound in bytes is over message values."""
    ledger = Ledger()
    ledger.open(record(0, b"12345"), 0.0)
    ledger.open(record(1, None), 0.0)
    assert (ledger.in_flight, ledger.bytes_in_flight) == (2, 5)


class LedgerMachine(RuleBasedStateMachine):
    """Any interleaving of opening, finishing, releasing, acknowledging, committing and dropping, beside a model."""

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.last = dict.fromkeys(range(3), -1)
        self.rewinds = 0
        self.marked: dict[int, int | None] = {}
        self.order: dict[int, list[Slot]] = {p: [] for p in range(3)}
        self.released: dict[int, list[Slot]] = {p: [] for p in range(3)}
        self.settled: set[int] = set()
        self.dead: list[Slot] = []

    def pick(self, data: st.DataObject, slots: list[Slot]) -> Slot:
        return data.draw(st.sampled_from(slots))

    def slots(self) -> list[Slot]:
        return [slot for order in self.order.values() for slot in order]

    @rule(partition=st.integers(0, 2), gap=st.integers(1, 3), size=st.none() | st.integers(0, 5))
    def open(self, partition: int, gap: int, size: int | None) -> None:
        self.last[partition] += gap
        value = None if size is None else b"x" * size
        self.marked.setdefault(partition, self.last[partition])
        self.order[partition].append(self.ledger.open(record(self.last[partition], value, partition=partition), 0.0))

    @rule(partition=st.integers(0, 2), back=st.integers(0, 3))
    def rewind(self, partition: int, back: int) -> None:
        if self.order[partition]:
            self.last[partition] = max(0, self.last[partition] - back)
            self.order[partition].append(self.ledger.open(record(self.last[partition], partition=partition), 0.0))
            self.rewinds += 1
            assert self.ledger.rewinds == self.rewinds

    @precondition(lambda self: self.slots())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.ledger.finish(self.pick(data, self.slots()), Skip())

    @rule()
    def release(self) -> None:
        expected: dict[int, list[Slot]] = {}
        for partition, order in self.order.items():
            done = len(self.released[partition])
            while done < len(order) and order[done].outcome is not None:
                expected.setdefault(partition, []).append(order[done])
                done += 1
        got: dict[int, list[Slot]] = {}
        for slot in self.ledger.release():
            got.setdefault(slot.record.partition, []).append(slot)
        assert got == expected, "released in order, exactly once"
        for partition, slots in got.items():
            self.released[partition] += slots

    @precondition(lambda self: any(self.released.values()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        slot = self.pick(data, [s for slots in self.released.values() for s in slots])
        self.ledger.settle(slot)
        self.settled.add(id(slot))

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def ghosts_speak(self, data: st.DataObject) -> None:
        slot = self.pick(data, self.dead)
        self.ledger.finish(slot, REJECTED)
        self.ledger.settle(slot)

    @rule(partitions=st.sets(st.integers(0, 2)))
    def drop(self, partitions: set[int]) -> None:
        expected = sum(len(self.order[p]) - self.prefix(p) for p in partitions)
        assert self.ledger.drop([("in", p) for p in sorted(partitions)]) == expected
        for p in partitions:
            self.dead += self.order[p]
            self.order[p], self.released[p] = [], []
            self.last[p] = -1
            self.marked.pop(p, None)

    @rule()
    def commit(self) -> None:
        due = self.ledger.committable()
        assert due == {("in", p): self.end(p) for p, marked in self.marked.items() if marked != self.end(p)}
        self.ledger.mark_committed(due)
        self.marked = {p: self.end(p) for p in self.marked}
        assert self.ledger.committable() == {}

    @rule()
    def refuse(self) -> None:
        self.ledger.unmark_committed()
        self.marked = dict.fromkeys(self.marked)

    def end(self, partition: int) -> int:
        order, done = self.order[partition], self.prefix(partition)
        return order[done].record.offset if done < len(order) else order[-1].record.offset + 1

    def prefix(self, partition: int) -> int:
        done = 0
        for slot in self.released[partition]:
            if id(slot) not in self.settled:
                break
            done += 1
        return done

    @invariant()
    def the_prefix_is_what_may_be_committed(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for partition, order in self.order.items():
            if not order:
                continue
            end = self.end(partition)
            assert self.ledger.positions()["in", partition] == end
            due = end != order[0].record.offset or end != self.marked[partition]
            assert self.ledger.settled([("in", partition)]) == ({("in", partition): end} if due else {})

    @invariant()
    def the_counters_agree(self) -> None:
        if not hasattr(self, "ledger"):
            return
        open_ = [slot for p, order in self.order.items() for slot in order[self.prefix(p) :]]
        assert self.ledger.in_flight == self.ledger.unsettled() == len(open_)
        assert self.ledger.bytes_in_flight == sum(len(slot.record.value or b"") for slot in open_)
        assert self.ledger.unsettled([("in", p) for p in range(3)]) == len(open_)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(stateful_step_count=40)


class Headers(list):
    """A list of headers that tells when it has gone."""


def test_what_is_dropped_is_freed_at_once():
    """A revoke under load gives its memory back without waiting for the collector, which may be long in coming."""
    ledger, headers = Ledger(), Headers()
    slot = ledger.open(Record(*PARTITION, 0, None, b"value", headers, None), 0.0)
    gone = weakref.ref(headers)
    gc.disable()
    try:
        ledger.drop([PARTITION])
        del slot, headers
        assert gone() is None
    finally:
        gc.enable()
