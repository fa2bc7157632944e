"""Words and the pieces that a tokenizer makes of them, by their characters."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Offsets: TypeAlias = "Sequence[tuple[int, int]]"
NOWHERE = -1


def word_of_each(pieces: Offsets, words: Offsets) -> list[int]:
    """For each piece the word that it lies in, `NOWHERE` for special tokens and what lies between words.

    Both are (start, end) in characters of the same text; words are in order and do not overlap. A piece that begins
    with the space before a word, as byte-level tokenizers make them, belongs to that word.
    """
    starts = [start for start, _ in words]
    out = []
    for start, end in pieces:
        word = bisect_right(starts, max(start, end - 1)) - 1
        inside = word >= 0 and start < end and words[word][0] < end and start < words[word][1]
        out.append(word if inside else NOWHERE)
    return out


def first_pieces(pieces: Offsets, words: Offsets) -> list[int]:
    """For each word the index of its first piece, `NOWHERE` where the tokenizer left nothing of it, or cut it off."""
    out = [NOWHERE] * len(words)
    for piece, word in enumerate(word_of_each(pieces, words)):
        if word != NOWHERE and out[word] == NOWHERE:
            out[word] = piece
    return out
