from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import orjson
import pytest

from tests.e2e.process import WorkerProcess
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from worker.broker import Broker
    from worker.pipeline.messages import Record

QUIET_SECONDS = 30
COLLECT_SECONDS = 45.0


class Route(NamedTuple):
    """Topics of one test's own, and the settings of a worker between them."""

    broker: Broker
    input: str
    output: str
    dead: str
    settings: dict[str, object]

    def feeder(self) -> Feeder:
        return Feeder(self.broker.bootstrap_servers, self.input)

    def written(self, count: int) -> list[Record]:
        """Results and dead letters once there are `count`, and whatever else came by then."""
        reader = Reader(self.broker.bootstrap_servers, [self.output, self.dead])
        found: list[Record] = []
        quiet = 0
        while len(found) < count and quiet < QUIET_SECONDS:
            fresh = reader.poll(timeout=1.0 if len(found) < count else 0.0)
            quiet = 0 if fresh else quiet + 1
            found += fresh
        found += reader.poll(timeout=0.5)
        reader.close()
        return found

    def collect(self, ids: Collection[str], *workers: WorkerProcess) -> dict[str, list[bytes]]:
        """The values of the results by id, once there is one of each; fails in time, with what is missing and why."""
        reader = Reader(self.broker.bootstrap_servers, [self.output])
        found: dict[str, list[bytes]] = {}
        deadline = time.monotonic() + COLLECT_SECONDS
        while not found.keys() >= set(ids):
            if time.monotonic() > deadline:
                missing = sorted(set(ids) - found.keys())
                said = "\n".join(f"--- {w.log.name}, exit {w.process.poll()}\n{w.said[-2_000:]}" for w in workers)
                pytest.fail(f"{len(missing)} of {len(ids)} never came out, e.g. {missing[:5]}.\n{said}")
            for record in reader.poll(timeout=0.2):
                found.setdefault(orjson.loads(record.value or b"")["id"], []).append(record.value or b"")
        reader.close()
        return found

    def results(self, records: list[Record]) -> list[dict]:
        return [orjson.loads(r.value) for r in records if r.topic == self.output]


@pytest.fixture
def route(kafka: Broker, topics: Callable[..., str]) -> Route:
    names = topics("in", 3), topics("out", 3), topics("dead", 1)
    settings: dict[str, object] = {
        "kafka__bootstrap_servers": kafka.bootstrap_servers,
        "kafka__input_topics": names[0],
        "kafka__output_topic": names[1],
        "kafka__dead_letter_topic": names[2],
        "kafka__group_id": f"group-{uuid4().hex[:8]}",
        "logging__format": "json",
    }
    return Route(kafka, *names, settings)


@pytest.fixture
def start(route: Route, tmp_path: Path):
    """Starts workers on the test's route; those still running are killed at the end."""
    started: list[WorkerProcess] = []

    def go(**settings: object) -> WorkerProcess:
        worker = WorkerProcess(tmp_path, **(route.settings | settings))
        started.append(worker)
        return worker

    yield go
    for worker in started:
        worker.__exit__()
