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
    from collections.abc import Iterable, Mapping, Sequence

    from tokenizers import Tokenizer

WORDS = 16_384
"""Remembered at most, and so many that came once: some 5 MB, 9 MB of the longest.

When they are too many, all are forgotten; those in use are back within a few hundred messages.
"""
CHARACTERS = 32_768
"""Beyond ASCII, remembered at most, likewise: some 6 MB."""
LONGEST, MOST_TOKENS = 24, 6
"""Characters and tokens of a word that is remembered."""
NEW_SHARE = 4
"""Where more than this part of a text's words are new, the tokenizer is quicker with the whole of it."""
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
    """Token ids of texts, from those of their words. Used by one thread.

    A word is remembered when it comes the second time: codes and names that come once cost no more than a look.

    Args:
        tokenizer: asked for what is new; it must be of the kind that `of` finds fit.
        added: the tokens that it finds in a text before anything else.
        lowercase: whether it lowers words.
        words: remembered at most.
    """

    def __init__(self, tokenizer: Tokenizer, added: Iterable[str], *, lowercase: bool, words: int = WORDS) -> None:
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._added = re.compile("|".join(map(re.escape, added)) or r"(?!)")
        self._words = words
        self._ids: dict[str, tuple[int, ...]] = {}
        self._once: set[str] = set()
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
        if any(token["normalized"] or _is_word(tokenizer, token["content"]) for token in added):
            return None
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
            return self._with_new(words)

    def _of_ascii(self, text: str) -> list[str]:
        if _CONTROL.search(text):
            text = _CONTROL.sub("", text)
        return _WORD.findall(text.lower() if self._lowercase else text)

    def _of_any(self, text: str) -> list[str] | None:
        # Marks that follow one another are brought into an order of their own.
        return None if any(map(combining, text)) else text.translate(self._characters).split(" ")

    def _with_new(self, words: Sequence[str]) -> list[int] | None:
        new = list({word: None for word in words if word not in self._ids})
        again = [word for word in new if word in self._once]
        few, ids = len(new) * NEW_SHARE <= len(words), self._ids
        found = self._asked(new if few else again)
        said = [id_ for word in words for id_ in (found[word] if word in found else ids[word])] if few else None
        self._remember(new, {word: found[word] for word in again})
        return said

    def _asked(self, words: Sequence[str]) -> dict[str, tuple[int, ...]]:
        encodings = self._tokenizer.encode_batch_fast(list(words), add_special_tokens=False) if words else []
        return {word: tuple(encoding.ids) for word, encoding in zip(words, encodings, strict=True)}

    def _remember(self, new: Sequence[str], again: Mapping[str, tuple[int, ...]]) -> None:
        kept = {word: ids for word, ids in again.items() if len(ids) <= MOST_TOKENS}
        if len(self._ids) + len(kept) > self._words:
            self._ids.clear()
        self._ids.update(kept if len(kept) <= self._words else {})
        if len(self._once) + len(new) > self._words:
            self._once.clear()
        self._once.update([word for word in new[: self._words] if len(word) <= LONGEST])


def _is_word(tokenizer: Tokenizer, content: str) -> bool:
    """Whether a token that is found in raw texts would be found in a word that is given by itself, too."""
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(content)) < 2
