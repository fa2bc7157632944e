"""Scores of tokens to named entities, as transformers' token classification pipeline makes them with a fast tokenizer.

For tags of IOB1 and IOB2, and for labels without any scheme, spans, groups and words are those of the pipeline (5.23),
its habits included: whether a token continues a word is guessed from lengths or blanks, and a combining mark that the
tokenizer's normalizer strips at the end of a word is outside of the word (see `whole_characters`).

The pipeline knows no tags for the end of an entity. Here BILOU, BIOES, BMEWO and BMES are recognised by the labels:
`U`, `S` and `W` are an entity by themselves, `L` and `E` end one, `I` and `M` are inside. What a model says against
the scheme loses no token and mixes no types: an entity starts at a `B` or a single, after an end, and where the type
changes, whatever the tag there.
"""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

Strategy: TypeAlias = Literal["none", "simple", "first", "average", "max"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
OUTSIDE = "O"
_SCHEMES = (frozenset("BILU"), frozenset("BIES"), frozenset("BMEW"), frozenset("BMES"))
_BEGINS, _ENDS = frozenset("BUSW"), frozenset("LEUSW")
_MARKS = frozenset({"Mn", "Me", "Mc"})
_JOINER = "\u200d"


class Entity(NamedTuple):
    """A named entity; with the strategy `none` a token whose tag is not `O`."""

    entity_group: str
    """The type; with the strategy `none` the tag as the model has it, `B-person`."""
    score: float
    """0 to 1: the mean over the tokens, or over the words where the strategy makes words."""
    word: str
    """The tokens, decoded: normalized as the tokenizer does. The text itself is `text[start:end]`."""
    start: int
    """In characters (code points) of the text, as `end`."""
    end: int


class TokenSpans(NamedTuple):
    """What the tokenizer says of each token of a text; lists of one length."""

    tokens: Sequence[str]
    """As the vocabulary has them, the unknown token too. (An encoding of a Unigram model has the text in its place:
    there take `id_to_token`.)"""
    offsets: Sequence[tuple[int, int]]
    """(start, end) in characters (code points) of the text."""
    word_ids: Sequence[int | None]
    special: Sequence[int]
    """1 where the token was added around the text and stands for none of it."""


class Tag(NamedTuple):
    """What a label says of the token that has it."""

    kind: str
    """Neighbours of different kinds are never in one entity."""
    type: str
    """The entity's type; `O` for no entity."""
    begins: bool
    """The token before, if any, is of another entity."""
    ends: bool
    """The token after, if any, is of another entity."""


def read_tags(labels: Sequence[str]) -> tuple[Tag, ...]:
    """One tag a label; the scheme is the labels' as a whole.

    A scheme with ends is assumed where every label but `O` has one of its prefixes, one of them is `B`, and one says
    an end. All else is read as the pipeline does: `B-` begins, `I-` continues, and what has neither continues.
    """
    prefixes = {label[:1] if label[1:2] == "-" else "" for label in labels if label != OUTSIDE}
    with_ends = "B" in prefixes and bool(prefixes & _ENDS) and any(prefixes <= scheme for scheme in _SCHEMES)
    return tuple(_read_tag(label, with_ends) for label in labels)


def _read_tag(label: str, with_ends: bool) -> Tag:
    prefix = label[:1]
    if label == OUTSIDE:
        return Tag(label, label, begins=False, ends=False)
    if with_ends:
        return Tag(label[2:], label[2:], prefix in _BEGINS, prefix in _ENDS)
    if label.startswith(("B-", "I-")):
        return Tag(label[2:], label[2:], begins=prefix == "B", ends=False)
    return Tag(label, label.split("-", 1)[-1], begins=False, ends=False)


class EntityGrouper:
    """Entities of one text after another, by one strategy.

    Strategies: `none` names each token; `simple` joins neighbours of a type; the others first let the tokens of a word
    agree, by the tag of the `first`, by the `average` of the scores, or by the token that is surest (`max`), and join
    words then.

    Args:
        labels: tags in the order of the label ids.
        strategy: how tokens become entities.
        types: the types to give; None for all. With the strategy `none` too these are types, not tags.
        min_score: the least score of an entity to give.
        decode: tokens, as the vocabulary has them, to words.
        unknown: the token for what the vocabulary does not have: it begins a word, and is given as in the text.
        marks_subwords: whether tokens within a word have a prefix (`##`), as WordPiece has; else words end at blanks.
        whole_characters: let an entity end after combining marks and joiners that follow it and are in no token:
            `text[start:end]` is then never cut within what a reader sees as one character. The pipeline does not.
    """

    def __init__(
        self,
        labels: Sequence[str],
        strategy: Strategy,
        types: frozenset[str] | None,
        min_score: float,
        decode: Callable[[list[str]], str],
        *,
        unknown: str | None = "[UNK]",
        marks_subwords: bool = True,
        whole_characters: bool = False,
    ) -> None:
        tags = read_tags(labels)
        kinds = {kind: i for i, kind in enumerate(dict.fromkeys(tag.kind for tag in tags))}
        self._strategy = strategy
        self._names = tuple(labels) if strategy == "none" else tuple(tag.type for tag in tags)
        self._kinds = np.array([kinds[tag.kind] for tag in tags])
        self._begins = np.array([tag.begins for tag in tags])
        self._ends = np.array([tag.ends for tag in tags])
        self._inside = np.array([name != OUTSIDE for name in self._names])
        self._wanted = self._inside & np.array([types is None or tag.type in types for tag in tags])
        self._min_score = min_score
        self._decode = decode
        self._unknown = unknown
        self._marks_subwords = marks_subwords
        self._whole_characters = whole_characters

    @classmethod
    def for_tokenizer(
        cls,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        strategy: Strategy,
        types: frozenset[str] | None = None,
        min_score: float = 0.0,
        *,
        whole_characters: bool = False,
    ) -> EntityGrouper:
        """With what the tokenizer itself says of decoding, unknown words and subwords."""
        decoder, model = tokenizer.decoder, tokenizer.model
        return cls(
            labels,
            strategy,
            types,
            min_score,
            " ".join if decoder is None else decoder.decode,
            unknown=model.unk_token if hasattr(model, "unk_token") else _unknown_by_id(tokenizer),
            marks_subwords=bool(getattr(model, "continuing_subword_prefix", None)),
            whole_characters=whole_characters,
        )

    def __call__(self, scores: NDArray[np.floating], spans: TokenSpans, text: str) -> list[Entity]:
        """Entities in the order of the text.

        Args:
            scores: probabilities, finite, shape [tokens, labels].
            spans: of the same tokens.
            text: as it was given to the tokenizer; offsets are into it.

        Raises:
            ValueError: scores and spans are not of as many tokens.
        """
        if len(scores) != len(spans.tokens):
            raise ValueError(f"scores of {len(scores)} tokens for {len(spans.tokens)} tokens")
        # Single precision, as in the pipeline: what ties there ties here.
        scores = scores.astype(np.float32, copy=False)
        best = scores.argmax(axis=1)
        # Most messages name nothing. An average is not `O` only where one of its tokens is not.
        if all(spans.special[i] for i in np.flatnonzero(self._inside[best]).tolist()):
            return []
        tokens = np.flatnonzero(np.asarray(spans.special) == 0)
        reading = _Reading(spans, text, tokens.tolist(), self._unknown)
        scores, best = scores[tokens], best[tokens]
        if self._strategy == "none":
            return self._tokens(reading, scores.max(axis=1), best)
        if self._strategy == "simple":
            return self._groups(reading, scores.max(axis=1), best, np.arange(len(tokens)))
        starts = np.array(reading.word_starts(self._marks_subwords))
        scores = _word_scores(self._strategy, scores, starts)
        return self._groups(reading, scores.max(axis=1), scores.argmax(axis=1), starts)

    def _tokens(self, reading: _Reading, scores: NDArray[np.float32], best: NDArray[np.intp]) -> list[Entity]:
        return [
            Entity(self._names[best[i]], float(scores[i]), reading.piece(i), *self._bounds(reading, i, i + 1))
            for i in np.flatnonzero(self._wanted[best] & (scores >= self._min_score)).tolist()
        ]

    def _groups(
        self, reading: _Reading, scores: NDArray[np.float32], best: NDArray[np.intp], starts: NDArray[np.intp]
    ) -> list[Entity]:
        """Joined units; a unit is a token or a word, and reaches from its start to the next one's.

        Args:
            reading: of the text.
            scores: of each unit's best label.
            best: each unit's best label.
            starts: the number of each unit's first token.
        """
        kinds = self._kinds[best]
        fresh = (kinds[1:] != kinds[:-1]) | self._begins[best[1:]] | self._ends[best[:-1]]
        edges = [0, *(np.flatnonzero(fresh) + 1).tolist(), len(best)]
        first_tokens = [*starts.tolist(), len(reading.tokens)]
        entities = []
        for unit, after in pairwise(edges):
            if not self._wanted[best[unit]]:
                continue
            score = float(scores[unit:after].mean())
            if score >= self._min_score:
                word = self._word(reading, first_tokens[unit : after + 1])
                bounds = self._bounds(reading, first_tokens[unit], first_tokens[after])
                entities.append(Entity(self._names[best[unit]], score, word, *bounds))
        return entities

    def _word(self, reading: _Reading, edges: list[int]) -> str:
        """Words are decoded one by one and then together, as the pipeline does; decoders are not indifferent to it."""
        if self._strategy == "simple":
            return self._decode([reading.piece(i) for i in edges[:-1]])
        words = [[reading.piece(i) for i in range(start, end)] for start, end in pairwise(edges)]
        return self._decode([self._decode(word) for word in words])

    def _bounds(self, reading: _Reading, first: int, after: int) -> tuple[int, int]:
        start, end = reading.offsets[first][0], reading.offsets[after - 1][1]
        return start, reading.whole(end, after) if self._whole_characters else end


class _Reading:
    """A text and its tokens without the special ones, which are numbered from 0."""

    def __init__(self, spans: TokenSpans, text: str, chosen: list[int], unknown: str | None) -> None:
        self.tokens = [spans.tokens[i] for i in chosen]
        self.offsets = [spans.offsets[i] for i in chosen]
        self._text = text
        self._unknown = unknown

    def piece(self, number: int) -> str:
        """The token, or for an unknown one what the text has there."""
        token = self.tokens[number]
        return self._text[slice(*self.offsets[number])] if token == self._unknown else token

    def word_starts(self, marks_subwords: bool) -> list[int]:
        """Numbers of the tokens that begin a word, by the pipeline's guess.

        With marked subwords a token begins a word if it is as long as its text, which a mark keeps it from, but so do
        stripped accents; else it does if there is a blank at its start or before it.
        """
        text, unknown = self._text, self._unknown
        each = enumerate(zip(self.tokens, self.offsets, strict=True))
        if marks_subwords:
            return [i for i, (token, (start, end)) in each if i == 0 or len(token) == end - start or token == unknown]
        return [
            i
            for i, (token, (start, _)) in each
            if i == 0 or start == 0 or " " in text[start - 1 : start + 1] or token == unknown
        ]

    def whole(self, end: int, after: int) -> int:
        """`end` moved past marks that no token has; `after` is the number of the next token."""
        limit = self.offsets[after][0] if after < len(self.offsets) else len(self._text)
        while end < limit and (unicodedata.category(self._text[end]) in _MARKS or self._text[end] == _JOINER):
            end += 1
        return end


def _unknown_by_id(tokenizer: Tokenizer) -> str | None:
    """A Unigram model has the number of its unknown token, and tells it to its file alone."""
    number = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return None if number is None else tokenizer.id_to_token(number)


def _word_scores(strategy: Strategy, scores: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
    """Scores of each word, shape [words, labels], of those of its tokens; `starts` is strictly increasing from 0."""
    if strategy == "first":
        return scores[starts]
    sizes = np.diff(starts, append=len(scores))
    if strategy == "average":
        sums = np.add.reduceat(scores, starts, axis=0)
        return (sums / sizes[:, None]).astype(np.float32)
    peaks = scores.max(axis=1)
    surest = np.flatnonzero(peaks == np.repeat(np.maximum.reduceat(peaks, starts), sizes))
    # The first of the equally sure ones in each word.
    return scores[surest[np.searchsorted(surest, starts)]]
