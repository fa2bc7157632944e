"""What dead letters say, which are meant, and what of them is sent again."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.kit import MODEL, record
from worker import letters
from worker.letters import REPLAYS, Letter, Selection, Source, read, refusal, restored
from worker.pipeline.encode import Encoder
from worker.pipeline.error_headers import spring_headers
from worker.pipeline.messages import Headers, Record, Rejection

REASON = Rejection("infer", "model-error", "The model failed.", "RuntimeException")
FOREIGN = ("__connect.errors.", "kafka_dlt-", "winnow.errors.")
names = st.text(max_size=20).filter(lambda name: not name.startswith(FOREIGN) and name != REPLAYS)
own_headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=20)), max_size=5)
kinds = st.sampled_from(["connect", "spring"])


def written(source: Record, kind: str = "connect", rejection: Rejection = REASON, max_bytes: int = 100_000) -> Record:
    """The dead letter of a message, as it is read again."""
    more = [spring_headers("group")] if kind == "spring" else []
    letter, _ = Encoder(MODEL, False, (), max_bytes, *more)(source, rejection)
    assert letter is not None
    return Record("dead", 0, 0, letter.key, letter.value, letter.headers, 1_000)


def letter(headers: Headers, **fields: object) -> Letter:
    return read(Record("dead", 0, 0, None, b"x", headers, 1_000)._replace(**fields))


@given(own_headers, kinds, st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=50))
def test_what_the_worker_writes_is_read_and_restored(own: Headers, kind: str, key: bytes | None, value: bytes | None):
    """Key, value and headers come back as they were, in both kinds of letters, with the number of the replay."""
    found = read(written(record(7, value, topic="where", partition=3, key=key, headers=own), kind))
    assert (found.reason, found.message, found.error) == ("model-error", "The model failed.", "RuntimeException")
    assert found.source == Source("where", 3, 7)
    assert found.stage == ("infer" if kind == "connect" else None)
    assert (found.record.key, found.record.value) == (key, value)
    assert refusal(found, None, 3) is None
    assert restored(found) == [*own, (REPLAYS, b"1")]


@given(own_headers, kinds, kinds, st.integers(1, 5))
def test_a_replay_that_fails_again_counts_on(own: Headers, first: str, second: str, times: int):
    """The worker keeps the count among the message's headers, so that the next replay finds it; then it is refused."""
    message = record(7, b"{,", headers=own)
    for number in range(times):
        found = read(written(message, first if number % 2 else second))
        assert found.replays == number
        message = record(8 + number, b"{,", headers=restored(found))
    found = read(written(message))
    assert found.replays == times
    assert restored(found) == [*own, (REPLAYS, str(times + 1).encode())]
    assert refusal(found, None, times) == letters.ENOUGH
    assert refusal(found, None, times + 1) is None


@given(st.lists(st.tuples(st.text(max_size=40), st.none() | st.binary(max_size=40)), max_size=8))
def test_no_header_is_an_error(headers: Headers):
    """Anybody may write to the topic."""
    found = letter(headers)
    restored(found)
    refusal(found, None, 3)


@pytest.mark.parametrize(
    "strange",
    [
        [("__connect.errors.topic", b"a"), ("__connect.errors.partition", b"x"), ("__connect.errors.offset", b"1")],
        [("__connect.errors.topic", b""), ("__connect.errors.partition", b"0"), ("__connect.errors.offset", b"1")],
        [("__connect.errors.topic", None), ("__connect.errors.partition", None), ("__connect.errors.offset", None)],
        [("__connect.errors.topic", b"a"), ("__connect.errors.partition", b"0"),
         ("__connect.errors.offset", b"9" * 20)],
        [("kafka_dlt-original-topic", b"a"), ("kafka_dlt-original-partition", b"0"),
         ("kafka_dlt-original-offset", b"\0" * 8)],
        [("kafka_dlt-original-topic", b"a"), ("kafka_dlt-original-partition", struct.pack(">i", -1)),
         ("kafka_dlt-original-offset", b"\0" * 8)],
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_none(strange: Headers):
    """Letters that do not say where from go only where they are told to."""
    found = letter(strange)
    assert found.source is None
    assert refusal(found, None, 3) == letters.NO_SOURCE
    assert refusal(found, "somewhere", 3) is None


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are():
    """What is not UTF-8 is replaced, in reasons and messages."""
    found = letter([("winnow.errors.reason", b"caf\xe9"), ("__connect.errors.exception.message", b"\xff")])
    assert (found.reason, found.message) == ("caf\ufffd", "\ufffd")


@pytest.mark.parametrize("count", [b"", b"-1", b"x", None, b"\xff", b"9" * 50, "²".encode()])
def test_a_count_that_is_no_number_is_none(count: bytes | None):
    """A producer may have written anything."""
    assert letter([(REPLAYS, count)]).replays == 0


def test_of_two_apps_the_last_one_is_meant():
    """A message that came from a Spring application's dead letters, and failed here."""
    spring = written(record(1, b"x", topic="first"), "spring").headers
    found = read(written(record(9, b"x", topic="second", headers=spring)))
    assert found.source == Source("second", 0, 9)
    assert restored(found) == [(REPLAYS, b"1")]


@pytest.mark.parametrize("kind", ["connect", "spring"])
@pytest.mark.parametrize("headers", [[], [("big", b"h" * 5_000)]])
def test_a_cut_letter_is_refused(kind: str, headers: Headers):
    """The rest of its message is gone, and so is its key where key and headers alone were too much."""
    found = read(written(record(0, b"v" * 9_000, key=b"k", headers=headers), kind, max_bytes=4_096))
    assert found.cut_from == 9_000
    assert (found.record.key is None) == bool(headers)
    assert refusal(found, None, 3) == letters.INCOMPLETE


def test_a_message_that_brings_such_a_header_is_not_cut():
    """Only what the worker wrote itself counts."""
    found = read(written(record(0, b"v", headers=[("winnow.errors.original.bytes", b"99")])))
    assert found.cut_from is None


def test_letters_without_their_headers_are_refused():
    """Those of messages whose headers nobody could read, and those whose own nobody can."""
    unreadable = Rejection("decode", "invalid-headers", "A header's name is not UTF-8.", "InvalidMessage")
    assert refusal(read(written(record(0, b"v"), rejection=unreadable)), None, 3) == letters.BARE
    assert refusal(letter([], headers_unreadable=True), "there", 3) == letters.NO_HEADERS


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), True),
        (Selection(reasons=frozenset({"model-error", "x"})), True),
        (Selection(reasons=frozenset({"x"})), False),
        (Selection(since=1_000), True),
        (Selection(since=1_001), False),
        (Selection(until=1_001), True),
        (Selection(until=1_000), False),
        (Selection(partition=0), True),
        (Selection(partition=1), False),
        (Selection(offsets=(range(3, 5), range(1))), True),
        (Selection(offsets=(range(1, 5),)), False),
    ],
)
def test_selections(selection: Selection, meant: bool):
    """Reason, time (from, up to and without), place."""
    assert selection(read(written(record(5, b"v")))) is meant


def test_a_letter_without_a_time_is_in_none():
    """It passes only where nobody asks for a time."""
    timeless = letter([], timestamp=None)
    assert Selection()(timeless)
    assert not Selection(since=0)(timeless)
    assert not Selection(until=9)(timeless)
