"""Faults 5 to 8: workers that are told to end, that stand still, and one that comes back from the dead."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.size import PROTOCOLS, pick, protocols
from tests.faults.stage import EXACTLY_ONCE, TRANSACTION_SECONDS
from worker.errors import BrokerError

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

DRAINED_WITHIN = 20.0
POLL_INTERVAL = 6.0
STALLING = {
    "kafka__consumer_properties.max.poll.interval.ms": int(1000 * POLL_INTERVAL),
    "shutdown__drain_ms": 3_000,
    "shutdown__revoke_ms": 1_000,
}


@pytest.mark.parametrize("protocol", protocols("classic"))
def test_told_to_end_during_inference(row, stage, protocol):
    """A SIGTERM while the lanes are at work: exit 0 in time, and the next worker repeats nothing."""
    stops = pick(reduced=4, full=50)
    figures = row(5, "SIGTERM during inference", protocol=protocol)
    play = stage(figures, batching__max_messages=8)
    for _ in range(stops):
        play.feeder.feed(300)
        worker = play.worker("--slow", "100", wait=False)
        worker.until(lambda worker=worker: worker.metric("winnow_lanes_busy") > 0)
        began = time.monotonic()
        assert worker.terminate() == 0, worker.said
        took = time.monotonic() - began
        assert took <= DRAINED_WITHIN
        figures.runs += 1
        figures.note = f"slowest end {max(took, float(figures.note.split()[-2]) if figures.note else 0.0):.1f} s"
    last = play.worker()
    play.all_seen()
    assert last.terminate() == 0
    assert play.settle().doubled == 0


@pytest.mark.parametrize(
    ("protocol", "delivery"),
    pick(
        reduced=[("classic", "at-least-once"), ("consumer", EXACTLY_ONCE)],
        full=[(p, d) for p in PROTOCOLS for d in ("at-least-once", EXACTLY_ONCE)],
    ),
)
def test_stopped_beyond_the_poll_interval(row, stage, protocol, delivery):
    """A worker that stood still for longer than the group waits: others have its partitions, what it still writes and
    commits harms nobody, and it joins again."""
    stops = pick(reduced=1, full=20)
    figures = row(6, "SIGSTOP beyond max.poll.interval.ms", protocol=protocol, delivery=delivery)
    play = stage(figures, **STALLING)
    workers = [play.worker("--slow", "20"), play.worker("--slow", "20")]
    for worker in workers:
        worker.wait_assigned(play.partitions // 2)
    play.feeder.begin(rate=300)
    for stop in range(stops):
        seen = len(play.reader.sources)
        play.reader.until(lambda seen=seen: len(play.reader.sources) > seen + 100)
        stopped, other = workers[stop % 2], workers[1 - stop % 2]
        stopped.process.send_signal(signal.SIGSTOP)
        stopped.wait_stopped()
        at, since = time.time(), time.monotonic()
        other.wait_assigned(play.partitions)
        play.recovered(at)
        while time.monotonic() - since < POLL_INTERVAL + 1.0:  # the interval itself is the fault
            time.sleep(0.05)
        stopped.process.send_signal(signal.SIGCONT)
        stopped.until(lambda: stopped.metric("winnow_partitions_assigned") == play.partitions // 2)  # noqa: B023
        figures.runs += 1
    play.feeder.end()
    play.all_seen()
    assert [worker.terminate() for worker in workers] == [0, 0]
    play.settle()


@pytest.mark.parametrize("protocol", protocols("consumer"))
def test_stalled_beyond_the_transaction_timeout(row, stage, protocol):
    """A worker that stood still within a transaction for longer than that may last: the brokers abort it, and the
    worker does it again."""
    stalls = pick(reduced=1, full=10)
    figures = row(7, "stall beyond the transaction timeout", protocol=protocol, delivery=EXACTLY_ONCE)
    # The group must not miss it meanwhile, so that the transaction alone is what went wrong.
    patient = {"kafka__consumer_properties.session.timeout.ms": 40_000} if protocol == "classic" else {}
    play = stage(figures, **patient)
    for stall in range(stalls):
        worker = play.worker("--slow", "10", "--at", f"end_transaction:{1 + stall % 3}:STOP", wait=False)
        play.feeder.feed(500)
        # As many transactions as it takes.
        worker.until(lambda: worker.stopped or play.feeder.feed(20))  # noqa: B023
        since = time.monotonic()
        # The broker looks for transactions that are over each second.
        while time.monotonic() - since < TRANSACTION_SECONDS + 2.0:
            time.sleep(0.05)
        at = time.time()
        worker.process.send_signal(signal.SIGCONT)
        play.all_seen()
        play.recovered(at, partitions={record.source[0] for record in play.reader.records if record.written > at})
        figures.runs += 1
        assert worker.terminate() == 0, worker.said
    play.settle()


def test_two_workers_with_one_transactional_id(row, stage):
    """The later one fences the earlier one, which ends with a code and a sentence; nothing is lost or doubled."""
    twice = pick(reduced=2, full=10)
    figures = row(8, "two workers, one transactional.id", delivery=EXACTLY_ONCE)
    play = stage(figures)
    older = play.worker("--slow", "10", instance="the-same")
    play.feeder.begin(rate=300)
    for _ in range(twice):
        older.until(lambda: older.metric("winnow_delivered_total") > 0)  # noqa: B023
        at = time.time()
        newer = play.worker("--slow", "10", instance="the-same", wait=False)
        code = older.ended()
        assert code == BrokerError.exit_code, f"exit {code}\n{older.said}"
        assert "instance_id" in older.said
        newer.wait_assigned(play.partitions)
        play.recovered(at)
        figures.runs += 1
        older = newer
    play.feeder.end()
    play.all_seen()
    assert older.terminate() == 0
    play.settle()
