"""A schema registry: results written by their schema, messages read by whatever schema theirs has.

Values are framed as Confluent's serializers do it: a zero byte, the schema's id in four bytes, for Protobuf the place
of the message in its file, and what the format makes of the document. The schema of results is looked up (or
registered) at start, so that writing never waits for the network; reading does so once for each schema id.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from worker.distribution import install
from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from worker.kafka.registry.client import Client
    from worker.kafka.registry.writing import Form

FORMATS = ("avro", "json-schema", "protobuf")
"""As the settings name them."""
CONTENT_TYPES = {
    "avro": "application/vnd.confluent.avro",
    "json-schema": "application/vnd.confluent.json-schema",
    "protobuf": "application/vnd.confluent.protobuf",
}
"""Media types of values with a schema's id in front, which are neither plain Avro nor JSON nor Protobuf."""
_TEXTS = {"avro": "avro_schema", "json-schema": "json_schema", "protobuf": "protobuf_schema"}
ATTEMPTS = 3
"""Times that each address is asked."""
SECONDS_BETWEEN = 1.0
"""At most, in all, between the times that one is."""


class NotRegistered(ConfigError):
    """A subject does not have the schema of results, and the settings do not let the worker add it.

    Args:
        subject: which.
        format: of the schema.
        mend: what to do, without a full stop.
    """

    def __init__(self, subject: str, format: str, mend: str) -> None:
        super().__init__(f"The subject {subject} does not have the {format} schema of results: {mend}.")
        self.subject = subject
        self.format = format


class Registry:
    """A registry, and what is read and written by it. Used by one thread.

    Args:
        url: its address, or several, separated by commas.
        properties: more of confluent-kafka's SchemaRegistryClient.
        auto_register: register the schema of results where it is missing.
        subjects: how subjects are named: `topic`, `record` or `topic-record`.
        timeout: seconds to wait for an answer; it is asked for three times.
        clock: seconds, for how long an id stays unknown, and lookups take.
        sleep: waits for some, where made-up ids come too fast.

    Raises:
        ConfigError: a package of the extra is missing, or a property is wrong.
    """

    def __init__(
        self,
        url: str,
        properties: Mapping[str, Any],
        *,
        auto_register: bool,
        subjects: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        with _extra():
            from worker.kafka.registry.client import Client
        self.client: Client = Client(url, properties, timeout)
        self._auto_register = auto_register
        self._subjects = subjects
        self._clock = clock
        self._sleep = sleep
        self._longest_wait = longest_wait(url, timeout)

    def serializer(self, format: str, topic: str) -> Callable[[dict[str, Any]], bytes]:
        """What makes values of results for a topic.

        Raises:
            NotRegistered: the subject does not have the schema.
            ConfigError: it has others that this one is not compatible with, or a package of the extra is missing.
            BrokerError: the registry does not answer, or refuses.
        """
        made = self._form(format)
        head = made.head(self._id(made, subject(self._subjects, topic, made.name), format))
        encode = made.encode
        return lambda document: head + encode(document)

    def check_compatible(self, format: str, topic: str) -> bool:
        """Make sure that the schema of results could be registered for a topic, which changes nothing.

        Returns:
            Whether the registry could tell.

        Raises:
            ConfigError: the subject has others that this one is not compatible with, or a package is missing.
            BrokerError: the registry does not answer, or refuses.
        """
        made = self._form(format)
        name = subject(self._subjects, topic, made.name)
        return self.client.check_compatible(name, made.schema_type, made.texts[0])

    def deserializer(self, format: str) -> Callable[[bytes], Any]:
        """What reads values with any schema of the registry to documents as `orjson.loads` would give them.

        It raises InvalidMessage for a value that is not of the format, and BrokerError where the registry does not
        answer, or its answers take longer than `longest_wait`, so that no message is given up because the registry is
        down, nor partitions because it is slow.

        Raises:
            ConfigError: a package of the extra is missing.
            BrokerError: the registry does not answer, or refuses.
        """
        with _extra():
            from worker.kafka.registry.reading import Reader
        reader = Reader(self.client, format, self._longest_wait, self._clock, self._sleep)
        self.client.check(reader.schema_type)
        return reader

    def close(self) -> None:
        """End the connections; what was made still writes, and reads what has a known schema."""
        self.client.close()

    def _form(self, format: str) -> Form:
        """That of a format which the registry has, and answers."""
        with _extra():
            from worker.kafka.registry.writing import form

            made = form(format)
        self.client.check(made.schema_type)
        return made

    def _id(self, made: Form, name: str, format: str) -> int:
        """The id of the schema of results under a subject."""
        found = self.client.find(name, made.schema_type, made.texts)
        if found is not None:
            return found
        if not self._auto_register:
            raise NotRegistered(
                name,
                format,
                f"register it at {self.client.address} (`worker.contracts.{_TEXTS[format]}()` is its text), or set "
                "registry.auto_register = true",
            )
        return self.client.register(name, made.schema_type, made.texts[0])


def longest_wait(url: str, timeout: float) -> float:
    """Seconds that a registry of these addresses may hold up the thread that polls, between two polls."""
    return (ATTEMPTS * timeout + SECONDS_BETWEEN) * (url.count(",") + 1)


def subject(naming: str, topic: str, record: str) -> str:
    """The subject of a topic's values: `topic`, `record` or `topic-record`, as Confluent's clients name them."""
    return {"topic": f"{topic}-value", "record": record, "topic-record": f"{topic}-{record}"}[naming]


@contextmanager
def _extra() -> Iterator[None]:
    """Say what to install where a package is missing."""
    try:
        yield
    except ImportError as missing:
        raise ConfigError(
            f"A schema registry needs the extra [registry], of which {missing.name} is missing. Install it: "
            f"{install('registry')}."
        ) from missing
