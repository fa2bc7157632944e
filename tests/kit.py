"""Stand-ins that tests share: a clock, a model that is a function, and a loop over memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.delivery import AtLeastOnce, ExactlyOnce
from worker.health import Health
from worker.lanes import Completed, Lanes
from worker.loop import Loop
from worker.memory import MemoryLog, MemorySink, MemorySource, MemoryTransactions
from worker.pipeline.batcher import Batcher, StagedBatcher, bucket_edges
from worker.pipeline.batches import Item
from worker.pipeline.breaker import Breaker
from worker.pipeline.decode import json_decoder
from worker.pipeline.encode import Encoder, ModelIdentity
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Partial, Record, Request, Skip, Unsure
from worker.pipeline.tokenization import Encoded
from worker.pipeline.windows import Cutter, JoinTexts, Windows
from worker.steps import Bounds, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pipeline.repeats import Repeats
    from worker.ports import Tracing

LABELS = ("ham", "spam")
MODEL = ModelIdentity("stub", "0123456789ab")


class FakeClock:
    """Stands still until it is told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class TickingClock(FakeClock):
    """Goes on by `tick` each time it is read, so that whoever waits for a deadline gets there."""

    def __init__(self, now: float = 1000.0, tick: float = 0.001) -> None:
        super().__init__(now)
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def says(text: str) -> Classification:
    """What the stub model says of a text: a function of the text alone."""
    spam = round((sum(map(ord, text)) % 100) / 100, 6)
    label = "spam" if spam >= 0.5 else "ham"
    return Classification(label, max(spam, 1 - spam), {"ham": 1 - spam, "spam": spam})


def says_of_window(ids: Sequence[int]) -> Partial:
    """What the stub model says of a window: a function of its ids alone."""
    spam = sum(ids) % 100 / 100
    return Partial(np.array([1 - spam, spam]))


def in_windows(longest: int = 30, overlap: int = 4, limit: int = 3) -> Windows:
    """Texts of more than `longest` of the stub's tokens are read in windows, `limit` at a time."""

    def classify(scores: Sequence[float]) -> Classification:
        best = max(range(2), key=scores.__getitem__)
        return Classification(LABELS[best], scores[best], dict(zip(LABELS, scores, strict=True)))

    return Windows(Cutter(longest, overlap, 1, 1), JoinTexts("mean", classify), limit)


FIRST, ALL = 2, 6
"""Layers of the stub's first stage, and of both."""


class StubRun:
    def __init__(self, model: StubClassifier) -> None:
        self._model = model

    def __call__(self, items: Sequence[Item]) -> list[Classification | Partial]:
        self._model.runs.append(len(items))
        self._model.before([item.request.text for item in items])
        return [says(item.request.text) if item.window is None else says_of_window(item.ids) for item in items]

    def terminate(self) -> None:
        self._model.terminated += 1

    def check(self) -> None:
        self._model.before(["a text that is known to work"])


class StubClassifier:
    """Classifies with `says`; `before` is called with the texts of each run and may raise or wait."""

    def __init__(self, before: Callable[[list[str]], None] = lambda texts: None) -> None:
        self.before = before
        self.runs: list[int] = []
        self.terminated = 0

    def lane(self) -> StubRun:
        return StubRun(self)


def states_of(item: Item) -> int:
    """What the states are that the stub's first stage leaves of a text: a function of the text alone."""
    return sum(map(ord, item.request.text)) % 1000


class StagedRun(StubRun):
    _model: StagedClassifier

    def __call__(self, items: Sequence[Item]) -> list[Classification | Partial | Unsure]:
        rest = items[0].hidden is not None
        assert all((item.hidden is not None) == rest for item in items), "two stages in one run"
        self._model.stages.append("rest" if rest else "early")
        said = super().__call__(items)
        return [
            self._of_rest(item, one) if rest else self._of_early(item, one)
            for item, one in zip(items, said, strict=True)
        ]

    def _of_early(self, item: Item, said: Classification | Partial) -> Classification | Unsure:
        if isinstance(said, Partial) or self._model.unsure(item.request.text):
            return Unsure(np.full((len(item.ids), 3), states_of(item), np.float32))
        return said._replace(layer=FIRST)

    def _of_rest(self, item: Item, said: Classification | Partial) -> Classification | Partial:
        assert item.hidden is not None
        assert (item.hidden == states_of(item)).all(), "the states of another text"
        assert len(item.hidden) == len(item.ids)
        return said if isinstance(said, Partial) else said._replace(layer=ALL)


class StagedClassifier(StubClassifier):
    """The same in two stages, of which the first is not sure of texts that `unsure` names, nor of windows."""

    def __init__(
        self,
        unsure: Callable[[str], bool] = lambda text: True,
        before: Callable[[list[str]], None] = lambda texts: None,
    ) -> None:
        super().__init__(before)
        self.unsure = unsure
        self.stages: list[str] = []

    def lane(self) -> StagedRun:
        return StagedRun(self)


def tokenize(texts: Sequence[str]) -> list[Encoded]:
    """A token a word, and two special ones; none for NOTHING. Refuses a call in which a text says UNTOKENIZABLE."""
    if any("UNTOKENIZABLE" in text for text in texts):
        raise TypeError("a text that cannot be tokenized")
    return [Encoded([] if text == "NOTHING" else [101, *([7] * len(text.split())), 102], False) for text in texts]


class InlineLanes(Lanes):
    """Lanes without threads: what was submitted runs when it is collected, so nothing depends on timing."""

    held = False
    """While true, nothing completes."""
    newest_first = False
    """Complete in the reverse order of submission."""

    def start(self) -> None:
        """There is nothing to start."""

    def collect(self, timeout: float = 0.0) -> list[Completed]:
        jobs = []
        while not self.held and not self._todo.empty():
            jobs.append(self._todo.get())
        for submitted, batch in reversed(jobs) if self.newest_first else jobs:
            try:
                self._done.put(self._completed(self._lanes[0], batch, submitted))
            except BaseException as error:  # noqa: BLE001 - as the threads do
                self._done.put(error)
        return super().collect(0.0)

    def close(self, timeout: float) -> None:
        """There is nothing to end."""


class NullObserver:
    """Hears everything and keeps nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class Bench(NamedTuple):
    """A loop over memory, and its parts."""

    loop: Loop
    log: MemoryLog
    source: MemorySource
    sink: MemorySink
    lanes: Lanes
    ledger: Ledger
    batcher: Batcher
    health: Health
    clock: Callable[[], float]

    def turn_until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if done():
                return
            self.loop.turn()
            time.sleep(0)  # the lanes need the interpreter too
        raise AssertionError("the loop did not get there")


def bench(
    classifier: StubClassifier | None = None,
    *,
    log: MemoryLog | None = None,
    clock: Callable[[], float] | None = None,
    observer: object | None = None,
    tombstone: object = Skip(),
    lanes: int = 2,
    inline: bool = False,
    source: MemorySource | None = None,
    sink: MemorySink | None = None,
    transactions: MemoryTransactions | None = None,
    windows: Windows | None = None,
    repeats: Repeats | None = None,
    breaker: Breaker | None = None,
    tracing: Tracing | None = None,
    max_characters: int = 2_000,
    **bounds: float,
) -> Bench:
    """A loop over memory whose lanes run, `inline` or as threads; its source has been started.

    It delivers at least once to `sink`, or, given `transactions`, exactly once to them.
    """
    clock = clock or FakeClock()
    log = log or MemoryLog()
    source, sink, ledger, health = source or MemorySource(log), sink or MemorySink(), Ledger(), Health(clock)
    batcher = (StagedBatcher if isinstance(classifier, StagedClassifier) else Batcher)(8, 64, 0.02, bucket_edges(512))
    threads = (InlineLanes if inline else Lanes)(classifier or StubClassifier(), lanes, clock, run_timeout=30.0)
    steps = Steps(
        json_decoder("/text", "/id", 100_000, max_characters), tokenize, batcher, threads, ledger,
        Encoder(MODEL, True, ["traceparent"], 100_000), windows or Windows(), repeats,
    )  # fmt: skip
    limits = {"in_flight": 512, "bytes_in_flight": 1 << 24, "commit_interval": 0.0, "drain": 5.0, "revoke": 5.0}
    heard = observer or NullObserver()
    delivery = (
        AtLeastOnce(source, sink, ledger, clock, heard)
        if transactions is None
        else ExactlyOnce(source, transactions, ledger, clock, heard, 1 << 20)
    )
    loop = Loop(
        source, delivery, steps,
        bounds=Bounds(**(limits | bounds)), breaker=breaker or Breaker(1_000, None), tombstone=tombstone, clock=clock,
        observer=heard, health=health, tracing=tracing,
    )  # fmt: skip
    threads.start()
    source.start(loop)
    return Bench(loop, log, source, sink, threads, ledger, batcher, health, clock)


def record(offset: int = 0, value: bytes | None = b"{}", *, topic: str = "in", partition: int = 0, **more) -> Record:
    return Record(topic, partition, offset, more.get("key"), value, more.get("headers", []), more.get("timestamp"))


def item(ledger: Ledger, offset: int, length: int, arrived: float, text: str = "x") -> Item:
    """An item of `length` tokens with its slot in the ledger."""
    slot = ledger.open(record(offset), arrived)
    assert slot is not None
    return Item(slot, Request(str(offset), text, False), [7] * length, False, arrived)
