"""Faults 18, 20, 21: messages that are too large, that are poison, and nothing but poison."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.faults import reading
from tests.faults.feeding import plain
from tests.faults.size import pick
from worker.demo import corpus
from worker.errors import TopicError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.faults.stage import Stage

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

IN_FLIGHT = 256
"""As the stage sets it."""
LIMIT = 4_096
"""Of a record that is written; the least the settings allow."""
DEAD = [case for case in corpus.POISON if case.expected == "dead-letter"]
DEAD.append(corpus.PoisonCase("tombstone", None, "dead-letter"))
ODD = [case for case in corpus.POISON if case.expected == "result"]
ODD_HEADERS = [("", b""), ("a", b"\xff\x00"), ("a", b""), ("naïve \U0001f600", b"x" * 2_000)]
TEXTS = [message.text for message in corpus.load()]


def letters(play: Stage) -> dict[tuple[int, int], tuple[bytes | None, Mapping[str, bytes]]]:
    """Values and headers of the dead letters, by where their messages were."""
    found = {}
    for message in reading.messages(play.broker.bootstrap_servers, {play.dead: 1}):
        headers = dict(message.headers())
        place = int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])
        found[place] = (message.value(), headers)
    return found


def values(play: Stage) -> dict[tuple[int, int], bytes | None]:
    """What was fed, by where it is stored."""
    stored = reading.messages(play.broker.bootstrap_servers, {play.input: play.partitions})
    return {(message.partition(), message.offset()): message.value() for message in stored}


def test_too_large(row, stage):
    """Results and dead letters beyond the bound are diverted and cut, while the producer's queue is full; no neighbour
    is harmed."""
    large, neighbours = pick(reduced=40, full=200), 9
    figures = row(18, "oversize result, oversize dead letter, full producer queue")
    play = stage(figures, output__max_bytes=LIMIT, **{"kafka__producer_properties.queue.buffering.max.messages": 10})
    for number in range(large):
        # Half of them: a result that is too large for its key; the others: a dead letter too large for its value.
        if number % 2:
            play.feeder.send(orjson.dumps({"id": f"large-{number}", "text": "a text"}), b"k" * LIMIT)
        else:
            play.feeder.send(b"not JSON" + b"x" * LIMIT, b"k")
        for near in range(neighbours):
            play.feeder.send(plain(number * neighbours + near), b"k")
    play.feeder.flush()
    figures.runs = large
    worker = play.worker()
    play.all_seen()
    assert worker.terminate() == 0
    assert play.settle().doubled == 0
    dead = letters(play)
    fed = values(play)
    assert len(dead) == large
    for place, (value, headers) in dead.items():
        assert headers["winnow.errors.original.bytes"] == str(len(fed[place])).encode()
        assert headers["winnow.errors.original.sha256"] == hashlib.sha256(fed[place]).hexdigest().encode()
        assert fed[place].startswith(value or b"")
    reasons = Counter(headers["winnow.errors.reason"] for _, headers in dead.values())
    assert reasons == {b"result-too-large": large // 2, b"invalid-json": large // 2}


def test_poison_among_messages(row, stage):
    """With the default bundle: each poison is one dead letter with its bytes, everything else has a result."""
    count = pick(reduced=5_000, full=10_000)
    every = 20
    figures = row(20, "poison corpus, default bundle")
    play = stage(figures, input__tombstones="dead-letter", kafka__commit_interval_ms=1_000)
    poison = 0
    for number in range(count):
        if number % every == 0:
            case = DEAD[poison % len(DEAD)]
            play.feeder.send(case.value, None if poison % 3 else case.name.encode(), ODD_HEADERS if poison % 2 else ())
            poison += 1
        elif number % every == 1:
            play.feeder.send(ODD[number // every % len(ODD)].value, None, ODD_HEADERS)
        else:
            play.feeder.send(orjson.dumps({"id": f"m-{number}", "text": TEXTS[number % len(TEXTS)]}), b"k")
    play.feeder.flush()
    figures.runs = poison
    worker = play.worker("--real")
    play.all_seen()
    assert worker.terminate() == 0
    found = play.settle()
    assert found.doubled == 0
    fed, dead = values(play), letters(play)
    poisonous = {case.value for case in DEAD}
    assert {place: value for place, value in fed.items() if value in poisonous} == {
        place: value for place, (value, _) in dead.items()
    }


def test_nothing_but_poison(row, stage):
    """A stream without one good message is worked off like any other, and the metrics tell."""
    count = pick(reduced=500, full=2_000)
    figures = row(21, "100 % invalid")
    play = stage(figures, input__tombstones="dead-letter")
    small = [case for case in DEAD if len(case.value or b"") < 10_000]
    for number in range(count):
        play.feeder.send(small[number % len(small)].value, b"k")
    play.feeder.flush()
    figures.runs = 1
    worker = play.worker()
    play.all_seen()
    worker.until(lambda: worker.metric("winnow_in_flight_messages") == 0)
    counted = [line.split() for line in worker.get("/metrics").splitlines() if line.startswith("winnow_dead_letters_t")]
    assert sum(float(value) for _, value in counted) == count
    assert worker.metric("winnow_delivered_total") == count
    assert worker.terminate() == 0
    assert play.settle().doubled == 0


def test_the_breaker_halts_without_loss(row, stage):
    """With a largest share set, a worker that meets poison alone ends, with a code and a sentence; what it did not
    write is read again."""
    count = pick(reduced=500, full=2_000)
    figures = row(21, "100 % invalid, breaker set")
    play = stage(figures)
    play.feeder.feed(count)
    for _ in range(count):
        play.feeder.send(b"not JSON", b"k")
    play.feeder.flush()
    halting = play.worker(wait=False, dead_letters__max_share=0.3)
    assert halting.ended() == TopicError.exit_code, halting.said
    assert "dead_letters.max_share" in halting.said
    figures.runs = 1
    worker = play.worker()
    play.all_seen()
    assert worker.terminate() == 0
    assert play.settle().doubled <= IN_FLIGHT
