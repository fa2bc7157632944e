"""Kafka to Kafka against the ceiling: bare `session.run` on all cores over the same texts in ideal batches.

The broker shares the cores with the worker. A round measures the ceiling, then the worker; the ratio is taken
round by round. The worker's rate is that between its first 10 % of results and the last, by their timestamps.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import orjson

from bench import kit
from bench.ceiling import ceiling
from worker.app import open_model
from worker.config import load
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.opening import Model

PARTITIONS = 6
WARM_UP = 0.1


class Streamed(NamedTuple):
    """What came out."""

    rate: float
    """Messages a second."""
    padding: float
    """Tokens of padding for each token."""
    cpu: float
    """Seconds of CPU a message, of all workers."""


def streamed(
    broker: Any,
    texts: Sequence[str],
    bundle: str,
    module: str = "worker",
    /,
    *,
    workers: int = 1,
    feed_first: bool = True,
    **settings: object,
) -> Streamed:
    """Work off a backlog; it is there before the workers are, or comes once all of them have partitions."""
    name = uuid4().hex[:8]
    broker.create_topics({f"in-{name}": PARTITIONS, f"out-{name}": PARTITIONS, f"dead-{name}": 1})
    chosen = kit.NO_CACHE | {
        "kafka__bootstrap_servers": broker.bootstrap_servers, "kafka__group_id": name,
        "kafka__input_topics": f"in-{name}", "kafka__output_topic": f"out-{name}",
        "kafka__dead_letter_topic": f"dead-{name}", "model__bundle": bundle,
    } | settings  # fmt: skip
    if feed_first:
        feed(broker, f"in-{name}", texts)
    with ExitStack() as stack:
        running = [stack.enter_context(kit.Worker(kit.free_port(), module, **chosen)) for _ in range(workers)]
        for worker in running:
            worker.ready()
        while any(worker.metric("winnow_partitions_assigned") == 0 for worker in running):
            time.sleep(0.1)
        before = sum(worker.cpu_seconds() for worker in running)
        if not feed_first:
            feed(broker, f"in-{name}", texts)
        while total(running, "winnow_delivered_total") < len(texts):
            time.sleep(0.5)
        cpu = sum(worker.cpu_seconds() for worker in running) - before
        padding = total(running, "winnow_padding_tokens_total") / max(1.0, total(running, "winnow_tokens_total"))
        for worker in running:
            worker.stop()
    return Streamed(rate(times(broker, [f"out-{name}", f"dead-{name}"], len(texts))), padding, cpu / len(texts))


def stream(
    broker: Any, texts: Sequence[str], bundle: str, module: str = "worker", /, **settings: object
) -> tuple[float, float]:
    """Messages a second of one worker on a backlog, and padding by tokens."""
    found = streamed(broker, texts, bundle, module, **settings)  # type: ignore[arg-type]
    return found.rate, found.padding


def total(workers: Sequence[kit.Worker], metric: str) -> float:
    """Of all workers together."""
    return sum(worker.metric(metric) for worker in workers)


def feed(broker: Any, topic: str, texts: Sequence[str]) -> None:
    feeder = Feeder(broker.bootstrap_servers, topic)
    for number, text in enumerate(texts):
        feeder.send(orjson.dumps({"id": str(number), "text": text}), str(number).encode())
    feeder.flush()


def times(broker: Any, topics: Sequence[str], count: int) -> list[int]:
    """Timestamps of the records, in order, in milliseconds."""
    reader = Reader(broker.bootstrap_servers, topics)
    records = kit.read_until(reader, count)
    reader.close()
    return sorted(record.timestamp for record in records if record.timestamp is not None)


def rate(stamps: Sequence[int]) -> float:
    """Messages a second from timestamps in order, without the warm-up."""
    first = int(len(stamps) * WARM_UP)
    return (len(stamps) - first - 1) / ((stamps[-1] - stamps[first]) / 1000)


def opened(bundle: str, assignments: Sequence[str] = ()) -> Model:
    """A bundle as a worker with these settings opens it."""
    settings = load(None, [*assignments, f"model.bundle={bundle}"])
    return open_model(settings.model, settings.entities, settings.decision)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench stream", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--set", action="append", default=[], help="SECTION.NAME=VALUE; may be repeated")
    parser.add_argument("--name", default="stream", help="of the results file")
    options = parser.parse_args()
    texts, bundle = kit.texts(options.messages, options.texts), kit.bundle(options.bundle)
    model = opened(bundle, options.set)
    ids = [encoded.ids for encoded in model.tokenizer(texts)]
    conditions = kit.machine() | {
        "bundle": model.identity.name,
        "messages": len(texts),
        "mean_tokens": round(sum(map(len, ids)) / len(ids), 1),
        "texts": [path.parent.name for path in options.texts] or ["demo"],
        "lanes": model.lanes,
        "settings": options.set,
    }
    rounds = []
    with kit.kafka() as broker:
        for number in range(options.rounds):
            bare = ceiling(model, ids)
            found = streamed(broker, texts, bundle, **kit.settings(options.set))  # type: ignore[arg-type]
            rounds.append({"ceiling": bare, "worker": found.rate, "ratio": found.rate / bare, "padding": found.padding})
            print(f"round {number + 1}: bare {bare:,.0f}/s, worker {found.rate:,.0f}/s, {found.rate / bare:.3f}")
    figures = {key: kit.spread([r[key] for r in rounds]) for key in rounds[0]}
    print(f"median ratio {figures['ratio']['median']:.3f}, padding {figures['padding']['median']:.2%}")
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
