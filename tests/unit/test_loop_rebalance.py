"""The loop over memory: partitions that come and go, and the end."""

from __future__ import annotations

import pytest
import structlog

from tests.kit import FakeClock, TickingClock, bench
from tests.unit.loops import P0, P1, Heard, WatchedSource, fill, inline, offset, turns
from worker.errors import DeliveryError
from worker.health import State
from worker.loop import PAUSE_AFTER
from worker.memory import MemoryLog
from worker.pipeline.batches import CloseReason

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


def test_a_new_assignment_ends_the_count_of_a_pause():
    """Partitions that come are not paused: what was paused until then counts, and nothing after it."""
    clock, heard = FakeClock(), Heard()
    on = bench(inline=True, clock=clock, in_flight=256, observer=heard)
    inline(on).held = True
    fill(on.log, 600)
    on.source.assign(P0)
    turns(on, 30)
    clock.advance(PAUSE_AFTER)
    turns(on, 2)
    assert on.source.paused
    clock.advance(2.0)
    on.loop.assigned([P1])
    clock.advance(0.5)
    turns(on, 1)
    assert sum(seconds for (seconds,) in heard.calls["paused"]) == 2.0


def test_batches_that_a_revoke_closes_say_so():
    """And not that the worker drains, which it does at its end."""
    for end, reason in (("revoke", CloseReason.REBALANCE), ("drain", CloseReason.DRAIN)):
        heard = Heard()
        on = bench(inline=True, lanes=1, observer=heard)
        fill(on.log, 3)
        inline(on).held = True
        on.source.assign(P0)
        turns(on, 1)
        fill(on.log, 3)
        turns(on, 1)
        for _ in range(4):
            fill(on.log, 1, text="more words in one text of its own")
            turns(on, 1)
        inline(on).held = False
        if end == "revoke":
            on.source.revoke(P0)
            turns(on, 1)
        else:
            on.loop.run(lambda: True)
        assert heard.calls["closed"][-1][0].reason is reason


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
