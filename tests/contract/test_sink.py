"""The contract of `worker.ports.Sink`, held by the one in memory and by Kafka's."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from tests.contract.worlds import SECONDS, World, Written
from worker.pipeline.messages import Destination, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from worker.pipeline.messages import Headers
    from worker.ports import Sink

LONG_MS = 3_000 * SECONDS
"""Longer than any test waits."""


def outgoing(
    world: World,
    value: bytes | None,
    destination: Destination = Destination.OUTPUT,
    key: bytes | None = b"k",
    headers=(),
) -> Outgoing:
    return Outgoing(destination, world.topics[destination], key, value, list(headers), ("in", 0))


def acknowledged(sink: Sink, count: Callable[[], int], wanted: int) -> None:
    deadline = monotonic() + SECONDS
    while count() < wanted and monotonic() < deadline:
        sink.poll()


def test_each_record_is_acknowledged_once_and_from_poll(world: World):
    """`delivered` is called once a record, never from `send`, and the record is there for readers then."""
    sink = world.sink()
    done: list[int] = []
    for number in range(50):
        sink.send(outgoing(world, b"%d" % number), lambda number=number: done.append(number))
    assert done == []
    acknowledged(sink, lambda: len(done), 50)
    for _ in range(5):
        sink.poll()
    assert sorted(done) == list(range(50))
    assert [w.value for w in world.written(Destination.OUTPUT, 50)] == [b"%d" % number for number in range(50)]


def test_what_is_written_is_what_was_sent(world: World):
    """Key, value, headers and tombstones arrive as they are, each at its destination."""
    headers: Headers = [("a", b"1"), ("a", b"2"), ("none", None), ("bytes", b"\xff\x00")]
    sent = [
        outgoing(world, b"result", Destination.OUTPUT, b"key", headers),
        outgoing(world, None, Destination.OUTPUT, b"tombstone"),
        outgoing(world, b"dead", Destination.DEAD_LETTER, None, headers),
        outgoing(world, None, Destination.DEAD_LETTER, None),
    ]
    sink = world.sink()
    done: list[Outgoing] = []
    for one in sent:
        sink.send(one, lambda one=one: done.append(one))
    acknowledged(sink, lambda: len(done), len(sent))
    results, dead_letters = (world.written(destination, 2) for destination in Destination)
    assert results == [Written(b"key", b"result", headers), Written(b"tombstone", None, [])]
    assert dead_letters == [Written(None, b"dead", headers), Written(None, None, [])]


def test_a_flush_sends_what_waits_for_company(world: World, monkeypatch: pytest.MonkeyPatch):
    """One call for each record, however long it would have waited for others."""
    monkeypatch.setattr("worker.kafka.clients.LINGER_MS", LONG_MS)
    sink = world.sink()
    done: list[int] = []
    deadline = monotonic() + SECONDS
    sink.send(outgoing(world, b"first"), lambda: done.append(0))
    while not done and monotonic() < deadline:  # it also waits for where its topic is
        sink.flush()
        sink.poll()
    assert done == [0]
    for number in range(1, 21):
        sink.send(outgoing(world, b"%d" % number), lambda number=number: done.append(number))
        sink.flush()
    # The client sends in a thread of its own, and may not wake for each flush; the next one sends what was left.
    acknowledged(sink, lambda: len(done), 15)
    assert len(done) >= 15


def test_a_closed_sink_acknowledges_nothing_more(world: World):
    """`close` gives up what is not acknowledged: no late `delivered`, and no error."""
    sink = world.sink()
    done: list[int] = []
    sink.send(outgoing(world, b"a"), lambda: done.append(1))
    sink.close()
    before = len(done)
    assert before <= 1
    sink.close()
    assert len(done) == before
