"""Start to ready, and resident memory over a stream of messages."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from uuid import uuid4

import orjson

from bench import kit
from worker.kafka.tools import Feeder


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench footprint", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--name", default="footprint", help="of the results file")
    options = parser.parse_args()
    conditions = kit.machine() | {"bundle": options.bundle, "messages": options.messages}
    name = uuid4().hex[:8]
    with kit.kafka() as broker:
        broker.create_topics({f"in-{name}": 6, f"out-{name}": 6, f"dead-{name}": 1})
        settings = {
            "kafka__bootstrap_servers": broker.bootstrap_servers, "kafka__group_id": name,
            "kafka__input_topics": f"in-{name}", "kafka__output_topic": f"out-{name}",
            "kafka__dead_letter_topic": f"dead-{name}", "model__bundle": options.bundle,
        }  # fmt: skip
        starts = []
        for _ in range(options.starts):
            with kit.Worker(kit.free_port(), **settings) as worker:
                starts.append(worker.ready())
                worker.stop()
        print("start to ready: " + ", ".join(f"{s:.2f} s" for s in starts))
        feeder = Feeder(broker.bootstrap_servers, f"in-{name}")
        for number, text in enumerate(kit.texts(options.messages, options.texts)):
            feeder.send(orjson.dumps({"id": str(number), "text": text}), str(number).encode())
        feeder.flush()
        memory = {}
        with kit.Worker(kit.free_port(), **settings) as worker:
            worker.ready()
            memory["0"] = worker.resident_mib()
            for quarter in range(1, 5):
                while worker.metric("winnow_delivered_total") < quarter * options.messages // 4:
                    time.sleep(0.5)
                memory[str(quarter * options.messages // 4)] = worker.resident_mib()
            worker.stop()
    print("resident MiB by messages: " + ", ".join(f"{k}: {v:.0f}" for k, v in memory.items()))
    figures = {"start_to_ready_s": kit.spread(starts), "resident_mib": {k: round(v, 1) for k, v in memory.items()}}
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
