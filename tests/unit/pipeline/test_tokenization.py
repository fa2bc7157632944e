"""Texts to token ids, with a small tokenizer built here."""

from __future__ import annotations

import os

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.pipeline.tokenization import PORTION_CHARACTERS, Encoded, TextTokenizer, portions


def tokenizer_json(padding: bool = False) -> str:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "hello": 4, "world": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if padding:
        tokenizer.enable_padding(length=20)
        tokenizer.enable_truncation(3)
    return tokenizer.to_str()


tokenize = TextTokenizer(tokenizer_json(), 8)


def test_special_tokens_are_included():
    """Ids begin and end with the model's special tokens."""
    assert tokenize(["hello world"]) == [Encoded([2, 4, 5, 3], False)]


def test_a_text_of_exactly_the_length_is_whole_and_one_more_is_cut():
    """Truncation counts special tokens, keeps them, and says that it happened."""
    whole, cut = tokenize(["hello " * 6, "hello " * 7])
    assert whole == Encoded([2, *[4] * 6, 3], False)
    assert cut == Encoded([2, *[4] * 6, 3], True)


def test_padding_and_truncation_of_the_file_are_replaced():
    """A tokenizer.json that pads or cuts on its own does not change what the worker does."""
    assert TextTokenizer(tokenizer_json(padding=True), 8)(["hello world hello"]) == [Encoded([2, 4, 5, 4, 3], False)]


@given(st.lists(st.text(max_size=40), max_size=6))
def test_one_entry_a_text_whatever_it_holds(texts: list[str]):
    """Any valid text gives ids, the same alone as in company, never longer than the model takes."""
    encoded = tokenize(texts)
    assert encoded == [tokenize([text])[0] for text in texts]
    assert all(2 <= len(e.ids) <= 8 for e in encoded)


def test_a_lone_surrogate_is_an_error_and_not_a_crash():
    """A text that UTF-8 cannot hold raises; the loop isolates it."""
    with pytest.raises((TypeError, UnicodeEncodeError)):
        tokenize(["\ud800"])


def test_the_library_brings_no_threads_of_its_own():
    """Lanes bring the parallelism: the library's pool is switched off."""
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_texts_are_left_whole_where_windows_are_read():
    """No token is cut, and nothing counts as truncated."""
    whole = TextTokenizer(tokenizer_json(padding=True), 8, whole=True)
    assert whole(["hello " * 30]) == [Encoded([2, *[4] * 30, 3], False)]
    assert whole.special_tokens() == (1, 1)


def test_places_of_tokens_come_where_they_are_asked_for():
    """Offsets into the text, words, and which tokens are special; of longer texts they are asked for later."""
    found = TextTokenizer(tokenizer_json(), 8, whole=True, spans=True)
    (short, long) = found(["hello  world", "hello " * 30])
    assert short.spans is not None
    assert list(short.spans.offsets) == [(0, 0), (0, 5), (7, 12), (0, 0)]
    assert list(short.spans.word_ids) == [None, 0, 1, None]
    assert list(short.spans.special) == [1, 0, 0, 1]
    assert long.spans is None
    assert len(found.spans("hello " * 30).tokens) == 32


@given(st.lists(st.integers(0, PORTION_CHARACTERS * 2), max_size=12))
def test_portions_are_small_and_leave_nothing_out(sizes: list[int]):
    """Every text in its place; more than one only while they are few characters together."""
    texts = ["x" * size for size in sizes]
    found = [texts[some] for some in portions(texts)]
    assert [text for some in found for text in some] == texts
    assert all(some for some in found)
    assert all(len(some) == 1 or sum(map(len, some)) <= PORTION_CHARACTERS for some in found)


def test_a_word_that_a_unigram_model_does_not_know_has_the_token_of_the_vocabulary():
    """As transformers names it; the encoding itself holds the text."""
    unigram = Tokenizer(models.Unigram([("<unk>", -9.0), ("a", -1.0)], unk_id=0))
    assert TextTokenizer(unigram.to_str(), 8, spans=True).spans("aß").tokens == ["a", "<unk>"]
