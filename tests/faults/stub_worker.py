"""`winnow run` with a function in place of the model: `python -m tests.faults.stub_worker [--at …] --set …`.

Source, sink, loop, lanes, metrics and signals are the worker's own. What a text says decides what its run does (see
`StubRun`). The flags that come before the worker's:

    --real              keep the model
    --slow MS           each run of the model takes so long
    --at POINT:N:NAME   send this process the signal SIGNAME when it comes to POINT for the N-th time, just before
    --journal FILE      note rebalances and commits of offsets, a line of JSON each

Points are calls of the client: `commit` (with offsets), `send_offsets`, `end_transaction` (its commit), `begin`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import confluent_kafka

RAISES, HANGS, KILLS_ITS_LANE = "the model raises", "the model hangs", "the lane dies"
MOST_TOKENS = 512


class Points:
    """Counts how often each point was reached, and sends the signal when one is due."""

    def __init__(self, due: list[str]) -> None:
        self._due = {}
        for one in due:
            point, times, name = one.split(":")
            self._due[point] = (int(times), signal.Signals[f"SIG{name}"])
        self._counts: dict[str, int] = {}

    def reached(self, point: str) -> None:
        count = self._counts[point] = self._counts.get(point, 0) + 1
        if self._due.get(point, (0, None))[0] == count:
            os.kill(os.getpid(), self._due[point][1])


class Journal:
    """Notes what happens with partitions and offsets; each line is on its way when the call returns."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("ab", buffering=0) if path else None

    def note(self, what: str, partitions: Any) -> None:
        if self._file is not None:
            places = [[p.topic, p.partition, p.offset] for p in partitions or ()]
            line = {"what": what, "pid": os.getpid(), "at": time.time(), "partitions": places}
            self._file.write(json.dumps(line).encode() + b"\n")


def patch_clients(points: Points, journal: Journal) -> None:
    """Let the clients tell where they are. Before anything of the worker's imports them."""

    class Consumer(confluent_kafka.Consumer):
        def commit(self, *args: Any, **kwargs: Any) -> Any:
            points.reached("commit")
            journal.note("commit", kwargs.get("offsets"))
            return super().commit(*args, **kwargs)

        def subscribe(self, topics: Any, **callbacks: Any) -> Any:
            told = {name: _noting(journal, name, call) for name, call in callbacks.items()}
            return super().subscribe(topics, **told)

    class Producer(confluent_kafka.Producer):
        def begin_transaction(self, *args: Any, **kwargs: Any) -> Any:
            points.reached("begin")
            return super().begin_transaction(*args, **kwargs)

        def send_offsets_to_transaction(self, positions: Any, *args: Any, **kwargs: Any) -> Any:
            points.reached("send_offsets")
            journal.note("send_offsets", positions)
            return super().send_offsets_to_transaction(positions, *args, **kwargs)

        def commit_transaction(self, *args: Any, **kwargs: Any) -> Any:
            points.reached("end_transaction")
            return super().commit_transaction(*args, **kwargs)

    confluent_kafka.Consumer, confluent_kafka.Producer = Consumer, Producer  # type: ignore[misc]


def _noting(journal: Journal, name: str, call: Any) -> Any:
    def noted(consumer: Any, partitions: Any) -> None:
        journal.note(f"{name} begins", partitions)
        call(consumer, partitions)
        journal.note(name, partitions)

    return noted


class StubRun:
    """One lane's right to run the function. A text may make its run raise, hang, or take the lane with it."""

    def __init__(self, slow: float) -> None:
        self._slow = slow
        self._told_to_end = threading.Event()

    def __call__(self, items: Any) -> list[Any]:
        from tests.kit import says

        self._told_to_end.clear()
        texts = [item.request.text for item in items]
        if any(RAISES in text for text in texts):
            raise RuntimeError("the stub raises")
        if any(HANGS in text for text in texts):
            self._told_to_end.wait()
            raise RuntimeError("the stub was told to end")
        if any(KILLS_ITS_LANE in text for text in texts) and os.environ.get("STUB_LANES_DIE"):
            raise SystemExit("the stub ends its thread")
        time.sleep(self._slow)
        return [says(text) for text in texts]

    def terminate(self) -> None:
        self._told_to_end.set()

    def check(self) -> None:
        """It always works."""


class StubClassifier:
    def __init__(self, slow: float) -> None:
        self._slow = slow

    def lane(self) -> StubRun:
        return StubRun(self._slow)


def patch_model(slow: float) -> None:
    from tests.kit import LABELS, MODEL, tokenize
    from worker import app
    from worker.opening import Model

    def open_model(settings: Any, *_: Any) -> Model:
        return Model(MODEL, LABELS, tokenize, StubClassifier(slow), MOST_TOKENS, settings.lanes or 2, LABELS)

    app.open_model = open_model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--at", action="append", default=[])
    parser.add_argument("--journal", type=Path)
    flags, rest = parser.parse_known_args()
    faulthandler.register(signal.SIGUSR1)  # for a test that wonders what it is doing
    patch_clients(Points(flags.at), Journal(flags.journal))
    if not flags.real:
        patch_model(flags.slow / 1000)
    from worker.cli import main as winnow

    sys.argv = ["winnow", "run", *rest]
    winnow()


if __name__ == "__main__":
    main()
