"""The batcher: bounds, deadlines, order, padding. Time is an argument, so nothing here waits."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.kit import item
from worker.pipeline.batcher import RUN_OVERHEAD_TOKENS, Batcher, StagedBatcher, bucket_edges
from worker.pipeline.batches import Batch, CloseReason, Item
from worker.pipeline.ledger import Ledger

DELAY = 0.02
EDGES = bucket_edges(512)


def batcher(max_messages: int = 8, max_tokens: int = 64, max_delay: float = DELAY) -> Batcher:
    return Batcher(max_messages, max_tokens, max_delay, EDGES)


def items(*lengths: int, arrived: float = 0.0) -> list[Item]:
    ledger = Ledger()
    return [item(ledger, offset, length, arrived) for offset, length in enumerate(lengths)]


def fill(waiting: Batcher, found: list[Item]) -> None:
    for one in found:
        waiting.add(one)


def drained(waiting: Batcher, now: float = 0.0) -> list[Batch]:
    batches = []
    while (batch := waiting.take(now, CloseReason.DRAIN)) is not None:
        batches.append(batch)
    return batches


@given(st.integers(1, 2048), st.floats(1.0, 2.0))
def test_edges_rise_from_1_to_the_model_length(max_length: int, growth: float):
    """Bucket edges rise strictly, start at 1 and end at the model's length, so every length has a bucket."""
    edges = bucket_edges(max_length, growth)
    assert edges[0] == 1
    assert edges[-1] == max_length
    assert all(low < high for low, high in pairwise(edges))


@given(st.integers(2, 2048))
def test_padding_within_a_bucket_stays_below_the_growth(max_length: int):
    """The shortest length of a bucket is padded by less than 6 % to reach the longest."""
    edges = bucket_edges(max_length)
    for low, high in pairwise(edges):
        assert high <= (low + 1) * 1.06


def test_an_empty_batcher_has_nothing_to_give():
    """Without messages nothing is due, however great the hurry."""
    waiting = batcher()
    assert waiting.take(1e9) is None
    assert waiting.take(1e9, CloseReason.DRAIN) is None
    assert waiting.deadline() is None
    assert len(waiting) == 0


def test_a_batch_of_the_allowed_number_of_messages_is_handed_out_at_once():
    """A batch that reached the bound on messages needs no deadline."""
    waiting = batcher(max_messages=3)
    fill(waiting, items(5, 5, 5))
    batch = waiting.take(0.0)
    assert batch is not None
    assert (len(batch.items), batch.reason) == (3, CloseReason.SIZE)


def test_a_batch_that_no_further_row_fits_into_is_handed_out_at_once():
    """A batch whose padded tokens leave no room for one more row needs no deadline."""
    waiting = batcher(max_tokens=64)
    fill(waiting, items(20, 20, 20))
    batch = waiting.take(0.0)
    assert batch is not None
    assert (batch.padded_tokens, batch.reason) == (60, CloseReason.TOKENS)


def test_a_message_longer_than_the_token_bound_is_a_batch_of_its_own():
    """No bound turns into a message that can never be classified."""
    waiting = batcher(max_tokens=64)
    fill(waiting, items(500))
    batch = waiting.take(0.0)
    assert batch is not None
    assert (len(batch.items), batch.length) == (1, 500)


def test_the_deadline_counts_from_the_oldest_arrival_after_idling():
    """A message that comes after a long silence waits the whole latency bound, and no longer."""
    waiting = batcher()
    fill(waiting, items(5, arrived=100.0))
    assert waiting.deadline() == 100.0 + DELAY
    assert waiting.take(100.0 + DELAY / 2) is None
    batch = waiting.take(100.0 + DELAY)
    assert batch is not None
    assert batch.reason is CloseReason.DEADLINE


def test_a_steady_trickle_does_not_put_the_deadline_off():
    """Messages that keep arriving do not extend the wait of the oldest one."""
    waiting = batcher(max_messages=1000, max_tokens=100_000)
    ledger = Ledger()
    left = None
    for tick in range(100):
        now = tick * DELAY / 10
        waiting.add(item(ledger, tick, 5, now))
        if waiting.take(now) is not None:
            left = now
            break
    assert left == pytest.approx(DELAY)


def test_what_is_due_at_its_deadline_is_due_by_the_same_arithmetic():
    """Asking at exactly `deadline()` finds the batch due, whatever the rounding of the clock's floats."""
    for step in range(200):
        waiting = batcher()
        fill(waiting, items(5, arrived=1000.0 + step * 0.0137))
        deadline = waiting.deadline()
        assert deadline is not None
        assert waiting.take(deadline) is not None


def test_a_full_batch_that_is_older_goes_before_a_full_batch_that_closed_earlier():
    """The oldest message decides the order of full batches, not the moment they filled up."""
    waiting, ledger = batcher(max_messages=2, max_tokens=1000), Ledger()
    for offset, (length, arrived) in enumerate([(50, 0.0), (5, 0.001), (5, 0.002), (50, 0.003)]):
        waiting.add(item(ledger, offset, length, arrived))
    order = [waiting.take(0.003), waiting.take(0.003)]
    assert [batch.items[0].arrived for batch in order if batch] == [0.0, 0.001]


def test_joining_happens_only_while_it_pads_less_than_a_run_costs():
    """Neighbouring lengths leave in one run; far shorter ones keep a run of their own."""
    near, far = batcher(), batcher()
    fill(near, items(12, 10))
    fill(far, items(30, 5))
    assert [len(batch.items) for batch in drained(near)] == [2]
    assert [len(batch.items) for batch in drained(far)] == [1, 1]


@pytest.mark.parametrize(("messages", "tokens"), [(8, 64), (3, 1_000)])
def test_joining_breaks_no_bound(messages: int, tokens: int):
    """Two open batches whose sum would be too many tokens, or too many messages, leave one after the other."""
    waiting = batcher(messages, tokens)
    fill(waiting, items(20, 20, 19, 19))
    assert [len(batch.items) for batch in drained(waiting)] == [2, 2]


@given(st.lists(st.integers(1, 100), max_size=60), st.data())
def test_discarded_items_never_come_and_all_others_do(lengths: list[int], data: st.DataObject):
    """Discarding takes away exactly what it was asked to, also from batches that were full already."""
    waiting, found = batcher(), items(*lengths)
    fill(waiting, found)
    gone = data.draw(st.sets(st.sampled_from(range(len(found))))) if found else set()
    assert len(waiting.discard(lambda one: one.slot.record.offset in gone)) == len(gone)
    assert len(waiting) == len(found) - len(gone)
    batches = drained(waiting)
    left = sorted(one.slot.record.offset for batch in batches for one in batch.items)
    assert left == [offset for offset in range(len(found)) if offset not in gone]
    assert all(batch.length == max(len(one.ids) for one in batch.items) for batch in batches)


def states(one: Item) -> Item:
    """The same, back from the first stage."""
    return one._replace(hidden=np.zeros((len(one.ids), 3), np.float32))


def test_what_goes_on_is_handed_out_first_once_it_is_due():
    """It waits for company as long as any text; then it goes before texts that came in between, in one batch."""
    waiting, found = StagedBatcher(8, 64, DELAY, EDGES), items(5, 5, 5)
    waiting.add(found[0]._replace(arrived=-1.0))
    waiting.add(states(found[1]))
    assert waiting.deadline() == -1.0 + DELAY
    first = waiting.take(0.0)
    assert first is not None
    assert not first.rest, "the other has not waited yet"
    waiting.add(found[0])
    waiting.add(states(found[2]))
    rest = waiting.take(DELAY)
    assert rest is not None
    assert rest.rest
    assert (len(rest.items), rest.reason) == (2, CloseReason.DEADLINE)


@pytest.mark.parametrize(("hurry", "order"), [(CloseReason.IDLE, [True, False]), (CloseReason.DRAIN, [False, True])])
def test_who_goes_first_where_nothing_is_due(hurry: CloseReason, order: list[bool]):
    """An idle lane gets what goes on; in a drain that is gathered until nothing else is left."""
    waiting, found = StagedBatcher(8, 64, DELAY, EDGES), items(5, 5)
    fill(waiting, [found[0], states(found[1])])
    batches = [waiting.take(0.0, hurry), waiting.take(0.0, hurry)]
    assert [batch.rest for batch in batches if batch] == order


def test_states_that_wait_are_counted():
    """Their bytes count from when they come back until they are handed out, or taken away."""
    waiting, found = StagedBatcher(8, 64, DELAY, EDGES), items(5, 7, 9)
    fill(waiting, [found[0], *map(states, found[1:])])
    assert waiting.bytes == (7 + 9) * 3 * 4
    assert len(waiting.discard(lambda one: len(one.ids) == 9)) == 1
    assert waiting.bytes == 7 * 3 * 4
    assert len(drained(waiting)) == 2
    assert waiting.bytes == 0


class BatcherMachine(RuleBasedStateMachine):
    """Any interleaving of arrivals, waiting and asking."""

    kind = Batcher

    @initialize(messages=st.integers(1, 6), tokens=st.integers(1, 120), delay=st.sampled_from([0.0, 0.01, 0.5]))
    def open(self, messages: int, tokens: int, delay: float) -> None:
        self.max_messages, self.max_tokens, self.delay = messages, tokens, delay
        self.batcher = self.kind(messages, tokens, delay, EDGES)
        self.ledger = Ledger()
        self.now = 1000.0
        self.added = 0
        self.waiting: dict[int, Item] = {}

    @rule(length=st.integers(1, 130) | st.integers(17, 21), goes_on=st.booleans())
    def add(self, length: int, goes_on: bool) -> None:
        arriving = item(self.ledger, self.added, length, self.now)
        if goes_on and self.kind is StagedBatcher:
            arriving = states(arriving)
        self.waiting[self.added] = arriving
        self.added += 1
        self.batcher.add(arriving)

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.02, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(hurry=st.sampled_from([None, None, CloseReason.IDLE, CloseReason.DRAIN]))
    def take(self, hurry: CloseReason | None) -> None:
        batch = self.batcher.take(self.now, hurry)
        if batch is None:
            assert not self.overdue(False) + self.overdue(True), "the latency bound is broken"
            assert not (hurry and self.waiting), "a lane stands idle beside work"
            return
        assert all((i.hidden is not None) == batch.rest for i in batch.items), "two stages in one batch"
        assert batch.rest or not self.overdue(True), "new work was begun before what was due to go on"
        overdue = self.overdue(batch.rest)
        if overdue or hurry:
            oldest = min(i.arrived for i in self.of(batch.rest))
            assert min(i.arrived for i in batch.items) == oldest, "something overtook the oldest message"
        self.check(batch, bool(overdue), hurry)
        for one in batch.items:
            assert self.waiting.pop(one.slot.record.offset) is one, "handed out twice"

    def of(self, rest: bool) -> list[Item]:
        return [i for i in self.waiting.values() if (i.hidden is not None) == rest]

    def overdue(self, rest: bool) -> list[Item]:
        return [i for i in self.of(rest) if self.now >= i.arrived + self.delay]

    def check(self, batch: Batch, overdue: bool, hurry: CloseReason | None) -> None:
        rows, longest = len(batch.items), max(len(i.ids) for i in batch.items)
        assert batch.length == longest
        assert 1 <= rows <= self.max_messages
        assert rows == 1 or rows * longest <= self.max_tokens
        truthful = {
            CloseReason.SIZE: rows == self.max_messages,
            CloseReason.TOKENS: (rows + 1) * EDGES[self.bucket(longest)] > self.max_tokens,
            CloseReason.DEADLINE: overdue,
            CloseReason.IDLE: hurry is CloseReason.IDLE,
            CloseReason.DRAIN: hurry is CloseReason.DRAIN,
        }
        assert truthful[batch.reason]
        by_bucket: dict[int, list[int]] = {}
        for one in batch.items:
            by_bucket.setdefault(self.bucket(len(one.ids)), []).append(len(one.ids))
        for bucket, lengths in by_bucket.items():
            if bucket != self.bucket(longest):
                assert (longest - max(lengths)) * len(lengths) <= RUN_OVERHEAD_TOKENS, "joining padded too much"

    @staticmethod
    def bucket(length: int) -> int:
        return next(i for i, edge in enumerate(EDGES) if length <= edge)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.waiting)), max_size=3))
        assert len(self.batcher.discard(lambda one: one.slot.record.offset in gone)) == len(gone)
        for offset in gone:
            del self.waiting[offset]

    @invariant()
    def it_knows_how_many_wait(self) -> None:
        if hasattr(self, "batcher"):
            assert len(self.batcher) == len(self.waiting)
            assert self.batcher.bytes == sum(i.hidden.nbytes for i in self.of(True) if i.hidden is not None)

    def teardown(self) -> None:
        if hasattr(self, "batcher"):
            left = [one.slot.record.offset for batch in drained(self.batcher, self.now) for one in batch.items]
            assert sorted(left) == sorted(self.waiting), "lost or doubled"


class StagedBatcherMachine(BatcherMachine):
    """The same with texts that go on."""

    kind = StagedBatcher


TestBatcherMachine = BatcherMachine.TestCase
TestBatcherMachine.settings = settings(stateful_step_count=40)
TestStagedBatcherMachine = StagedBatcherMachine.TestCase
TestStagedBatcherMachine.settings = settings(stateful_step_count=40)
