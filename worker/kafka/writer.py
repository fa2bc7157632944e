"""What both producers share: which partition a record goes to, and what happens while the client's queue is full."""

from __future__ import annotations

import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from confluent_kafka import KafkaException, Producer

from worker.errors import DeliveryError, Fatal
from worker.kafka import clients, faults
from worker.kafka.lost import INTERVAL_MS, Lost
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
FLUSH_SECONDS = 0.001
"""The client's least: without any time its `flush` is over before the sending thread looks."""


class Writer:
    """A producer.

    Attributes:
        failed: why the worker cannot go on, once it is known.

    Raises:
        ConfigError: the client refuses its properties.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        max_bytes: int,
        clock: Clock,
        defaults: clients.Properties | None = None,
        fatal: Callable[[KafkaError], Fatal | None] = faults.fatal,
    ) -> None:
        """Make the client.

        Args:
            kafka: partitions and properties.
            max_bytes: bound on what is written.
            clock: for what is waited out.
            defaults: properties under those of the user.
            fatal: which of the errors that the client reports by itself end the worker.
        """
        self._clock = clock
        self._fatal = fatal
        self._lingers = clients.lingers(kafka)
        self._by_source = kafka.output_partition == "source"
        self.failed: Fatal | None = None
        self._lost = Lost()
        try:
            # Without a cycle through the client: it is to end when this one does, not when the collector finds it.
            heard = partial(_heard, weakref.ref(self))
            looked = partial(_looked, weakref.ref(self))
            watched = {"statistics.interval.ms": INTERVAL_MS, "stats_cb": looked}
            properties = (defaults or {}) | clients.producer(kafka, max_bytes, heard) | watched
            self.producer = Producer(properties, logger=logging.getLogger("librdkafka"))
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None

    def produce(self, outgoing: Outgoing, report: Callable[[KafkaError | None, Any], None]) -> None:
        """Hand a record to the client; `report` is called with its fate from `poll`, `flush` or `wait`.

        Raises:
            KafkaException: the client refuses it.
            DeliveryError: the client's queue stays full.
        """
        topic = outgoing.topic
        options: dict[str, Any] = {"on_delivery": report}
        if outgoing.headers:
            options["headers"] = outgoing.headers
        if self._by_source and outgoing.destination is Destination.OUTPUT:
            options["partition"] = outgoing.source[1]
        deadline = None
        while True:
            try:
                self.producer.produce(topic, outgoing.value, outgoing.key, **options)
                return
            except BufferError:
                if self.failed is not None:
                    raise self.failed from None
                now = self._clock()
                deadline = now + FULL_QUEUE_PATIENCE if deadline is None else deadline
                if now > deadline:
                    raise DeliveryError(f"The queue of records for {topic!r} has been full for a minute.") from None
                self._serve(0.05)

    def poll(self) -> None:
        """Serve the client's callbacks. Raises what made the worker unable to go on."""
        self._serve(0)
        if self.failed is not None:
            raise self.failed

    def flush(self) -> None:
        """Begin to send what waits for company, unless the user says how long it is to wait (`linger.ms`).

        The client does so while it waits for all acknowledgements: `FLUSH_SECONDS`, once more where one comes within
        them. Where its sending thread does not wake in that time, the linger counts.
        """
        if not self._lingers:
            self._guarded(self.producer.flush, FLUSH_SECONDS)

    def close(self) -> None:
        """Give up what is not acknowledged."""
        self.producer.purge()
        self._serve(0)

    def _serve(self, seconds: float) -> None:
        self._guarded(self.producer.poll, seconds)

    def _guarded(self, call: Callable[[float], object], seconds: float) -> None:
        try:
            call(seconds)
        except KafkaException as error:  # what is fatal for the client is raised here, and its callback not called
            self.fail(self._fatal(error.args[0]))

    def wait(self, seconds: float) -> None:
        """Serve the client's callbacks for a while."""
        self._serve(seconds)

    def fail(self, error: Fatal | None) -> None:
        """Keep the first reason to end; for callbacks of the client, which never raise."""
        self.failed = self.failed or error

    def _look(self, statistics: str) -> None:
        try:
            self._lost.look(orjson.loads(statistics))
        except Fatal as fatal:
            self.fail(fatal)

    def _on_error(self, error: KafkaError) -> None:
        log.debug("client error", error=error.name(), detail=error.str())  # librdkafka's own line has been logged
        self.fail(self._fatal(error))


def _heard(writer: weakref.ref[Writer], error: KafkaError) -> None:
    if (listening := writer()) is not None:
        listening._on_error(error)


def _looked(writer: weakref.ref[Writer], statistics: str) -> None:
    if (looking := writer()) is not None:
        looking._look(statistics)


def undeliverable(topic: str, error: KafkaError) -> Fatal:
    return DeliveryError(
        f"A record could not be written to {topic!r}: {error.str()}. Its offset was not committed; it will be "
        "read again when the worker starts."
    )
