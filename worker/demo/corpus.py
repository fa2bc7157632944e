"""The demo's messages: hand-written ham and spam, the values that break classifiers, and a stream of both.

The messages were written for this project and come from no data set; names, numbers and domains are invented.
They show what the worker does. They are too few to measure how well a model does it.
"""

from __future__ import annotations

import random
from functools import cache
from importlib import resources
from itertools import count
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

Label: TypeAlias = Literal["ham", "spam"]
Channel: TypeAlias = Literal["sms", "comment", "mail"]
Expected: TypeAlias = Literal["result", "dead-letter", "skipped"]


class DemoMessage(NamedTuple):
    """A message and what it is."""

    text: str
    label: Label
    channel: Channel


class PoisonCase(NamedTuple):
    """A value that a careless consumer dies of, or wrongly refuses."""

    name: str
    value: bytes | None
    """None is a tombstone."""
    expected: Expected
    """What the worker makes of it with the default configuration."""


KEYS: tuple[bytes, ...] = tuple(b"user-%02d" % number for number in range(1, 13))
"""The keys of a stream: few, so that the order within a key can be seen."""

POISON: tuple[PoisonCase, ...] = (
    PoisonCase("tombstone", None, "skipped"),
    PoisonCase("empty-value", b"", "dead-letter"),
    PoisonCase("bad-utf8", b'{"text": "caf\xe9 \xff\xfe"}', "dead-letter"),
    PoisonCase("not-json", b"text=Call+me+back", "dead-letter"),
    PoisonCase("cut-off-json", b'{"text": "Call me ba', "dead-letter"),
    PoisonCase("byte-order-mark", b'\xef\xbb\xbf{"text": "Call me back"}', "dead-letter"),
    PoisonCase("not-an-object", b'["Call me back"]', "dead-letter"),
    PoisonCase("missing-text", b'{"body": "Call me back"}', "dead-letter"),
    PoisonCase("text-is-number", b'{"text": 42}', "dead-letter"),
    PoisonCase("text-is-null", b'{"text": null}', "dead-letter"),
    PoisonCase("text-is-object", b'{"text": {"text": "Call me back"}}', "dead-letter"),
    PoisonCase("text-empty", b'{"text": ""}', "dead-letter"),
    PoisonCase("text-whitespace", b'{"text": " \\t\\r\\n\\u00a0\\u2003"}', "dead-letter"),
    PoisonCase("lone-surrogate", b'{"text": "Call me back \\ud800"}', "dead-letter"),
    PoisonCase("nan-literal", b'{"text": "Call me back", "weight": NaN}', "dead-letter"),
    # Small enough to pass the bound on bytes, so that it is the parser that has to survive it.
    PoisonCase("nested-100000", b'{"text": "Hi", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "dead-letter"),
    # orjson reads an integer beyond 64 bits as a float, and refuses what would be an infinite one.
    PoisonCase("integer-40-digits", b'{"text": "Call me back", "n": ' + b"9" * 40 + b"}", "result"),
    PoisonCase("integer-400-digits", b'{"text": "Call me back", "n": ' + b"9" * 400 + b"}", "dead-letter"),
    PoisonCase("raw-control", b'{"text": "Call \x01 back"}', "dead-letter"),
    PoisonCase("escaped-control", b'{"text": "\\u001b[31mCall\\u0007 me\\u007f back\\u0085"}', "result"),
    PoisonCase("nul-in-text", b'{"text": "Call me\\u0000 back"}', "result"),
    PoisonCase("right-to-left", '{"text": "\u202eתתקשר אליי בערב\u202c اتصل بي مساءً"}'.encode(), "result"),
    PoisonCase("surrogate-pair", b'{"text": "Call me back \\ud83d\\ude00"}', "result"),
    # Beyond the 256 KiB that are the default, and still below the 1,000,000 bytes that clients send by default.
    PoisonCase("text-1-mb", b'{"text": "' + b"free " * 198_000 + b'"}', "dead-letter"),
)
"""Values with a fixed outcome. None has an id, so that those with a result keep a stream's ids unique."""


def load() -> list[DemoMessage]:
    """The demo's messages in the order of the file; a new list each time, read once."""
    return list(_messages())


def stream(seed: int, poison_share: float = 0.02) -> Iterator[tuple[bytes, bytes | None]]:
    """An endless stream of keys and values; the same seed and share always give the same one.

    A value is `{"id": "m-000000", "text": ..., "channel": ...}`, numbered without gaps, or that of a case of
    `POISON`. Every message comes once before any comes again, and so does every poison.

    Args:
        seed: of the order, the keys and the places of the poison.
        poison_share: the probability with which a value is poison.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0.0 <= poison_share <= 1.0:
        raise ValueError(f"poison_share is between 0 and 1, {poison_share!r} is not")
    return _stream(random.Random(seed), poison_share)


@cache
def _messages() -> tuple[DemoMessage, ...]:
    lines = resources.files(__package__).joinpath("messages.jsonl").read_bytes().splitlines()
    return tuple(DemoMessage(**orjson.loads(line)) for line in lines)


def _stream(rng: random.Random, poison_share: float) -> Iterator[tuple[bytes, bytes | None]]:
    numbers = count()
    messages = _rounds(rng, _messages())
    poison = _rounds(rng, POISON)
    while True:
        key = rng.choice(KEYS)
        if rng.random() < poison_share:
            yield key, next(poison).value
        else:
            message = next(messages)
            document = {"id": f"m-{next(numbers):06d}", "text": message.text, "channel": message.channel}
            yield key, orjson.dumps(document)


def _rounds(rng: random.Random, items: Sequence[T]) -> Iterator[T]:
    while True:
        yield from rng.sample(items, len(items))
