"""A Source and a Sink in memory, for tests and for trying the loop without Kafka.

They pass the same contract tests as Kafka's. One consumer, any number of partitions; what a test must be able
to provoke (rebalances, missing or failing acknowledgements, a restart) has a method.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from worker.errors import DeliveryError
from worker.pipeline.messages import Destination, Outgoing, Record
from worker.ports import NotYet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.pipeline.messages import Headers, Partition
    from worker.ports import RebalanceListener


class MemoryLog:
    """Stored records and committed offsets: what outlives a source."""

    def __init__(self) -> None:
        self.records: dict[Partition, list[Record]] = defaultdict(list)
        self.committed: dict[Partition, int] = {}

    def append(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Record:
        stored = self.records[topic, partition]
        record = Record(topic, partition, len(stored), key, value, headers or [], timestamp)
        stored.append(record)
        return record


class MemorySource:
    """Reads a `MemoryLog` from its committed offsets on. See `worker.ports.Source`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._listener: RebalanceListener | None = None
        self._positions: dict[Partition, int] = {}
        self._events: deque[tuple[str, list[Partition]]] = deque()
        self.paused = False
        self.closed = False
        self.refusing = False
        """Whether commits are refused."""
        self.connected = True
        self.resets = 0

    def start(self, listener: RebalanceListener) -> None:
        self._listener = listener

    def assign(self, *partitions: Partition) -> None:
        """The next poll is given these partitions."""
        self._events.append(("assigned", list(partitions)))

    def revoke(self, *partitions: Partition) -> None:
        """The next poll has to give these partitions up, and may still commit."""
        self._events.append(("revoked", list(partitions)))

    def lose(self, *partitions: Partition) -> None:
        """The next poll learns that these partitions belong to somebody else."""
        self._events.append(("lost", list(partitions)))

    def rewind(self, partition: Partition, offset: int = 0) -> None:
        """Go back, as after the topic was made anew or truncated."""
        self._positions[partition] = offset

    def poll(self, limit: int, timeout: float) -> Sequence[Record]:  # noqa: ARG002 - nothing is ever awaited
        while self._events:
            self._tell(*self._events.popleft())
        if self.paused:
            return ()
        found: list[Record] = []
        for partition, position in self._positions.items():
            fresh = self._log.records[partition][position : position + limit - len(found)]
            self._positions[partition] = position + len(fresh)
            found += fresh
        return found

    def _tell(self, event: str, partitions: list[Partition]) -> None:
        if event == "assigned":
            self.paused = False
            self._positions |= {p: self._log.committed.get(p, 0) for p in partitions}
        if self._listener is not None:
            getattr(self._listener, event)(partitions)
        if event != "assigned":
            for partition in partitions:
                self._positions.pop(partition, None)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:  # noqa: ARG002 - it is done at once
        if self.refusing:
            if self._listener is not None:
                self._listener.refused()
            return
        mine = {p: offset for p, offset in offsets.items() if p in self._positions}
        self._log.committed.update(mine)
        if self._listener is not None:
            self._listener.committed(mine)

    def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return {p: self._log.committed[p] for p in partitions if p in self._log.committed}

    def membership(self) -> object | None:
        """None while it has yet to learn that the group has thrown it out."""
        return None if any(event == "lost" for event, _ in self._events) else self._positions.keys()

    def ends(self) -> Mapping[Partition, int]:
        return {p: len(self._log.records[p]) for p in self._positions}

    def positions(self) -> Mapping[Partition, int]:
        return dict(self._positions)

    def close(self) -> None:
        self._listener = None
        self.closed = True


class MemorySink:
    """Keeps what is sent. See `worker.ports.Sink`.

    Acknowledgements come with the next poll while `acknowledging`; else they wait for `acknowledge`.
    """

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.acknowledging = True
        self.failing: str | None = None
        """Set to a reason to make every acknowledgement an error."""
        self.flushed: list[int] = []
        """How many had been sent, at each flush."""
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def results(self) -> list[Outgoing]:
        return [o for o in self.sent if o.destination is Destination.OUTPUT]

    @property
    def dead_letters(self) -> list[Outgoing]:
        return [o for o in self.sent if o.destination is Destination.DEAD_LETTER]

    def send(self, outgoing: Outgoing, delivered: Callable[[], None]) -> None:
        self.sent.append(outgoing)
        self._waiting.append(delivered)

    def flush(self) -> None:
        self.flushed.append(len(self.sent))

    def poll(self) -> None:
        if self.failing is not None and self._waiting:
            raise DeliveryError(f"A record could not be written: {self.failing}.")
        if self.acknowledging:
            self.acknowledge()

    def acknowledge(self, count: int | None = None) -> None:
        """Acknowledge the oldest `count` records, or all."""
        for _ in range(len(self._waiting) if count is None else min(count, len(self._waiting))):
            self._waiting.popleft()()

    def close(self) -> None:
        self._waiting.clear()


class MemoryTransactions:
    """Keeps what is committed, and commits offsets to a `MemoryLog` with it. See `worker.ports.Transactions`.

    What a test must be able to provoke: `failing` says what the next calls of a name raise, and a commit may take
    effect and raise all the same, as when its answer is lost.
    """

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._open: list[Outgoing] | None = None
        self._offsets: dict[Partition, int] = {}
        self.visible: list[Outgoing] = []
        """What a `read_committed` reader sees."""
        self.failing: dict[str, list[type[Exception]]] = {}
        self.unanswered: type[Exception] | None = None
        """What the next commit raises that takes effect all the same."""
        self.transactions = 0
        self.renewals = 0
        self._committing = False

    def send(self, outgoing: Outgoing) -> None:
        self._fail("send")
        self._begun().append(outgoing)

    def poll(self) -> None:
        """Nothing is ever said."""

    def send_offsets(self, offsets: Mapping[Partition, int], membership: object) -> None:  # noqa: ARG002
        self._begun()
        self._fail("send_offsets")
        self._offsets = dict(offsets)

    def commit(self) -> None:
        self._committing = NotYet in (self.unanswered, *self.failing.get("commit", [])[:1])
        self._fail("commit")
        if self._open is not None:
            self.visible += self._open
            self._log.committed.update(self._offsets)
            self.transactions += 1
        self._open, self._offsets = None, {}
        if (unanswered := self.unanswered) is not None:
            self.unanswered = None
            raise unanswered

    def abort(self) -> None:
        self._not_committing()
        self._fail("abort")
        self._open, self._offsets = None, {}

    def renew(self) -> None:
        self._committing = False
        self._open, self._offsets = None, {}
        self._fail("renew")
        self.renewals += 1

    def close(self) -> None:
        self._open = None

    def _begun(self) -> list[Outgoing]:
        self._not_committing()
        if self._open is None:
            self._open = []
        return self._open

    def _not_committing(self) -> None:
        if self._committing:
            raise RuntimeError("a commit has begun: it can only be made again")

    def _fail(self, call: str) -> None:
        if self.failing.get(call):
            raise self.failing[call].pop(0)
