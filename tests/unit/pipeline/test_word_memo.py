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
    """Of the demo's messages none is left to the tokenizer but for what its rarest characters may be."""
    memo = WordMemo.of(Tokenizer.from_str(TOKENIZER), TOKENIZER)
    assert memo is not None
    texts = [message.text for message in corpus.load()]
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
    wrong = [text for text, ids in zip(texts, expected, strict=True) if memo(text) not in (None, ids)]
    assert wrong == []


def test_a_memory_that_is_full_begins_anew():
    """It never holds more than its bound, and goes on saying the same."""
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True, words=3)
    for text in ("one two three", "four", "one two", "five six seven eight", "one"):
        assert memo(text) in (None, plain(text))
        assert len(memo._ids) <= 3


def test_long_words_are_not_remembered():
    """Nor texts of them put together: they rarely come twice."""
    memo = WordMemo(Tokenizer.from_str(TOKENIZER), (), lowercase=True)
    assert memo("a" * LONGEST) == plain("a" * LONGEST)
    assert memo("b" * (LONGEST + 1)) is None


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
