"""The loop over memory: through and out, failures, what it tells. No threads, no waiting."""

from __future__ import annotations

import json

import pytest
import structlog

from tests.kit import FakeClock, StubClassifier, TickingClock, bench, says
from tests.unit.loops import DEAD_TOMBSTONE, P0, P1, Heard, WatchedSource, fill, inline, message, offset, reason, turns
from worker.errors import BrokerError, DeliveryError, StageError, TopicError
from worker.loop import POLL_LIMIT
from worker.memory import MemoryLog
from worker.pipeline.breaker import Breaker
from worker.pipeline.lag import Lag
from worker.pipeline.messages import Destination, Forward, Skip

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


def test_results_with_nothing_behind_them_leave_at_once():
    """They wait for no company that cannot come, and are told so once."""
    on = bench(StubClassifier(), inline=True)
    fill(on.log, 3)
    on.source.assign(P0)
    turns(on)
    assert on.sink.flushed == [3]


def test_results_wait_for_company_while_a_text_is_on_its_way():
    """A dead letter is written while the text behind it is with a lane: the result may travel with it."""
    on = bench(StubClassifier(), inline=True)
    on.log.append("in", 0, b"no JSON")
    fill(on.log, 1)
    on.source.assign(P0)
    inline(on).held = True
    turns(on)
    assert (len(on.sink.dead_letters), on.sink.flushed) == (1, [])
    inline(on).held = False
    turns(on)
    assert on.sink.flushed == [2]


def test_what_no_model_sees_waits_for_company_while_polls_are_full():
    """A backlog of dead letters is not written poll by poll; its last ones leave at once."""
    on = bench(StubClassifier(), inline=True)
    for _ in range(3 * POLL_LIMIT + 1):
        on.log.append("in", 0, b"no JSON")
    on.source.assign(P0)
    turns(on)
    assert on.sink.flushed == [3 * POLL_LIMIT + 1]


def test_what_leaves_nothing_behind_is_nothing_to_send():
    on = bench(StubClassifier(), inline=True, tombstone=Skip())
    on.log.append("in", 0, None)
    on.source.assign(P0)
    turns(on)
    assert on.log.committed == {P0: 1}
    assert on.sink.flushed == []


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
        (message("NOTHING"), "no-tokens"),
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
    assert [timestamp for timestamp, *_ in heard.calls["delivered"]] == [None] * 9 + [17]
    for stage in ("decoded", "encoded"):
        assert sum(records for records, _ in heard.calls[stage]) == 10
    assert sum(len(batch.items) for (batch,) in heard.calls["closed"]) == 9
    assert len(heard.calls["ran"]) == len(heard.calls["closed"])
    assert heard.calls["lag"] == [({P0: Lag(0, 0, 17)},)]


def test_stages_are_timed_where_they_happen():
    """Decoding a poll, encoding what is released together, and each message's way to its acknowledgement."""
    clock, heard = TickingClock(tick=1.0), Heard()
    on = bench(inline=True, clock=clock, observer=heard)
    on.sink.acknowledging = False
    fill(on.log, 3)
    on.source.assign(P0)
    on.turn_until(lambda: len(on.sink.sent) == 3)
    clock.advance(100.0)
    on.sink.acknowledging = True
    on.turn_until(lambda: on.log.committed == {P0: 3})
    assert [seconds for _, seconds in (*heard.calls["decoded"], *heard.calls["encoded"])] == [1.0, 1.0]
    for _, since_polled, since_handed_over in heard.calls["delivered"]:
        assert 100.0 < since_handed_over < since_polled < 200.0


def test_lag_tells_what_is_done_and_what_is_committed_apart():
    """A commit that is refused does not count, the messages are done with all the same."""
    clock, heard = FakeClock(), Heard()
    on = bench(inline=True, clock=clock, observer=heard)
    fill(on.log, 4)
    on.source.refusing = True
    on.source.assign(P0)
    turns(on, 4)
    fill(on.log, 1)
    inline(on).held = True
    clock.advance(1.0)
    turns(on, 1)
    on.source.refusing = False
    clock.advance(1.0)
    turns(on, 1)
    assert heard.calls["lag"] == [({P0: Lag(1, 5, None, 0.0)},), ({P0: Lag(1, 1, None, 1.0)},)]


def test_texts_cut_by_characters_are_counted_and_marked():
    """A text cut before tokenizing is marked truncated in its result and counted."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    on.log.append("in", 0, message("a" * 5_000))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 1})
    assert json.loads(on.sink.results[0].value or b"")["truncated"] is True
    assert [result.truncated for (result,) in heard.calls["result"]] == [True]


def test_positions_that_were_deleted_are_told_once():
    """Once a second metrics hear how many more there are; the log says what that means."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    with structlog.testing.capture_logs() as logged:
        for resets in (0, 2, 2, 3):
            on.source.resets = resets
            on.clock.advance(1.0)
            on.loop.turn()
    assert heard.calls["reset"] == [(2,), (1,)]
    assert [line["times"] for line in logged] == [2, 1]


def test_brokers_that_go_and_come_back_are_told():
    """Once a second health and metrics hear whether a broker is there; the log, when that changes."""
    heard = Heard()
    on = bench(inline=True, observer=heard)
    with structlog.testing.capture_logs() as logged:
        for connected in (True, False, False, True):
            on.source.connected = connected
            on.clock.advance(1.0)
            on.loop.turn()
            assert on.health.connected is connected
    assert heard.calls["connected"] == [(True,), (False,), (False,), (True,)]
    assert [line["event"] for line in logged] == [
        "no broker is there; waiting for them",
        "the brokers are there again",
    ]


def test_too_many_refusals_halt_the_worker_and_lose_nothing():
    """What it has in flight is finished and committed; what comes after is read by the next."""
    on = bench(inline=True, breaker=Breaker(20, 0.5, 10), clock=TickingClock(), commit_interval=60.0)
    on.source.assign(P0)
    for _ in range(500):
        on.log.append(*P0, b"{")
    with pytest.raises(TopicError, match="'invalid-json'"):
        on.loop.run(lambda: False)
    assert on.source.closed
    assert on.log.committed[P0] == len(on.sink.dead_letters) < 500


def test_few_refusals_halt_nothing():
    on = bench(inline=True, breaker=Breaker(20, 0.5, 10))
    on.source.assign(P0)
    for _ in range(30):
        fill(on.log, 1)
        on.log.append(*P0, b"{")
    on.turn_until(lambda: on.log.committed == {P0: 60})
