"""Texts to token ids, with a small tokenizer built here."""

from __future__ import annotations

import os

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from worker.pipeline.tokenization import Encoded, TextTokenizer


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
