"""Latency under open-loop load: messages are sent at their times, whatever became of those before them.

In each round, with a worker and topics of its own, the shares of the capacity one after the other, each for as long.
Directly before each the capacity, a sixth as long: results a second while more is sent than can be done, so that the
sender's and the broker's share of the cores is in it; what a shared machine can do changes within minutes. Every time
is counted from when a message should have been sent, not from when it was (no coordinated omission), to when the
broker appended its result, both by this machine's clock. Arrival to acknowledgement is from when the broker appended
the message; the results' own timestamps have milliseconds. A round's worker rests between two loads.

At more than 100 % the backlog grows while messages are sent: what counts there is that memory does not, and that the
backlog is worked at the full rate, then and afterwards.

Messages have no key, as those of Kafka's own producer test: with keys the client makes a request for each partition,
where Java's makes one for all, and the broker's share of the cores is half as large again.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import orjson

from bench import kit
from bench.ceiling import ceiling, ideal_batches, on_threads
from bench.stream import PARTITIONS, opened
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
OVERLOAD = 1.3
"""Of the bare graph's rate: more than any worker can do."""
REST = 0.2
"""Seconds between two looks at the metrics."""
BACKLOG = 2.0
"""Seconds that working off what was left has to take for its rate to say something."""
TICK = 0.002
"""Seconds for which the sender sleeps before it sends what has become due, less than its `linger.ms`."""


class Look(NamedTuple):
    """The worker at one moment."""

    at: float
    delivered: float
    resident_mib: float


class Load(NamedTuple):
    """What was sent, and what the worker did meanwhile and until it had worked it off."""

    sent: dict[str, float]
    """By id, the time at which it should have been sent, in seconds since the epoch."""
    late: float
    """Seconds by which the sender was behind at most."""
    looks: list[Look]
    ended: float
    """When the last was sent."""


class Watcher(threading.Thread):
    """Looks at a worker until it has delivered so many."""

    def __init__(self, worker: kit.Worker, until: float) -> None:
        super().__init__(daemon=True)
        self.looks: list[Look] = []
        self._worker, self._until = worker, until

    def run(self) -> None:
        while not self.looks or self.looks[-1].delivered < self._until:
            delivered = self._worker.metric("winnow_delivered_total")
            self.looks.append(Look(time.time(), delivered, self._worker.resident_mib()))
            time.sleep(REST)


class Line:
    """A worker with its topics, loaded again and again."""

    def __init__(self, broker: Any, bundle: str, settings: dict[str, object]) -> None:
        self.name = uuid4().hex[:8]
        self._broker, self._number = broker, 0
        broker.create_topics(
            {f"in-{self.name}": PARTITIONS, f"out-{self.name}": PARTITIONS, f"dead-{self.name}": 1}, APPEND_TIME
        )
        self._feeder = Feeder(broker.bootstrap_servers, f"in-{self.name}")
        self.worker = kit.Worker(
            kit.free_port(),
            **kit.NO_CACHE
            | {
                "kafka__bootstrap_servers": broker.bootstrap_servers, "kafka__group_id": self.name,
                "kafka__input_topics": f"in-{self.name}", "kafka__output_topic": f"out-{self.name}",
                "kafka__dead_letter_topic": f"dead-{self.name}", "model__bundle": bundle,
            }
            | settings,
        )  # fmt: skip

    def load(self, texts: Sequence[str], rate: float, seconds: float) -> Load:
        """Send at a rate for so many seconds, and wait until all is answered."""
        count = max(1, round(rate * seconds))
        watcher = Watcher(self.worker, self.worker.metric("winnow_delivered_total") + count)
        watcher.start()
        sent, late = self._send(texts, rate, count)
        ended = time.time()
        watcher.join()
        return Load(sent, late, watcher.looks, ended)

    def _send(self, texts: Sequence[str], rate: float, count: int) -> tuple[dict[str, float], float]:
        self._number += 1
        sent, late, began = dict[str, float](), 0.0, time.time()
        while len(sent) < count:
            time.sleep(TICK)
            now = time.time()
            for number in range(len(sent), min(count, int((now - began) * rate) + 1)):
                identifier = f"{self._number}-{number}"
                sent[identifier] = due = began + number / rate
                late = max(late, now - due)
                self._feeder.send(orjson.dumps({"id": identifier, "text": texts[number % len(texts)]}))
        self._feeder.flush()
        return sent, late

    def answers(self, count: int) -> dict[str, tuple[float, float]]:
        """By id, when the message arrived and when its result did, in seconds since the epoch; of all loads so far."""
        reader = Reader(self._broker.bootstrap_servers, [f"out-{self.name}", f"dead-{self.name}"])
        records = kit.read_until(reader, count)
        reader.close()
        found = {}
        for record in records:
            result = orjson.loads(record.value or b"")
            found[result["id"]] = (result["source"]["timestamp"] / 1000, (record.timestamp or 0) / 1000)
        return found


def capacity(line: Line, texts: Sequence[str], bare: float, seconds: float) -> float:
    """Results a second while more is sent than can be done."""
    load = line.load(texts, OVERLOAD * bare, seconds)
    return rate_between(load.looks, load.looks[0].at + 0.2 * seconds, load.ended)


def rate_between(looks: Sequence[Look], start: float, end: float) -> float:
    """Results a second between two moments."""
    inside = [look for look in looks if start <= look.at <= end]
    if len(inside) < 2:
        return 0.0
    return (inside[-1].delivered - inside[0].delivered) / (inside[-1].at - inside[0].at)


def row(share: float, most: float, load: Load) -> dict[str, Any]:
    """How a share of the most that could be done was carried.

    A rate of working off what was left where that took long enough to say something.
    """
    memory = [look.resident_mib for look in load.looks]
    backlog = max(0.0, load.looks[-1].at - load.ended)
    return {
        "load": share,
        "messages": len(load.sent),
        "capacity_per_s": most,
        "sent_per_s": share * most,
        "results_per_s": rate_between(load.looks, load.looks[0].at, load.ended),
        "backlog_s": backlog,
        "backlog_per_s": rate_between(load.looks, load.ended, load.looks[-1].at) if backlog > BACKLOG else None,
        "resident_mib_first": memory[0],
        "resident_mib_max": max(memory),
        "sender_late_ms": 1000 * load.late,
    }


def bare_batch(model: Any, ids: Sequence[list[int]]) -> float:
    """Milliseconds of one run of a full batch of these texts, one lane, the others at work too; the median."""
    seconds: list[float] = []

    def run(batch: list[list[int]]) -> None:
        started = time.perf_counter()
        model.classifier.model(batch)
        seconds.append(time.perf_counter() - started)

    on_threads(run, ideal_batches(ids), model.lanes)
    return 1000 * kit.quantile(seconds, 0.5)


class Round(NamedTuple):
    """One worker, through all loads."""

    bare_graph: float
    """Messages a second."""
    bare_batch: float
    """Milliseconds."""
    loads: list[Carried]


class Carried(NamedTuple):
    """What became of one load: its row, and milliseconds by percentile."""

    row: dict[str, Any]
    intended: dict[str, float]
    """From when they should have been sent to the result."""
    arrived: dict[str, float]
    """From when the broker appended them to the result."""


def measure(
    broker: Any, model: Any, texts: Sequence[str], ids: Sequence[list[int]], options: argparse.Namespace
) -> Round:
    """All loads with a fresh worker on fresh topics; `ids` are the texts' tokens."""
    batch, bare = bare_batch(model, ids[:2_000]), ceiling(model, ids)
    line = Line(broker, kit.bundle(options.bundle), kit.settings(options.set))
    with line.worker as worker:
        worker.ready()
        line.load(texts, min(500.0, bare / 4), 2.0)  # opens connections
        loads = []
        for share in options.shares:
            most = capacity(line, texts, bare, max(3.0, options.seconds / 6))
            print(f"capacity {most:,.0f}/s; bare graph {bare:,.0f}/s, a batch {batch:.1f} ms", flush=True)
            loads.append((share, most, line.load(texts, share * most, options.seconds)))
        delivered = int(worker.metric("winnow_delivered_total"))
        worker.stop()
    answers = line.answers(delivered)
    return Round(bare, batch, [carried(share, most, load, answers) for share, most, load in loads])


def carried(share: float, most: float, load: Load, answers: Mapping[str, tuple[float, float]]) -> Carried:
    """What became of this share of the most that could be done, by the `answers` of its line."""
    from bench.percentiles import percentiles  # needs the group `bench`

    intended = percentiles(answers[key][1] - due for key, due in load.sent.items())
    arrived = percentiles(answers[key][1] - answers[key][0] for key in load.sent)
    print(f"{share:.0%}: " + ", ".join(f"{name} {ms:,.0f} ms" for name, ms in arrived.items()), flush=True)
    return Carried(row(share, most, load), intended, arrived)


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians of the rounds in every column, with the least and the most of what is compared with other figures.

    The capacity of a round is the median of those before its loads. `p99_to_bare_batch` is from
    arrival to result; each round has its own bare batch.
    """
    by_load = list(zip(*(each.loads for each in rounds), strict=True))
    ratios = [
        [at.arrived["p99"] / each.bare_batch for at, each in zip(loads, rounds, strict=True)] for loads in by_load
    ]
    shares = [{"load": loads[0].row["load"]} for loads in by_load]
    together = list(zip(shares, by_load, ratios, strict=True))
    return {
        "capacity_per_s": kit.spread(
            [statistics.median(at.row["capacity_per_s"] for at in each.loads) for each in rounds]
        ),
        "bare_graph_per_s": kit.spread([each.bare_graph for each in rounds]),
        "bare_batch_ms": kit.spread([each.bare_batch for each in rounds]),
        "p99_to_bare_batch": [share | kit.spread(each) for share, _, each in together],
        "loads": [share | _medians([each.row for each in loads]) for share, loads, _ in together],
        "intended_to_result_ms": [share | _medians([each.intended for each in loads]) for share, loads, _ in together],
        "arrival_to_result_ms": [share | _medians([each.arrived for each in loads]) for share, loads, _ in together],
    }


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure, over the rounds that have it."""
    found = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    return {name: statistics.median(values) if values else None for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench load", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.2, 0.5, 0.7, 0.9, 1.1], help="of the capacity")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--set", action="append", default=[], help="SECTION.NAME=VALUE; may be repeated")
    parser.add_argument("--name", default="load", help="of the results file")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    import bench.percentiles  # noqa: F401 - what it needs is missed before a broker starts, not half an hour later

    texts = kit.texts(5_000, options.texts)
    model = opened(kit.bundle(options.bundle), options.set)
    ids = [encoded.ids for encoded in model.tokenizer(texts)]
    conditions = kit.machine() | {
        "bundle": model.identity.name,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
        "seconds": options.seconds,
        "rounds": options.rounds,
        "settings": options.set,
    }
    with kit.kafka() as broker:
        rounds = [measure(broker, model, texts, ids, options) for _ in range(options.rounds)]
    kit.save(options.name, conditions, summary(rounds))


if __name__ == "__main__":
    main()
