"""Values with a schema's id in front, to documents: each schema is fetched once, when its id comes up first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import InvalidMessage, WinnowError
from worker.kafka.registry import avro, protobuf
from worker.kafka.registry.client import MAGIC_BYTE, SCHEMA_TYPES
from worker.pipeline import json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka.schema_registry import Schema

    from worker.kafka.registry.client import Client

_HEAD = 5
UNKNOWN_SECONDS = 10.0
"""An id that the registry did not have is not asked for again so soon: a producer that errs sends it all the time."""
_MOST_UNKNOWN = 1_000


class Reader:
    """Reads the values of one format.

    JSON is not validated again: that takes many times as long as to parse it, follows addresses that schemas may
    refer to, and what the worker needs is checked in any case. The schema must be there, and of that type.
    """

    def __init__(self, client: Client, format: str, clock: Callable[[], float]) -> None:
        self.schema_type = SCHEMA_TYPES[format]
        self._client = client
        self._clock = clock
        self._open = _OPENERS[format]
        self._readers: dict[int, Callable[[bytes], Any]] = {}
        self._unknown: dict[int, float] = {}

    def __call__(self, value: bytes) -> Any:
        """The document.

        Raises:
            InvalidMessage: the value is not framed, has an unknown schema, or is not of that schema.
            BrokerError: the registry does not answer for a schema that is new.
        """
        # Registries' ids are Java's int: what is beyond is none, and their web servers' errors differ.
        schema_id = int.from_bytes(value[1:_HEAD], signed=True)
        if len(value) < _HEAD or value[0] != MAGIC_BYTE or schema_id < 0:
            raise InvalidMessage(
                "invalid-framing", "The value does not begin as a schema registry's do: a zero byte, and a schema's id."
            )
        read = self._readers.get(schema_id) or self._learn(schema_id)
        try:
            return read(value[_HEAD:])
        except WinnowError:
            raise
        # The libraries raise whatever their parsers meet; their messages may quote the value.
        except Exception:  # noqa: BLE001
            raise InvalidMessage(
                "invalid-payload", f"The value does not parse by the {self.schema_type} schema {schema_id}."
            ) from None

    def _learn(self, schema_id: int) -> Callable[[bytes], Any]:
        if self._clock() < self._unknown.get(schema_id, float("-inf")):
            raise _no_schema(f"The registry does not have the schema {schema_id}.")
        schema = self._client.schema(schema_id)
        if schema is None:
            self._remember_unknown(schema_id)
            raise _no_schema(f"The registry does not have the schema {schema_id}.")
        if schema.schema_type == self.schema_type:
            read = self._opened(schema_id, schema)
        else:
            read = _refuse(f"The schema {schema_id} is of type {schema.schema_type}, not {self.schema_type}.")
        self._readers[schema_id] = read
        return read

    def _opened(self, schema_id: int, schema: Schema) -> Callable[[bytes], Any]:
        try:
            return self._open(self._client, schema_id, schema)
        except InvalidMessage as error:
            return _refuse(f"The schema {schema_id} cannot be used: {error}")
        except WinnowError:
            raise
        # Whatever a schema makes the libraries raise.
        except Exception:  # noqa: BLE001
            return _refuse(f"The schema {schema_id} is no {self.schema_type} schema that can be read.")

    def _remember_unknown(self, schema_id: int) -> None:
        if len(self._unknown) >= _MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown[schema_id] = self._clock() + UNKNOWN_SECONDS


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
