"""The contract of `worker.ports.Source`, held by the one in memory and by Kafka's, in both protocols."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.contract.worlds import PARTITIONS, SECONDS, Listener, World, places, read, settle

if TYPE_CHECKING:
    from worker.pipeline.messages import Headers, Record


def test_records_come_in_offset_order_within_their_partition(world: World):
    """Every stored record comes once; within a partition in offset order; no poll exceeds its limit."""
    for number in range(30):
        world.append(b"%d" % number, number % PARTITIONS)
    source = world.member(Listener())
    records = read(source, 30, limit=7)
    for partition in range(PARTITIONS):
        mine = [(r.offset, r.value) for r in records if r.partition == partition]
        assert mine == [(i, b"%d" % (i * PARTITIONS + partition)) for i in range(15)]


def test_key_value_headers_tombstone_and_timestamp_come_as_they_are(world: World):
    """Nothing of a record is lost on the way in: repeated and valueless headers, empty and missing keys and values."""
    headers: Headers = [("a", b"1"), ("a", b"2"), ("none", None), ("empty", b""), ("bytes", b"\xff\x00")]
    world.append(b"value", 0, b"key", headers, 1_700_000_000_123)
    world.append(None, 0, b"tombstone")
    world.append(b"", 0, b"")
    source = world.member(Listener())
    full, tombstone, empty = read(source, 3)
    assert (full.topic, full.partition, full.offset) == (world.topic, 0, 0)
    assert (full.key, full.value, full.headers, full.timestamp) == (b"key", b"value", headers, 1_700_000_000_123)
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"tombstone", None, [])
    assert (empty.key, empty.value) == (b"", b"")


def test_an_empty_topic_gives_nothing(world: World):
    """A poll without records comes back empty, and the member is assigned all the same."""
    listener = Listener()
    source = world.member(listener)
    settle(source, lambda: len(listener.has()) == PARTITIONS)
    assert list(source.poll(10, 0.01)) == []


def test_the_listener_hears_of_partitions_before_their_records_come(world: World):
    """Partitions are announced from within `poll`, each once, and no record comes before its partition."""
    world.append(b"a", 0)
    world.append(b"b", 1)
    listener = Listener()
    source = world.member(listener)
    assert listener.heard == []
    found = 0
    deadline = monotonic() + SECONDS
    while found < 2 and monotonic() < deadline:
        for record in source.poll(10, 0.1):
            found += 1
            assert (record.topic, record.partition) in listener.has()
    announced = [partition for what, partitions in listener.heard for partition in partitions if what == "assigned"]
    assert sorted(announced) == [(world.topic, number) for number in range(PARTITIONS)]


@pytest.mark.parametrize("wait", [True, False])
def test_reading_goes_on_at_the_committed_offset(world: World, wait: bool):
    """A member that comes after gets what follows the last commit, and everything where there is none."""
    for number in range(6):
        world.append(b"%d" % number, number % PARTITIONS)
    first = world.member(Listener())
    assert len(read(first, 6)) == 6
    first.commit({(world.topic, 0): 2}, wait=wait)
    settle(first, lambda: world.committed(0) == 2)
    first.close()
    records = read(world.member(Listener()), 4)
    assert sorted(places(records)) == [(0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("wait", [True, False])
def test_a_commit_that_has_taken_effect_is_told(world: World, wait: bool):
    """Sooner or later, by a call of the source, once, with its offsets; one that was waited for likewise."""
    for number in range(3):
        world.append(b"%d" % number)
    listener = Listener()
    source = world.member(listener)
    read(source, 3)
    for offset in (1, 3):
        source.commit({(world.topic, 0): offset}, wait=wait)
        settle(source, lambda: listener.confirmed == {(world.topic, 0): offset})  # noqa: B023 - called before the next
        assert world.committed(0) == offset
    assert list(source.poll(10, 0.05)) == []
    assert listener.confirmations == 2


def test_a_commit_may_go_back(world: World):
    """The last commit counts, be it the smaller one."""
    world.append(b"a")
    world.append(b"b")
    first = world.member(Listener())
    read(first, 2)
    first.commit({(world.topic, 0): 2}, wait=True)
    first.commit({(world.topic, 0): 1}, wait=True)
    assert world.committed(0) == 1


def test_a_pause_delivers_nothing_and_a_resume_loses_nothing(world: World):
    """While paused, polls come back empty whatever is stored; afterwards every record comes, in order."""
    for number in range(10):
        world.append(b"%d" % number)
    source = world.member(Listener())
    records = read(source, 3, limit=3)
    source.pause()
    for number in range(10, 15):
        world.append(b"%d" % number)
    for _ in range(5):
        assert list(source.poll(10, 0.05)) == []
    source.resume()
    records += read(source, 15 - len(records))
    assert places(records) == [(0, offset) for offset in range(15)]


def test_ends_are_what_is_stored(world: World):
    """`ends` tells the next offset to be written of each assigned partition."""
    for number in range(5):
        world.append(b"%d" % number, 1)
    world.append(b"x", 0)
    source = world.member(Listener())
    read(source, 6)
    wanted = {(world.topic, 0): 1, (world.topic, 1): 5}
    settle(source, lambda: dict(source.ends()) == wanted)


def test_closing_tells_the_listener_nothing(world: World):
    """Leaving is the caller's own doing: `close` calls no listener."""
    world.append(b"a")
    listener = Listener()
    source = world.member(listener)
    read(source, 1)
    before = list(listener.heard)
    source.close()
    assert listener.heard == before


def test_what_the_listener_raises_surfaces_from_poll_and_loses_no_record(world: World, request: pytest.FixtureRequest):
    """An exception of the listener is raised by the poll it happened in; every record still comes after it."""
    for number in range(20):
        world.append(b"%d" % number)
    listener = Listener()
    listener.fail = {"assigned"}
    source = world.member(listener)
    # One long wait, so that the first record arrives in the very call in which the listener fails.
    with pytest.raises(ValueError, match="fails when assigned"):
        source.poll(5, SECONDS)
    records = read(source, 1)
    while polled := source.poll(5, 0.5):
        records += polled
    assert places(records) == [(0, offset) for offset in range(20)]


def test_a_revoked_partition_can_still_be_committed_and_its_next_owner_goes_on_there(world: World):
    """Offsets committed while `revoked` runs are where the next owner begins; the first owner gets no more of it."""
    for number in range(20):
        world.append(b"%d" % number, number % PARTITIONS)
    listener, other = Listener(), Listener()
    first = world.member(listener)
    assert len(read(first, 20)) == 20
    topic = world.topic
    listener.on_revoked = lambda: first.commit({(topic, p): 10 for _, p in sorted(listener.heard[-1][1])}, wait=True)
    second = world.second(first, other)
    deadline = monotonic() + SECONDS
    records: list[Record] = []
    while not (other.has() and len(listener.has()) == 1) and monotonic() < deadline:
        assert list(first.poll(10, 0.05)) == []
        records += second.poll(10, 0.05)
    assert len(listener.has()) == len(other.has()) == 1
    assert listener.has() != other.has()
    ((_, moved),) = other.has()
    world.append(b"new", moved)
    records += read(second, 1)
    assert places(records) == [(moved, 10)]
    assert "lost" not in [what for what, _ in listener.heard]
