"""Values with a schema's id in front, to documents: each schema is fetched once, when its id comes up first."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from worker.errors import BrokerError, InvalidMessage, WinnowError
from worker.kafka.registry import avro, protobuf
from worker.kafka.registry.client import MAGIC_BYTE, SCHEMA_TYPES, NotNow
from worker.kafka.registry.waiting import READS, Waits
from worker.pipeline import json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.registry.client import Client

_HEAD = 5
UNKNOWN_SECONDS = 10.0
"""An id that the registry did not have is not asked for again so soon: a producer that errs sends it all the time."""
_MOST_UNKNOWN = 1_000
UNKNOWN_A_SECOND = 100
"""Answers that a registry may have to give to made-up ids. The next lookup waits; no message is refused unasked."""


class Reader:
    """Reads the values of one format.

    JSON is not validated again: that takes many times as long as to parse it, follows addresses that schemas may
    refer to, and what the worker needs is checked in any case. The schema must be there, and of that type.
    """

    def __init__(
        self,
        client: Client,
        format: str,
        longest_wait: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.schema_type = SCHEMA_TYPES[format]
        self._client = client
        self._longest_wait = longest_wait
        self._clock = clock
        self._sleep = sleep
        self._open = _OPENERS[format]
        self._readers: dict[int, Callable[[bytes], Any]] = {}
        self._unknown: dict[int, tuple[float, str]] = {}
        """Until when, and why; the oldest first."""
        self._refusals: deque[float] = deque(maxlen=UNKNOWN_A_SECOND)
        """When the registry did not have something."""
        self._waits = Waits(longest_wait, clock)

    def __call__(self, value: bytes) -> Any:
        """The document.

        Raises:
            InvalidMessage: the value is not framed, has an unknown schema, or is not of that schema.
            BrokerError: the registry does not answer for a schema that is new, or too slowly for those that were.
        """
        self._waits.read()
        # Registries' ids are Java's int: what is beyond is none, and their web servers' errors differ.
        schema_id = int.from_bytes(value[1:_HEAD], signed=True)
        if len(value) < _HEAD or value[0] != MAGIC_BYTE or schema_id < 0:
            raise InvalidMessage(
                "invalid-framing", "The value does not begin as a schema registry's do: a zero byte, and a schema's id."
            )
        read = self._readers.get(schema_id) or self._learn(schema_id)
        try:
            return read(value[_HEAD:])
        except (WinnowError, MemoryError):
            raise
        # The libraries raise whatever their parsers meet; their messages may quote the value.
        except Exception:  # noqa: BLE001
            raise InvalidMessage(
                "invalid-payload", f"The value does not parse by the {self.schema_type} schema {schema_id}."
            ) from None

    def _learn(self, schema_id: int) -> Callable[[bytes], Any]:
        until, why = self._unknown.get(schema_id, (float("-inf"), ""))
        if self._clock() < until:
            raise _no_schema(why)
        self._spare_the_registry()
        try:
            read = self._readers[schema_id] = self._waits.run(lambda: self._fetched(schema_id))
        except NotNow as error:
            self._remember_unknown(schema_id, str(error))
            raise _no_schema(str(error)) from None
        except TimeoutError:
            raise BrokerError(
                f"The schema registry at {self._client.address} is too slow: of {READS} messages in a row, schemas "
                f"took more than {self._longest_wait:g} s. See to the registry, or raise registry.timeout_ms."
            ) from None
        return read

    def _fetched(self, schema_id: int) -> Callable[[bytes], Any]:
        schema = self._client.schema(schema_id)
        if schema is None:
            raise NotNow(f"The registry does not have the schema {schema_id}.")
        if schema.schema_type != self.schema_type:
            return _refuse(f"The schema {schema_id} is of type {schema.schema_type}, not {self.schema_type}.")
        try:
            return self._open(self._client, schema_id, schema)
        except NotNow as error:
            raise NotNow(f"The schema {schema_id} cannot be used: {error}") from None
        except InvalidMessage as error:
            return _refuse(f"The schema {schema_id} cannot be used: {error}")
        except (WinnowError, MemoryError):
            raise
        # Whatever a schema makes the libraries raise.
        except Exception:  # noqa: BLE001
            return _refuse(f"The schema {schema_id} is no {self.schema_type} schema that can be read.")

    def _spare_the_registry(self) -> None:
        """Wait while there were as many refusals as there may be in a second."""
        if len(self._refusals) == UNKNOWN_A_SECOND:
            self._sleep(max(0.0, self._refusals[0] + 1 - self._clock()))

    def _remember_unknown(self, schema_id: int, why: str) -> None:
        now = self._clock()
        self._refusals.append(now)
        self._unknown.pop(schema_id, None)
        self._unknown[schema_id] = now + UNKNOWN_SECONDS, why
        if len(self._unknown) > _MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]


def _json_reader(*_: object) -> Callable[[bytes], Any]:
    return json_text.parse


_OPENERS: dict[str, Callable[..., Callable[[bytes], Any]]] = {
    "avro": avro.reader,
    "json-schema": _json_reader,
    "protobuf": protobuf.reader,
}


def _refuse(sentence: str) -> Callable[[bytes], Any]:
    def refuse(_: bytes) -> Any:
        raise _no_schema(sentence)

    return refuse


def _no_schema(sentence: str) -> InvalidMessage:
    return InvalidMessage("unknown-schema", sentence)
