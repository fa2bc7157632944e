"""Texts to token ids with the Rust fast tokenizer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

# Read by the tokenizers library at its first batch: lanes bring the parallelism, and its own pool of
# threads would take the cores from them.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

from worker.pipeline.messages import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Tokenize: TypeAlias = "Callable[[Sequence[str]], list[Encoded]]"


class Encoded(NamedTuple):
    ids: list[int]
    """Special tokens included."""
    truncated: bool


class TextTokenizer:
    """Token ids of texts, truncated to the model's length, special tokens included."""

    def __init__(self, tokenizer_json: str, max_length: int) -> None:
        """Build from the text of a `tokenizer.json`; its own padding and truncation are replaced."""
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """One `Encoded` a text, in order."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [Encoded(e.ids, bool(e.overflowing)) for e in encodings]


def tokenize_each(tokenize: Tokenize, texts: Sequence[str]) -> list[Encoded | Rejection]:
    """One entry a text, in order; a text that the tokenizer refuses harms no other."""
    try:
        return list(tokenize(texts))
    except Exception as error:  # noqa: BLE001 - any failure is isolated to its culprit
        if len(texts) == 1:
            kind = type(error).__name__
            return [Rejection("tokenize", "tokenizer-error", f"The tokenizer failed on this message ({kind}).", kind)]
    half = len(texts) // 2
    return tokenize_each(tokenize, texts[:half]) + tokenize_each(tokenize, texts[half:])
