"""The loop that most people write: `loop.py BOOTSTRAP GROUP INPUT OUTPUT MODEL`; MODEL is a folder, or `stub`.

With a model it consumes 32 messages, pads them to the longest, runs, flushes and commits. With the stub it is the bare
loop that shows what the client can do: larger gulps, and commits that are not waited for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Classifier:
    """An exported graph with ONNX Runtime's default settings."""

    def __init__(self, folder: Path) -> None:
        labels = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]
        self._labels = [labels[number] for number in sorted(labels, key=int)]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(512)
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        encodings = self._tokenizer.encode_batch(list(texts))
        feed = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
        }
        logits = self._session.run(None, feed)[0]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
        return [{"label": self._labels[int(row.argmax())], "score": float(row.max())} for row in scores]


def values(messages: Sequence[Message]) -> list[dict[str, Any]]:
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
    return [json.loads(message.value() or b"") for message in messages]


def with_model(consumer: Consumer, producer: Producer, output: str, classify: Classifier) -> None:
    while True:
        messages = consumer.consume(32, timeout=0.05)
        if not messages:
            continue
        requests = values(messages)
        for message, request, said in zip(messages, requests, classify([r["text"] for r in requests]), strict=True):
            producer.produce(output, json.dumps({"id": request["id"], **said}).encode(), key=message.key())
        producer.flush()
        consumer.commit(asynchronous=False)


def bare(consumer: Consumer, producer: Producer, output: str) -> None:
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    while not failed:
        messages = consumer.consume(1000, timeout=0.05)
        for message, request in zip(messages, values(messages), strict=True):
            said = json.dumps({"id": request["id"], "label": "ham", "score": 0.9}).encode()
            producer.produce(output, said, key=message.key(), on_delivery=report)
        producer.flush()
        if messages:
            consumer.commit(asynchronous=True)
    sys.exit(f"a result was not written: {failed[0].str()}")


def main(bootstrap: str, group: str, source: str, output: str, model: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([source])
    if model == "stub":
        bare(consumer, Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True}), output)
    else:
        with_model(consumer, Producer({"bootstrap.servers": bootstrap}), output, Classifier(Path(model)))


if __name__ == "__main__":
    main(*sys.argv[1:])
