"""What the tokenizer made of words, remembered.

A BERT tokenizer treats every character of a text, and then every word, by itself, whatever stands around it, and most
texts consist of few different ones. The Rust tokenizer looks all of them up in Unicode's tables, aligns and copies; to
put the ids of known words together takes a fraction of that. It is asked for every character and every word that is
new, and for texts that write out one of its own tokens, such as `[SEP]`.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any
from unicodedata import combining

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

WORDS = 32_768
"""Remembered at most, some 7 MB; then all are forgotten, and those in use are back within a few hundred messages."""
CHARACTERS = 4_096
"""Beyond ASCII, remembered at most, likewise."""
LONGEST = 40
"""Characters of a word that is remembered."""
_WORD = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
# What the normalizer drops, of ASCII.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class _Characters(dict[int, str]):
    """What each character becomes, for `str.translate`: a part of a word, a word of its own, a space, or nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._normalize, self._split = tokenizer.normalizer.normalize_str, tokenizer.pre_tokenizer.pre_tokenize_str

    def __missing__(self, code: int) -> str:
        if len(self) >= CHARACTERS:
            self.clear()
        words = [word for word, _ in self._split(self._normalize(f"a{chr(code)}b"))]
        self[code] = became = " ".join(words)[1:-1]
        return became


class WordMemo:
    """Token ids of texts, from those of their words.

    Args:
        tokenizer: asked for what is new; it must be of the kind that `of` finds fit.
        added: the tokens that it finds in a text before anything else.
        lowercase: whether it lowers them.
        words: remembered at most.
    """

    def __init__(self, tokenizer: Tokenizer, added: Iterable[str], *, lowercase: bool, words: int = WORDS) -> None:
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._added = re.compile("|".join(map(re.escape, added)) or r"(?!)", re.IGNORECASE)
        self._words = words
        self._ids: dict[str, tuple[int, ...]] = {}
        self._characters = _Characters(tokenizer)

    @classmethod
    def of(cls, tokenizer: Tokenizer, tokenizer_json: str) -> WordMemo | None:
        """For a tokenizer that reads words one by one; None for any other kind.

        Args:
            tokenizer: made of `tokenizer_json`.
            tokenizer_json: the text of its file.
        """
        document = orjson.loads(tokenizer_json)
        kinds = [(document.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
        if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"] or not document["normalizer"]["clean_text"]:
            return None
        added: list[dict[str, Any]] = document.get("added_tokens") or []
        return cls(
            tokenizer, [token["content"] for token in added], lowercase=bool(document["normalizer"]["lowercase"])
        )

    def __call__(self, text: str) -> list[int] | None:
        """The ids without special tokens; None where the tokenizer itself must be asked."""
        if self._added.search(text):
            return None
        words = self._of_ascii(text) if text.isascii() else self._of_any(text)
        if words is None:
            return None
        try:
            return [*chain.from_iterable(map(self._ids.__getitem__, words))]
        except KeyError:
            return self._learned(words)

    def _of_ascii(self, text: str) -> list[str]:
        if _CONTROL.search(text):
            text = _CONTROL.sub("", text)
        return _WORD.findall(text.lower() if self._lowercase else text)

    def _of_any(self, text: str) -> list[str] | None:
        # Marks that follow one another are brought into an order of their own.
        return None if any(map(combining, text)) else text.translate(self._characters).split(" ")

    def _learned(self, words: Sequence[str]) -> list[int] | None:
        new = list({word: None for word in words if word not in self._ids})
        if any(len(word) > LONGEST for word in new) or len(new) > self._words:
            return None
        if len(self._ids) + len(new) > self._words:
            self._ids.clear()
            new = list(dict.fromkeys(words))
        encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        self._ids.update((word, tuple(encoding.ids)) for word, encoding in zip(new, encodings, strict=True))
        return [*chain.from_iterable(map(self._ids.__getitem__, words))]
