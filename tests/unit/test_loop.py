"""The loop over memory: order, commit, backpressure, rebalance, drain, failures. No threads, no waiting."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.kit import FakeClock, InlineLanes, StubClassifier, TickingClock, bench, in_windows, says
from worker.errors import BrokerError, DeliveryError, StageError
from worker.health import State
from worker.loop import PAUSE_AFTER, POLL_LIMIT
from worker.memory import MemoryLog, MemorySource
from worker.pipeline.messages import Destination, Forward, Outgoing, Rejection, Skip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.kit import Bench
    from worker.pipeline.messages import Partition

P0, P1 = ("in", 0), ("in", 1)
DEAD_TOMBSTONE = Rejection("decode", "tombstone", "The message has no value.", "InvalidMessage")


def message(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def fill(log: MemoryLog, count: int, partition: int = 0, text: str = "message") -> None:
    for _ in range(count):
        log.append("in", partition, message(f"{text} {len(log.records['in', partition])}"))


def offset(outgoing: Outgoing) -> int:
    if outgoing.destination is Destination.DEAD_LETTER:
        return int(dict(outgoing.headers)["__connect.errors.offset"] or b"")
    return json.loads(outgoing.value or b"")["source"]["offset"]


def reason(outgoing: Outgoing) -> str:
    return (dict(outgoing.headers)["winnow.errors.reason"] or b"").decode()


def turns(on: Bench, count: int = 10) -> None:
    for _ in range(count):
        on.loop.turn()


def inline(of: Bench) -> InlineLanes:
    assert isinstance(of.lanes, InlineLanes)
    return of.lanes


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple]] = defaultdict(list)

    def __getattr__(self, name: str):
        return lambda *arguments: self.calls[name].append(arguments)


class WatchedSource(MemorySource):
    """Remembers what was committed, and whether it waited."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.commits: list[tuple[dict[Partition, int], bool]] = []

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        self.commits.append((dict(offsets), wait))
        super().commit(offsets, wait=wait)


# Through and out


def test_messages_come_out_in_order_with_what_the_model_says_and_are_committed():
    """Each message becomes one result, per partition in offset order, then its offset is committed."""
    on = bench(inline=True)
    fill(on.log, 200, 0)
    fill(on.log, 100, 1, "another rather longer message")
    on.source.assign(P0, P1)
    on.turn_until(lambda: on.log.committed == {P0: 200, P1: 100})
    for partition, count in ((P0, 200), (P1, 100)):
        mine = [o for o in on.sink.results if o.source == partition]
        assert [offset(o) for o in mine] == list(range(count))
    said = json.loads(on.sink.results[0].value or b"")
    assert (said["label"], said["score"]) == says("message 0")[:2]


def test_batches_that_finish_out_of_order_do_not_change_the_order():
    """Lanes that finish the newest batch first change nothing in the output."""
    on = bench(inline=True, lanes=4)
    inline(on).newest_first = True
    for number in range(300):
        on.log.append("in", 0, message("word " * (1 + number % 23)))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 300})
    assert [offset(o) for o in on.sink.results] == list(range(300))


def test_threads_keep_the_order_too():
    """With real lanes, output order is input order in every partition and nothing is lost or doubled."""
    on = bench(clock=TickingClock(), lanes=3)
    for number in range(600):
        on.log.append("in", number % 3, message("word " * (1 + number % 17)))
    on.source.assign(P0, P1, ("in", 2))
    on.turn_until(lambda: sum(on.log.committed.values()) == 600)
    for partition in range(3):
        mine = [offset(o) for o in on.sink.results if o.source == ("in", partition)]
        assert mine == list(range(200))
    on.lanes.close(10)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{", "invalid-json"),
        (b"\xff", "invalid-utf8"),
        (message("poison"), "model-error"),
        (message("UNTOKENIZABLE"), "tokenizer-error"),
    ],
)
def test_a_bad_message_is_one_dead_letter_and_its_neighbours_have_results(bad: bytes, why: str):
    """Whatever is wrong with one message, its neighbours in the same poll and batch are classified."""

    def before(texts: list[str]) -> None:
        if "poison" in texts:
            raise RuntimeError

    on = bench(StubClassifier(before), inline=True)
    fill(on.log, 5)
    on.log.append("in", 0, bad)
    fill(on.log, 5)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 11})
    assert [(offset(o), reason(o), o.value) for o in on.sink.dead_letters] == [(5, why, bad)]
    assert [offset(o) for o in on.sink.results] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert [offset(o) for o in on.sink.sent] == list(range(11))


@pytest.mark.parametrize(("policy", "written"), [(Skip(), 0), (Forward(), 1), (DEAD_TOMBSTONE, 1)])
def test_tombstones_are_treated_as_the_settings_say(policy: object, written: int):
    """Skipped, forwarded or dead-lettered, in order with its neighbours; counted and committed in each case."""
    heard = Heard()
    on = bench(inline=True, tombstone=policy, observer=heard)
    fill(on.log, 1)
    on.log.append("in", 0, None, key=b"k")
    fill(on.log, 1)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 3})
    assert len(on.sink.sent) == 2 + written
    assert len(heard.calls["tombstone"]) == 1
    if written:
        passed = on.sink.sent[1]
        assert (passed.key, passed.value) == (b"k", None)
        assert (passed.destination is Destination.OUTPUT) == isinstance(policy, Forward)


def test_skipped_messages_alone_move_the_commit():
    """A partition of nothing but skipped tombstones is committed, so lag does not grow."""
    on = bench(inline=True)
    for _ in range(5):
        on.log.append("in", 0, None)
    on.source.assign(P0)
    turns(on)
    assert on.log.committed == {P0: 5}
    assert on.sink.sent == []


def test_a_log_made_anew_is_read_whole_and_the_commit_follows_it_down():
    """Of a topic made anew under us every message has its result, behind what was in flight; the observer hears."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    fill(on.log, 6)
    on.source.assign(P0)
    turns(on)
    assert on.log.committed == {P0: 6}
    inline(on).held = True
    fill(on.log, 2)
    turns(on)
    on.log.records[P0][:] = []
    fill(on.log, 3, text="anew")
    on.source.rewind(P0, 0)
    turns(on)
    assert on.log.committed == {P0: 6}
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 3})
    assert [offset(o) for o in on.sink.results] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]
    assert json.loads(on.sink.results[-1].value or b"")["score"] == says("anew 2").score
    assert heard.calls["rewound"] == [(1,)]


def test_after_a_rewind_a_drain_without_acknowledgements_commits_the_way_back():
    """A worker that stops before a new log's messages are acknowledged leaves an offset that skips none of them."""
    on = bench(inline=True, clock=TickingClock(), drain=0.2, commit_interval=1.0)
    fill(on.log, 6)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 6})
    on.sink.acknowledging = False
    on.log.records[P0][:] = []
    fill(on.log, 3, text="anew")
    on.source.rewind(P0, 0)
    turns(on, 3)
    on.loop.run(lambda: True)
    assert on.log.committed == {P0: 0}


def test_headers_that_cannot_be_read_make_a_dead_letter():
    """A record whose header names are not UTF-8 is a dead letter with its value; its neighbours are classified."""
    on = bench(inline=True)
    fill(on.log, 3)
    on.log.records[P0][1] = on.log.records[P0][1]._replace(headers_unreadable=True)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 3})
    (dead,) = on.sink.dead_letters
    assert (offset(dead), reason(dead), dead.value) == (1, "invalid-headers", message("message 1"))
    assert [offset(o) for o in on.sink.results] == [0, 2]


# Commit


def test_nothing_is_committed_before_it_is_acknowledged():
    """Results that were handed over but not acknowledged hold their offsets back."""
    on = bench(inline=True)
    on.sink.acknowledging = False
    fill(on.log, 10)
    on.source.assign(P0)
    turns(on, 30)
    assert len(on.sink.results) == 10
    assert on.log.committed == {}
    on.sink.acknowledge(4)
    turns(on, 1)
    assert on.log.committed == {P0: 4}


def test_commits_keep_their_interval_and_do_not_wait():
    """Between two commits lies the interval, by the injected clock; a commit on the way does not block."""
    clock, log = FakeClock(), MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, clock=clock, log=log, source=source, commit_interval=1.0)
    fill(log, 3)
    source.assign(P0)
    turns(on)
    assert source.commits == []
    clock.advance(1.0)
    turns(on)
    assert source.commits == [({P0: 3}, False)]
    fill(log, 1)
    turns(on)
    assert len(source.commits) == 1
    clock.advance(1.0)
    turns(on)
    assert source.commits[1:] == [({P0: 4}, False)]


def test_a_refused_commit_is_tried_again_though_nothing_new_comes():
    """What the group refused to commit is committed once it is allowed, at the next interval, without news."""
    clock, log = FakeClock(), MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, clock=clock, log=log, source=source, commit_interval=1.0)
    fill(log, 3)
    source.assign(P0)
    source.refusing = True
    turns(on)
    for attempts in (1, 2):
        clock.advance(1.0)
        turns(on)
        assert source.commits == [({P0: 3}, False)] * attempts
        assert log.committed == {}
    source.refusing = False
    turns(on)
    assert log.committed == {}
    clock.advance(1.0)
    turns(on)
    assert log.committed == {P0: 3}
    clock.advance(1.0)
    turns(on)
    assert len(source.commits) == 3


def test_a_restart_goes_on_after_the_last_commit_and_repeats_byte_for_byte():
    """What was written but not committed comes again after a crash, identical to the byte."""
    on = bench(inline=True)
    fill(on.log, 20)
    on.source.assign(P0)
    on.sink.acknowledging = False
    turns(on, 30)
    on.sink.acknowledge(7)
    turns(on, 1)
    again = bench(inline=True, log=on.log)
    again.source.assign(P0)
    again.turn_until(lambda: on.log.committed == {P0: 20})
    assert again.sink.sent == on.sink.sent[7:]


# Failures


def test_a_delivery_failure_ends_the_worker_with_nothing_committed_past_it():
    """A result that cannot be written is fatal, and its offset stays uncommitted."""
    on = bench(inline=True)
    on.sink.acknowledging = False
    fill(on.log, 10)
    on.source.assign(P0)
    turns(on)
    on.sink.acknowledge(4)
    turns(on, 1)
    on.sink.failing = "message too large"
    with pytest.raises(DeliveryError, match="message too large"):
        turns(on)
    assert on.log.committed == {P0: 4}


def test_the_death_of_a_lane_ends_the_worker_with_nothing_committed():
    """A model that no longer works at all blames no message: no dead letter, no commit, a `StageError`."""

    def before(texts: list[str]) -> None:
        raise MemoryError

    on = bench(StubClassifier(before), inline=True)
    fill(on.log, 5)
    on.source.assign(P0)
    with pytest.raises(StageError):
        turns(on)
    assert on.sink.sent == []
    assert on.log.committed == {}


def test_the_watchdog_looks_on_every_turn_and_while_draining(monkeypatch: pytest.MonkeyPatch):
    """A run that hangs is seen while the loop turns, and while it waits for the last results."""
    on = bench(inline=True, clock=TickingClock())
    looked: list[int] = []
    monkeypatch.setattr(on.lanes, "watch", lambda: looked.append(1))
    inline(on).held = True
    fill(on.log, 5)
    on.source.assign(P0)
    turns(on, 3)
    assert len(looked) == 3

    def give_up() -> None:
        raise StageError("A run of the model has not ended.")

    monkeypatch.setattr(on.lanes, "watch", give_up)
    with pytest.raises(StageError):
        on.loop.run(lambda: True)
    assert on.log.committed == {}


def test_a_failure_while_revoking_surfaces():
    """What fails inside the source's callbacks ends the worker as it does outside of them."""
    on = bench(inline=True, clock=TickingClock())
    inline(on).held = True
    fill(on.log, 5)
    on.source.assign(P0)
    turns(on)
    inline(on).held = False
    on.sink.failing = "gone"
    on.source.revoke(P0)
    with pytest.raises(DeliveryError):
        turns(on)
    assert on.log.committed == {}


def test_a_fatal_error_of_the_source_ends_the_run():
    """What the source raises leaves `run`, and nothing is drained or committed after it."""
    log = MemoryLog()

    class Refusing(WatchedSource):
        def poll(self, limit: int, timeout: float):
            raise BrokerError("Access denied.")

    source = Refusing(log)
    on = bench(inline=True, log=log, source=source)
    with pytest.raises(BrokerError):
        on.loop.run(lambda: False)
    assert source.commits == []


# Backpressure


def full(on: Bench, count: int = 2_000) -> None:
    inline(on).held = True
    fill(on.log, count)
    on.source.assign(P0)
    turns(on, 40)


def test_work_in_flight_never_exceeds_its_bound():
    """However many messages wait and however long lanes take, no more are taken in than the bound."""
    on = bench(inline=True, in_flight=256)
    full(on)
    assert 256 - POLL_LIMIT < on.ledger.in_flight <= 256


def test_bytes_in_flight_are_bounded_up_to_one_poll():
    """Large messages reach the bound in bytes before that in number; beyond it goes at most one poll."""
    on = bench(inline=True, bytes_in_flight=100_000)
    inline(on).held = True
    for _ in range(500):
        on.log.append("in", 0, message("x" * 1_000))
    on.source.assign(P0)
    turns(on, 30)
    size = len(message("x" * 1_000))
    assert 100_000 <= on.ledger.bytes_in_flight < 100_000 + POLL_LIMIT * size


def test_partitions_pause_after_a_while_without_room_and_resume_with_it():
    """A short congestion is waited out; a lasting one pauses, and polling goes on; room resumes without loss."""
    clock = FakeClock()
    heard = Heard()
    on = bench(inline=True, clock=clock, in_flight=256, observer=heard)
    full(on, 600)
    assert not on.source.paused
    clock.advance(PAUSE_AFTER - 0.01)
    turns(on, 1)
    assert not on.source.paused
    clock.advance(0.01)
    turns(on, 3)
    assert on.source.paused
    assert heard.calls["state"][-1][1] is True
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 600})
    assert not on.source.paused
    assert [offset(o) for o in on.sink.results] == list(range(600))


def test_a_paused_worker_still_polls():
    """While paused, the source is asked on every turn, so that the group keeps this member."""
    log, polls = MemoryLog(), []

    class Counting(MemorySource):
        def poll(self, limit: int, timeout: float):
            polls.append((self.paused, timeout))
            return super().poll(limit, timeout)

    clock = FakeClock()
    on = bench(inline=True, clock=clock, log=log, source=Counting(log), in_flight=128)
    full(on)
    clock.advance(PAUSE_AFTER)
    turns(on, 1)
    polls.clear()
    turns(on, 5)
    assert polls == [(True, 0.0)] * 5


def test_an_assignment_while_paused_admits_at_most_one_poll_and_pauses_again():
    """A new assignment ends the pause; one poll may come through before partitions are paused again."""
    clock = FakeClock()
    on = bench(inline=True, clock=clock, in_flight=256)
    full(on)
    clock.advance(PAUSE_AFTER)
    turns(on, 2)
    assert on.source.paused
    fill(on.log, 500, 1)
    on.source.assign(P1)
    turns(on, 5)
    assert on.source.paused
    assert on.ledger.in_flight <= 256 + POLL_LIMIT


# Rebalancing


def test_revoking_finishes_what_is_in_flight_and_commits_it():
    """Within the budget, all that was taken in of a revoked partition is written, acknowledged, committed, in wait."""
    log = MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, clock=TickingClock(), log=log, source=source, commit_interval=1e9)
    inline(on).held = True
    fill(log, 30)
    source.assign(P0)
    turns(on)
    inline(on).held = False
    source.revoke(P0)
    turns(on, 1)
    assert source.commits == [({P0: 30}, True)]
    assert len(on.sink.results) == 30
    assert on.ledger.in_flight == 0


def test_a_revoke_whose_budget_ends_commits_the_settled_prefix():
    """What is not acknowledged in time is given up and not committed; its late acknowledgement changes nothing."""
    heard = Heard()
    on = bench(inline=True, clock=TickingClock(), commit_interval=1e9, revoke=0.2, observer=heard)
    on.sink.acknowledging = False
    fill(on.log, 10)
    on.source.assign(P0)
    turns(on)
    on.sink.acknowledge(4)
    on.source.revoke(P0)
    turns(on, 1)
    assert on.log.committed == {P0: 4}
    kind, assigned, given_up, seconds = heard.calls["rebalanced"][-1]
    assert (kind, assigned, given_up) == ("revoked", [], 6)
    assert 0.2 <= seconds < 0.3
    on.sink.acknowledge()
    turns(on)
    assert on.log.committed == {P0: 4}
    assert on.ledger.in_flight == 0


def test_a_lost_partition_is_committed_by_nobody_here():
    """Of a lost partition nothing is finished, written or committed, not even what was acknowledged."""
    log = MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, log=log, source=source, commit_interval=1e9)
    inline(on).held = True
    fill(log, 5, 0)
    fill(log, 5, 1)
    source.assign(P0, P1)
    turns(on)
    source.lose(P0)
    inline(on).held = False
    turns(on)
    assert {o.source for o in on.sink.sent} == {P1}
    on.loop.run(lambda: True)
    assert source.commits == [({P1: 5}, True)]


def test_messages_still_waiting_for_a_batch_leave_with_their_partition():
    """After a loss, the batcher holds nothing of the partition, so no lane works for somebody else."""
    on = bench(inline=True, lanes=1)
    inline(on).held = True
    fill(on.log, 60, 0)
    fill(on.log, 3, 1)
    on.source.assign(P0, P1)
    turns(on)
    assert len(on.batcher) > 3
    on.source.lose(P0)
    turns(on, 1)
    assert len(on.batcher) <= 3


def test_a_partition_that_comes_back_is_read_from_its_commit():
    """After a loss and a new assignment, everything uncommitted comes again, in order."""
    on = bench(inline=True)
    on.sink.acknowledging = False
    fill(on.log, 6)
    on.source.assign(P0)
    turns(on)
    on.sink.acknowledge(2)
    turns(on, 1)
    on.source.lose(P0)
    turns(on, 1)
    on.sink.acknowledging = True
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 6})
    assert [offset(o) for o in on.sink.results] == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]


def test_health_and_observer_hear_of_the_assignment():
    """The first assignment makes the worker ready, be it empty; each change tells the partitions it has now."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    assert on.health.state is State.STARTING
    on.source.assign()
    turns(on, 1)
    assert (on.health.state, on.health.partitions) == (State.READY, 0)
    on.source.assign(P0, P1)
    on.source.revoke(P1)
    turns(on, 1)
    assert on.health.partitions == 1
    assert [call[:2] for call in heard.calls["rebalanced"]] == [
        ("assigned", []),
        ("assigned", [P0, P1]),
        ("revoked", [P0]),
    ]


# Draining


def test_draining_finishes_commits_and_leaves():
    """Told to stop, the loop finishes what it took in, commits in wait, and closes its source."""
    log = MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, clock=TickingClock(), log=log, source=source, commit_interval=1e9)
    inline(on).held = True
    fill(log, 50)
    source.assign(P0)
    turns(on, 1)
    taken = on.ledger.in_flight
    inline(on).held = False
    on.loop.run(lambda: True)
    assert source.commits == [({P0: taken}, True)]
    assert source.closed
    assert on.health.state is State.DRAINING
    assert on.ledger.in_flight == 0


def test_draining_keeps_its_budget():
    """Lanes that never come back do not hold the shutdown longer than the budget; nothing unfinished is committed."""
    clock = TickingClock()
    on = bench(inline=True, clock=clock, drain=2.0)
    inline(on).held = True
    fill(on.log, 20)
    on.source.assign(P0)
    turns(on)
    began = clock.now
    on.loop.run(lambda: True)
    assert 2.0 <= clock.now - began < 2.1
    assert on.log.committed == {}
    assert on.source.closed


@pytest.mark.parametrize(("acknowledged", "warnings"), [(12, [8]), (20, [])])
def test_a_drain_that_runs_out_of_budget_says_how_much_it_gave_up(acknowledged: int, warnings: list[int]):
    """What will be delivered again is counted in a warning; a drain that finishes everything warns of nothing."""
    on = bench(inline=True, clock=TickingClock(), drain=0.2)
    on.sink.acknowledging = False
    fill(on.log, 20)
    on.source.assign(P0)
    on.turn_until(lambda: len(on.sink.sent) == 20)
    on.sink.acknowledge(acknowledged)
    with structlog.testing.capture_logs() as said:
        on.loop.run(lambda: True)
    assert [entry["messages"] for entry in said if entry["log_level"] == "warning"] == warnings
    assert on.log.committed == {P0: acknowledged}


def test_a_delivery_failure_while_draining_is_fatal():
    """A drain that cannot write does not end as if all were well, and commits nothing past the failure."""
    on = bench(inline=True, clock=TickingClock())
    inline(on).held = True
    fill(on.log, 5)
    on.source.assign(P0)
    turns(on)
    inline(on).held = False
    on.sink.failing = "gone"
    with pytest.raises(DeliveryError):
        on.loop.run(lambda: True)
    assert on.log.committed == {}


def test_stopping_takes_nothing_more_in():
    """Once told to stop, the loop polls no more."""
    on = bench(inline=True, clock=TickingClock())
    fill(on.log, 5)
    on.source.assign(P0)
    on.loop.run(lambda: True)
    assert on.sink.sent == []
    assert on.log.committed == {}


# Telling


def test_the_observer_is_told_of_everything_once():
    """Consumed, results, dead letters and acknowledgements add up; lag is end minus position."""
    clock, heard = FakeClock(), Heard()
    on = bench(inline=True, clock=clock, observer=heard)
    fill(on.log, 9)
    on.log.append("in", 0, b"{", timestamp=17)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 10})
    clock.advance(1.0)
    turns(on, 1)
    assert sum(count for (count,) in heard.calls["consumed"]) == 10
    assert len(heard.calls["result"]) == 9
    assert [rejection.reason for (rejection,) in heard.calls["dead_letter"]] == ["invalid-json"]
    assert [timestamp for timestamp, _ in heard.calls["delivered"]] == [None] * 9 + [17]
    assert sum(len(batch.items) for (batch,) in heard.calls["closed"]) == 9
    assert len(heard.calls["ran"]) == len(heard.calls["closed"])
    assert heard.calls["lag"] == [({P0: 0},)]


def test_texts_cut_by_characters_are_counted_and_marked():
    """A text cut before tokenizing is marked truncated in its result and counted."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    on.log.append("in", 0, message("a" * 5_000))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 1})
    assert json.loads(on.sink.results[0].value or b"")["truncated"] is True
    assert sum(truncated for _, truncated, _ in heard.calls["tokenized"]) == 1


# Long texts


def runs_until(on: Bench, model: StubClassifier, done: Callable[[], bool]) -> int:
    """Turns the loop until then. Returns how many runs of the model that took."""
    before = len(model.runs)
    on.turn_until(done)
    return len(model.runs) - before


def test_a_text_of_twenty_pages_does_not_hold_up_short_messages():
    """Short messages that come while a long text is read have their results after a few runs, not after all its own."""
    model, windows = StubClassifier(), in_windows(longest=62, limit=4)
    on = bench(model, inline=True, clock=TickingClock(tick=1e-5), windows=windows, max_characters=100_000)
    on.log.append("in", 0, message("words " * 12_000))
    on.source.assign(P0, P1)
    on.turn_until(lambda: len(model.runs) >= 10)
    taken = []
    for _ in range(5):
        fill(on.log, 8, 1)
        expected = len(on.log.records[P1])
        taken.append(runs_until(on, model, lambda: len(on.sink.results) == expected))  # noqa: B023 - called at once
    assert max(taken) <= 12
    assert not [o for o in on.sink.results if o.source == P0]
    on.turn_until(lambda: on.log.committed == {P0: 1, P1: 40})
    (long,) = [json.loads(o.value or b"") for o in on.sink.results if o.source == P0]
    assert (long["tokens"], long["windows"], long["truncated"]) == (12_002, 215, False)


def test_long_texts_are_read_a_few_windows_at_a_time():
    """However many long texts wait, no more windows are out than the bound, so neither batches nor scores pile up."""
    windows = in_windows(limit=3)
    on = bench(inline=True, clock=TickingClock(), windows=windows)
    inline(on).held = True
    for _ in range(50):
        on.log.append("in", 0, message("words " * 300))
    on.source.assign(P0)
    turns(on)
    assert windows.out == 3
    assert len(on.batcher) + on.lanes.pending <= 3
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 50})
    assert windows.out == 0


def test_a_long_text_with_a_bad_window_is_one_dead_letter():
    """Whatever its other windows say, before or after: one dead letter, and its neighbours have results."""

    def before(texts: list[str]) -> None:
        if any(text.startswith("poison") for text in texts):
            raise RuntimeError

    on = bench(StubClassifier(before), inline=True, clock=TickingClock(), windows=in_windows())
    for text in ("word " * 100, "poison " * 100, "word " * 100, "short"):
        on.log.append("in", 0, message(text))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 4})
    assert [(offset(o), reason(o)) for o in on.sink.dead_letters] == [(1, "model-error")]
    assert [offset(o) for o in on.sink.sent] == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["revoke", "lose"])
def test_a_long_text_whose_partition_has_gone_is_read_no_further(how: str):
    """Its windows leave the batcher, no more are fed, and those in the lanes count for nobody."""
    model, windows = StubClassifier(), in_windows(limit=4)
    on = bench(model, inline=True, clock=TickingClock(), windows=windows, revoke=0.01)
    inline(on).held = True
    on.log.append("in", 0, message("words " * 300))
    on.log.append("in", 1, message("words " * 300))
    on.source.assign(P0, P1)
    turns(on)
    getattr(on.source, how)(P0)
    turns(on, 1)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P1: 1})
    assert len(model.runs) <= 4 + 12
    assert {o.source for o in on.sink.sent} == {P1}
    assert windows.out == 0


@pytest.mark.parametrize("how", ["revoke", "lose"])
def test_long_texts_of_partitions_that_have_gone_are_not_kept(how: str):
    """However often partitions come and go behind a long text that is still read, no more is held than is in flight."""
    windows = in_windows(limit=4)
    on = bench(inline=True, clock=TickingClock(), windows=windows, revoke=0.01)
    inline(on).held = True
    on.log.append("in", 0, message("words " * 300))
    on.source.assign(P0)
    turns(on)
    alone = windows.bytes
    for _ in range(20):
        on.log.append("in", 1, message("words " * 300))
    for _ in range(3):
        on.source.assign(P1)
        turns(on)
        assert windows.bytes == 21 * alone
        getattr(on.source, how)(P1)
        turns(on, 1)
        assert (on.ledger.in_flight, windows.bytes) == (1, alone)


def test_token_ids_of_long_texts_count_as_bytes_in_flight():
    """Texts of short words have more bytes of ids than of text; the bound is one on both."""
    windows = in_windows(limit=3)
    on = bench(inline=True, windows=windows, bytes_in_flight=100_000)
    inline(on).held = True
    value = message("w " * 300)
    for _ in range(500):
        on.log.append("in", 0, value)
    on.source.assign(P0)
    turns(on, 30)
    each = len(value) + 4 * 302
    assert 100_000 <= on.ledger.bytes_in_flight + windows.bytes < 100_000 + POLL_LIMIT * each
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 500})
    assert windows.bytes == 0


def test_a_long_text_is_the_same_again_after_a_restart():
    """Windows that finish in another order give the same bytes."""
    on = bench(inline=True, clock=TickingClock(), windows=in_windows(), lanes=3)
    inline(on).newest_first = True
    on.sink.acknowledging = False
    for words in (100, 3, 200, 57):
        on.log.append("in", 0, message("words " * words))
    on.source.assign(P0)
    on.turn_until(lambda: len(on.sink.sent) == 4)
    again = bench(inline=True, clock=TickingClock(), log=on.log, windows=in_windows(limit=1))
    again.source.assign(P0)
    again.turn_until(lambda: on.log.committed == {P0: 4})
    assert again.sink.sent == on.sink.sent


def test_long_texts_are_tokenized_a_few_at_a_time_and_the_lanes_go_on_meanwhile():
    """A poll of long texts does not keep the lanes waiting until all of them are tokenized."""
    heard = Heard()
    on = bench(inline=True, observer=heard, max_characters=100_000, windows=in_windows(longest=62))
    for _ in range(6):
        on.log.append("in", 0, message("short"))
        on.log.append("in", 0, message("words " * 5_000))
    on.source.assign(P0)
    turns(on, 1)
    assert [records for records, _, _ in heard.calls["tokenized"]] == [5, 4, 3]
    on.turn_until(lambda: on.log.committed == {P0: 12})
