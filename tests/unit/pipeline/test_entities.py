"""Tokens' scores to named entities."""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import worker.model
from worker.pipeline.entities import STRATEGIES, EntityGrouper, TokenSpans, read_tags

DEFAULT = Path(worker.model.__file__).parent / "default" / "tokenizer.json"
IOB = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
BILOU = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BILU"))


def spans_of(tokenizer, text):
    encoding = tokenizer.encode_batch([text])[0]
    return TokenSpans(encoding.tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask)


def words(text):
    """Each word a token."""
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == " ")]
    tokens = text.split(" ")
    offsets = [(start, start + len(token)) for start, token in zip(starts, tokens, strict=True)]
    return TokenSpans(tokens, offsets, list(range(len(tokens))), [0] * len(tokens))


def scores_of(labels, tags, score=0.9):
    """Each tag with this score, the others sharing the rest."""
    rows = np.full((len(tags), len(labels)), (1 - score) / (len(labels) - 1))
    rows[np.arange(len(tags)), [labels.index(tag) for tag in tags]] = score
    return rows


def grouped(tags, labels=IOB, strategy="simple", types=None, min_score=0.0):
    """Of a text with a one-letter word for each tag: (group, words)."""
    text = " ".join("abcdefghij"[: len(tags)])
    group = EntityGrouper(labels, strategy, types, min_score, " ".join)
    return [(e.entity_group, e.word) for e in group(scores_of(labels, tags), words(text), text)]


def wordpiece():
    """Of the default bundle: no case, no accents."""
    return Tokenizer.from_file(str(DEFAULT))


def byte_level():
    """Few merges, so that characters are cut into several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Zoë Müller lives in the city of Łódź 👍🏽"] * 3, trainer)
    return tokenizer


def compatibility():
    """NFKC, which makes one character of some and several of others."""
    tokenizer = wordpiece()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return tokenizer


@cache
def tokenizer_of(make):
    tokenizer = make()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


# Schemes of tags


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O O", []),
        ("B-PER I-PER O", [("PER", "a b")]),
        ("I-PER I-PER O I-PER", [("PER", "a b"), ("PER", "d")]),
        ("B-PER B-PER", [("PER", "a"), ("PER", "b")]),
        ("I-PER B-PER I-PER", [("PER", "a"), ("PER", "b c")]),
        ("B-PER I-LOC", [("PER", "a"), ("LOC", "b")]),
    ],
)
def test_iob(tags: str, entities: list):
    """IOB1 and IOB2 by one rule: a `B` begins, and so does another type."""
    assert grouped(tags.split()) == entities


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-PER I-PER L-PER U-PER O", [("PER", "a b c"), ("PER", "d")]),
        ("U-LOC U-LOC", [("LOC", "a"), ("LOC", "b")]),
        ("B-PER L-PER B-PER L-PER", [("PER", "a b"), ("PER", "c d")]),
        ("U-PER I-PER L-PER", [("PER", "a"), ("PER", "b c")]),
        ("L-PER L-PER", [("PER", "a"), ("PER", "b")]),
        ("I-PER I-PER O L-LOC", [("PER", "a b"), ("LOC", "d")]),
        ("B-PER L-LOC", [("PER", "a"), ("LOC", "b")]),
        ("B-PER I-PER U-PER I-PER", [("PER", "a b"), ("PER", "c"), ("PER", "d")]),
    ],
)
@pytest.mark.parametrize("scheme", ["BILU", "BIES", "BMEW", "BMES"])
def test_tags_for_ends(tags: str, entities: list, scheme: str):
    """A single is an entity by itself, an end ends; against the scheme no token is lost and no types are mixed."""
    other = str.maketrans("BILU", scheme)
    in_scheme = [tag[0].translate(other) + tag[1:] for tag in tags.split()]
    labels = [label[0].translate(other) + label[1:] for label in BILOU]
    assert grouped(in_scheme, labels) == entities


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        (["O", "E-MAIL", "S-BAHN"], ["O", "MAIL", "BAHN"]),
        (["O", "B-MAIL", "E-MAIL", "CITY"], ["O", "MAIL", "MAIL", "CITY"]),
        (["LABEL_0", "PER"], ["LABEL_0", "PER"]),
        (["O", "B-work-of-art"], ["O", "work-of-art"]),
    ],
)
def test_labels_without_a_scheme_of_ends(labels: list, types: list):
    """That a label looks like the end of something is not enough."""
    tags = read_tags(labels)
    assert [tag.type for tag in tags] == types
    assert not any(tag.ends for tag in tags)


def test_a_label_without_prefix_continues():
    assert grouped(["PER", "PER", "O", "LOC", "PER"], ["O", "PER", "LOC"]) == [
        ("PER", "a b"),
        ("LOC", "d"),
        ("PER", "e"),
    ]


@pytest.mark.parametrize("labels", [IOB, BILOU])
@given(st.data())
def test_no_token_is_lost_and_no_types_are_mixed(labels: tuple, data: st.DataObject):
    """Whatever the order of tags, each token that has a type is in one entity, of that type."""
    tags = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=10))
    found = [(kind, letter) for kind, word in grouped(tags, labels) for letter in word.split()]
    assert found == [(tag[2:], letter) for tag, letter in zip(tags, "abcdefghij", strict=False) if tag != "O"]


# Strategies, types and scores

WORD = TokenSpans(
    ["[CLS]", "an", "##na", "x", "[SEP]"],
    [(0, 0), (0, 2), (2, 4), (5, 6), (0, 0)],
    [None, 0, 0, 1, None],
    [1, 0, 0, 0, 1],
)
WORD_SCORES = np.array(
    [  # O, B-PER, I-PER, B-LOC, I-LOC; special tokens say what they will
        [0.0, 1.0, 0.0, 0.0, 0.0],
        [0.2, 0.5, 0.3, 0.0, 0.0],
        [0.0, 0.3, 0.0, 0.7, 0.0],
        [0.8, 0.0, 0.1, 0.1, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0],
    ]
)


@pytest.mark.parametrize(
    ("strategy", "entities"),
    [
        ("none", [("B-PER", 0.5, "an", 0, 2), ("B-LOC", 0.7, "##na", 2, 4)]),
        ("simple", [("PER", 0.5, "an", 0, 2), ("LOC", 0.7, "##na", 2, 4)]),
        ("first", [("PER", 0.5, "anna", 0, 4)]),
        ("average", [("PER", 0.4, "anna", 0, 4)]),
        ("max", [("LOC", 0.7, "anna", 0, 4)]),
    ],
)
def test_strategies(strategy: str, entities: list):
    """A word of two tokens that disagree."""
    group = EntityGrouper.for_tokenizer(tokenizer_of(wordpiece), IOB, strategy)
    found = group(WORD_SCORES, WORD, "anna x")
    assert [(e.entity_group, pytest.approx(e.score), e.word, e.start, e.end) for e in found] == entities


def test_the_score_is_the_mean_over_tokens():
    spans, scores = words("a b"), scores_of(IOB, ["B-PER", "I-PER"], 0.9)
    scores[1] = scores_of(IOB, ["I-PER"], 0.5)
    (entity,) = EntityGrouper(IOB, "simple", None, 0.0, " ".join)(scores, spans, "a b")
    assert entity.score == pytest.approx(0.7)
    assert type(entity.score) is float


@pytest.mark.parametrize(("least", "count"), [(0.0, 1), (0.89, 1), (0.91, 0)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_least_score(strategy: str, least: float, count: int):
    assert len(grouped(["O", "B-PER"], strategy=strategy, min_score=least)) == count


@pytest.mark.parametrize(
    ("strategy", "types", "entities"),
    [
        ("simple", {"PER"}, [("PER", "a")]),
        ("none", {"PER"}, [("B-PER", "a")]),
        ("first", {"LOC", "PER"}, [("PER", "a"), ("LOC", "b")]),
        ("max", set(), []),
    ],
)
def test_wanted_types(strategy: str, types: set, entities: list):
    """Types, not tags, whatever the strategy; an unwanted entity still parts its neighbours."""
    assert grouped(["B-PER", "B-LOC"], strategy=strategy, types=frozenset(types)) == entities


def test_an_unwanted_entity_parts_its_neighbours():
    tags = ["B-PER", "B-LOC", "I-PER"]
    assert grouped(tags, types=frozenset({"PER"})) == [("PER", "a"), ("PER", "c")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_unknown_words_are_given_as_in_the_text(strategy: str):
    """The tokenizer has no token for an emoji; two of them are two words."""
    text = "👩‍👩‍👧 🫠"
    spans = spans_of(tokenizer_of(wordpiece), text)
    assert spans.tokens[1:-1] == ["[UNK]", "[UNK]"]
    scores = scores_of(IOB, ["O", "B-PER", "B-LOC", "O"])
    found = EntityGrouper.for_tokenizer(tokenizer_of(wordpiece), IOB, strategy)(scores, spans, text)
    assert [(e.word, e.start, e.end) for e in found] == [("👩‍👩‍👧", 0, 5), ("🫠", 6, 7)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_text_without_tokens_has_no_entities(strategy: str):
    """Also where the special tokens are said to be entities."""
    spans = spans_of(tokenizer_of(wordpiece), "\x00")
    group = EntityGrouper.for_tokenizer(tokenizer_of(wordpiece), IOB, strategy)
    assert group(scores_of(IOB, ["B-PER", "I-PER"]), spans, "\x00") == []
    assert group(np.zeros((0, 5)), TokenSpans([], [], [], []), "") == []


def test_scores_of_other_tokens_are_an_error():
    with pytest.raises(ValueError, match="3 tokens for 2"):
        EntityGrouper(IOB, "simple", None, 0.0, " ".join)(np.ones((3, 5)), words("a b"), "a b")


# Offsets

NAMES = (
    "Anna", "Zoë", "Zoe\u0308", "e\u0301e\u0301", "Ünïcödé", "İstanbul", "Straße", "Łódź", "ﬁrma", "①②", "½",
    "ｆｕｌｌ", "a\x00b", "c\u200bd", "x\u00ady", "👍", "👍🏽", "❤️", "👩‍👩‍👧", "🇩🇪", "東京", "서울", "हिन्दी", "ไทย",
    "q" * 120,
)  # fmt: skip
GAPS = (" ", "\r\n", "\n", "\t", "  ", " \x07 ", " \ufeff ", " \u0301 ", "\u3000")
# What a reader sees stays whole; BertNormalizer drops these, and with them the end of a token that had them.
DROPPED = {"Mn", "Me", "Cf", "Cc"}


@cache
def simple(make, whole_characters):
    return EntityGrouper.for_tokenizer(tokenizer_of(make), IOB, "simple", whole_characters=whole_characters)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(GAPS), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([wordpiece, byte_level, compatibility]),
)
@settings(deadline=None, max_examples=300)
def test_offsets_are_those_of_the_name_in_the_text(parts: list, make):
    """A name's entity is the name, character by character, but for marks at its end that the normalizer drops."""
    text, places = "", []
    for name, gap, is_entity in parts:
        places.append((len(text), len(text) + len(name), is_entity))
        text += name + gap
    spans = spans_of(tokenizer_of(make), text)
    tags = []
    for start, end in spans.offsets:
        place = next((p for p in places if p[0] <= start < end <= p[1] and p[2]), None)
        begun = place and tags and any(s >= place[0] for s, e in spans.offsets[: len(tags)] if e > s)
        tags.append("O" if place is None else "I-PER" if begun else "B-PER")
    scores, wanted = scores_of(IOB, tags), [(start, end) for start, end, is_entity in places if is_entity]
    whole = [(e.start, e.end) for e in simple(make, True)(scores, spans, text)]
    as_pipeline = [(e.start, e.end) for e in simple(make, False)(scores, spans, text)]
    assert whole == wanted
    for (start, end), (_, place_end) in zip(as_pipeline, wanted, strict=True):
        assert start < end <= place_end
        assert all(unicodedata.category(c) in DROPPED for c in text[end:place_end])


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(NAMES + GAPS)).map("".join),
    st.integers(0, 2**32),
    st.sampled_from([wordpiece, byte_level, compatibility]),
    st.sampled_from(STRATEGIES),
    st.sampled_from([IOB, BILOU]),
    st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_entities_lie_in_order_within_the_text(text: str, seed: int, make, strategy: str, labels: tuple, whole: bool):
    """For any text and any scores; only tokens that the tokenizer cut from one character share it."""
    spans = spans_of(tokenizer_of(make), text)
    scores = np.random.default_rng(seed).dirichlet(np.full(len(labels), 0.3), len(spans.tokens))
    group = EntityGrouper.for_tokenizer(tokenizer_of(make), labels, strategy, whole_characters=whole)
    found = group(scores, spans, text)
    shared = {end for (_, end), (start, _) in pairwise(spans.offsets) if start < end}
    for before, after in pairwise(found):
        assert before.start <= after.start
        assert before.end <= after.end
        assert before.end <= after.start or before.end in shared
    assert all(0 <= e.start <= e.end <= len(text) and 0 < e.score <= 1 for e in found)
    # A byte-level tokenizer has tokens for blanks, which its trimmed offsets leave nothing of.
    assert make is byte_level or all(e.start < e.end for e in found)


@given(st.text(max_size=40), st.integers(0, 2**32), st.sampled_from(STRATEGIES))
@settings(deadline=None)
def test_types_and_least_scores_only_leave_out(text: str, seed: int, strategy: str):
    """What is left is as it was."""
    tokenizer = tokenizer_of(wordpiece)
    spans = spans_of(tokenizer, text)
    scores = np.random.default_rng(seed).dirichlet(np.full(len(IOB), 0.3), len(spans.tokens))
    everything = EntityGrouper.for_tokenizer(tokenizer, IOB, strategy)(scores, spans, text)
    some = EntityGrouper.for_tokenizer(tokenizer, IOB, strategy, frozenset({"LOC"}), 0.6)(scores, spans, text)
    assert some == [e for e in everything if e.entity_group.endswith("LOC") and e.score >= 0.6]
