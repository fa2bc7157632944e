"""`winnow run` on a real Kafka, with the default bundle."""

from __future__ import annotations

import itertools
import signal
from collections import Counter

import orjson
import pytest

from tests.e2e.process import winnow
from worker.app import open_model
from worker.config import ModelSettings
from worker.demo import corpus
from worker.pipeline.batches import Item
from worker.pipeline.messages import Request, Unsure

pytestmark = pytest.mark.kafka

TEXTS = [message.text for message in corpus.load()]


def feed(route, texts, **more):
    feeder = route.feeder()
    for number, text in enumerate(texts):
        value = orjson.dumps({"id": f"t-{number}", "text": text})
        feeder.send(value, key=f"k-{number % 7}".encode(), **more)
    feeder.flush()


def test_every_message_comes_out_once(route, start):
    """Each id is in the results or the dead letters exactly once, with poison among the messages."""
    sent = list(itertools.islice(corpus.stream(3, poison_share=0.1), 600))
    feeder = route.feeder()
    for key, value in sent:
        feeder.send(value, key)
    feeder.flush()
    worker = start(input__tombstones="dead-letter")
    records = route.written(len(sent))
    assert worker.terminate() == 0
    positions = Counter(source_of(r, route) for r in records)
    assert set(positions.values()) == {1}
    assert len(positions) == len(sent)


def source_of(record, route):
    if record.topic == route.output:
        source = orjson.loads(record.value)["source"]
        return source["partition"], source["offset"]
    headers = dict(record.headers)
    return int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])


def test_poison_harms_no_neighbour(route, start):
    """Each poison gives exactly what it should, with the original bytes, and its neighbours get results."""
    feeder = route.feeder()
    for number, case in enumerate(corpus.POISON):
        feeder.send(case.value, case.name.encode(), [("trace", b"1")])
        feeder.send(orjson.dumps({"id": f"n-{number}", "text": "see you at lunch"}), case.name.encode())
    feeder.flush()
    skipped = sum(case.expected == "skipped" for case in corpus.POISON)
    worker = start()
    records = route.written(2 * len(corpus.POISON) - skipped)
    assert worker.terminate() == 0
    dead = {r.key.decode(): r for r in records if r.topic == route.dead}
    expected = {case.name: case.value for case in corpus.POISON if case.expected == "dead-letter"}
    assert {name: r.value for name, r in dead.items()} == expected
    assert all(("trace", b"1") in r.headers for r in dead.values())
    neighbours = [r for r in route.results(records) if r["id"].startswith("n-")]
    assert len(neighbours) == len(corpus.POISON)


def test_scores_are_the_same_alone_in_batches_and_through_kafka(route, start):
    """Bit-equal scores whatever company a message is in."""
    texts = TEXTS[:150]
    feed(route, texts)
    worker = start(output__all_scores=True)
    streamed = {r["id"]: r["scores"] for r in route.results(route.written(len(texts)))}
    worker.terminate()
    lines = b"".join(orjson.dumps({"id": f"t-{n}", "text": t}) + b"\n" for n, t in enumerate(texts))
    together = [orjson.loads(line) for line in winnow("classify", "--json", stdin=lines).stdout.splitlines()]
    assert {r["id"]: r["scores"] for r in together} == streamed
    model = open_model(ModelSettings())
    run = model.classifier.lane()
    for number, text in enumerate(texts):
        item = one_item(model, text)
        alone = run([item])[0]
        if isinstance(alone, Unsure):
            alone = run([item._replace(hidden=alone.hidden)])[0]
        assert alone.scores == streamed[f"t-{number}"]


def one_item(model, text):
    return Item(None, Request("", text, False), model.tokenizer([text])[0].ids, False, 0.0)


def test_input_order_is_output_order(route, start):
    """With the source's partition kept, each output partition holds its input partition's messages in order."""
    feed(route, TEXTS)
    worker = start(kafka__output_partition="source")
    records = route.written(len(TEXTS))
    worker.terminate()
    for partition in range(3):
        mine = [orjson.loads(r.value)["source"] for r in records if r.partition == partition]
        assert {s["partition"] for s in mine} <= {partition}
        assert [s["offset"] for s in mine] == list(range(len(mine)))


def test_keys_and_chosen_headers_pass_through(route, start):
    """Results carry their message's key and the headers that are asked for."""
    feed(route, TEXTS[:5], headers=[("traceparent", b"00-1"), ("secret", b"x")])
    worker = start()
    records = route.written(5)
    worker.terminate()
    assert {r.key for r in records} == {b"k-0", b"k-1", b"k-2", b"k-3", b"k-4"}
    assert all(r.headers == [("traceparent", b"00-1")] for r in records)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_terminate_then_start_gives_no_doubles(route, start, protocol):
    """SIGTERM commits what was delivered: a second worker goes on exactly there."""
    texts = TEXTS * 4
    feed(route, texts)
    # So little in flight, that the first cannot have taken everything in by the time it hears of its end.
    first = start(kafka__group_protocol=protocol, batching__max_in_flight=128, wait=False)
    first.until(lambda: first.metric("winnow_delivered_total"))
    assert first.terminate() == 0
    second = start(kafka__group_protocol=protocol)
    records = route.written(len(texts))
    assert 0 < second.metric("winnow_consumed_total") < len(texts)
    assert second.terminate() == 0
    assert Counter(r["id"] for r in route.results(records)) == Counter(f"t-{n}" for n in range(len(texts)))


def test_kill_loses_nothing_and_doubles_are_identical(route, start):
    """After kill -9 a second worker delivers the rest; what comes twice is byte-identical."""
    feed(route, TEXTS * 3)
    expected = {f"t-{n}" for n in range(len(TEXTS) * 3)}
    quick = {"kafka__consumer_properties.session.timeout.ms": 6000}
    first = start(**quick)
    route.written(20)
    first.kill()
    second = start(**quick)
    found = route.collect(expected, first, second)
    assert found.keys() == expected
    assert all(len(set(values)) == 1 for values in found.values())
    assert second.terminate() == 0


CLASSIC = {
    "kafka__consumer_properties.session.timeout.ms": 6000,
    "kafka__consumer_properties.heartbeat.interval.ms": 500,
}


@pytest.mark.parametrize(
    "group",
    [{"kafka__group_protocol": "classic", **CLASSIC}, {"kafka__group_protocol": "consumer"}],
    ids=["classic", "consumer"],
)
def test_a_worker_that_joins_and_one_that_leaves_lose_nothing(route, start, group):
    """While a second worker joins and the first one leaves, messages go on coming: each comes out, none is lost."""
    count, feeder, sent = 2_000, route.feeder(), iter(range(2_000))

    def more(messages):
        for number in itertools.islice(sent, messages):
            value = orjson.dumps({"id": f"t-{number}", "text": TEXTS[number % len(TEXTS)]})
            feeder.send(value, key=f"k-{number}".encode())
        feeder.flush()

    more(400)
    first = start(**group)
    first.until(lambda: first.metric("winnow_delivered_total"))
    second = start(wait=False, **group)
    fed = iter([20] * 40)
    second.until(lambda: more(next(fed, 0)) or second.metric("winnow_partitions_assigned"))
    more(400)
    second.until(lambda: second.metric("winnow_delivered_total"))
    first.process.send_signal(signal.SIGTERM)
    more(count)
    assert first.wait() == 0
    found = route.collect({f"t-{number}" for number in range(count)}, first, second)
    assert len(found) == count
    assert all(len(set(values)) == 1 for values in found.values())
    assert second.terminate() == 0


def test_metrics_tell_what_happened(route, start):
    """Counts in /metrics equal what was sent and written."""
    feed(route, TEXTS[:50])
    worker = start()
    route.written(50)
    text = worker.get("/metrics")
    assert "winnow_consumed_total 50.0" in text
    assert 'winnow_results_total{label="spam"}' in text
    assert worker.get("/healthz") == "alive\n"
    assert worker.terminate() == 0


def test_a_subscribed_pattern_takes_matching_topics(route, start, topics):
    """`^regex` reads every topic that matches."""
    feed(route, TEXTS[:10])
    worker = start(kafka__input_topics=f"^{route.input[:-3]}.*")
    assert len(route.written(10)) == 10
    worker.terminate()
