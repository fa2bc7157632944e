"""Exactly once over memory: what a `read_committed` reader sees, whatever a transactional call answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import structlog
from prometheus_client import CollectorRegistry

from tests.kit import FakeClock, InlineLanes, StubClassifier, TickingClock, bench
from tests.unit.loops import Heard
from worker import delivery
from worker.memory import MemoryLog, MemoryTransactions
from worker.metrics import Metrics
from worker.ports import AbortNeeded, NotYet, RenewalNeeded

if TYPE_CHECKING:
    from tests.kit import Bench

P0, P1 = ("in", 0), ("in", 1)


class Line:
    """A worker that delivers exactly once, with its topics."""

    def __init__(self, *partitions: int, clock: FakeClock | None = None, **bounds: float) -> None:
        self.log = MemoryLog()
        self.transactions = MemoryTransactions(self.log)
        self.clock = clock or FakeClock()
        self.bench: Bench = bench(
            StubClassifier(), inline=True, log=self.log, transactions=self.transactions, clock=self.clock, **bounds
        )
        self.bench.source.assign(*(("in", number) for number in partitions or (0,)))

    def arrive(self, count: int, partition: int = 0) -> None:
        for _ in range(count):
            number = len(self.log.records["in", partition])
            self.log.append("in", partition, json.dumps({"text": f"message {number}"}).encode())

    def turns(self, count: int = 6) -> None:
        for _ in range(count):
            self.bench.loop.turn()

    def seen(self, partition: int = 0) -> list[int]:
        """Offsets whose results are visible, in the order of the output."""
        sources = [json.loads(o.value or b"")["source"] for o in self.transactions.visible]
        return [source["offset"] for source in sources if source["partition"] == partition]


def test_results_and_offsets_appear_together():
    line = Line(commit_interval=1.0)
    line.arrive(20)
    line.turns()
    assert line.seen() == []
    assert line.log.committed == {}
    line.clock.advance(1.0)
    line.turns(1)
    assert line.seen() == list(range(20))
    assert line.log.committed == {P0: 20}
    assert line.bench.ledger.in_flight == 0


def test_several_batches_share_a_transaction():
    line = Line(commit_interval=1.0)
    for _ in range(5):
        line.arrive(30)
        line.turns(3)
    line.clock.advance(1.0)
    line.turns(1)
    assert line.transactions.transactions == 1
    assert len(line.seen()) == 150


def test_a_skipped_tombstone_alone_moves_the_offset():
    line = Line()
    line.log.append("in", 0, None)
    line.turns()
    assert line.log.committed == {P0: 1}
    assert line.transactions.visible == []


def test_nothing_to_commit_is_no_transaction():
    line = Line()
    line.turns(20)
    assert line.transactions.transactions == 0


@pytest.mark.parametrize("call", ["send", "send_offsets", "commit"])
@pytest.mark.parametrize("raised", [AbortNeeded, RenewalNeeded])
def test_what_a_failed_transaction_held_is_written_again_once(call, raised):
    line = Line()
    line.transactions.failing[call] = [raised]
    line.arrive(30)
    line.turns(12)
    assert line.seen() == list(range(30))
    assert line.log.committed == {P0: 30}
    assert line.transactions.renewals == (raised is RenewalNeeded)


@pytest.mark.parametrize("raised", [AbortNeeded, RenewalNeeded])
def test_what_is_written_again_is_told(raised):
    """The client's own line says that the transaction failed; ours, that it is dealt with, and of how many messages."""
    line = Line(commit_interval=1.0)
    line.transactions.failing["commit"] = [raised]
    line.arrive(30)
    line.turns()
    line.clock.advance(1.0)
    with structlog.testing.capture_logs() as said:
        line.turns()
    assert said[-1] == {
        "event": "a transaction was aborted; what it held is written again",
        "messages": 30,
        "log_level": "info",
    }
    assert len(said) == (1 if raised is AbortNeeded else 2)


@pytest.mark.parametrize("call", ["send_offsets", "commit", "abort", "renew"])
def test_a_call_that_has_not_ended_is_made_again(call):
    line = Line()
    line.transactions.failing[call] = [NotYet]
    if call == "abort":
        line.transactions.failing["commit"] = [AbortNeeded]
    if call == "renew":
        line.transactions.failing["commit"] = [RenewalNeeded]
    line.arrive(10)
    line.turns(12)
    assert line.seen() == list(range(10))
    assert line.log.committed == {P0: 10}


def test_an_abort_that_cannot_be_made_takes_a_new_producer():
    line = Line()
    line.transactions.failing |= {"commit": [AbortNeeded], "abort": [RenewalNeeded]}
    line.arrive(10)
    line.turns(12)
    assert line.seen() == list(range(10))
    assert line.transactions.renewals == 1


def test_a_commit_whose_answer_is_lost_doubles_nothing():
    line = Line()
    line.transactions.unanswered = NotYet
    line.arrive(10)
    line.turns(12)
    line.arrive(5)
    line.turns(12)
    assert line.seen() == list(range(15))


def test_what_is_released_while_a_transaction_ends_waits_for_the_next():
    line = Line()
    line.arrive(10)
    lanes = line.bench.lanes
    assert isinstance(lanes, InlineLanes)
    line.transactions.failing["commit"] = [NotYet]
    line.turns(3)
    line.arrive(10)
    line.turns(12)
    assert line.seen() == list(range(20))
    assert line.transactions.transactions >= 2


def test_waiting_for_the_commit_takes_no_room():
    """The bound on what is in flight is one on work, not on the length of a transaction."""
    line = Line(commit_interval=1.0, in_flight=128)
    line.arrive(1_000)
    line.turns(60)
    line.clock.advance(1.0)
    line.turns(1)
    assert line.seen() == list(range(1_000))


def test_a_transaction_that_is_full_is_committed_before_its_time(monkeypatch):
    monkeypatch.setattr(delivery, "MOST_IN_TRANSACTION", 100)
    line = Line(commit_interval=60.0)
    line.arrive(250)
    line.turns(30)
    assert len(line.seen()) >= 200


def test_brokers_that_do_not_answer_do_not_let_work_grow_without_bound(monkeypatch):
    monkeypatch.setattr(delivery, "MOST_IN_TRANSACTION", 100)
    line = Line(in_flight=128)
    line.arrive(5_000)

    def away(*_: object) -> None:
        raise NotYet

    monkeypatch.setattr(line.transactions, "commit", away)
    line.turns(200)
    assert line.bench.ledger.in_flight <= 100 + 128
    monkeypatch.undo()
    line.turns(400)
    assert line.seen() == list(range(5_000))


# Partitions that go


def test_a_revoke_commits_what_is_done():
    line = Line(0, 1, clock=TickingClock(), commit_interval=60.0)
    line.arrive(10)
    line.arrive(10, 1)
    line.turns()
    line.bench.source.revoke(P0)
    line.turns(1)
    assert line.seen(0) == list(range(10))
    assert line.log.committed[P0] == 10


def test_a_revoke_that_cannot_commit_makes_nothing_of_its_partitions_visible():
    line = Line(0, 1, clock=TickingClock(), commit_interval=60.0)
    line.arrive(10)
    line.arrive(10, 1)
    line.turns()
    line.transactions.failing["send_offsets"] = [AbortNeeded]
    line.bench.source.revoke(P0)
    line.bench.loop.turn()
    line.clock.advance(60)
    line.turns()
    assert line.seen(0) in ([], list(range(10)))
    assert line.log.committed.get(P0, 0) == len(line.seen(0))
    assert line.seen(1) == list(range(10))


def test_lost_partitions_leave_the_transaction():
    line = Line(0, 1, commit_interval=1.0)
    line.arrive(10)
    line.arrive(10, 1)
    line.turns()
    line.bench.source.lose(P0)
    line.turns(2)
    line.clock.advance(1.0)
    line.turns()
    assert line.seen(0) == []
    assert line.seen(1) == list(range(10))
    assert line.log.committed == {P1: 10}


def test_a_member_that_was_thrown_out_commits_nothing():
    """It is no member any more, but has not polled since: offsets sent without a membership would pass."""
    line = Line(commit_interval=1.0)
    line.arrive(10)
    line.turns()
    line.bench.source.lose(P0)
    line.bench.loop._delivery.commit()
    assert line.transactions.visible == []
    line.turns()
    line.clock.advance(1.0)
    line.turns()
    assert line.transactions.visible == []


def test_offsets_that_are_on_their_way_go_with_their_records():
    """The coordinator took them while the partition was ours: to abort now would be as right, but cannot be done."""
    line = Line(commit_interval=1.0)
    line.arrive(10)
    line.turns()
    line.transactions.unanswered = NotYet
    line.clock.advance(1.0)
    line.bench.loop._delivery.commit()
    line.bench.source.lose(P0)
    line.turns()
    assert line.seen() == list(range(10))
    assert line.log.committed == {P0: 10}


def test_what_waits_for_the_next_transaction_goes_with_its_partition():
    """Its offsets are in no transaction that is to come, and whoever has the partition writes it."""
    line = Line(0, 1)
    line.arrive(10)
    line.turns(2)
    line.transactions.failing["commit"] = [NotYet] * 4
    line.bench.loop._delivery.commit()
    line.arrive(5)
    line.bench.loop.turn()
    line.bench.source.lose(P0)
    line.turns(12)
    assert line.log.committed[P0] == len(line.seen(0)) == 10


def test_offsets_of_a_partition_that_has_gone_are_not_sent_again():
    """It had skipped tombstones alone, so nothing of it was written; its next owner has come further since."""
    line = Line(0, 1, commit_interval=1.0)
    line.log.append(*P0, None)
    line.arrive(3, 1)
    line.turns()
    line.transactions.failing["send_offsets"] = [NotYet]
    line.clock.advance(1.0)
    line.bench.loop._delivery.commit()
    line.bench.source.lose(P0)
    line.log.committed[P0] = 500
    line.turns(2)
    line.clock.advance(1.0)
    line.turns()
    assert line.log.committed == {P0: 500, P1: 3}


@pytest.mark.parametrize("first", [[], [NotYet]])
def test_a_commit_that_took_effect_unheard_is_not_written_again(first):
    """The producer is fenced before the answer comes; the group's offsets tell."""
    line = Line(0, 1)
    line.transactions.failing["commit"] = first
    line.transactions.unanswered = RenewalNeeded
    line.arrive(10)
    line.arrive(10, 1)
    line.turns(12)
    assert line.seen(0) == line.seen(1) == list(range(10))
    assert line.log.committed == {P0: 10, P1: 10}
    assert line.transactions.renewals == 1


def test_offsets_that_come_again_are_committed_again():
    """A topic that was truncated under the worker ends where the committed offset was: that says nothing."""
    line = Line()
    line.arrive(10)
    line.turns()
    assert line.log.committed == {P0: 10}
    before = line.transactions.transactions
    line.bench.source.rewind(P0)
    line.turns()
    assert line.bench.ledger.in_flight == 0
    assert line.transactions.transactions > before


def test_many_bytes_end_a_transaction_before_its_time():
    line = Line(commit_interval=60.0, bytes_in_flight=2 << 20)
    for _ in range(40):
        line.log.append(*P0, json.dumps({"text": "x", "more": "y" * 50_000}).encode())
    line.turns(20)
    assert len(line.seen()) >= 20


# The end


def test_a_drain_commits():
    line = Line(clock=TickingClock(), commit_interval=60.0)
    line.arrive(10)
    line.turns(2)
    line.bench.loop.run(lambda: True)
    assert line.seen() == list(range(10))
    assert line.log.committed == {P0: 10}


def test_a_drain_without_brokers_ends_in_time_and_leaves_nothing_half(monkeypatch):
    line = Line(clock=TickingClock(), commit_interval=60.0, drain=0.2)
    line.arrive(10)
    line.turns(2)

    def away(*_: object) -> None:
        raise NotYet

    monkeypatch.setattr(line.transactions, "commit", away)
    line.bench.loop.run(lambda: True)
    assert line.transactions.visible == []
    assert line.log.committed == {}


def test_delivery_is_timed_until_the_transaction_is_committed():
    """From when a result is there, be it written now or in the next transaction, to the commit that makes it count."""
    log, clock, heard = MemoryLog(), FakeClock(), Heard()
    on = bench(
        inline=True, log=log, transactions=MemoryTransactions(log), clock=clock, commit_interval=1.0, observer=heard
    )
    log.append("in", 0, json.dumps({"text": "a message"}).encode())
    on.source.assign(P0)
    for _ in range(3):
        on.loop.turn()
    clock.advance(0.75)
    on.loop.turn()
    assert heard.calls["delivered"] == []
    clock.advance(0.25)
    on.loop.turn()
    assert heard.calls["delivered"] == [(None, 1.0, 1.0)]


def test_lag_series_come_and_go_with_partitions_exactly_once_too():
    """Done counts with the commit of its transaction; what belongs to somebody else has no series."""
    log, clock, registry = MemoryLog(), FakeClock(), CollectorRegistry()
    metrics = Metrics(registry, ["ham", "spam"], clock=clock)
    on = bench(
        inline=True, log=log, transactions=MemoryTransactions(log), clock=clock, commit_interval=2.0, observer=metrics
    )
    for number in (0, 1):
        log.append("in", number, json.dumps({"text": "a message"}).encode())
    on.source.assign(P0, P1)

    def lags(name: str) -> list[float | None]:
        return [registry.get_sample_value(f"winnow_{name}", {"topic": "in", "partition": p}) for p in "01"]

    on.loop.turn()
    for _ in range(2):
        clock.advance(1.0)
        on.loop.turn()
    assert lags("lag_messages") == lags("lag_committed_messages") == [0, 0]
    log.append("in", 0, json.dumps({"text": "another"}).encode())
    clock.advance(1.0)
    on.loop.turn()
    assert (lags("lag_messages"), lags("lag_committed_messages")) == ([1, 0], [1, 0])
    on.source.lose(P0)
    on.loop.turn()
    for name in ("lag_messages", "lag_committed_messages", "lag_seconds", "in_flight_seconds"):
        assert lags(name)[0] is None
        assert lags(name)[1] is not None
