"""What the tests of the loop share: messages, and what is said of them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.kit import InlineLanes
from worker.memory import MemoryLog, MemorySource
from worker.pipeline.messages import Destination, Outgoing, Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kit import Bench
    from worker.pipeline.messages import Partition

P0, P1 = ("in", 0), ("in", 1)
DEAD_TOMBSTONE = Rejection("decode", "tombstone", "The message has no value.", "InvalidMessage")


def message(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def fill(log: MemoryLog, count: int, partition: int = 0, text: str = "message") -> None:
    for _ in range(count):
        log.append("in", partition, message(f"{text} {len(log.records['in', partition])}"))


def offset(outgoing: Outgoing) -> int:
    if outgoing.destination is Destination.DEAD_LETTER:
        return int(dict(outgoing.headers)["__connect.errors.offset"] or b"")
    return json.loads(outgoing.value or b"")["source"]["offset"]


def reason(outgoing: Outgoing) -> str:
    return (dict(outgoing.headers)["winnow.errors.reason"] or b"").decode()


def turns(on: Bench, count: int = 10) -> None:
    for _ in range(count):
        on.loop.turn()


def inline(of: Bench) -> InlineLanes:
    assert isinstance(of.lanes, InlineLanes)
    return of.lanes


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple]] = defaultdict(list)

    def __getattr__(self, name: str):
        return lambda *arguments: self.calls[name].append(arguments)


class WatchedSource(MemorySource):
    """Remembers what was committed, and whether it waited."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.commits: list[tuple[dict[Partition, int], bool]] = []

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        self.commits.append((dict(offsets), wait))
        super().commit(offsets, wait=wait)
