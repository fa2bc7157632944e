"""Records of the output and of the dead letters: to which message they are the answer, and what of them is compared."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from worker import letters
from worker.audit.accounts import Answer
from worker.errors import InvalidMessage
from worker.letters import Source

if TYPE_CHECKING:
    from worker.pipeline.decode import Read
    from worker.pipeline.messages import Record


def of_result(record: Record, read: Read = orjson.loads) -> tuple[Source, Answer] | None:
    """A result; None where the record is none of Winnow's.

    Args:
        record: of the output.
        read: a value to the result that it holds; raises InvalidMessage or ValueError where it holds none.
    """
    value = record.value or b""
    try:
        document = read(value)
    except (InvalidMessage, ValueError):
        return None
    source, bundle = _at(document, "source"), _at(_at(document, "model"), "digest")
    place = _at(source, "topic"), _at(source, "partition"), _at(source, "offset")
    if not isinstance(bundle, str) or not _is_place(*place):
        return None
    return Source(*place), Answer(False, result_digest(record.topic, record.key, value), bundle)


def of_letter(record: Record) -> tuple[Source, Answer] | None:
    """A dead letter; None where its headers do not say which message it is."""
    letter = letters.read(record)
    if letter.source is None:
        return None
    reason = letter.reason or ""
    return letter.source, Answer(True, _digest(record.key, record.value, reason.encode()), reason)


def result_digest(topic: str, key: bytes | None, value: bytes) -> int:
    """Of what two results must have the same. Their headers may differ: tracing writes new ones each time."""
    return _digest(topic.encode(), key, value)


def _digest(*parts: bytes | None) -> int:
    """64 bits."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        hashed.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return int.from_bytes(hashed.digest(), "big")


def _at(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None


def _is_place(topic: Any, partition: Any, offset: Any) -> bool:
    return isinstance(topic, str) and _is_index(partition) and _is_index(offset)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
