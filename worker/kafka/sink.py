"""The producer of results and dead letters. Idempotent, waits for all replicas, counts acknowledgements."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from worker.errors import DeliveryError
from worker.kafka.writer import Writer, undeliverable

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Message

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Outgoing
    from worker.ports import Clock


class KafkaSink:
    """Writes each record to its topic. See `worker.ports.Sink`."""

    def __init__(self, kafka: KafkaSettings, max_bytes: int, clock: Clock) -> None:
        self._writer = Writer(kafka, max_bytes, clock)

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        try:
            self._writer.produce(outgoing, partial(self._report, delivered))
        except KafkaException as error:
            raise undeliverable(outgoing.topic, error.args[0]) from None

    def flush(self) -> None:
        self._writer.flush()

    def poll(self) -> None:
        self._writer.poll()

    def close(self) -> None:
        """Give up what is not acknowledged."""
        self._writer.close()

    # A callback of the client: it never raises.

    def _report(self, delivered: Callable[[], None], error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._writer.fail(undeliverable(message.topic() or "", error))
            return
        try:
            delivered()
        except Exception as failed:  # noqa: BLE001 - raised again by `poll`
            self._writer.fail(DeliveryError(f"An acknowledgement failed with {type(failed).__name__}."))
