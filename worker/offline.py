"""Classify texts without a broker, through the same tokenizer, batcher and lanes as the worker."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from worker.lanes import Lanes
from worker.pipeline.batcher import Batcher, bucket_edges
from worker.pipeline.batches import CloseReason, Item
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Record, Rejection, Result
from worker.pipeline.tokenization import portions, tokenize_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.app import Model
    from worker.config import BatchingSettings
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Request
    from worker.pipeline.tokenization import Encoded
    from worker.pipeline.windows import Windows

CHUNK = 512
RUN_TIMEOUT = 60.0
WAIT = 1.0
"""Seconds to wait for the lanes before looking after them."""


class Offline:
    """Classifies requests in order, in batches that fit their lengths, on all lanes."""

    def __init__(self, model: Model, batching: BatchingSettings) -> None:
        self._model = model
        self._batching = batching
        self._lanes = Lanes(model.classifier, model.lanes, time.monotonic, RUN_TIMEOUT)
        self._lanes.start()

    def __call__(self, requests: Iterable[Request]) -> Iterator[Result | Rejection]:
        """One outcome a request, in order; holds a bounded number of them at a time."""
        requests = iter(requests)
        while chunk := list(itertools.islice(requests, CHUNK)):
            yield from self._chunk(chunk)

    def close(self) -> None:
        self._lanes.close(RUN_TIMEOUT)

    def _chunk(self, requests: list[Request]) -> Iterator[Result | Rejection]:
        ledger, batcher, windows = Ledger(), self._batcher(), self._model.windows(self._batching)
        slots = [ledger.open(Record("", 0, number, None, None, [], None), 0.0) for number in range(len(requests))]
        texts = [request.text for request in requests]
        for some in portions(texts):
            encoded = tokenize_each(self._model.tokenizer, texts[some])
            self._take_in(zip(slots[some], requests[some], encoded, strict=True), ledger, batcher, windows)
            # Long texts are tokenized a few at a time; the lanes are not to stand idle meanwhile.
            self._turn(ledger, batcher, windows, 0.0)
            yield from self._released(ledger)
        while ledger.in_flight:
            self._turn(ledger, batcher, windows, WAIT)
            yield from self._released(ledger)

    def _take_in(
        self,
        tokenized: Iterable[tuple[Slot, Request, Encoded | Rejection]],
        ledger: Ledger,
        batcher: Batcher,
        windows: Windows,
    ) -> None:
        for slot, request, tokens in tokenized:
            if isinstance(tokens, Rejection):
                ledger.finish(slot, tokens)
                continue
            truncated = tokens.truncated or request.truncated
            if len(tokens.ids) > windows.longest:
                windows.add(slot, request, tokens.ids, truncated)
            else:
                batcher.add(Item(slot, request, tokens.ids, truncated, 0.0, tokens.spans))

    def _turn(self, ledger: Ledger, batcher: Batcher, windows: Windows, wait: float) -> None:
        for item in windows.feed(0.0):
            batcher.add(item)
        while self._lanes.room and (batch := batcher.take(0.0, CloseReason.DRAIN)):
            self._lanes.submit(batch)
        self._lanes.watch()
        if self._lanes.pending:
            for done in self._lanes.collect(wait):
                for slot, outcome in windows.outcomes(done.batch.items, done.outcomes):
                    ledger.finish(slot, outcome)

    def _released(self, ledger: Ledger) -> Iterator[Result | Rejection]:
        for slot in ledger.release():
            ledger.settle(slot)
            if isinstance(slot.outcome, (Result, Rejection)):
                yield slot.outcome

    def _batcher(self) -> Batcher:
        bounds = self._batching
        return Batcher(bounds.max_messages, bounds.max_tokens, 0.0, bucket_edges(self._model.max_length))
