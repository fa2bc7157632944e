"""Measuring: runs of the graph, the tokenizer, and the whole worker without Kafka."""

from __future__ import annotations

import itertools
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

import orjson

from worker.app import Worker
from worker.capacity.plan import Visit
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.opening import graphs
from worker.pipeline.infer import Allocation
from worker.pipeline.tokenization import portions
from worker.sections import CacheSettings, InputSettings, ServingSettings, ShutdownSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from worker.app import Model
    from worker.capacity.rounds import Shape
    from worker.classifier import OnnxClassifier
    from worker.config import Settings
    from worker.model.bundle import Bundle
    from worker.ports import Clock
    from worker.sections import Section

    Run: TypeAlias = Callable[[Sequence[Sequence[int]]], object]
    _Moment: TypeAlias = tuple[int, float, float]
    """Messages done, the time, and the CPU time."""

BACKLOG, PARTITIONS = "backlog", 6
WARM_UP = 0.2
"""Share of a measurement of the whole worker that does not count."""
MOST_RECORDS = 200_000


class Tokenized(NamedTuple):
    """Texts as the model gets them."""

    ids: list[list[int]]
    seconds: float
    """Of one thread for a text, on average."""


class Whole(NamedTuple):
    """What a worker did whose Kafka is memory."""

    rate: float
    """Messages a second."""
    cpu: float
    """Seconds of CPU that the poll thread spent a message: decode, tokenize, batch, order, encode."""
    messages: int


def tokenize(model: Model, texts: Sequence[str], clock: Clock = time.perf_counter) -> Tokenized:
    """Token ids of texts, and what making them costs."""
    ids: list[list[int]] = []
    started = clock()
    for some in portions(texts):
        ids += [encoded.ids for encoded in model.tokenizer(texts[some])]
    return Tokenized([each for each in ids if each], (clock() - started) / len(texts))


def graph(model: Model) -> Run:
    """Runs of the bundle's graph, all of its layers."""
    return cast("OnnxClassifier", model.classifier).model


def by_allocation(model: Model, batches: Sequence[Sequence[Sequence[int]]]) -> dict[Allocation, Run]:
    """What runs all the batches, one after the other, with each way to get memory; the rows given do not matter."""

    def through(run: Run) -> Run:
        return lambda _: [run(rows) for rows in batches]

    bundle = cast("Bundle", model.bundle)
    return {each: through(graphs(bundle, each)) for each in get_args(Allocation)}


def batch(ids: Sequence[Sequence[int]], shape: Shape) -> list[list[int]]:
    """A full batch of real tokens: each row begins and ends as texts do, and goes on with other texts' tokens."""
    first, last = ids[0][0], ids[0][-1]
    inner = itertools.cycle([token for row in ids for token in row[1:-1]] or [first])
    middle = max(0, shape.length - 2)
    return [[first, *itertools.islice(inner, middle), last][: shape.length] for _ in range(shape.rows)]


def on_lanes(
    run: Run, rows: Sequence[Sequence[int]], lanes: int, seconds: float, clock: Clock = time.perf_counter
) -> Visit:
    """Run a batch again and again on lanes at the same time, each for so many seconds and at least once.

    Raises:
        BaseException: what a run raises, or interrupts the wait; no lane is at work any more.
    """
    spent: list[list[float]] = [[] for _ in range(lanes)]
    failed: list[BaseException] = []
    together, stopped = threading.Barrier(lanes), threading.Event()
    ended: SimpleQueue[None] = SimpleQueue()

    def lane(mine: list[float]) -> None:
        try:
            together.wait()
            started = before = clock()
            while not stopped.is_set() and (not mine or before - started < seconds):
                run(rows)
                now = clock()
                mine.append(now - before)
                before = now
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
            failed.append(error)
        finally:
            ended.put(None)

    at_work = 0
    try:
        for mine in spent:
            threading.Thread(target=lane, args=(mine,)).start()
            at_work += 1
        while at_work:
            ended.get()
            at_work -= 1
    finally:
        # An interrupted `join` may take a thread for ended that is not; and the interpreter must not end under one.
        stopped.set()
        together.abort()
        for _ in range(at_work):
            ended.get()
    if failed:
        raise failed[0]
    rate = sum(len(rows) * len(mine) / sum(mine) for mine in spent)
    return Visit(rate, tuple(each for mine in spent for each in mine))


def whole(settings: Settings, texts: Sequence[str], count: int, seconds: float) -> Whole:
    """A worker as the settings make it on a backlog of `count` of the texts, in memory, for so many seconds at most.

    Repeats are not answered from the cache: the texts here may come again more often than a topic's.

    Raises:
        Fatal: it cannot be built as it is configured, or cannot go on.
    """
    count = min(count, MOST_RECORDS)
    source, sink = MemorySource(_backlog(texts, count)), MemorySink()
    source.assign(*((BACKLOG, partition) for partition in range(PARTITIONS)))
    worker = Worker(_alone(settings), source, sink)
    watch = Watch(lambda: len(sink.sent), count, seconds)
    try:
        worker.run(watch)
    finally:
        # The interpreter must not end while a lane still runs the model.
        worker.lanes.close(settings.model.run_timeout_ms / 1000)
    return watch.found()


def _alone(settings: Settings) -> Settings:
    """The settings of a worker without server, cache and registry, which ends at once."""
    bounds = {"max_bytes": settings.input.max_bytes, "max_characters": settings.input.max_characters}
    changes: dict[str, Section] = {
        "input": InputSettings.model_validate(bounds),
        "output": settings.output.model_copy(update={"format": "json", "envelope": "none"}),
        "serving": ServingSettings(enabled=False),
        "shutdown": ShutdownSettings(drain_ms=0),
        "cache": CacheSettings(max_bytes=0),
    }
    return settings.model_copy(update=changes)


def _backlog(texts: Sequence[str], count: int) -> MemoryLog:
    log = MemoryLog()
    for number, text in zip(range(count), itertools.cycle(texts), strict=False):
        log.append(BACKLOG, number % PARTITIONS, orjson.dumps({"id": str(number), "text": text}))
    return log


class Watch:
    """Asked by the loop at every turn whether to stop; counts from the first messages that do not warm up.

    Args:
        done: messages that are done with.
        count: of all there are.
        seconds: after which it is enough.
        clock: seconds, monotonic.
        cpu: seconds of CPU of the thread that asks.
    """

    def __init__(
        self,
        done: Callable[[], int],
        count: int,
        seconds: float,
        clock: Clock = time.perf_counter,
        cpu: Clock = time.thread_time,
    ) -> None:
        self._done = done
        self._count = count
        self._clock = clock
        self._cpu = cpu
        self._seconds = seconds
        self._zero: _Moment = (0, clock(), cpu())
        self._start = self._end = self._zero

    def __call__(self) -> bool:
        done, now = self._done(), self._clock()
        spent = now - self._zero[1]
        warm = spent >= WARM_UP * self._seconds or done >= WARM_UP * self._count
        if done > self._end[0]:
            self._end = (done, now, self._cpu())
            if warm and self._start is self._zero:
                self._start = self._end
        enough = self._end[0] > self._start[0] > 0
        return done >= self._count or (enough and spent >= self._seconds)

    def found(self) -> Whole:
        """What was measured; from the beginning on, where all was done before anything was warm.

        Raises:
            RuntimeError: the loop ended before a message was done.
        """
        start = self._start if self._end[0] > self._start[0] else self._zero
        messages, seconds, cpu = (after - before for before, after in zip(start, self._end, strict=True))
        if not messages:
            raise RuntimeError("the worker ended before anything could be measured")
        return Whole(messages / seconds, cpu / messages, int(messages))
