"""What the source and the sink in memory can be made to do beyond their contract."""

from __future__ import annotations

import pytest

from worker.errors import DeliveryError
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.messages import Destination, Outgoing, Partition

P0, P1 = ("in", 0), ("in", 1)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[Partition]]] = []

    def assigned(self, partitions) -> None:
        self.heard.append(("assigned", list(partitions)))

    def revoked(self, partitions) -> None:
        self.heard.append(("revoked", list(partitions)))

    def lost(self, partitions) -> None:
        self.heard.append(("lost", list(partitions)))

    def refused(self) -> None:
        self.heard.append(("refused", []))

    def committed(self, offsets) -> None:
        self.heard.append(("committed", list(offsets)))


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    for partition in (0, 1):
        for number in range(3):
            log.append("in", partition, b"%d" % number)
    return log


def outgoing(value: bytes, destination: Destination = Destination.OUTPUT) -> Outgoing:
    return Outgoing(destination, destination.value, None, value, [], P0)


def test_nothing_comes_before_an_assignment(log: MemoryLog):
    """A member without partitions reads nothing."""
    source = MemorySource(log)
    source.start(Listener())
    assert list(source.poll(10, 0)) == []


def test_events_are_told_in_order_by_the_next_poll(log: MemoryLog):
    """Assignments, revokes and losses wait for `poll`, as a group's do."""
    listener, source = Listener(), MemorySource(log)
    source.start(listener)
    source.assign(P0, P1)
    source.revoke(P1)
    source.lose(P0)
    assert listener.heard == []
    assert list(source.poll(10, 0)) == []
    assert listener.heard == [("assigned", [P0, P1]), ("revoked", [P1]), ("lost", [P0])]


def test_a_commit_of_a_partition_that_has_gone_is_refused_silently(log: MemoryLog):
    """As brokers refuse the commit of a former owner: no error, and no effect."""
    source = MemorySource(log)
    source.start(Listener())
    source.assign(P0)
    source.poll(10, 0)
    source.lose(P0)
    source.poll(10, 0)
    source.commit({P0: 3}, wait=True)
    assert log.committed == {}


def test_a_refused_commit_is_told_and_has_no_effect(log: MemoryLog):
    """While the source refuses, a commit changes nothing and the listener hears of it; afterwards it counts."""
    listener, source = Listener(), MemorySource(log)
    source.start(listener)
    source.assign(P0)
    source.poll(10, 0)
    source.refusing = True
    source.commit({P0: 3}, wait=False)
    assert (log.committed, listener.heard[-1]) == ({}, ("refused", []))
    source.refusing = False
    source.commit({P0: 3}, wait=False)
    assert (log.committed, listener.heard[-1]) == ({P0: 3}, ("committed", [P0]))


def test_a_rewound_partition_is_read_again(log: MemoryLog):
    """After a rewind, records come from the given offset on, within the same assignment."""
    source = MemorySource(log)
    source.start(Listener())
    source.assign(P0)
    source.poll(10, 0)
    source.rewind(P0, 1)
    assert [record.offset for record in source.poll(10, 0)] == [1, 2]


def test_a_new_assignment_ends_the_pause(log: MemoryLog):
    """As with Kafka, what comes is not paused, so what stays is not either."""
    source = MemorySource(log)
    source.start(Listener())
    source.assign(P0)
    source.poll(1, 0)
    source.pause()
    source.assign(P1)
    assert len(source.poll(10, 0)) == 5


def test_acknowledgements_can_be_withheld_and_given_one_by_one():
    """While not acknowledging, polls acknowledge nothing; `acknowledge` serves the oldest first."""
    sink, done = MemorySink(), []
    sink.acknowledging = False
    for number in range(3):
        sink.send(outgoing(b"%d" % number), lambda number=number: done.append(number))
    sink.poll()
    assert done == []
    sink.acknowledge(2)
    assert done == [0, 1]
    sink.acknowledging = True
    sink.poll()
    assert done == [0, 1, 2]


def test_a_failing_sink_raises_where_something_waits():
    """A failure concerns records on their way; without any there is none."""
    sink = MemorySink()
    sink.failing = "no space"
    sink.poll()
    sink.send(outgoing(b""), lambda: None)
    with pytest.raises(DeliveryError, match="no space"):
        sink.poll()


def test_results_and_dead_letters_are_told_apart():
    """The sink shows each destination by itself."""
    sink = MemorySink()
    sink.send(outgoing(b"r"), lambda: None)
    sink.send(outgoing(b"d", Destination.DEAD_LETTER), lambda: None)
    assert [o.value for o in sink.results] == [b"r"]
    assert [o.value for o in sink.dead_letters] == [b"d"]
