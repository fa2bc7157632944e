"""The texts behind the default bundle: reading, splitting without near-duplicates across splits, augmenting.

Nothing here needs torch. A split is a pure function of the texts, so that a second run of the recipe, on another
machine, trains and measures on exactly the same ones.
"""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import orjson

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

LABELS = ("ham", "spam")
EXTRA = "extra.jsonl"
# How many texts each channel gives up for measuring. The SMS collection comes with its own test file.
HELD_OUT = {"sms": (0, 500), "comments": (300, 200), "mails": (800, 600), "modern": (120, 60)}
_SHINGLE = 3
_BANDS, _ROWS = 24, 3
_NEAR = 0.6


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text with its channel (sms, comments, mails, modern) and its label id (0 ham, 1 spam)."""

    text: str
    label: int
    channel: str


@dataclass(frozen=True, slots=True)
class Splits:
    """Lists of texts; no near-duplicate of a test or validation text is in `train` (SMS: see `sms_leaks`).

    `styled` are the project's own texts in the style of the collections, for training.
    """

    train: list[Labelled]
    styled: list[Labelled]
    validation: list[Labelled]
    test: list[Labelled]
    sms_leaks: frozenset[str]


def read(path: Path, channel: str) -> list[Labelled]:
    """Reads `{"text", "label"}` lines, label `ham` or `spam`; a line may name a channel of its own."""
    rows = (orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip())
    return [Labelled(row["text"], LABELS.index(row["label"]), row.get("channel", channel)) for row in rows]


def load_splits(data: Path, extra: Path) -> Splits:
    """Reads the three collections under `data` and the project's own texts in `extra`, and splits each by itself.

    Own texts in the style of a collection are for training alone: what a channel is measured on comes from others.
    """
    own = read(extra, "modern")
    sms_train, sms_test = read(data / "sms_spam/train.jsonl", "sms"), read(data / "sms_spam/test.jsonl", "sms")
    parts = [
        _split(sms_train),
        _split(read(data / "youtube_spam/comments.jsonl", "comments")),
        _split(read(data / "enron_spam/mails.jsonl", "mails")),
        _split([row for row in own if row.channel == "modern"]),
    ]
    train, validation, test = ([row for part in parts for row in part[i]] for i in range(3))
    styled = [row for row in own if row.channel != "modern"]
    return Splits(train, styled, validation, sms_test + test, _leaks(sms_train, sms_test))


def _split(rows: list[Labelled]) -> tuple[list[Labelled], list[Labelled], list[Labelled]]:
    """Whole groups of near-duplicates go, in the order of their digests, to test, then validation, then train."""
    tests, validations = HELD_OUT[rows[0].channel]
    test: list[Labelled] = []
    validation: list[Labelled] = []
    train: list[Labelled] = []
    for group in sorted(groups([row.text for row in rows]), key=lambda g: min(_digest(rows[i].text) for i in g)):
        members = [rows[i] for i in group]
        # A campaign of many variants is for learning: held out, it would count one mistake many times.
        if len(members) <= 3 and len(test) < tests:
            test += members
        elif len(members) <= 3 and len(validation) < validations:
            validation += members
        else:
            train += members
    return train, validation, test


def _leaks(train: list[Labelled], test: list[Labelled]) -> frozenset[str]:
    """The test texts that have a near-duplicate in `train`: the collection's own split allows them."""
    texts = [row.text for row in (*train, *test)]
    mixed = (g for g in groups(texts) if min(g) < len(train) <= max(g))
    return frozenset(texts[i] for g in mixed for i in g if i >= len(train))


def groups(texts: Sequence[str]) -> list[list[int]]:
    """Indices of `texts`, grouped by near-duplication (Jaccard of word shingles at least 0.6, transitively)."""
    sets = [_shingles(text) for text in texts]
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    buckets: dict[tuple[int, bytes], int] = {}
    for i, signature in enumerate(_signatures(sets)):
        for band in range(_BANDS):
            first = buckets.setdefault((band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()), i)
            if first != i and root(first) != root(i) and _jaccard(sets[first], sets[i]) >= _NEAR:
                parent[root(i)] = root(first)
    found: dict[int, list[int]] = {}
    for i in range(len(texts)):
        found.setdefault(root(i), []).append(i)
    return list(found.values())


def _shingles(text: str) -> frozenset[int]:
    words = re.sub(r"\d", "0", re.sub(r"[^\w\s]", " ", html.unescape(text).lower())).split()
    runs = {" ".join(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1))}
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=6).digest()) for run in runs)


def _signatures(sets: Iterable[frozenset[int]]) -> list[np.ndarray]:
    """MinHash signatures, `_BANDS * _ROWS` values each."""
    odd = np.random.default_rng(1).integers(1, 2**62, _BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
    return [(np.fromiter(s, np.uint64, len(s))[:, None] * odd).min(0) for s in sets]


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def augment(row: Labelled, rng: random.Random) -> str:
    """A variant of the text that means the same: what other senders, gateways and exports would have made of it."""
    text = row.text
    for change, chance in _CHANGES:
        if rng.random() < chance:
            text = change(text, rng)
    if row.channel == "mails":
        text = _mail_view(text, rng)
    if row.label == 1 and rng.random() < 0.1:
        text = _obfuscated(text, rng)
    return text if text.strip() else row.text


def _mail_view(text: str, rng: random.Random) -> str:
    """Without the word `Subject:`, without the subject, or from a line in the middle on."""
    view = rng.random()
    if view < 0.3:
        return text.removeprefix("Subject:").lstrip()
    lines = text.split("\n")
    if view < 0.4 and len(lines) > 3:
        return "\n".join(lines[1:])
    if view < 0.5 and len(lines) > 10:
        return "\n".join(lines[rng.randrange(1, len(lines) // 2) :])
    return text


def _other_digits(text: str, rng: random.Random) -> str:
    return re.sub(r"\d", lambda _: str(rng.randrange(10)), text)


def _typo(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def _words_lost(text: str, rng: random.Random) -> str:
    return " ".join(word for word in text.split(" ") if rng.random() > 0.1)


def _without_punctuation(text: str, _: random.Random) -> str:
    return re.sub(r"[.,!?;:'\"*-]+(?=\s|$)", "", text)


def _louder(text: str, rng: random.Random) -> str:
    return re.sub(r"[!?.]", lambda m: m[0] * rng.randrange(1, 4), text)


_LOOKALIKES = str.maketrans({"a": "@", "e": "3", "i": "1", "o": "0", "s": "$"})


_DISGUISES: tuple[Callable[[str], str], ...] = (
    lambda word: word.translate(_LOOKALIKES),
    ".".join,
    " ".join,
    lambda word: word[:2] + "\u200b" + word[2:],
)


def _obfuscated(text: str, rng: random.Random) -> str:
    """Some longer words with look-alike characters or spread letters, as senders do to slip through word lists."""
    way = rng.choice(_DISGUISES)
    return " ".join(way(w) if len(w) > 3 and w.isalpha() and rng.random() < 0.25 else w for w in text.split(" "))


_CHANGES: tuple[tuple[Callable[[str, random.Random], str], float], ...] = (
    (_other_digits, 0.4),
    (lambda text, _: html.unescape(text), 0.3),
    (lambda text, _: html.escape(text), 0.03),
    (_typo, 0.1),
    (_words_lost, 0.15),
    (_without_punctuation, 0.08),
    (_louder, 0.05),
)


def variants(rows: Iterable[Labelled], count: int, rng: random.Random) -> list[Labelled]:
    """So many variants of each row, by `augment`."""
    return [replace(row, text=augment(row, rng)) for row in rows for _ in range(count)]


def distorted(rows: Sequence[Labelled], count: int, rng: random.Random) -> list[Labelled]:
    """So many texts made of each row that nobody would have written, so that no label holds of them.

    Variants of `rows`, which are of one channel, spliced with each other, cut, with other words, or with fewer. They
    are for learning what another network says: there are more of them, and less clear ones, than of real texts.
    """
    words = [word for row in rows for word in row.text.split(" ")]

    def change(row: Labelled) -> str:
        own = augment(row, rng).split(" ")
        way = rng.random()
        if way < 0.35:
            own = _part(own, rng) + _part(augment(rng.choice(rows), rng).split(" "), rng)
        elif way < 0.6:
            own = _part(_part(own, rng), rng)
        elif way < 0.85:
            share = rng.uniform(0.05, 0.4)
            own = [rng.choice(words) if rng.random() < share else word for word in own]
        else:
            share = rng.uniform(0.1, 0.5)
            own = [word for word in own if rng.random() > share]
        return " ".join(own)

    made = ((row, change(row)) for row in rows for _ in range(count))
    return [replace(row, text=text) if text.strip() else row for row, text in made]


def _part(words: list[str], rng: random.Random) -> list[str]:
    """The beginning or the end, at least one word."""
    at = rng.randrange(len(words))
    return words[: at + 1] if rng.random() < 0.5 else words[at:]
