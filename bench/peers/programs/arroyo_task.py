"""`arroyo_task.py BOOTSTRAP GROUP INPUT OUTPUT BUNDLE BATCH`: a function of a batch in an arroyo processor.

A BATCH of 1 is arroyo's `RunTask` alone; more go through `BatchStep`, `RunTask` and `UnbatchStep`.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload, KafkaProducer  # type: ignore[import-not-found]
from arroyo.backends.kafka.configuration import build_kafka_configuration, build_kafka_consumer_configuration  # type: ignore[import-not-found]
from arroyo.commit import ONCE_PER_SECOND  # type: ignore[import-not-found]
from arroyo.processing.processor import StreamProcessor  # type: ignore[import-not-found]
from arroyo.processing.strategies import BatchStep, CommitOffsets, Produce, RunTask, UnbatchStep  # type: ignore[import-not-found]
from arroyo.processing.strategies.abstract import ProcessingStrategyFactory  # type: ignore[import-not-found]
from arroyo.types import Topic  # type: ignore[import-not-found]

from bench.peers.programs.classifier import open_classifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCH_SECONDS = 0.05
BUFFER = 10_000


def answers(classify: Any, payloads: Sequence[KafkaPayload]) -> list[KafkaPayload]:
    requests = [json.loads(payload.value) for payload in payloads]
    said = classify([request["text"] for request in requests])
    return [
        KafkaPayload(payload.key, json.dumps({"id": request["id"], **each}).encode(), [])
        for payload, request, each in zip(payloads, requests, said, strict=True)
    ]


class Steps(ProcessingStrategyFactory):  # type: ignore[misc]
    """From a record to its answer, its acknowledgement and its commit."""

    def __init__(self, producer: KafkaProducer, output: str, bundle: str, batch: int) -> None:
        self._producer, self._output, self._batch = producer, Topic(output), batch
        self._classify = open_classifier(bundle)

    def create_with_partitions(self, commit: Any, partitions: Mapping[Any, int]) -> Any:  # noqa: ARG002
        last = Produce(self._producer, self._output, CommitOffsets(commit), max_buffer_size=BUFFER)
        if self._batch == 1:
            return RunTask(self._one, last)
        return BatchStep(self._batch, BATCH_SECONDS, RunTask(self._many, UnbatchStep(last)))

    def _one(self, message: Any) -> KafkaPayload:
        return answers(self._classify, [message.payload])[0]

    def _many(self, message: Any) -> list[Any]:
        found = answers(self._classify, [each.payload for each in message.payload])
        return [each.replace(answer) for each, answer in zip(message.payload, found, strict=True)]


def main(bootstrap: str, group: str, source: str, output: str, bundle: str, batch: str) -> None:
    servers = [bootstrap]
    producer = KafkaProducer(
        build_kafka_configuration({"linger.ms": 5, "acks": "all"}, bootstrap_servers=servers),
    )
    consumer = KafkaConsumer(
        build_kafka_consumer_configuration({}, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest")
    )
    steps = Steps(producer, output, bundle, int(batch))
    processor = StreamProcessor(consumer, Topic(source), steps, ONCE_PER_SECOND)
    signal.signal(signal.SIGTERM, lambda *_: processor.signal_shutdown())
    processor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
