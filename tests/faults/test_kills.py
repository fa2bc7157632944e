"""Faults 1 to 4: workers that are killed, anywhere and at the worst moments."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.size import PROTOCOLS, pick, protocols
from tests.faults.stage import EXACTLY_ONCE, TRANSACTION_SECONDS

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

IN_FLIGHT = 128
SINCE_COMMIT = 64
"""What is delivered between two commits, at the pace of the slowed stub."""
SLOW = ("--slow", "50")
SMALL = {"batching__max_messages": 16, "batching__max_in_flight": IN_FLIGHT, "kafka__commit_interval_ms": 50}
TAKEN_OVER = 3.0
"""Seconds beyond the session timeout within which a killed worker's partitions go on."""
PATIENCE = 10.0
"""The same again while the tests share two cores with a broker; the table tells what it was."""


@pytest.mark.parametrize("protocol", protocols("classic", "consumer"))
def test_killed_between_produce_and_commit(row, stage, protocol):
    """Nothing is lost; what comes twice is no more than was in flight, and byte-identical."""
    kills, portion = pick(reduced=3, full=20), 500
    figures = row(1, "kill -9 between produce and commit", protocol=protocol)
    play = stage(figures, **SMALL)
    play.worker(*SLOW)
    for kill in range(kills):
        victim = play.worker(*SLOW, "--at", f"commit:{1 + kill % 3}:KILL")
        play.feeder.feed(portion)
        victim.ended()
        died = time.time()
        figures.runs += 1
        play.feeder.feed(play.partitions * 2)
        assert play.recovered(died) <= play.session + TAKEN_OVER + PATIENCE
        play.all_seen()
    play.all_seen()
    found = play.settle()
    assert found.doubled <= (IN_FLIGHT + SINCE_COMMIT) * kills


@pytest.mark.parametrize(
    ("protocol", "partitions"),
    pick(reduced=[("classic", 4), ("consumer", 1)], full=[(p, n) for p in PROTOCOLS for n in (4, 1)]),
)
def test_killed_anywhere_exactly_once(row, stage, protocol, partitions):
    """With kills at any moment each message is seen once, by a reader that reads along and by one that comes after."""
    number, name = (2, "kill -9 anywhere") if partitions > 1 else (3, "kill -9 anywhere, one partition")
    kills = pick(reduced=3, full=30)
    messages = pick(reduced=6_000, full=100_000 if partitions > 1 else 33_000)
    figures = row(number, name, delivery=EXACTLY_ONCE, protocol=protocol)
    play = stage(figures, partitions=partitions, kafka__commit_interval_ms=100)
    choose = random.Random(number)
    # Without a partition of its own a worker has nothing to be ready for.
    workers = [play.worker("--slow", "5"), play.worker("--slow", "5", wait=partitions > 1)]
    for _ in range(kills):
        play.feeder.feed(messages // kills)
        time.sleep(choose.uniform(0.0, 0.5))  # the moment is the fault: anywhere
        victim = workers.pop(choose.randrange(len(workers)))
        victim.kill()
        died = time.time()
        figures.runs += 1
        play.feeder.feed(2 * partitions)
        workers.append(play.worker("--slow", "5", wait=False))
        play.recovered(died)
    play.all_seen()
    play.settle()


@pytest.mark.parametrize("protocol", protocols("consumer"))
def test_killed_between_offsets_and_commit_of_the_transaction(row, stage, protocol):
    """What was sent to a transaction that nobody ended is as if it had never been; the successor goes on in time."""
    kills = pick(reduced=2, full=20)
    figures = row(
        4, "kill -9 between offsets and commit of the transaction", delivery=EXACTLY_ONCE, protocol=protocol
    )  # fmt: skip
    play = stage(figures, **SMALL)
    play.worker(*SLOW)
    for kill in range(kills):
        victim = play.worker(*SLOW, "--at", f"end_transaction:{1 + kill % 3}:KILL", instance="the-same")
        play.feeder.feed(500)
        victim.ended()
        died = time.time()
        figures.runs += 1
        play.feeder.feed(2 * play.partitions)
        assert play.recovered(died) <= TRANSACTION_SECONDS + 15.0
        play.all_seen()
    play.settle()
