"""The figures between two looks are those of what happened there."""

from __future__ import annotations

import pytest

from tests.unit.watching.looks import Looked
from worker.watching import figures


def working(**options: object) -> Looked:
    """A worker that had 400 messages before it was looked at."""
    looked = Looked(**options)
    looked.scene.assign(3)
    looked.scene.work(400, dead={"invalid-json": 4})
    looked.look()
    return looked


def test_rates_and_mix_are_of_the_time_between():
    """What happened before the first look is not in them."""
    looked = working()
    looked.scene.work(200, dead={"invalid-json": 10})
    view = looked.after(10.0)
    assert (view.rate.consumed, view.rate.delivered) == (21.0, 21.0)
    assert sum(one.count for one in view.labels) == 200
    assert sum(one.share for one in view.labels) == pytest.approx(1.0)
    assert view.labels[0].count >= view.labels[1].count
    assert view.window.seconds == 10.0
    assert not view.window.since_start
    assert view.since_start["consumed"] == 614


def test_the_first_look_is_of_all_since_the_start():
    """Nobody looked before, so that is all that is known."""
    looked = Looked()
    looked.scene.assign(1)
    looked.scene.work(720)
    view = looked.look()
    assert view.window.since_start
    assert view.rate.delivered == pytest.approx(0.2)
    assert view.worker.uptime == 3_600.0


def test_latency_has_quantiles_by_stage_in_the_order_of_the_way():
    """Those stages that were passed, and no others."""
    looked = working()
    looked.scene.work(100, seconds=0.1)
    view = looked.after(5.0)
    assert list(view.stages) == ["decode", "tokenize", "queue", "infer", "encode", "deliver"]
    assert view.inside.messages == 100
    assert 0.05 < view.inside.p50.value < 0.2
    assert view.inside.p50.value <= view.inside.p95.value <= view.inside.p99.value
    assert view.end_to_end.p50.value >= view.inside.p50.value


def test_an_idle_time_has_no_quantiles():
    """And no shares, but no error either."""
    view = working().after(5.0)
    assert (view.inside.p50, view.end_to_end.p99, view.stages) == (None, None, {})
    assert (view.rate.delivered, view.batches.count, view.batches.padding) == (0.0, 0, None)
    assert (view.dead_letters.share, view.cache.hits) == (None, None)


def test_batches_say_how_large_and_why():
    """Buckets as ranges; the shares of the reasons are one together."""
    looked = working()
    looked.scene.work(300)
    batches = looked.after(5.0).batches
    assert sum(bucket.count for bucket in batches.messages) == batches.count
    assert batches.messages[-1].most is None
    assert batches.mean_messages == pytest.approx(300 / batches.count)
    assert sum(one.share for one in batches.closed) == pytest.approx(1.0)
    assert 0 < batches.padding < 1


def test_lag_has_the_worst_partition_first():
    """With its growth, of the partitions that were there all the time."""
    looked = working()
    looked.scene.lag({0: 5, 1: 80, 2: 15})
    looked.look()
    looked.scene.lag({0: 5, 1: 180, 2: 15})
    looked.scene.lag({7: 1000})
    lag = looked.after(20.0).lag
    assert [(one.partition, one.messages) for one in lag.partitions] == [(7, 1000), (1, 180), (2, 15), (0, 5)]
    assert (lag.messages, lag.growth, lag.more) == (1200, 100 / 20, 0)
    assert lag.committed == 1200 + 4 * 3


def test_of_many_partitions_the_last_ones_are_a_number(monkeypatch: pytest.MonkeyPatch):
    """What is sent to the page is bounded; the sum is of all."""
    monkeypatch.setattr(figures, "MOST_PARTITIONS", 10)
    looked = working()
    looked.scene.lag(dict.fromkeys(range(25), 4))
    lag = looked.after(5.0).lag
    assert (len(lag.partitions), lag.more, lag.messages) == (10, 15, 100)


def test_dead_letters_are_by_reason_lately_and_since_the_start():
    """Those of today first; reasons that never were are not listed."""
    looked = working()
    looked.scene.work(90, dead={"missing-field": 10})
    dead = looked.after(5.0).dead_letters
    assert [(one.stage, one.reason, one.count, one.since_start) for one in dead.reasons] == [
        ("decode", "missing-field", 10, 10),
        ("decode", "invalid-json", 0, 4),
    ]
    assert (dead.count, dead.share, dead.since_start) == (10, 0.1, 14)


def test_load_says_what_it_has_of_what_it_may_have():
    """Lanes, messages in flight, memory, cores, pauses."""
    looked = working()
    looked.metrics.paused(4.0)
    looked.metrics.state(17, True, 1)
    load = looked.after(8.0).load
    assert (load.in_flight, load.in_flight_limit, load.lanes, load.lanes_busy) == (17, 2048, 2, 1)
    assert (load.paused, load.paused_share, load.memory_limit_bytes) == (True, 0.5, 1 << 30)
    assert load.memory_bytes > 1 << 20
    assert load.cores is not None


def test_the_cache_says_how_often_it_helped():
    """Of the time between."""
    looked = working()
    looked.metrics.cache(30, 70, 12_345)
    looked.look()
    looked.metrics.cache(90, 110, 23_456)
    cache = looked.after(5.0).cache
    assert (cache.hits, cache.bytes) == (0.6, 23_456)


def test_layers_are_shown_where_texts_leave_early():
    """And not at all of other bundles."""
    assert working().after(1.0).exits == []
    looked = working(exits=(2, 6))
    looked.scene.work(100)
    exits = looked.after(5.0).exits
    assert {one.name for one in exits} == {"2", "6"}
    assert sum(one.count for one in exits) == 100
