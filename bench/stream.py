"""Kafka to Kafka against the ceiling: bare `session.run` on all cores over the same texts in ideal batches.

The broker shares the cores with the worker. A round measures the ceiling, then the worker; the ratio is taken
round by round. The worker's rate is that between its first 10 % of results and the last, by their timestamps.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from bench import kit
from worker.app import open_model
from worker.config import ModelSettings
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITIONS = 6
WARM_UP = 0.1


def ideal_batches(ids: Sequence[list[int]], max_messages: int = 32, max_tokens: int = 512) -> list[list[list[int]]]:
    """Sorted by length, then cut at the bounds: as little padding as there can be."""
    batches: list[list[list[int]]] = [[]]
    for sequence in sorted(ids, key=len):
        rows = len(batches[-1]) + 1
        if batches[-1] and (rows > max_messages or rows * len(sequence) > max_tokens):
            batches.append([])
        batches[-1].append(sequence)
    return batches


def ceiling(model: Any, ids: Sequence[list[int]]) -> float:
    """Messages a second of the bare session: no tokenizing, no Kafka, as many threads as lanes."""
    work = iter(ideal_batches(ids))
    lock = threading.Lock()

    def lane() -> None:
        while True:
            with lock:
                batch = next(work, None)
            if batch is None:
                return
            model.classifier.model(batch)

    threads = [threading.Thread(target=lane) for _ in range(model.lanes)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(ids) / (time.perf_counter() - started)


def stream(
    broker: Any, texts: Sequence[str], bundle: str, module: str = "worker", /, **settings: object
) -> tuple[float, float]:
    """Messages a second of the worker on a backlog, and padding by tokens."""
    name = uuid4().hex[:8]
    topics = {f"in-{name}": PARTITIONS, f"out-{name}": PARTITIONS, f"dead-{name}": 1}
    broker.create_topics(topics)
    feeder = Feeder(broker.bootstrap_servers, f"in-{name}")
    for number, text in enumerate(texts):
        feeder.send(orjson.dumps({"id": str(number), "text": text}), str(number).encode())
    feeder.flush()
    with kit.Worker(
        kit.free_port(), module, kafka__bootstrap_servers=broker.bootstrap_servers, kafka__group_id=name,
        kafka__input_topics=f"in-{name}", kafka__output_topic=f"out-{name}", kafka__dead_letter_topic=f"dead-{name}",
        model__bundle=bundle, **settings,
    ) as worker:  # fmt: skip
        worker.ready()
        while worker.metric("winnow_delivered_total") < len(texts):
            time.sleep(0.5)
        padding = worker.metric("winnow_padding_tokens_total") / worker.metric("winnow_tokens_total")
        worker.stop()
    reader = Reader(broker.bootstrap_servers, [f"out-{name}", f"dead-{name}"])
    records = kit.read_until(reader, len(texts))
    reader.close()
    times = sorted(r.timestamp for r in records if r.timestamp is not None)
    first = int(len(times) * WARM_UP)
    return (len(times) - first - 1) / ((times[-1] - times[first]) / 1000), padding


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench stream", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--name", default="stream", help="of the results file")
    options = parser.parse_args()
    texts = kit.texts(options.messages, options.texts)
    model = open_model(ModelSettings(bundle=options.bundle))
    ids = [encoded.ids for encoded in model.tokenizer(texts)]
    conditions = kit.machine() | {
        "bundle": model.identity.name,
        "messages": len(texts),
        "mean_tokens": round(sum(map(len, ids)) / len(ids), 1),
        "texts": [path.parent.name for path in options.texts] or ["demo"],
        "lanes": model.lanes,
    }
    rounds = []
    with kit.kafka() as broker:
        for number in range(options.rounds):
            bare = ceiling(model, ids)
            worker, padding = stream(broker, texts, options.bundle)
            rounds.append({"ceiling": bare, "worker": worker, "ratio": worker / bare, "padding": padding})
            print(f"round {number + 1}: bare {bare:,.0f}/s, worker {worker:,.0f}/s, ratio {worker / bare:.3f}")
    figures = {key: kit.spread([r[key] for r in rounds]) for key in rounds[0]}
    print(f"median ratio {figures['ratio']['median']:.3f}, padding {figures['padding']['median']:.2%}")
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
