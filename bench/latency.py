"""Added latency at light load: from the message's arrival on the input topic to its result, less one bare inference.

The bare inference is of the same text at the same pace, beside the same idle broker; how much faster it is back to back
stands beside it.

Both topics carry the broker's own append times (milliseconds), so one clock measures both ends. Beside it the time
from the intended send to the reader's receipt, which holds the test's own producer and consumer as well.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import orjson

from bench import kit
from bench.ceiling import as_served
from bench.stream import opened
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


def bare_inference(model: Any, texts: Sequence[str], rate: float | None = None) -> dict[str, float]:
    """Seconds of one run of one message, tokenized beforehand: the text's own, by its place.

    Args:
        model: the opened bundle.
        texts: one a run.
        rate: runs a second, as messages come to a worker: between two runs a core falls asleep and its caches fill with
            what others do. None: back to back.
    """
    ids, run = [encoded.ids for encoded in model.tokenizer(texts)], as_served(model)
    for sequence in ids[:50]:
        run([sequence])
    seconds = {}
    begun = time.perf_counter()
    for number, sequence in enumerate(ids):
        if rate is not None:
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        started = time.perf_counter()
        run([sequence])
        seconds[str(number)] = time.perf_counter() - started
    return seconds


def send(feeder: Feeder, texts: Sequence[str], rate: float, sent: dict[str, float]) -> None:
    """Send at a fixed rate, each at its intended time whatever became of the one before."""
    started = time.perf_counter()
    for number, text in enumerate(texts):
        due = started + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        sent[str(number)] = due
        feeder.send(orjson.dumps({"id": str(number), "text": text}), str(number).encode())
    feeder.flush()


class Seconds(NamedTuple):
    """Per message, by its place."""

    appended: dict[str, float]
    """From append to append."""
    visible: dict[str, float]
    """From append to a `read_committed` reader's receipt, both by this machine's clock."""
    received: dict[str, float]
    """From intended send to receipt."""


def measure(broker: Any, texts: Sequence[str], rate: float, bundle: str, /, **settings: object) -> Seconds:
    """Send at a rate and time each message's result."""
    name = uuid4().hex[:8]
    broker.create_topics({f"in-{name}": 6, f"out-{name}": 6, f"dead-{name}": 1}, APPEND_TIME)
    with kit.Worker(
        kit.free_port(), kafka__bootstrap_servers=broker.bootstrap_servers, kafka__group_id=name,
        kafka__input_topics=f"in-{name}", kafka__output_topic=f"out-{name}", kafka__dead_letter_topic=f"dead-{name}",
        model__bundle=bundle, **(kit.NO_CACHE | settings),
    ) as worker:  # fmt: skip
        worker.ready()
        reader = Reader(broker.bootstrap_servers, [f"out-{name}"])
        feeder = Feeder(broker.bootstrap_servers, f"in-{name}")
        sent: dict[str, float] = {}
        sender = threading.Thread(target=send, args=(feeder, texts, rate, sent))
        sender.start()
        seconds = Seconds({}, {}, {})
        while len(seconds.received) < len(texts):
            for record in reader.poll(1, 0.5):
                now, clock = time.perf_counter(), time.time()
                result = orjson.loads(record.value or b"")
                arrived = result["source"]["timestamp"] / 1000
                seconds.appended[result["id"]] = (record.timestamp or 0) / 1000 - arrived
                seconds.visible[result["id"]] = clock - arrived
                seconds.received[result["id"]] = now - sent[result["id"]]
        sender.join()
        for name in ("worker_seconds", 'stage_seconds{stage="queue"}', 'stage_seconds{stage="infer"}'):
            metric, brace, labels = name.partition("{")
            total, count = (worker.metric(f"winnow_{metric}_{part}{brace}{labels}") for part in ("sum", "count"))
            print(f"{name:30} mean {1000 * total / count:.2f} ms")
        worker.stop()
    reader.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench latency", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured")
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds before; the broker compiles itself")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--set", action="append", default=[], help="SECTION.NAME=VALUE; may be repeated")
    parser.add_argument("--name", default="latency", help="of the results file")
    options = parser.parse_args()
    texts = kit.texts(int(options.rate * (options.warm_up + options.seconds)), options.texts)
    bundle = kit.bundle(options.bundle)
    model = opened(bundle, options.set)
    conditions = kit.machine() | {
        "bundle": model.identity.name,
        "rate": options.rate,
        "messages": int(options.rate * options.seconds),
        "warm_up_s": options.warm_up,
        "settings": options.set,
    }
    hot = bare_inference(model, texts)
    with kit.kafka() as broker:
        bare = bare_inference(model, texts, options.rate)
        seconds = measure(broker, texts, options.rate, bundle, **kit.settings(options.set))
    warm = [key for key in seconds.appended if int(key) >= options.rate * options.warm_up]
    figures = {
        "bare_inference_back_to_back_ms": _quantiles([hot[k] for k in warm]),
        "bare_inference_ms": _quantiles([bare[k] for k in warm]),
        "arrival_to_result_ms": _quantiles([seconds.appended[k] for k in warm]),
        "added_ms": _quantiles([seconds.appended[k] - bare[k] for k in warm]),
        "added_visible_ms": _quantiles([seconds.visible[k] - bare[k] for k in warm]),
        "send_to_receipt_ms": _quantiles([seconds.received[k] for k in warm]),
    }
    for name, values in figures.items():
        print(f"{name:32} " + "  ".join(f"{q} {v:.2f}" for q, v in values.items()))
    kit.save(options.name, conditions, figures)


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{round(q * 100)}": round(1000 * kit.quantile(seconds, q), 2) for q in (0.5, 0.9, 0.99)}


if __name__ == "__main__":
    main()
