"""The loop over memory: what is committed when, and what happens without room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import FakeClock, bench
from tests.unit.loops import P0, P1, Heard, WatchedSource, fill, inline, message, offset, turns
from worker.loop import LAST_COMMITS, PAUSE_AFTER, POLL_LIMIT
from worker.memory import MemoryLog, MemorySource
from worker.pipeline.lag import Lag

if TYPE_CHECKING:
    from tests.kit import Bench


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


def test_with_a_backlog_commits_have_an_interval_of_their_own():
    """From the moment there was no room until a second after the last such moment."""
    clock, log = FakeClock(), MemoryLog()
    source = WatchedSource(log)
    on = bench(
        inline=True, clock=clock, log=log, source=source, commit_interval=1.0, commit_interval_behind=5.0, in_flight=128
    )
    on.sink.acknowledging = False
    fill(log, 200)
    source.assign(P0)
    turns(on)
    on.sink.acknowledge(100)
    clock.advance(1.0)
    turns(on)
    assert source.commits == [], "it has no room: the interval is the longer one"
    clock.advance(4.0)
    turns(on)
    assert [offsets for offsets, _ in source.commits] == [{P0: 100}]
    on.sink.acknowledging = True
    turns(on)
    clock.advance(1.1)
    turns(on)
    assert source.commits[-1] == ({P0: 200}, False), "a second later the shorter one holds again"


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


def test_commits_count_once_they_took_effect():
    """Those that are refused, again and again, do not: an alert goes by commits that stand still."""
    clock, heard = FakeClock(), Heard()
    on = bench(inline=True, clock=clock, commit_interval=1.0, observer=heard)
    on.source.refusing = True
    fill(on.log, 4)
    on.source.assign(P0)
    for _ in range(5):
        turns(on, 2)
        clock.advance(1.0)
    assert heard.calls["committed"] == []
    assert heard.calls["lag"][-1] == ({P0: Lag(0, 4, None)},)
    on.source.refusing = False
    turns(on, 2)
    assert heard.calls["committed"] == [({P0: 4},)]
    on.loop.committed({})
    assert len(heard.calls["committed"]) == 1


class _Rebalancing(WatchedSource):
    """Refuses commits until it has been polled so often, as a group does whose members have to join again."""

    def __init__(self, log: MemoryLog, polls: int) -> None:
        super().__init__(log)
        self.polls = polls

    def poll(self, limit, timeout):
        if self.refusing:
            self.polls -= 1
            self.refusing = self.polls > 0
        return super().poll(limit, timeout)


def test_the_last_commit_waits_for_the_end_of_a_rebalance():
    """A worker that drains while its group rebalances commits once that has ended, and takes nothing more in."""
    log = MemoryLog()
    source = _Rebalancing(log, polls=3)
    on = bench(inline=True, clock=FakeClock(), log=log, source=source, commit_interval=60.0)
    fill(log, 3)
    source.assign(P0)
    turns(on)
    fill(log, 2)
    source.refusing = True
    on.loop.run(lambda: True)
    assert log.committed == {P0: 3}
    assert len(source.commits) == 4
    assert len(on.sink.results) == 3


def test_a_last_commit_that_stays_refused_is_given_up():
    """Nobody is waited for for ever: the messages will be delivered again."""
    log = MemoryLog()
    source = WatchedSource(log)
    on = bench(inline=True, clock=FakeClock(), log=log, source=source, commit_interval=60.0)
    fill(log, 3)
    source.assign(P0)
    turns(on)
    source.refusing = True
    on.loop.run(lambda: True)
    assert log.committed == {}
    assert len(source.commits) == LAST_COMMITS
    assert source.closed


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
    clock.advance(3.0)
    turns(on, 1)
    clock.advance(0.5)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 600})
    assert not on.source.paused
    assert sum(seconds for (seconds,) in heard.calls["paused"]) == 3.5
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
