"""How far behind a worker is, as far as it can know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.lag import Ages, Lag, lags
from worker.pipeline.ledger import Progress

P0, P1 = ("in", 0), ("in", 1)
NOW = 1_700_000_000.0


def stamp(ago: float) -> int:
    return int((NOW - ago) * 1000)


def test_lag_is_what_is_stored_beyond_what_is_done_and_committed():
    """Only of partitions whose end is known; never negative, as after a log was cut; with the age of what was read."""
    progress = {P0: Progress(7, 4, 17, 90.0), P1: Progress(9, 9, None, 90.0), ("in", 2): Progress(1, 1, 1, 90.0)}
    assert lags(progress, {P0: 10, P1: 3}, {}, 100.0) == {P0: Lag(3, 6, 17, 10.0), P1: Lag(0, 0, None, 10.0)}


def test_of_what_was_never_read_all_from_the_next_offset_on_waits():
    """Where both ends of the backlog are known; nothing is known of its age."""
    found = lags({P0: Progress(7, 4, 17, 90.0)}, {P0: 10, P1: 9}, {P0: 8, P1: 2, ("in", 2): 5}, 100.0)
    assert found == {P0: Lag(3, 6, 17, 10.0), P1: Lag(7, 7, None)}
    assert Ages().seconds({P1: found[P1]}, NOW) == {P1: 0}


def test_offsets_without_a_message_are_no_lag():
    """Where nothing is in flight, the client's position counts, which passes the ends of transactions."""
    ends, positions = {P0: 11, P1: 11}, {P0: 11, P1: 11}
    done = {P0: Progress(10, 10, 17, None), P1: Progress(10, 10, 17, 99.0)}
    assert lags(done, ends, positions, 100.0) == {P0: Lag(0, 0, 17), P1: Lag(1, 1, 17, 1.0)}
    uncommitted = {P0: Progress(10, 4, 17, None)}
    assert lags(uncommitted, {P0: 11}, {P0: 11}, 100.0) == {P0: Lag(0, 7, 17)}
    behind = {P0: Progress(10, 10, 17, None)}
    assert lags(behind, {P0: 12}, {P0: 3}, 100.0) == {P0: Lag(2, 2, 17)}


def test_a_backlog_is_as_old_as_its_oldest_message():
    """Of a partition that was never seen without work, the message's timestamp says it all."""
    assert Ages().seconds({P0: Lag(1_000, 1_000, stamp(3_600))}, NOW) == {P0: 3_600}


def test_where_nothing_waits_there_is_no_age():
    """However old the last message is."""
    assert Ages().seconds({P0: Lag(0, 5, stamp(3_600))}, NOW) == {P0: 0}


def test_what_arrives_after_an_hour_of_silence_is_not_an_hour_old():
    """What was not read yet has the timestamp of the one before it; the partition was clear a second ago."""
    ages = Ages()
    ages.seconds({P0: Lag(0, 0, stamp(3_600))}, NOW - 1)
    assert ages.seconds({P0: Lag(1, 1, stamp(3_600))}, NOW) == {P0: 1}


def test_timestamps_of_the_future_are_no_negative_age():
    """A producer's clock may be ahead."""
    assert Ages().seconds({P0: Lag(1, 1, stamp(-60))}, NOW) == {P0: 0}


def test_what_was_read_ten_minutes_ago_is_at_least_as_old():
    """Whatever a producer's clock said; a timestamp of the future says nothing, and hides no other knowledge."""
    assert Ages().seconds({P0: Lag(5, 5, stamp(-3_600), 600.0)}, NOW) == {P0: 600}
    assert Ages().seconds({P0: Lag(5, 5, stamp(1), 600.0)}, NOW) == {P0: 600}
    ages = Ages()
    ages.seconds({P0: Lag(0, 0, None)}, NOW - 30)
    assert ages.seconds({P0: Lag(1, 1, stamp(-3_600), 10.0)}, NOW) == {P0: 30}


def test_without_timestamps_age_is_since_the_worker_saw_it():
    """There is nothing else to go by, and later timestamps do not make it worse."""
    ages = Ages()
    assert ages.seconds({P0: Lag(3, 3, None)}, NOW) == {P0: 0}
    assert ages.seconds({P0: Lag(3, 3, None)}, NOW + 5) == {P0: 5}
    assert ages.seconds({P0: Lag(3, 3, stamp(60))}, NOW + 6) == {P0: 6}


def test_a_partition_that_went_is_forgotten():
    """What comes back may be of another age: somebody else had it meanwhile."""
    ages = Ages()
    ages.seconds({P0: Lag(0, 0, None), P1: Lag(0, 0, None)}, NOW - 60)
    ages.seconds({P1: Lag(0, 0, None)}, NOW - 30)
    assert ages.seconds({P0: Lag(1, 1, stamp(3_600)), P1: Lag(1, 1, stamp(3_600))}, NOW) == {P0: 3_600, P1: 30}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.integers(0, int(2e12)), st.floats(0.0, 10.0)),
        min_size=1,
    )
)
def test_an_age_is_never_negative_and_never_more_than_since_the_partition_was_clear(looks):
    """Whatever timestamps say."""
    ages, now, clear = Ages(), NOW, None
    for messages, timestamp, passed in looks:
        now += passed
        (age,) = ages.seconds({P0: Lag(messages, messages, timestamp)}, now).values()
        clear = now if messages == 0 else clear
        assert age >= 0
        assert messages or age == 0
        if clear is not None:
            assert age <= now - clear
