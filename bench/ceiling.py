"""What the cores could do at best: bare runs of the graph over all texts in ideal batches, on a thread a lane."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from worker.classifier import EarlyExitClassifier, OnnxClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.opening import Model

T = TypeVar("T")


def ideal_batches(rows: Sequence[T], max_messages: int = 32, max_tokens: int = 512) -> list[list[T]]:
    """Sorted by length, then cut at the bounds: as little padding as there can be."""
    batches: list[list[T]] = [[]]
    for row in sorted(rows, key=_length):
        count = len(batches[-1]) + 1
        if batches[-1] and (count > max_messages or count * _length(row) > max_tokens):
            batches.append([])
        batches[-1].append(row)
    return batches


def ceiling(model: Model, ids: Sequence[list[int]]) -> float:
    """Messages a second: no tokenizing, no Kafka, no answers.

    Of a bundle with early exit, opened so, the first stage runs over all texts, then the second over those that it is
    not sure of, in ideal batches of their own.
    """
    started = time.perf_counter()
    if isinstance(model.classifier, EarlyExitClassifier):
        states = _first_stage(model.classifier, ids, model.lanes)
        if states:
            on_threads(model.classifier.stages.rest, ideal_batches(states), model.lanes)
    else:
        on_threads(cast("OnnxClassifier", model.classifier).model, ideal_batches(ids), model.lanes)
    return len(ids) / (time.perf_counter() - started)


def as_served(model: Model) -> Callable[[list[list[int]]], object]:
    """Bare runs of one batch: all layers, or the second stage only for those that the first one is not sure of."""
    classifier = model.classifier
    if not isinstance(classifier, EarlyExitClassifier):
        return cast("OnnxClassifier", classifier).model

    def run(batch: list[list[int]]) -> None:
        states = _states(classifier, batch)
        if states:
            classifier.stages.rest(states)

    return run


def _states(classifier: EarlyExitClassifier, batch: list[list[int]]) -> list[Any]:
    """Of the texts that go on after the first stage."""
    logits, hidden = classifier.stages.early(batch)
    sure = classifier.early.sure(classifier.early.interpret.scores(logits))
    return [hidden[i, : len(row)].copy() for i, row in enumerate(batch) if not sure[i]]


def _first_stage(classifier: EarlyExitClassifier, ids: Sequence[list[int]], lanes: int) -> list[Any]:
    """The states of the texts that go on."""
    going_on: list[Any] = []
    on_threads(lambda batch: going_on.extend(_states(classifier, batch)), ideal_batches(ids), lanes)
    return going_on


def on_threads(run: Callable[[Any], object], batches: Sequence[Any], count: int) -> None:
    """Run every batch once, each thread taking the next."""
    work = iter(batches)
    lock = threading.Lock()
    failed: list[BaseException] = []

    def thread() -> None:
        try:
            while True:
                with lock:
                    batch = next(work, None)
                if batch is None:
                    return
                run(batch)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
            failed.append(error)

    threads = [threading.Thread(target=thread) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise failed[0]


def _length(row: Any) -> int:
    return len(row)
