"""The producer of results and dead letters. Idempotent, waits for all replicas, counts acknowledgements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from worker.errors import DeliveryError
from worker.kafka.writer import Writer, undeliverable

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Outgoing
    from worker.ports import Clock


class KafkaSink:
    """Writes to the output and the dead-letter topic. See `worker.ports.Sink`."""

    def __init__(self, kafka: KafkaSettings, max_bytes: int, clock: Clock) -> None:
        self._writer = Writer(kafka, max_bytes, clock)

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        topic = self._writer.topic(outgoing)

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._writer.fail(undeliverable(topic, error))
            else:
                self._deliver(delivered)

        try:
            self._writer.produce(outgoing, report)
        except KafkaException as error:
            raise undeliverable(topic, error.args[0]) from None

    def poll(self) -> None:
        self._writer.poll()

    def close(self) -> None:
        """Give up what is not acknowledged."""
        self._writer.close()

    # A callback of the client: it never raises.

    def _deliver(self, delivered: Callable[[], None]) -> None:
        try:
            delivered()
        except Exception as error:  # noqa: BLE001 - raised again by `poll`
            self._writer.fail(DeliveryError(f"An acknowledgement failed with {type(error).__name__}."))
