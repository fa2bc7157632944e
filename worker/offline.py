"""Classify texts without a broker, through the same tokenizer, batcher and lanes as the worker."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from worker.lanes import Lanes
from worker.pipeline.batches import CloseReason, Item
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Record, Rejection, Request, Result
from worker.pipeline.tokenization import portions, tokenize_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.app import Model
    from worker.config import BatchingSettings
    from worker.ports import Clock

IN_FLIGHT = 4_096
"""Requests taken in and not yet answered. Answers come in order, so many of these are done and wait for one that is
not; with fewer of them batches are less full."""
HELD = 67_108_864
"""No part is taken in while the texts in flight have so many characters and the tokens of windows and the states of
those that go on so many bytes together, or more."""
PART = 64
"""Requests taken in at once."""
SLOW = 0.05
"""Seconds after which what has come of a part is taken in. A source that lets one request alone wait for so long is
asked for the next when all that came has its answer: nobody is to wait for an answer that is there."""
RUN_TIMEOUT = 60.0
WAIT = 1.0
"""Seconds to wait for the lanes before looking after them."""


class Offline:
    """Classifies requests in order, in batches that fit their lengths, on all lanes. One call at a time.

    A rejection among the requests stands for one that was refused before, and comes out in its place.
    """

    def __init__(self, model: Model, batching: BatchingSettings, clock: Clock = time.monotonic) -> None:
        self._model = model
        self._batching = batching
        self._clock = clock
        self._lanes = Lanes(model.classifier, model.lanes, time.monotonic, RUN_TIMEOUT)
        self._lanes.start()

    def __call__(self, requests: Iterable[Request | Rejection | None]) -> Iterator[Result | Rejection]:
        """One outcome a request, in order; holds a bounded number of them at a time.

        A source that knows that there is nothing at the moment gives None, and is asked again when all that came has
        its outcome.

        Raises:
            Exception: what the source of the requests raises, when those before it have their outcomes.
        """
        way, source = _Way(self._model, self._batching, self._lanes), _Source(requests, self._clock)
        while source.more or way.in_flight:
            if source.more and way.room and not (source.slow and way.in_flight):
                yield from way.take_in(source.part())
            else:
                yield from way.turn(WAIT, CloseReason.DRAIN)
        if source.failure is not None:
            raise source.failure

    def close(self) -> None:
        self._lanes.close(RUN_TIMEOUT)


class _Source:
    """Requests, a part at a time."""

    def __init__(self, requests: Iterable[Request | Rejection | None], clock: Clock) -> None:
        self._requests = iter(requests)
        self._clock = clock
        self.more = True
        self.slow = False
        """Whether the last one alone let the reader wait, or nothing is there."""
        self.failure: Exception | None = None

    def part(self) -> list[Request | Rejection]:
        """What there is, `PART` of them at most; waits for one of them, unless the source says that there is none."""
        part: list[Request | Rejection] = []
        began = before = self._clock()
        self.slow = False
        while self.more and not self.slow and len(part) < PART and before - began < SLOW:
            request = self._read()
            now = self._clock()
            self.slow = request is None or now - before >= SLOW
            before = now
            if request is not None:
                part.append(request)
        return part

    def _read(self) -> Request | Rejection | None:
        try:
            return next(self._requests)
        except StopIteration:
            self.more = False
        except Exception as error:  # noqa: BLE001 - raised again behind the outcomes of what came before
            self.more, self.failure = False, error
        return None


class _Way:
    """The way of one stream of requests through the worker's parts."""

    def __init__(self, model: Model, batching: BatchingSettings, lanes: Lanes) -> None:
        self._tokenize = model.tokenizer
        self._ledger = Ledger()
        # Nobody waits for one of them alone: what counts is when all are done.
        self._batcher = model.batcher(batching, max_delay=math.inf)
        self._windows = model.windows(batching)
        self._lanes = lanes
        self._numbers = itertools.count()
        self._lengths: deque[int] = deque()
        self.characters = 0
        """Of the texts in flight."""

    @property
    def in_flight(self) -> int:
        return self._ledger.in_flight

    @property
    def room(self) -> bool:
        """Whether another part may be taken in."""
        held = self.characters + self._windows.bytes + self._batcher.bytes
        return self.in_flight + PART <= IN_FLIGHT and held < HELD

    def take_in(self, requests: list[Request | Rejection]) -> Iterator[Result | Rejection]:
        """Tokenize and batch; gives the outcomes that are there meanwhile."""
        texts = [request.text if isinstance(request, Request) else "" for request in requests]
        self._lengths.extend(map(len, texts))
        self.characters += sum(map(len, texts))
        for some in portions(texts):
            self._take_in(requests[some], texts[some])
            # Long texts are tokenized a few at a time; the lanes are not to stand idle meanwhile.
            yield from self.turn(0.0)

    def _take_in(self, requests: list[Request | Rejection], texts: list[str]) -> None:
        encoded = tokenize_each(self._tokenize, texts)
        for request, tokens in zip(requests, encoded, strict=True):
            slot = self._ledger.open(Record("", 0, next(self._numbers), None, None, [], None), 0.0)
            if isinstance(request, Rejection):
                self._ledger.finish(slot, request)
                continue
            if isinstance(tokens, Rejection):
                self._ledger.finish(slot, tokens)
                continue
            truncated = tokens.truncated or request.truncated
            if len(tokens.ids) > self._windows.longest:
                self._windows.add(slot, request, tokens.ids, truncated)
            else:
                self._batcher.add(Item(slot, request, tokens.ids, truncated, 0.0, tokens.spans))

    def turn(self, wait: float, hurry: CloseReason | None = None) -> Iterator[Result | Rejection]:
        """Keep the lanes at work, and give the outcomes that are next; waits so many seconds for the lanes.

        In a `hurry` what there is of batches goes to them, without it only what is full, or what an idle lane can take.
        """
        for item in self._windows.feed(0.0):
            self._batcher.add(item)
        self._hand_over(hurry)
        self._lanes.watch()
        if self._lanes.pending:
            self._collect(wait)
        return self._released()

    def _hand_over(self, hurry: CloseReason | None) -> None:
        while self._lanes.room:
            batch = self._batcher.take(0.0, hurry or (CloseReason.DRAIN if self._lanes.idle else None))
            if batch is None:
                return
            self._lanes.submit(batch)

    def _collect(self, wait: float) -> None:
        for done in self._lanes.collect(wait):
            for slot, outcome in self._windows.outcomes(done.items, done.outcomes):
                self._ledger.finish(slot, outcome)
            for item in done.unsure:
                self._batcher.add(item)

    def _released(self) -> Iterator[Result | Rejection]:
        for slot in self._ledger.release():
            self._ledger.settle(slot)
            self.characters -= self._lengths.popleft()
            if isinstance(slot.outcome, (Result, Rejection)):
                yield slot.outcome
