"""Texts to token ids with the Rust fast tokenizer."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

# Read by the tokenizers library at its first batch: lanes bring the parallelism, and its own pool of
# threads would take the cores from them.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from worker.pipeline.entities import EntityGrouper, TokenSpans
from worker.pipeline.messages import Rejection
from worker.pipeline.word_memo import WordMemo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Encoding

    from worker.pipeline.entities import Strategy

Tokenize: TypeAlias = "Callable[[Sequence[str]], list[Encoded]]"


PORTION_CHARACTERS = 65_536
"""Of texts tokenized at once: a few milliseconds, in which nothing else is done."""


class Encoded(NamedTuple):
    ids: list[int]
    """Special tokens included."""
    truncated: bool
    spans: TokenSpans | None = None
    """Where the tokens are, of texts that fit the model, where they were asked for."""


class TextTokenizer:
    """Token ids of texts, special tokens included.

    Args:
        tokenizer_json: the text of a `tokenizer.json`; its own padding and truncation are replaced.
        max_length: tokens that the model reads.
        whole: leave longer texts as they are, instead of truncating them.
        spans: say where the tokens of a text are, too.
    """

    def __init__(self, tokenizer_json: str, max_length: int, *, whole: bool = False, spans: bool = False) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if not whole:
            self._tokenizer.enable_truncation(max_length)
        self._max_length = max_length
        self._spans = spans
        self._longest = sys.maxsize if whole else max_length
        self._memo = None if spans else WordMemo.of(self._tokenizer, tokenizer_json)
        self._around = self._specials()
        # Of a word it does not know, a Unigram model's encoding holds the text where the vocabulary has a token.
        self._named_by_id = isinstance(self._tokenizer.model, Unigram)

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """One `Encoded` a text, in order."""
        if self._memo is not None:
            return self._remembered(texts, self._memo)
        if not self._spans:
            return self._asked(texts)
        return [
            Encoded(e.ids, bool(e.overflowing), self._places(e) if len(e) <= self._max_length else None)
            for e in self._tokenizer.encode_batch(list(texts))
        ]

    def _asked(self, texts: Sequence[str]) -> list[Encoded]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [Encoded(e.ids, bool(e.overflowing)) for e in encodings]

    def _remembered(self, texts: Sequence[str], memo: WordMemo) -> list[Encoded]:
        (before, after), longest = self._around, self._longest
        found: list[Encoded | None] = []
        for text in texts:
            ids = memo(text)
            if ids is None:
                found.append(None)
                continue
            ids = [*before, *ids, *after]
            cut = len(ids) > longest
            found.append(Encoded([*ids[: longest - len(after)], *after] if cut else ids, cut))
        others = iter(self._asked([text for text, one in zip(texts, found, strict=True) if one is None]))
        return [next(others) if one is None else one for one in found]

    def spans(self, text: str) -> TokenSpans:
        """Where the tokens of a text are."""
        return self._places(self._tokenizer.encode(text))

    def special_tokens(self) -> tuple[int, int]:
        """How many special tokens are before a text, and how many behind it."""
        before, after = self._around
        return len(before), len(after)

    def grouper(
        self,
        labels: Sequence[str],
        strategy: Strategy,
        types: frozenset[str] | None,
        min_score: float,
        *,
        whole_characters: bool = False,
    ) -> EntityGrouper:
        """What makes entities of the scores of this tokenizer's tokens."""
        return EntityGrouper.for_tokenizer(
            self._tokenizer, labels, strategy, types, min_score, whole_characters=whole_characters
        )

    def _specials(self) -> tuple[list[int], list[int]]:
        encoding = self._tokenizer.encode("a")
        special = encoding.special_tokens_mask
        before = special.index(0) if 0 in special else 0
        return encoding.ids[:before], encoding.ids[len(special) - (sum(special) - before) :]

    def _places(self, encoding: Encoding) -> TokenSpans:
        tokens = encoding.tokens
        if self._named_by_id:
            tokens = [self._tokenizer.id_to_token(i) or "" for i in encoding.ids]
        return TokenSpans(tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask)


# A batch of nothing makes onnxruntime divide by zero, which ends the process.
NO_TOKENS = Rejection("tokenize", "no-tokens", "The tokenizer finds nothing in the text.", "InvalidMessage")


def portions(texts: Sequence[str]) -> Iterator[slice]:
    """Slices of texts that are tokenized at once, each of few characters or a single text."""
    if sum(map(len, texts)) <= PORTION_CHARACTERS:
        # As nearly always: no work for each of them.
        if texts:
            yield slice(0, len(texts))
        return
    start = characters = 0
    for number, text in enumerate(texts):
        characters += len(text)
        if characters > PORTION_CHARACTERS and number > start:
            yield slice(start, number)
            start, characters = number, len(text)
    yield slice(start, len(texts))


def tokenize_each(tokenize: Tokenize, texts: Sequence[str]) -> list[Encoded | Rejection]:
    """One entry a text, in order; a text that the tokenizer refuses, or finds nothing in, harms no other."""
    try:
        return [encoded if encoded.ids else NO_TOKENS for encoded in tokenize(texts)]
    except Exception as error:  # noqa: BLE001 - any failure is isolated to its culprit
        if len(texts) == 1:
            kind = type(error).__name__
            return [Rejection("tokenize", "tokenizer-error", f"The tokenizer failed on this message ({kind}).", kind)]
    half = len(texts) // 2
    return tokenize_each(tokenize, texts[:half]) + tokenize_each(tokenize, texts[half:])
