from __future__ import annotations

from collections import Counter
from itertools import islice

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.demo.corpus import KEYS, POISON, PoisonCase, load, stream
from worker.errors import InvalidMessage
from worker.pipeline.decode import json_decoder
from worker.pipeline.messages import Record

MAX_BYTES = 256 * 1024
POISON_VALUES = {case.value for case in POISON}
seeds = st.integers(0, 2**32)


def by_name(case: PoisonCase) -> str:
    return case.name


def expected_by_orjson(value: bytes | None) -> str:
    """The outcome as the default configuration defines it, told independently of the worker."""
    if value is None:
        return "skipped"
    if len(value) > MAX_BYTES:
        return "dead-letter"
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return "dead-letter"
    text = document.get("text") if isinstance(document, dict) else None
    return "result" if isinstance(text, str) and text.strip() else "dead-letter"


def documents(seed: int, share: float, n: int) -> list[dict[str, str]]:
    return [orjson.loads(v) for _, v in islice(stream(seed, share), n) if v is not None and v not in POISON_VALUES]


def test_there_are_enough_messages_of_every_kind():
    messages = load()
    total = len(messages)
    labels = Counter(m.label for m in messages)
    channels = Counter(m.channel for m in messages)
    assert total >= 420
    assert set(labels) == {"ham", "spam"}
    assert set(channels) == {"sms", "comment", "mail"}
    assert 0.57 <= labels["ham"] / total <= 0.63
    assert 0.47 <= channels["sms"] / total <= 0.53
    assert 0.22 <= channels["comment"] / total <= 0.28
    assert 0.22 <= channels["mail"] / total <= 0.28
    for channel in channels:
        share = sum(m.label == "spam" for m in messages if m.channel == channel) / channels[channel]
        assert 0.35 <= share <= 0.45, channel


def test_texts_are_unique_and_not_blank():
    folded = [" ".join(m.text.casefold().split()) for m in load()]
    assert all(folded)
    assert [text for text, n in Counter(folded).items() if n > 1] == []


def test_no_two_texts_share_much_of_their_wording():
    def shingles(text: str) -> frozenset[tuple[str, ...]]:
        words = text.casefold().split()
        return frozenset(zip(words, words[1:], words[2:], strict=False))

    seen = [shingles(m.text) for m in load()]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            if min(len(one), len(other)) >= 3:
                assert len(one & other) <= 0.4 * min(len(one), len(other)), one & other


def test_mails_have_a_subject_and_a_body_of_fair_length():
    for text in (m.text for m in load() if m.channel == "mail"):
        subject, _, body = text.partition("\n")
        assert subject.startswith("Subject: ")
        assert len(subject) > len("Subject: ")
        assert body.strip()
        assert 40 <= len(text.split()) <= 250, subject


def test_a_loaded_list_is_the_callers_own():
    load().clear()
    assert load()


def test_poison_names_and_values_are_unique():
    assert len({case.name for case in POISON}) == len(POISON) == len(POISON_VALUES)


@pytest.mark.parametrize("case", POISON, ids=by_name)
def test_poison_is_expected_as_the_json_parser_has_it(case: PoisonCase):
    assert expected_by_orjson(case.value) == case.expected


@pytest.mark.parametrize("case", [case for case in POISON if case.value is not None], ids=by_name)
def test_poison_is_expected_as_the_decoder_has_it(case: PoisonCase):
    decode = json_decoder("/text", "/id", MAX_BYTES, 10_000)
    record = Record("demo", 0, 7, b"user-01", case.value, [], None)
    if case.expected == "result":
        assert decode(record).id == "demo-0-7"
    else:
        with pytest.raises(InvalidMessage):
            decode(record)


@pytest.mark.parametrize(
    "name",
    ["bad-utf8", "not-json", "lone-surrogate", "nested-100000", "nan-literal", "integer-400-digits", "raw-control"],
)
def test_poison_that_is_no_json_fails_in_the_parser_and_not_by_its_size(name: str):
    value = next(case.value for case in POISON if case.name == name)
    assert value is not None
    assert len(value) <= MAX_BYTES
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(value)


def test_the_large_text_is_valid_json_that_a_client_will_send():
    value = next(case.value for case in POISON if case.name == "text-1-mb")
    assert value is not None
    assert len(orjson.loads(value)["text"]) == 990_000
    assert MAX_BYTES < len(value) < 1_000_000 - 1024


def test_the_nul_is_inside_the_text():
    value = next(case.value for case in POISON if case.name == "nul-in-text")
    assert value is not None
    assert orjson.loads(value)["text"] == "Call me\0 back"


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused_before_the_first_value(share: float):
    with pytest.raises(ValueError, match="between 0 and 1"):
        stream(1, share)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0, 1), n=st.integers(0, 300))
def test_a_stream_is_determined_by_its_seed_and_share(seed: int, share: float, n: int):
    assert list(islice(stream(seed, share), n)) == list(islice(stream(seed, share), n))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0, 0.5), n=st.integers(1, 1500))
def test_ids_are_unique_and_without_gaps(seed: int, share: float, n: int):
    found = documents(seed, share, n)
    assert [d["id"] for d in found] == [f"m-{i:06d}" for i in range(len(found))]


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_every_message_comes_once_in_a_round(seed: int):
    messages = load()
    size = len(messages)
    found = documents(seed, 0.0, 2 * size)
    for part in (found[:size], found[size:]):
        assert Counter((d["text"], d["channel"]) for d in part) == Counter((m.text, m.channel) for m in messages)
    assert [d["text"] for d in found[:size]] != [d["text"] for d in found[size:]]


def test_seeds_differ():
    assert list(islice(stream(1), 50)) != list(islice(stream(2), 50))


def test_keys_come_from_the_small_set_and_all_of_it():
    assert {key for key, _ in islice(stream(3), 2000)} == set(KEYS)


def test_the_share_of_poison_is_kept():
    values = [value for _, value in islice(stream(11), 20_000)]
    assert 0.015 <= sum(value in POISON_VALUES for value in values) / len(values) <= 0.025


def test_without_poison_every_value_is_a_message():
    assert len(documents(5, 0.0, 1000)) == 1000


def test_poison_alone_is_every_case_once_in_a_round():
    assert {value for _, value in islice(stream(5, 1.0), len(POISON))} == POISON_VALUES
