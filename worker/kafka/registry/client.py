"""The registry's client: what is asked of it, and what its answers mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from worker.errors import BrokerError, ConfigError, InvalidMessage
from worker.kafka.registry import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

SCHEMA_TYPES = {"avro": "AVRO", "json-schema": "JSON", "protobuf": "PROTOBUF"}
"""A registry's names of the formats."""
MAGIC_BYTE = 0
"""With which all values begin; a schema's id follows."""
_RETRIES = {"max.retries": ATTEMPTS - 1, "retries.wait.ms": 200, "retries.max.wait.ms": 1000}
"""The client's own take seven seconds and more, next to the time for the answers."""
_OWNED = {"url": "registry.url", "timeout": "registry.timeout_ms"} | dict.fromkeys(_RETRIES, "registry.timeout_ms")
"""Properties that are not the user's, and what to set instead."""
_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_NOT_FOUND = 404
_REFUSED = (401, 403)
_INCOMPATIBLE = (409, 422)
_CANNOT_TELL = (422, 500, 501)
_NOT_THERE = range(40400, 40500)
"""A registry's codes for what it does not have; a web server's own 404 has none."""
_MESSAGE_CHARACTERS = 300
_MOST_REFERENCES = 500
"""Each is a request, while messages wait."""


class NotNow(InvalidMessage):
    """A schema cannot be used now, and may be later: the registry does not have it, or what it refers to."""

    def __init__(self, message: str) -> None:
        super().__init__("unknown-schema", message)


class Client:
    """confluent-kafka's client with a bound on waiting, and its errors in Winnow's words.

    Raises:
        ConfigError: a property is wrong.
    """

    def __init__(self, url: str, properties: Mapping[str, Any], timeout: float) -> None:
        self.address = ", ".join(_without_login(one.strip()) for one in url.split(","))
        _check(properties)
        conf = {**_RETRIES, **properties, "url": url, "timeout": timeout}
        try:
            self._client: Any = SchemaRegistryClient.new_client(conf)
        # Files that cannot be read and TLS that cannot be set up are OSErrors.
        except (ValueError, TypeError, OSError) as wrong:
            raise ConfigError(f"registry.properties: {wrong}.") from wrong

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def check(self, schema_type: str) -> None:
        """Make sure at start that a registry answers, and has schemas of a type.

        Raises:
            BrokerError: none does, or it refuses the worker.
            ConfigError: it has no schemas of that type.
        """
        types = self._ask(self._client.get_schema_types)
        if types is not None and schema_type not in types:
            raise ConfigError(f"The schema registry at {self.address} has no schemas of the type {schema_type}.")

    def schema(self, schema_id: int) -> Schema | None:
        """The schema with an id, or None where the registry does not have it."""
        return self._ask(lambda: self._client.get_schema(schema_id))

    def referenced(self, schema: Schema) -> dict[str, str]:
        """The schemas that a schema needs, by the names it has for them; what they need themselves comes first.

        Raises:
            NotNow: one is not in the registry.
        """
        found: dict[str, str] = {}
        self._gather(schema, found, set())
        return found

    def _gather(self, schema: Schema, found: dict[str, str], begun: set[str]) -> None:
        for reference in schema.references or ():
            name = reference.name or ""
            if name in begun:
                continue
            begun.add(name)
            if len(begun) > _MOST_REFERENCES:
                raise InvalidMessage("unknown-schema", f"It refers to more than {_MOST_REFERENCES} others.")
            registered = self._ask(
                lambda it=reference: self._client.get_version(it.subject, it.version, True)  # type: ignore[misc]
            )
            if registered is None:
                raise NotNow("It refers to one that the registry does not have.")
            self._gather(registered.schema, found, begun)
            found[name] = registered.schema.schema_str

    def find(self, subject: str, schema_type: str, texts: Sequence[str]) -> int | None:
        """The id of the first of these schemas that a subject has, in whatever layout; None where it has none."""
        for text in texts:
            schema = Schema(text, schema_type)
            for normalize in (False, True):
                found = self._ask(lambda s=schema, n=normalize: self._client.lookup_schema(subject, s, n))  # type: ignore[misc]
                if found is not None:
                    return int(found.schema_id)
        return None

    def register(self, subject: str, schema_type: str, text: str) -> int:
        """Add a schema to a subject; its id.

        Raises:
            ConfigError: it is not compatible with those that the subject has, or the registry does not take it.
        """

        def call() -> int | ConfigError:
            try:
                return int(self._client.register_schema(subject, Schema(text, schema_type)))
            except SchemaRegistryError as error:
                if error.http_status_code not in _INCOMPATIBLE:
                    raise
                return self._incompatible(subject, _message(error))

        made = self._ask(call)
        if isinstance(made, int):
            return made
        raise made or BrokerError(f"The schema registry at {self.address} does not let the worker register schemas.")

    def check_compatible(self, subject: str, schema_type: str, text: str) -> bool:
        """Make sure that a subject would take a schema, which changes nothing.

        Returns:
            Whether the registry could tell: some cannot compare schemas of each kind.

        Raises:
            ConfigError: it has others that this one is not compatible with.
        """
        schema = Schema(text, schema_type)

        def call() -> bool | None:
            try:
                return bool(self._client.test_compatibility_all_versions(subject, schema))
            except SchemaRegistryError as error:
                if error.http_status_code in _CANNOT_TELL:
                    return None
                if error.http_status_code == _NOT_FOUND and error.error_code in _NOT_THERE:
                    return True  # a subject that there is not yet takes everything
                raise

        told = self._ask(call)
        if told is False:
            raise self._incompatible(subject, "it is not compatible with those that are there")
        return bool(told)

    def _incompatible(self, subject: str, reason: str) -> ConfigError:
        return ConfigError(
            f"The subject {subject} of the schema registry at {self.address} does not take the schema of results: "
            f"{reason}. Write to another topic, or change registry.subjects or the subject's compatibility."
        )

    def _ask(self, call: Callable[[], T]) -> T | None:
        """An answer, or None where the registry says that it has no such thing.

        Raises:
            BrokerError: no answer, a refusal, or an answer that is none of a registry's.
        """
        try:
            return call()
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND and error.error_code in _NOT_THERE:
                return None
            raise BrokerError(self._refusal(error)) from error
        # The HTTP library's, the login's and those of answers that are not JSON: there is no registry to talk with.
        except Exception as error:
            what = str(error)[:_MESSAGE_CHARACTERS] or type(error).__name__
            raise BrokerError(
                f"The schema registry at {self.address} does not answer ({what}): does it run, and is registry.url "
                "right?"
            ) from error

    def _refusal(self, error: SchemaRegistryError) -> str:
        status = f"HTTP {error.http_status_code}"
        if error.http_status_code in _REFUSED:
            return (
                f"The schema registry at {self.address} refuses the worker ({status}): set its login in "
                "registry.properties, e.g. basic.auth.user.info, and what it may do in the registry."
            )
        if error.http_status_code == _NOT_FOUND:
            return (
                f"There is no schema registry at {self.address} ({status}): has registry.url a path, such as "
                "/apis/ccompat/v7 of Apicurio?"
            )
        return f"The schema registry at {self.address} answered with {status}: {_message(error)}."


def _check(properties: Mapping[str, Any]) -> None:
    """What the client would take without a word, or say nothing of that helps."""
    for name, value in properties.items():
        if name in _OWNED:
            raise ConfigError(f"registry.properties: {name} cannot be set here: set {_OWNED[name]}.")
        if name in _FILES:
            _check_file(name, value)


def _check_file(name: str, path: object) -> None:
    if not isinstance(path, str):
        raise ConfigError(
            f"registry.properties: {name} is {str(path).lower()}, and must be the path of a file. The registry's "
            "certificate is always verified."
        )
    try:
        if not Path(path).is_dir():
            Path(path).open("rb").close()
    except OSError as error:
        raise ConfigError(f"registry.properties: {name} is {path}, which cannot be read: {error.strerror}.") from None


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _message(error: SchemaRegistryError) -> str:
    return str(error.error_message)[:_MESSAGE_CHARACTERS].rstrip(". \n")
