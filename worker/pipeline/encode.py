"""Outcomes to the records that are written, and their topics: results, dead letters with the original bytes.

A result is a function of the message and the bundle alone (no clock, no host), so a redelivered message
gives byte-identical output. When it was classified is the Kafka timestamp of the output record.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from worker.pipeline.error_headers import connect_headers, own_headers, without_own
from worker.pipeline.messages import Destination, Forward, Outgoing, Rejection, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.pipeline.error_headers import ErrorHeaders
    from worker.pipeline.messages import Classification, Headers, Outcome, Record

Write: TypeAlias = "Callable[[dict[str, object], Record, str], tuple[bytes, Headers]]"
"""A result, its message and its topic to the value that is written, and the headers that belong to it."""

SCHEMA_VERSION = 1
LEAST_BYTES = 4_096
"""Any dead letter can be cut to this."""


class ModelIdentity(NamedTuple):
    """Which bundle made a result."""

    name: str
    digest: str


class Topics(NamedTuple):
    """Where records go."""

    output: str = Destination.OUTPUT.value
    """Results that have no other route, and tombstones."""
    dead_letters: str = Destination.DEAD_LETTER.value
    routes: Mapping[str, str] | None = None
    """Topics of results by label, or by action; None where all have the same."""
    by_action: bool = False


class Form(NamedTuple):
    """How results are written."""

    write: Write | None = None
    """None: as JSON, and nothing else."""
    strip: Callable[[Headers], Headers] | None = None
    """Leaves out headers of messages that results must not take over; None for none."""
    tombstone: Callable[[Record], Headers] | None = None
    """Headers that belong to a tombstone that is forwarded; None for none."""


class Encoder:
    """Encodes outcomes.

    Args:
        model: named in every result.
        all_scores: whether results carry the score of every label.
        pass_headers: names of the headers that results take over; `*` for all. Dead letters take over all.
        max_bytes: bound on what is written, at least `LEAST_BYTES`; a larger result or tombstone becomes a dead letter,
            and a larger dead letter is cut, with the size and SHA-256 of the original value in its headers.
        error_headers: the headers of dead letters.
        topics: where what is written goes.
        form: how results are written.
    """

    def __init__(
        self,
        model: ModelIdentity,
        all_scores: bool,
        pass_headers: Sequence[str],
        max_bytes: int,
        error_headers: ErrorHeaders = connect_headers,
        topics: Topics = Topics(),  # noqa: B008 - it does not change
        form: Form = Form(),  # noqa: B008
    ) -> None:
        self._model = {"name": model.name, "digest": model.digest}
        self._digest = model.digest
        self._all_scores = all_scores
        self._all_headers = "*" in pass_headers
        self._headers = frozenset(pass_headers)
        self._max_bytes = max_bytes
        self._error_headers = error_headers
        self._output_topic, self._dead_letter_topic, self._routes, self._by_action = topics
        self._write, self._strip, self._of_tombstone = form

    def __call__(self, record: Record, outcome: Outcome) -> tuple[Outgoing | None, Rejection | None]:
        """What is to be written for a record, and why where it is a dead letter; (None, None) for nothing."""
        outgoing = None
        if isinstance(outcome, Result):
            outgoing = self._result(record, outcome)
        elif isinstance(outcome, Forward):
            outgoing = self._tombstone(record)
        if outgoing is not None:
            size = _size(outgoing)
            if size <= self._max_bytes:
                return outgoing, None
            what = "result" if isinstance(outcome, Result) else "tombstone"
            limit = f"more than the {self._max_bytes} that output.max_bytes and the topics allow"
            outcome = Rejection(
                "encode", "result-too-large", f"The {what} has {size} bytes, {limit}.", "InvalidMessage"
            )
        if isinstance(outcome, Rejection):
            return self._dead_letter(record, outcome), outcome
        return None, None

    def _result(self, record: Record, result: Result) -> Outgoing:
        topic = self._output_topic if self._routes is None else self._routed(result.classification, self._routes)
        document, headers = self._document(record, result), None
        if self._write is None:
            value = orjson.dumps(document)
        else:
            value, headers = self._write(document, record, topic)
        return self._output(record, topic, value, headers)

    def _tombstone(self, record: Record) -> Outgoing:
        headers = None if self._of_tombstone is None else self._of_tombstone(record)
        return self._output(record, self._output_topic, None, headers)

    def _routed(self, said: Classification, routes: Mapping[str, str]) -> str:
        name = said.action if self._by_action else said.label
        return self._output_topic if name is None else routes.get(name, self._output_topic)

    def _document(self, record: Record, result: Result) -> dict[str, object]:
        said = result.classification
        document: dict[str, object] = {
            "schema": SCHEMA_VERSION,
            "id": result.request.id,
            # Of the message's place and the bundle: equal ids mean equal results, so that repeats can be dropped.
            "result_id": f"{record.topic}-{record.partition}-{record.offset}@{self._digest}",
            "source": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": record.timestamp,
            },
            "label": said.label,
            "score": said.score,
            "truncated": result.truncated,
            "tokens": result.tokens,
            "model": self._model,
        }
        if self._all_scores and said.scores:
            document["scores"] = said.scores
        if said.labels is not None or said.entities is not None:
            _describe(document, said)
        if said.action is not None:
            document["action"] = said.action
        if said.layer is not None:
            document["layer"] = said.layer
        if result.windows > 1:
            document["windows"] = result.windows
        if result.request.metadata is not None:
            document["metadata"] = result.request.metadata
        return document

    def _output(self, record: Record, topic: str, value: bytes | None, more: Headers | None = None) -> Outgoing:
        headers = record.headers
        if headers:
            if not self._all_headers:
                headers = [header for header in headers if header[0] in self._headers]
            if self._strip is not None:
                headers = self._strip(headers)
        if more:
            headers = headers + more
        return Outgoing(Destination.OUTPUT, topic, record.key, value, headers, (record.topic, record.partition))

    def _dead_letter(self, record: Record, rejection: Rejection) -> Outgoing:
        why = self._error_headers(record, rejection) + own_headers(record, rejection)
        source = (record.topic, record.partition)
        headers = without_own(record.headers) + why
        whole = Outgoing(Destination.DEAD_LETTER, self._dead_letter_topic, record.key, record.value, headers, source)
        return whole if _size(whole) <= self._max_bytes else self._cut(whole, why)

    def _cut(self, letter: Outgoing, why: Headers) -> Outgoing:
        """Shorten the value; where key and headers alone are too much, leave out the message's own."""
        value = letter.value or b""
        note: Headers = [
            ("winnow.errors.original.bytes", str(len(value)).encode()),
            ("winnow.errors.original.sha256", hashlib.sha256(value).hexdigest().encode()),
        ]
        room = self._max_bytes - _size(letter._replace(value=None, headers=letter.headers + note))
        if room >= 0:
            return letter._replace(value=value[:room], headers=letter.headers + note)
        return letter._replace(key=None, value=None, headers=why + note)


def _describe(document: dict[str, object], said: Classification) -> None:
    """What tasks say that have not exactly one label."""
    if said.labels is not None:
        document["labels"] = [{"label": label, "score": score} for label, score in said.labels]
    if said.entities is not None:
        del document["label"], document["score"]
        document["entities"] = [entity._asdict() for entity in said.entities]


def described(said: Classification) -> dict[str, object]:
    """A classification alone as JSON has it: the label and its score, or the entities, and what else there is."""
    document: dict[str, object] = {"label": said.label, "score": said.score}
    if said.scores:
        document["scores"] = said.scores
    _describe(document, said)
    if said.action is not None:
        document["action"] = said.action
    if said.layer is not None:
        document["layer"] = said.layer
    return document


def _size(outgoing: Outgoing) -> int:
    """Bytes on the wire, rounded up: Kafka adds a few for lengths."""
    headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in outgoing.headers)
    return len(outgoing.key or b"") + len(outgoing.value or b"") + headers + 100
