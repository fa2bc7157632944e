"""Reads what was written, then what the input holds, and sets the one against the other.

In this order it cannot accuse a worker that goes on working: what the group had committed is asked first, then how far
output and dead letters reach, then how far the input does. So what is committed has been answered by then, and what has
been answered is in the input.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import orjson

from worker.audit import answers
from worker.audit.accounts import Account, Bounds, Names
from worker.audit.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from worker.audit.accounts import Answer, Today
    from worker.letters import Source
    from worker.pipeline.decode import Read
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.messages import Partition, Record

CHUNK = 512
"""Messages that are held while they are classified."""


class Extent(Protocol):
    """Offsets of a partition: the first stored one, and the next one to be written."""

    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...


class Log(Protocol):
    """Where topics are stored; see `worker.kafka.reading.Reading`. All may raise Fatal."""

    held_back: dict[Partition, int]

    def partitions(self, topics: Iterable[str]) -> list[Partition]: ...
    def extents(self, partitions: Collection[Partition]) -> Mapping[Partition, Extent]: ...
    def since(self, partitions: Collection[Partition], milliseconds: int) -> Mapping[Partition, int]: ...
    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]: ...
    def compacted(self, topic: str) -> bool: ...
    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]: ...


class Again(Protocol):
    """Answers messages as they would be answered today; see `worker.audit.again.Again`."""

    @property
    def identity(self) -> ModelIdentity: ...
    def __call__(self, records: Sequence[Record]) -> Iterator[tuple[Record, Today]]: ...


@dataclass(frozen=True)
class Scope:
    """What is audited."""

    inputs: tuple[str, ...]
    """Topics, or patterns that start with `^`."""
    results: tuple[str, ...]
    """Topics of results; tombstones are forwarded to the first."""
    dead_letters: str
    tombstones: str = "skip"
    """What becomes of them, as `input.tombstones` has it."""
    group: str | None = None
    """Messages that it has not committed need no answer; None asks for an answer to all."""
    since: int | None = None
    """Milliseconds since the epoch: messages from then on, by the input's timestamps."""
    last: int | None = None
    """So many of the newest offsets of each input partition."""
    doubles_allowed: bool = True
    passing: frozenset[str] = frozenset()
    """Reasons of dead letters that need not come again."""
    read: Read = orjson.loads
    """The value of a result to its document; raises InvalidMessage or ValueError where it is none."""


class Audit:
    """One audit; `__call__` makes its report."""

    def __init__(
        self, scope: Scope, inputs: Log, written: Log, again: Again | None, progress: Callable[[str], None]
    ) -> None:
        """Prepare.

        Args:
            scope: what is audited.
            inputs: for the input topics, as the worker reads them.
            written: for output and dead letters, as those read them who see committed records alone.
            again: to compare with; None compares nothing.
            progress: told what is being read.
        """
        self._scope, self._inputs, self._written, self._again, self._say = scope, inputs, written, again, progress
        self._accounts: dict[Partition, Account] = {}
        self._has_committed = False
        self._bundles: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._begins: dict[str, int] = {}

    def __call__(self) -> Report:
        """Read everything.

        Raises:
            Fatal: a topic is missing or cannot be read.
        """
        asked = self._inputs.partitions(self._scope.inputs)
        committed = self._committed(asked)
        written = self._written.extents(self._written.partitions([*self._scope.results, self._scope.dead_letters]))
        self._begins = {f"{topic}/{number}": one.first for (topic, number), one in written.items() if one.first > 0}
        self._open(asked, committed)
        for place, (partition, extent) in enumerate(written.items()):
            self._take_answers(place, partition, extent)
        for partition, account in self._accounts.items():
            self._take_messages(partition, account)
        return self._report()

    def _committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int] | None:
        """None where nobody has committed anything: then every message had to be answered."""
        if self._scope.group is None:
            return None
        found = self._inputs.committed(partitions)
        self._has_committed = bool(found)
        return found or None

    def _open(self, partitions: Collection[Partition], committed: Mapping[Partition, int] | None) -> None:
        extents, names = self._inputs.extents(partitions), Names()
        since = {} if self._scope.since is None else self._inputs.since(partitions, self._scope.since)
        compacted = {topic: self._inputs.compacted(topic) for topic in {topic for topic, _ in partitions}}
        for partition in partitions:
            first, end = extents[partition].first, extents[partition].end
            begin = max(first, end - self._scope.last if self._scope.last is not None else first)
            if self._scope.since is not None:
                begin = max(begin, since.get(partition, end))
            processed = end if committed is None else min(end, committed.get(partition, 0))
            bounds = Bounds(first, begin, processed, end)
            self._accounts[partition] = Account(*partition, bounds, names, compacted=compacted[partition[0]])

    # What was written

    def _take_answers(self, place: int, partition: Partition, extent: Extent) -> None:
        self._say(f"{partition[0]}, partition {partition[1]}")
        scope = self._scope
        holds_results, holds_tombstones = partition[0] in scope.results, partition[0] == scope.results[0]
        for record in self._written.read(partition, extent.first, extent.end):
            if holds_tombstones and record.value is None:
                self._counts["forwarded"] += 1
                continue
            found = answers.of_result(record, scope.read) if holds_results else answers.of_letter(record)
            if found is None:
                self._counts["foreign"] += 1
            else:
                self._take(place, *found)

    def _take(self, place: int, source: Source, answer: Answer) -> None:
        account = self._accounts.get((source.topic, source.partition))
        if account is None:
            self._counts["elsewhere"] += 1
            return
        if source.offset >= account.bounds.first:
            (self._reasons if answer.is_letter else self._bundles)[answer.name] += 1
        account.written(place, source.offset, answer)

    # What the input holds

    def _take_messages(self, partition: Partition, account: Account) -> None:
        self._say(f"{partition[0]}, partition {partition[1]}")
        records = self._stored(partition, account)
        while chunk := list(itertools.islice(records, CHUNK)):
            self._compare(account, chunk)
        # Retention does not wait for an audit.
        account.begins(self._inputs.extents([partition])[partition].first)

    def _stored(self, partition: Partition, account: Account) -> Iterator[Record]:
        """Note every message of the partition. Yields those to be compared."""
        scope, again, bounds = self._scope, self._again, account.bounds
        for record in self._inputs.read(partition, bounds.first, bounds.end):
            # What cannot be read becomes a dead letter before anybody asks for its value.
            due = record.value is not None or scope.tombstones == "dead-letter" or record.headers_unreadable
            account.stored(record.offset, due=due)
            if not due and scope.tombstones == "forward" and record.offset < bounds.processed:
                self._counts["due"] += 1
            if again is not None and account.comparable(record.offset, again.identity.digest):
                yield record

    def _compare(self, account: Account, records: Sequence[Record]) -> None:
        if self._again is not None:
            for record, today in self._again(records):
                account.compare(record.offset, today, self._scope.passing)

    def _report(self) -> Report:
        held_back = self._inputs.held_back | self._written.held_back
        return Report(
            tuple(account.close() for account in self._accounts.values()),
            self._scope.group,
            self._has_committed,
            self._scope.doubles_allowed,
            self._again.identity if self._again is not None else None,
            dict(self._bundles.most_common()),
            dict(self._reasons.most_common()),
            self._counts["due"],
            self._counts["forwarded"],
            self._counts["elsewhere"],
            self._counts["foreign"],
            {f"{topic}/{number}": offsets for (topic, number), offsets in held_back.items()},
            self._begins,
        )
