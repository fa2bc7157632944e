"""Varied messages, and workers of every kind that make records of them: composed as always, over memory."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.contract import confluent
from tests.unit import toys
from worker import app
from worker.config import load
from worker.kafka.registry import FORMATS
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.messages import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from worker.pipeline.batches import Item
    from worker.pipeline.messages import Headers, Outgoing
    from worker.pipeline.tokenization import Encoded

SCHEMAS = Path(__file__).parents[2] / "schemas"
PARTITIONS = [("messages", 0), ("messages", 7), ("more.of-them", 2_147_483_647)]
MAX_BYTES = 20_000
"""Of a message that is read."""
UNTOKENIZABLE, NOTHING, UNCLASSIFIABLE = "UNTOKENIZABLE", "NOTHING", "UNCLASSIFIABLE"
"""Words at which the tokenizer fails or finds nothing, or the model fails."""

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
NAMES = {"ann": (0, 4, 0, 0), "lee": (0, 0, 4, 0), "paris": (0, 0, 0, 4), "rome": (0, 0, 0, 3), "went": (4, 0, 0, 0)}
FILLER = dict.fromkeys(("to", "and", "good", "bad", "dull"), (4, 0, 0, 0))
OPINIONS = {"good": (2, -2), "bad": (-2, 2), "dull": (-4, -4)}
BUNDLES = {
    "single-label": (OPINIONS, ("pro", "con")),
    "multi-label": (OPINIONS, ("pro", "con")),
    "regression": ({"good": (1.5,), "bad": (-1.25,)}, ("stars",)),
    "token": (NAMES | FILLER, TAGS),
}


class Message(NamedTuple):
    """What a record is made of, and why it is refused, where every worker that reads JSON refuses it."""

    value: bytes | None
    reason: str | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    unreadable: bool = False


class Setup(NamedTuple):
    """A kind of worker."""

    bundle: str
    settings: tuple[str, ...] = ()
    member: str | None = None
    """Of what is written, the one that is the result; None where all of it is."""
    plain: bool = True
    """Whether it reads JSON as it is, and refuses nothing but for the reasons that messages give."""
    event: bool = False
    """Whether it reads CloudEvents."""
    form: str | None = None
    """The format of a schema registry that it writes; None for JSON."""
    twin: str | None = None
    """The kind that makes the same of the same messages, in JSON."""

    def result(self, written: Outgoing) -> dict[str, Any]:
        """The result in what it has written, as its readers have it."""
        if self.form:
            return confluent.result(self.form, written)
        document = json.loads(written.value or b"")
        return document[self.member] if self.member else document

    def written_as(self, form: str, twin: str) -> Setup:
        """The same in a format of a schema registry; all headers are passed on, those that would mislead included."""
        registry = ("kafka.pass_headers=*", f"registry.url={confluent.URL}", "registry.auto_register=true")
        return self._replace(settings=(*self.settings, f"output.format={form}", *registry), form=form, twin=twin)


ACTIONS = ("decision.accept_score=0.9", "decision.review_score=0.6")
SETUPS = {
    "one-label": Setup("single-label"),
    "decided": Setup(
        "single-label",
        (
            "output.all_scores=true", "decision.min_score=0.7", "decision.fallback_label=?", *ACTIONS,
            "routing.by=action", "routing.topics.review=reviews",
        ),
    ),
    "labels": Setup("multi-label"),
    "scored-labels": Setup("multi-label", ("output.all_scores=true", *ACTIONS)),
    "value": Setup("regression", ("output.all_scores=true", "decision.accept_score=0.5")),
    "entities": Setup("token"),
    "tags": Setup("token", ("entities.aggregation=none", "model.long_texts=windows")),
    "windows": Setup("single-label", ("model.long_texts=windows", "output.all_scores=true")),
    "early-exit": Setup("staged", ("model.lanes=2",)),
    "small": Setup("single-label", ("output.max_bytes=4096", "kafka.pass_headers=*", "dead_letters.headers=spring")),
    "text": Setup("token", ("input.format=text",), plain=False),
    "named-by-headers": Setup(
        "multi-label", ("input.id_header=trace", "input.metadata_headers=tracestate,naïve"), plain=False
    ),
    "events": Setup("single-label", ("input.envelope=cloudevents",), plain=False, event=True),
    "as-events": Setup("token", ("output.envelope=cloudevents-structured",), "data"),
    "in-events": Setup("regression", ("output.envelope=cloudevents-binary", "kafka.pass_headers=*")),
    "enriched": Setup("multi-label", ("output.content=enriched",), "winnow", plain=False),
}  # fmt: skip
TWINS = {
    f"{name}-{form}": SETUPS[name].written_as(form, name)
    for name in ("decided", "named-by-headers", "entities", "value", "early-exit", "windows", "in-events")
    for form in FORMATS
}
SETUPS |= TWINS


def bundle(folder: Path, kind: str) -> Path:
    """The folder of a toy bundle."""
    if kind == "staged":
        return toys.write_staged(folder / kind, 0.9).path
    return toys.write(folder / kind, kind, *BUNDLES[kind]).path


def emitted(patching: pytest.MonkeyPatch, folder: Path, setup: Setup, given: Sequence[Given]) -> list[Outgoing]:
    """What a worker writes of messages."""
    log = MemoryLog()
    for one, _ in given:
        log.records[one.topic, one.partition].append(one)
    settings = load(
        None,
        [
            f"model.bundle={folder}", "model.lanes=1", "serving.enabled=false", "kafka.commit_interval_ms=1",
            f"input.max_bytes={MAX_BYTES}", "input.max_characters=2000", "input.tombstones=dead-letter",
            *setup.settings,
        ],
    )  # fmt: skip
    opened = app.open_model
    with patching.context() as patched:
        confluent.patch(patched)
        patched.setattr(app, "open_model", lambda *arguments: _failing(opened(*arguments)))
        source, sink = MemorySource(log), MemorySink()
        worker = app.Worker(settings, source, sink)
    source.assign(*log.records)
    ends = {partition: len(records) for partition, records in log.records.items()}
    worker.run(lambda: log.committed == ends)
    return sink.sent


def _failing(model: app.Model) -> app.Model:
    """A model whose tokenizer and classifier fail at the words that ask for it."""

    def tokenize(texts: Sequence[str]) -> list[Encoded]:
        if any(UNTOKENIZABLE in text for text in texts):
            raise TypeError("a text that cannot be tokenized")
        found = model.tokenizer(texts)
        return [one._replace(ids=[]) if NOTHING in text else one for text, one in zip(texts, found, strict=True)]

    return model._replace(tokenizer=tokenize, classifier=_Classifier(model.classifier))  # type: ignore[arg-type]


class _Classifier:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def lane(self) -> _Run:
        return _Run(self._inner.lane())


class _Run:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, items: Sequence[Item]) -> Any:
        if any(UNCLASSIFIABLE in item.request.text for item in items):
            raise ValueError("a text that cannot be classified")
        return self._inner(items)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Given(NamedTuple):
    """A message on its partition."""

    record: Record
    reason: str | None
    """Why it is refused, where every worker that reads JSON refuses it."""


def messages(seed: int, count: int, *, event: bool = False) -> list[Given]:
    """Messages of every kind on some partitions, or CloudEvents with them; the same for a seed."""
    chance = random.Random(seed)
    ends = dict.fromkeys(PARTITIONS, 0)
    made = []
    for _ in range(count):
        place = chance.choice(PARTITIONS)
        one = message(chance)
        if event:
            one = _as_event(chance, one)
        key = chance.choice([None, b"", b"key", chance.randbytes(9)])
        timestamp = chance.choice([None, 0, 1_763_700_000_000 + ends[place]])
        headers = [] if one.unreadable else [*_headers(chance), *one.headers]
        of_broker = chance.random() < 0.3
        record = Record(*place, ends[place], key, one.value, headers, timestamp, one.unreadable, of_broker)
        made.append(Given(record, one.reason))
        ends[place] += 1
    return made


def message(chance: random.Random) -> Message:
    """A message, of which one in six is of no use."""
    if chance.random() < 1 / 6:
        return chance.choice(USELESS)(chance)
    document: dict[str, Any] = {"text": text(chance)}
    if chance.random() < 0.6:
        document["id"] = identity(chance)
    if chance.random() < 0.3:
        document["more"] = {"of": [1, None, text(chance)[:20]]}
    if chance.random() < 0.03:
        document["winnow"] = "a member of its own"
    items = list(document.items())
    chance.shuffle(items)
    return Message(json.dumps(dict(items), ensure_ascii=chance.random() < 0.5).encode())


def _as_event(chance: random.Random, one: Message) -> Message:
    """The message as the data of an event, in either mode; some are none."""
    kind = chance.choice(["structured", "binary", "none"])
    attributes = {"specversion": "1.0", "id": chance.choice(["17", "ü"]), "source": "/here", "type": "message"}
    if kind == "binary":
        headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
        return one._replace(headers=(*headers, ("content-type", b"application/json")))
    structured = ("content-type", b"application/cloudevents+json; charset=UTF-8")
    if kind == "structured" and one.reason is None and one.value is not None:
        value = json.dumps(attributes | {"data": json.loads(one.value)}).encode()
        return one._replace(value=value, headers=(structured,))
    return one


def example(name: str) -> dict[str, Any]:
    """The first example of a contract."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))["examples"][0]
    return found


def identity(chance: random.Random) -> str | int | None:
    number = chance.choice([0, -1, -(2**63), 2**64 - 1, chance.randrange(10**9)])
    return chance.choice([None, "", "sms-4711", "ü" * 512, '\u0000\t"\\', text(chance)[:100], number])


SCRIPTS = (
    "abcdefgh ",
    "äöüßéñ ",
    "мир ",
    "مرحبا ",
    "你好吗",
    "🎉👩‍👩‍👧🏽‍♀️ ",
    "\u0301\u200d\u00ad\ufeff a",
    "\x00\x01\x1f\x7f b",
    "\U0001f600\U00020000 c",
)


def text(chance: random.Random) -> str:
    """A text that is not empty: words that the toys know, other scripts, short ones and long ones."""
    length = chance.choice([1, 2, 5, 12, 40, 200])
    if chance.random() < 0.6:
        return " ".join(chance.choices(toys.WORDS, k=length))
    return "x" + "".join(chance.choices(chance.choice(SCRIPTS), k=length))


def _headers(chance: random.Random) -> Headers:
    names = (
        "traceparent", "tracestate", "content-type", "naïve", "trace", "__connect.errors.topic", "__value_schema_id",
        "winnow.errors.reason", "winnow.errors.timestamp", "winnow.errors.original.bytes", "ce_id",
    )  # fmt: skip
    values = (None, b"", b"00-4bf9-00f0-01", b"\xff\xfe", "ä€😀".encode(), chance.randbytes(20))
    made: Headers = [(chance.choice(names), chance.choice(values)) for _ in range(chance.choice([0, 0, 1, 3]))]
    return [*made, ("large", b"x" * 4_000)] if chance.random() < 0.05 else made


def _of(document: Any, reason: str) -> Message:
    return Message(json.dumps(document).encode(), reason)


USELESS: tuple[Callable[[random.Random], Message], ...] = (
    lambda chance: Message(None, "tombstone"),
    lambda chance: Message(b"", "empty"),
    lambda chance: _of({"text": chance.choice(["", " ", "\t\n "])}, "empty-text"),
    lambda chance: Message(b'{"text": "good"}', "invalid-headers", (), True),
    lambda chance: _of({"text": "bad", "id": chance.choice([True, 1.5, [], {}, "x" * 513])}, "invalid-id"),
    lambda chance: Message(chance.choice([b"{", b"text", b'{"text": "a"', b'"\\ud800"']), "invalid-json"),
    lambda chance: Message(b'{"text": "\xff\xfe"}', "invalid-utf8"),
    lambda chance: _of(chance.choice([{}, {"id": 1}, [], 3, "text"]), "missing-field"),
    lambda chance: _of({"text": f"good {UNCLASSIFIABLE} {text(chance)}"}, "model-error"),
    lambda chance: _of({"text": f"{NOTHING} {chance.random()}"}, "no-tokens"),
    lambda chance: _of({"text": f"{UNTOKENIZABLE} {chance.random()}"}, "tokenizer-error"),
    lambda chance: _of({"text": "x" * chance.randrange(MAX_BYTES, 3 * MAX_BYTES)}, "too-large"),
    lambda chance: _of({"text": chance.choice([None, 3, True, [], {}])}, "wrong-type"),
)
"""What every worker that reads JSON refuses, by reason."""
