"""Ids put together from remembered words are those that the tokenizer gives of the text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from worker.demo import corpus
from worker.model import bundle
from worker.pipeline import word_memo
from worker.pipeline.tokenization import TextTokenizer
from worker.pipeline.word_memo import LONGEST, WordMemo

TOKENIZER = (Path(bundle.__file__).parent / "default" / "tokenizer.json").read_text("utf-8")
CASED = json.dumps(json.loads(TOKENIZER) | {"normalizer": json.loads(TOKENIZER)["normalizer"] | {"lowercase": False}})
ASCII = st.text(st.characters(max_codepoint=127), max_size=60)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDY = st.lists(st.sampled_from(["hello", "Winner", "[SEP]", "[sep]", "[", "free!!", "a" * 101, "x\x00y", "\x1c", "\x7f", "it's", "über", "12.5%", "é", "\x0b"])).map(" ".join)  # fmt: skip  # noqa: E501


def plain(text: str, tokenizer_json: str = TOKENIZER) -> list[int]:
    return Tokenizer.from_str(tokenizer_json).encode(text, add_special_tokens=False).ids


ORACLE = {json_: Tokenizer.from_str(json_) for json_ in (TOKENIZER, CASED)}


@given(text=ASCII | WORDY | UNICODE)
@example(text="".join(map(chr, range(128))))
@example(text="".join(f"a{chr(number)}b " for number in range(128)))
@pytest.mark.parametrize("tokenizer_json", [TOKENIZER, CASED])
def test_it_says_what_the_tokenizer_says(text: str, tokenizer_json: str):
    """Of every text, if it says anything; the second time from memory."""
    memo = WordMemo.of(ORACLE[tokenizer_json], tokenizer_json)
    assert memo is not None
    expected = ORACLE[tokenizer_json].encode(text, add_special_tokens=False).ids
    for _ in range(2):
        said = memo(text)
        assert said is None or said == expected


@cache
def both(longest: int, whole: bool) -> tuple[TextTokenizer, Tokenizer]:
    oracle = Tokenizer.from_str(TOKENIZER)
    if not whole:
        oracle.enable_truncation(longest)
    return TextTokenizer(TOKENIZER, longest, whole=whole), oracle


@given(st.lists(ASCII | WORDY | UNICODE, max_size=8), st.sampled_from([2, 3, 8, 30]), st.booleans())
def test_a_tokenizer_with_a_memory_gives_what_one_without_gives(texts: list[str], longest: int, whole: bool):
    """Special tokens, truncation and what is left to the tokenizer included, in the order of the texts."""
    tokenizer, oracle = both(longest, whole)
    expected = [(e.ids, bool(e.overflowing)) for e in oracle.encode_batch_fast(texts)]
    for _ in range(2):
        assert [(e.ids, e.truncated) for e in tokenizer(texts)] == expected


def test_most_texts_of_a_stream_are_put_together():
    """Of the demo's messages, when they come the third time, none is left to the tokenizer but those of rare words."""
    memo = WordMemo.of(Tokenizer.from_str(TOKENIZER), TOKENIZER)
    assert memo is not None
    texts = [message.text for message in corpus.load()]
    for _ in range(2):
        for text in texts:
            memo(text)
    left = [text for text in texts if memo(text) is None]
    assert len(left) < len(texts) / 50


@pytest.mark.parametrize("tokenizer_json", [TOKENIZER, CASED])
def test_every_character_there_is(tokenizer_json: str):
    """Between letters, doubled, and at the edges: as the tokenizer has it."""
    oracle = ORACLE[tokenizer_json]
    memo = WordMemo.of(oracle, tokenizer_json)
    assert memo is not None
    texts = [f"{c}a{c}{c}b{c}" for c in map(chr, range(0x3400))] + [f"{chr(c)}a" for c in range(0x3400, 0x11_0000, 97) if not 0xD800 <= c < 0xE000]  # fmt: skip  # noqa: E501
    expected = [e.ids for e in oracle.encode_batch_fast(texts, add_special_tokens=False)]
    said = [[memo(text) for _ in range(3)][-1] for text in texts]
    assert [text for text, ids, one in zip(texts, expected, said, strict=True) if one not in (None, ids)] == []
    assert sum(one is not None for one in said) > 0.9 * len(texts)


def test_marks_are_left_to_the_tokenizer():
    """Unicode brings marks that follow one another into an order of their own, whatever characters they are in."""
    memo = WordMemo.of(ORACLE[TOKENIZER], TOKENIZER)
    assert memo is not None
    assert [memo("a\u0301\u0323 word") for _ in range(3)] == [None] * 3


def known(memo: WordMemo, *texts: str) -> None:
    for text in texts * 3:
        memo(text)


def test_a_memory_that_is_full_begins_anew():
    """It never holds more than its bound, and a text of known and of new words has the ids of all of them."""
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True, words=3)
    known(memo, "one two three")
    assert memo("one two three") == plain("one two three")
    for text in ("one two three four", "one two three four", "four five", "one four two six", "one"):
        assert memo(text) in (None, plain(text))
        assert len(memo._ids) <= 3
        assert len(memo._once) <= 3
    known(memo, *["one two three"] * 3)
    assert memo("three one two seven") == plain("three one two seven")


def test_a_word_that_comes_once_is_not_remembered():
    """Nor a long one, nor one of many tokens, however often they come."""
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True)
    known(memo, "hello", "a" * (LONGEST + 1), "qzxjqzxjqzxjqzxj")
    memo("once")
    assert set(memo._ids) == {"hello"}


def test_where_many_words_are_new_the_tokenizer_is_asked():
    """It is quicker with the whole text then; up to a quarter are asked for one by one."""
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True)
    known(memo, "a b c d e f")
    assert memo("a b c unheard") == plain("a b c unheard")
    assert memo("a b unseen words") is None


def test_characters_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    """And looked up again."""
    monkeypatch.setattr(word_memo, "CHARACTERS", 3)
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True)
    for text in ["éèê ÜÖ", "£ € ¥ ₹"] * 3:
        assert memo(text) in (None, plain(text))
        assert len(memo._characters) <= 3


@pytest.mark.parametrize(
    "changed",
    [
        {"normalizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": False,
                "handle_chinese_chars": True,
                "lowercase": True,
            }
        },
    ],
)
def test_other_kinds_of_tokenizers_are_left_alone(changed: dict[str, object]):
    """Where a word's ids may depend on what stands around it, nothing is remembered."""
    assert WordMemo.of(Tokenizer.from_str(TOKENIZER), json.dumps(json.loads(TOKENIZER) | changed)) is None


@pytest.mark.parametrize(
    "token",
    [
        {"content": "credit card", "normalized": True, "special": False},
        {"content": "covid", "normalized": False, "special": False},
    ],
)
def test_tokens_that_are_found_within_words_or_in_what_texts_become_are_too_much(token: dict[str, object]):
    """What is found before anything else, and in what, is the tokenizer's own affair."""
    shape = {"id": 5, "single_word": False, "lstrip": False, "rstrip": False} | token
    document = json.loads(TOKENIZER)
    changed = json.dumps(document | {"added_tokens": [*document["added_tokens"], shape]})
    assert WordMemo.of(Tokenizer.from_str(TOKENIZER), changed) is None
