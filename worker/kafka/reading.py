"""Reads stored partitions from here to there, in no group: what a topic held when one began to look."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from worker.errors import BrokerError, Fatal, TopicError
from worker.kafka import clients, faults
from worker.kafka.source import record
from worker.kafka.topics import size_limits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Partition, Record

QUIET = 0
"""What goes wrong is told by exceptions."""
AT_ONCE = 1_000
"""Messages taken from the client at once."""
WAIT = 0.5


class Extent(NamedTuple):
    """The offsets of a partition."""

    first: int
    """The first one that is stored."""
    end: int
    """The next one to be written. Where a transaction is open, readers of committed messages cannot get there yet."""


class _Heard:
    """What the client said by itself."""

    def __init__(self) -> None:
        self.fatal: Fatal | None = None
        self.last = ""

    def __call__(self, error: KafkaError) -> None:
        self.fatal = self.fatal or faults.fatal(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str()


class Reading:
    """Reads topics as the settings say.

    Attributes:
        held_back: by partition, the offsets that `read` could not get at because a transaction stayed open.
    """

    def __init__(self, kafka: KafkaSettings, group: str | None = None, isolation: str | None = None) -> None:
        """Make the clients; nothing is asked of the brokers yet.

        Args:
            kafka: brokers and properties.
            group: whose committed offsets `committed` tells; it is not joined. None for that of the settings.
            isolation: `read_committed` or `read_uncommitted`; None for what the settings give the worker.

        Raises:
            ConfigError: the client refuses its properties.
        """
        self.held_back: dict[Partition, int] = {}
        self._brokers = kafka.bootstrap_servers
        self._patience = kafka.connect_timeout_ms / 1000
        self._heard = _Heard()
        common = clients.common(kafka, self._heard) | {"log_level": QUIET}
        mine: clients.Properties = {
            "log_level": QUIET,
            "group.id": group or kafka.group_id,
            # It joins no group, and what the worker is told of its own need not fit the defaults of others.
            "max.poll.interval.ms": 300_000,
            "session.timeout.ms": 45_000,
            "heartbeat.interval.ms": 3_000,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            # A fetch that waits at the end of one partition holds up that of the next.
            "fetch.wait.max.ms": 10,
            # A queue that was full is looked at again only after this long (default 1 s).
            "fetch.queue.backoff.ms": 20,
            # Bound what is prefetched: what compresses well is much more in memory than what was fetched.
            "queued.min.messages": 5_000,
            "queued.max.messages.kbytes": 16 * 1024,
            "fetch.max.bytes": 4 * 1024 * 1024,
            "allow.auto.create.topics": False,
        }
        if isolation is not None:
            mine["isolation.level"] = isolation
        try:
            self._admin = AdminClient(common)
            self._consumer = Consumer(clients.common(kafka, self._heard, kafka.consumer_properties) | mine)
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None

    def close(self) -> None:
        self._consumer.close()

    def topics(self) -> dict[str, int]:
        """All topics that this user may describe, with how many partitions they have. Raises BrokerError."""
        # Asked by the consumer: one that does not know a topic's leaders finds them a second after the assignment.
        with self._asking():
            found = self._consumer.list_topics(timeout=self._patience).topics
        return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """The partitions of topics, in order; a name that starts with `^` is a pattern.

        Raises:
            BrokerError: the brokers do not answer.
            TopicError: there is no such topic.
        """
        existing = self.topics()
        named: dict[str, None] = {}
        for topic in topics:
            matching = sorted(name for name in existing if re.match(topic, name)) if topic.startswith("^") else [topic]
            if not matching or matching[0] not in existing:
                raise TopicError(f"There is no topic {topic!r} at {self._brokers}, or this user may not describe it.")
            named.update(dict.fromkeys(matching))
        return [(name, number) for name in named for number in range(existing[name])]

    def extents(self, partitions: Collection[Partition]) -> dict[Partition, Extent]:
        """First and next offset of each partition. Raises BrokerError, TopicError."""
        first = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {partition: Extent(first[partition], end[partition]) for partition in partitions}

    def since(self, partitions: Collection[Partition], milliseconds: int) -> Mapping[Partition, int]:
        """The offset of the first message from a time on; of partitions that have one."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(milliseconds))
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The offsets that the group has committed, of partitions where it has."""
        asked = [TopicPartition(topic, number) for topic, number in partitions]
        with self._asking():
            answered = self._consumer.committed(asked, timeout=self._patience) if asked else []
        for one in answered:
            if one.error is not None:
                raise self._error(one.error)
        return {(one.topic, one.partition): one.offset for one in answered if one.offset >= 0}

    def compacted(self, topic: str) -> bool:
        """Whether the brokers remove messages in between; False where this user may not know."""
        asked = ConfigResource(ResourceType.TOPIC, topic)
        try:
            settings = self._admin.describe_configs([asked], request_timeout=self._patience, broker=self._broker())[
                asked
            ]
            return "compact" in (settings.result()["cleanup.policy"].value or "")
        except (KafkaException, KeyError):
            return False

    def size_limit(self, topics: Iterable[str]) -> int | None:
        """The least `max.message.bytes` of topics, of those where this user may know it. Raises BrokerError."""
        return min(size_limits(self._admin, self._broker(), topics).values(), default=None)

    def _broker(self) -> int:
        """One that can be asked: by default the client waits for a controller, which not every cluster shows."""
        with self._asking():
            brokers: list[int] = sorted(self._consumer.list_topics(timeout=self._patience).brokers)
        return brokers[0]

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """The records of a partition from `first` on, in order, without those from `end` on.

        Where a transaction hides what is left, it is waited for as long as for a broker that does not answer, and then
        left out and noted in `held_back`. One partition is read at a time: beginning another ends the one before.

        Raises:
            BrokerError: the brokers stop answering.
            TopicError: the topic may not be read.
        """
        if first >= end:
            return
        self._consumer.assign([TopicPartition(*partition, first)])
        came_to: int | None = None
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since <= self._patience:
            for message in self._fetched():
                if (message.topic(), message.partition()) != partition or self._is_error(message):
                    continue
                if message.error() is not None:
                    came_to = message.offset()
                else:
                    came_to = None
                    if _next(message) <= end:
                        yield record(message)
                if _next(message) >= end:
                    return
                quiet_since = time.monotonic()
        self._give_up(partition, end, came_to)

    def _fetched(self) -> Sequence[Message]:
        # `consume` waits its whole time unless as many messages come, so the first is awaited by `poll`.
        message = self._consumer.poll(WAIT)
        if self._heard.fatal is not None:
            raise self._heard.fatal
        return [] if message is None else [message, *self._consumer.consume(AT_ONCE, 0.0)]

    def _is_error(self, message: Message) -> bool:
        """Whether it is neither a record nor the end of the partition. Raises what cannot be waited out."""
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return False
        fatal = faults.fatal(error, message.topic())
        if fatal is not None:
            raise fatal
        return True

    def _give_up(self, partition: Partition, end: int, came_to: int | None) -> None:
        if came_to is None:
            raise BrokerError(
                f"{partition[0]} cannot be read at {self._brokers}: nothing came for {self._patience:g} s"
                f"{self._detail()}. Check that the brokers are up; kafka.connect_timeout_ms is how long to wait."
            )
        self.held_back[partition] = end - came_to

    def _offsets(self, partitions: Collection[Partition], which: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(topic, number): which for topic, number in partitions}
        if not asked:
            return {}
        level = IsolationLevel.READ_UNCOMMITTED
        with self._asking():
            answers = self._admin.list_offsets(asked, isolation_level=level, request_timeout=self._patience)
            return {(asked.topic, asked.partition): int(found.result().offset) for asked, found in answers.items()}

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            self._admin.poll(0)
            self._consumer.poll(0)
            raise self._error(error.args[0]) from None

    def _error(self, error: Any) -> Fatal:
        fatal = self._heard.fatal or faults.fatal(error)
        if fatal is not None:
            return fatal
        return BrokerError(
            f"No broker answered at {self._brokers} within {self._patience:g} s{self._detail() or f' ({error.str()})'}."
            " Check kafka.bootstrap_servers, and security.protocol in kafka.properties."
        )

    def _detail(self) -> str:
        return f" ({self._heard.last})" if self._heard.last else ""


def _next(message: Message) -> int:
    """The offset after a record; of the end of a partition its own."""
    offset = message.offset()
    if offset is None:
        raise AssertionError("a message without an offset")
    return offset if message.error() is not None else offset + 1
