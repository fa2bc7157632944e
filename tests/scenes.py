"""Workers as their metrics tell of them, without one: for what looks at metrics."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from tests.kit import MODEL, FakeClock
from worker.health import Health
from worker.metrics import SCORES, Metrics
from worker.pipeline.batches import Batch, CloseReason, Item
from worker.pipeline.lag import Lag
from worker.pipeline.messages import Classification, Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOPIC = "messages"


class Scene:
    """The metrics and probes of a worker that a test moves; the same for the same calls."""

    def __init__(
        self,
        labels: Sequence[str] = ("ham", "spam"),
        *,
        clock: Callable[[], float] | None = None,
        reference: bool = True,
        empty: bool = False,
        memory_limit: int = 1 << 30,
        exits: Sequence[int] = (),
    ) -> None:
        self.exits = tuple(exits)
        self.clock = clock or FakeClock(1_795_000_000.0)
        self.registry = CollectorRegistry()
        self.health = Health(self.clock)
        self.labels = tuple(labels)
        self._dice = random.Random(7)
        self._lags: dict[tuple[str, int], Lag] = {}
        if not empty:
            self.open(reference=reference, memory_limit=memory_limit)

    def open(self, *, reference: bool = True, memory_limit: int = 1 << 30) -> None:
        """The model is there."""
        self.metrics = Metrics(self.registry, self.labels, exits=self.exits, clock=self.clock)
        shares = tuple(min(1.0, bound**9) for bound in SCORES)
        self.metrics.describe(MODEL, 2, dict.fromkeys(self.labels, shares) if reference else None)
        self.metrics.describe_worker(
            "spam-filter", "at-least-once", "winnow-0", 2048, lambda: self.health.ready, memory_limit
        )
        self.health.beat()

    def assign(self, partitions: int, topic: str = TOPIC) -> None:
        """The group gives it partitions."""
        self.health.assigned(partitions)
        self.metrics.rebalanced("assigned", [(topic, number) for number in range(partitions)], 0, 0.0)
        self.lag(dict.fromkeys(range(partitions), 0), topic)

    def lag(self, messages: dict[int, int], topic: str = TOPIC, waiting: float = 0.0, behind: int = 3) -> None:
        """So many messages wait in the partitions; the others stay as they are."""
        stamp = int((self.clock() - waiting) * 1000)
        self._lags |= {
            (topic, number): Lag(count, count + behind, stamp if count else None, waiting)
            for number, count in messages.items()
        }
        self.metrics.lag(dict(self._lags))

    def work(
        self, messages: int, *, seconds: float = 0.012, low: float = 0.0, dead: dict[str, int] | None = None
    ) -> None:
        """Messages come and are answered.

        Args:
            messages: how many.
            seconds: the usual time of one, in the worker.
            low: share of the scores that are low.
            dead: others, that are refused while they are decoded, by reason.
        """
        self.metrics.consumed(messages + sum((dead or {}).values()))
        left = messages
        while left > 0:
            size = min(left, self._dice.choice((1, 2, 4, 8, 16, 32)))
            self._batch(size, seconds)
            left -= size
        for _ in range(messages):
            self._result(seconds, low)
        for reason, count in (dead or {}).items():
            for _ in range(count):
                self.metrics.dead_letter(Rejection("decode", reason, "It is so.", "InvalidMessage"))
                self._acknowledged(seconds)
        self.metrics.committed({})
        self.metrics.state(min(messages, 96), False, min(2, messages))

    def _batch(self, size: int, seconds: float) -> None:
        reason = CloseReason.IDLE if size < 8 else self._dice.choice((CloseReason.TOKENS, CloseReason.SIZE))
        request = Request("x", "text", False)
        lengths = [self._dice.randint(12, 40) for _ in range(size)]
        items = tuple(Item(None, request, [1] * length, False, 0.0) for length in lengths)  # type: ignore[arg-type]
        batch = Batch(items, max(lengths), reason)
        self.metrics.closed(batch)
        self.metrics.ran(batch, seconds * 0.2, seconds * 0.5)
        self.metrics.decoded(size, seconds * 0.01)
        self.metrics.tokenized(size, seconds * 0.05)
        self.metrics.encoded(size, seconds * 0.02)

    def _result(self, seconds: float, low: float) -> None:
        label = self.labels[
            min(len(self.labels) - 1, int(self._dice.expovariate(1.6) * max(1.0, len(self.labels) / 8)))
        ]
        score = self._dice.uniform(0.5, 0.8) if self._dice.random() < low else self._dice.random() ** (1 / 9)
        layer = self._dice.choice(self.exits) if self.exits else None
        said = Classification(label, score, {label: score}, layer=layer)
        self.metrics.result(Result(Request("x", "text", False), said, False, 20))
        self._acknowledged(seconds)

    def _acknowledged(self, seconds: float) -> None:
        took = self._dice.lognormvariate(0, 0.5) * seconds
        self.metrics.delivered(int((self.clock() - took - 0.01) * 1000), took, took * 0.2)
