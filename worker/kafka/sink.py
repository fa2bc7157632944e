"""The producer of results and dead letters. Idempotent, waits for all replicas, counts acknowledgements."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaException, Producer

from worker.errors import DeliveryError, Fatal
from worker.kafka import clients, faults
from worker.pipeline.messages import Destination

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Outgoing
    from worker.ports import Clock

log = structlog.get_logger("kafka")
FULL_QUEUE_PATIENCE = 60.0
"""Seconds for which a full producer queue is waited out."""


class KafkaSink:
    """Writes to the output and the dead-letter topic. See `worker.ports.Sink`."""

    def __init__(self, kafka: KafkaSettings, max_bytes: int, clock: Clock) -> None:
        self._clock = clock
        self._by_source = kafka.output_partition == "source"
        self._topics = {Destination.OUTPUT: kafka.output_topic, Destination.DEAD_LETTER: kafka.dead_letter_topic}
        self._failed: Fatal | None = None
        try:
            properties = clients.producer(kafka, max_bytes, self._on_error)
            self._producer = Producer(properties, logger=logging.getLogger("librdkafka"))
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        topic = self._topics[outgoing.destination]

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._fail(topic, error)
            else:
                self._deliver(delivered)

        options: dict[str, Any] = {"on_delivery": report}
        if outgoing.headers:
            options["headers"] = outgoing.headers
        if self._by_source and outgoing.destination is Destination.OUTPUT:
            options["partition"] = outgoing.source[1]
        self._produce(topic, outgoing, options)

    def _produce(self, topic: str, outgoing: Outgoing, options: dict[str, Any]) -> None:
        deadline = None
        while True:
            try:
                self._producer.produce(topic, outgoing.value, outgoing.key, **options)
                return
            except BufferError:
                if self._failed is not None:
                    raise self._failed from None
                now = self._clock()
                deadline = now + FULL_QUEUE_PATIENCE if deadline is None else deadline
                if now > deadline:
                    raise DeliveryError(f"The queue of records for {topic!r} has been full for a minute.") from None
                self._producer.poll(0.05)
            except KafkaException as error:
                raise _undeliverable(topic, error.args[0]) from None

    def poll(self) -> None:
        self._producer.poll(0)
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Give up what is not acknowledged."""
        self._producer.purge()
        self._producer.poll(0)

    # Callbacks of the client: they never raise.

    def _deliver(self, delivered: Callable[[], None]) -> None:
        try:
            delivered()
        except Exception as error:  # noqa: BLE001 - raised again by `poll`
            self._failed = self._failed or DeliveryError(f"An acknowledgement failed with {type(error).__name__}.")

    def _fail(self, topic: str, error: KafkaError) -> None:
        self._failed = self._failed or _undeliverable(topic, error)

    def _on_error(self, error: KafkaError) -> None:
        log.debug("client error", error=error.name(), detail=error.str())  # librdkafka's own line has been logged
        self._failed = self._failed or faults.fatal(error)


def _undeliverable(topic: str, error: KafkaError) -> Fatal:
    return DeliveryError(
        f"A record could not be written to {topic!r}: {error.str()}. Its offset was not committed; it will be "
        "read again when the worker starts."
    )
