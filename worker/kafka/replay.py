"""Writes dead letters back: each once, in the order given, and every acknowledgement is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from worker.kafka import clients, faults

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

    from worker.config import KafkaSettings
    from worker.errors import Fatal
    from worker.pipeline.messages import Headers, Record

QUIET = 0
"""What goes wrong is told by exceptions."""
SERVE = 0.05
"""Seconds between two looks at the client while it is waited for."""


class Replaying:
    """An idempotent producer that waits for all replicas.

    Attributes:
        unacknowledged: the names of the records that were sent and of which nobody has said that they are written.
        failure: the first that was said of a record that is not.
    """

    def __init__(self, kafka: KafkaSettings, max_bytes: int, rate: float | None = None) -> None:
        """Make the client.

        Args:
            kafka: brokers and properties.
            max_bytes: bound on what is written.
            rate: records a second at most; None as fast as it goes.

        Raises:
            ConfigError: the client refuses its properties.
        """
        self.unacknowledged: dict[str, None] = {}
        self.failure: str | None = None
        self._fatal: Fatal | None = None
        self._pause = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        try:
            properties = clients.producer(kafka, max_bytes, self._on_error)
            self._producer = Producer(properties | {"log_level": QUIET})
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None

    def send(self, name: str, topic: str, partition: int | None, record: Record, headers: Headers) -> None:
        """Hand a record over when its time has come.

        Args:
            name: for `unacknowledged`.
            topic: where it goes.
            partition: None: by the key, as the Java clients do.
            record: key and value of what is written.
            headers: and its headers.
        """
        self._await_turn()
        self.unacknowledged[name] = None

        def report(error: KafkaError | None, _: Any) -> None:
            if error is None:
                del self.unacknowledged[name]
            else:
                self._fail(error)

        options: dict[str, Any] = {"headers": headers, "on_delivery": report}
        if partition is not None:
            options["partition"] = partition
        while not self.broken:
            try:
                self._producer.produce(topic, record.value, record.key, **options)
                break
            except BufferError:
                self._producer.poll(SERVE)
            except KafkaException as error:
                self._fail(error.args[0])
        self._producer.poll(0)

    @property
    def broken(self) -> bool:
        """Whether sending on makes no sense: a record was not written, or the client cannot go on."""
        return self.failure is not None or self._fatal is not None

    def finish(self) -> None:
        """Wait until every record is acknowledged or has failed; the client's own time limit sees to that.

        Raises:
            Fatal: the brokers refuse what must be done.
        """
        while len(self._producer) and self._fatal is None:
            self._producer.poll(SERVE)
        if self._fatal is not None:
            raise self._fatal

    def _await_turn(self) -> None:
        now = time.monotonic()
        while now < self._next and not self.broken:
            self._producer.poll(min(SERVE, self._next - now))
            now = time.monotonic()
        self._next = max(self._next, now - self._pause) + self._pause

    def _fail(self, error: KafkaError) -> None:
        self.failure = self.failure or error.str()

    # A callback of the client: it never raises.

    def _on_error(self, error: KafkaError) -> None:
        self._fatal = self._fatal or faults.fatal(error)
