"""Start to ready, and resident memory over a stream of messages."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from uuid import uuid4

from bench import kit
from bench.stream import feed

POINTS = 10
"""How often memory is looked at on the way."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench footprint", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--set", action="append", default=[], help="SECTION.NAME=VALUE; may be repeated")
    parser.add_argument("--name", default="footprint", help="of the results file")
    options = parser.parse_args()
    conditions = kit.machine() | {
        "bundle": options.bundle,
        "messages": options.messages,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
        "settings": options.set,
    }
    name = uuid4().hex[:8]
    with kit.kafka() as broker:
        broker.create_topics({f"in-{name}": 6, f"out-{name}": 6, f"dead-{name}": 1})
        settings = {
            "kafka__bootstrap_servers": broker.bootstrap_servers, "kafka__group_id": name,
            "kafka__input_topics": f"in-{name}", "kafka__output_topic": f"out-{name}",
            "kafka__dead_letter_topic": f"dead-{name}", "model__bundle": kit.bundle(options.bundle),
            **kit.settings(options.set),
        }  # fmt: skip
        starts = started(settings, options.starts)
        feed(broker, f"in-{name}", kit.texts(options.messages, options.texts))
        memory, most = resident(settings, options.messages)
    figures = {
        "start_to_ready_s": kit.spread(starts),
        "resident_mib": {k: round(v, 1) for k, v in memory.items()},
        "most_mib": round(most, 1),
        "grown_in_second_half_mib": round(memory[str(options.messages)] - memory[str(options.messages // 2)], 1),
    }
    kit.save(options.name, conditions, figures)


def started(settings: dict[str, object], times: int) -> list[float]:
    """Seconds from spawning a worker to its readiness; nothing is in its topic."""
    starts = []
    for _ in range(times):
        with kit.Worker(kit.free_port(), **settings) as worker:
            starts.append(worker.ready())
            worker.stop()
    print("start to ready: " + ", ".join(f"{s:.2f} s" for s in starts), flush=True)
    return starts


def resident(settings: dict[str, object], messages: int) -> tuple[dict[str, float], float]:
    """MiB by messages delivered, and the most there ever was."""
    with kit.Worker(kit.free_port(), **settings) as worker:
        worker.ready()
        memory = {"0": worker.resident_mib()}
        for part in range(1, POINTS + 1):
            while worker.metric("winnow_delivered_total") < part * messages // POINTS:
                time.sleep(0.2)
            memory[str(part * messages // POINTS)] = worker.resident_mib()
        most = worker.most_mib()
        worker.stop()
    print("resident MiB by messages: " + ", ".join(f"{k}: {v:.0f}" for k, v in memory.items()), flush=True)
    return memory, most


if __name__ == "__main__":
    main()
