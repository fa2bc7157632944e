"""The consumer: one thread owns it; its callbacks set flags and never raise.

An exception that leaves a callback during `consume` frees the messages already fetched, so what the listener
raises is kept and raised again once the call has returned.
"""

from __future__ import annotations

import threading
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from worker.kafka import clients, faults
from worker.kafka.lost import INTERVAL_MS, Lost
from worker.kafka.resets import Resets
from worker.kafka.unread import Unread
from worker.pipeline.messages import Record
from worker.ports import NotYet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Headers, Partition
    from worker.ports import RebalanceListener

log = structlog.get_logger("kafka")
STATISTICS_AS_STANDBY = 2
"""With so many of them since its coordinator is there, a member that was given nothing stands by."""
ANSWER_SECONDS = 1.0
"""How long the brokers are waited for when they are asked what is committed."""
COMMIT_SECONDS = 5.0
"""How long the last commit of a partition may take."""
# For a header name that is not UTF-8 the client's method returns a broken list with an error pending. A call through
# C checks for that; one that the interpreter has specialized does not, and what follows is a crash.
_headers_of = methodcaller("headers")
_HARMLESS = {KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED}


class KafkaSource:
    """A member of a consumer group. See `worker.ports.Source`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._topics = list(kafka.input_topics)
        self._properties = {
            **clients.consumer(kafka, self._on_error, self._on_commit),
            "statistics.interval.ms": INTERVAL_MS,
            "stats_cb": self._on_stats,
        }
        self._listener: RebalanceListener | None = None
        self._consumer: Consumer | None = None
        self._assigned: dict[Partition, None] = {}
        self._raised: BaseException | None = None
        self._fetched: list[Message] = []
        self._rebalancing = False
        self._paused: set[Partition] = set()
        self.connected = True
        self._resets = Resets()
        self._unread = Unread(str(self._properties["auto.offset.reset"]))
        self._lost = Lost()
        self._joined = False
        self._waited = 0
        self._consumer_protocol = kafka.group_protocol == "consumer"

    def start(self, listener: RebalanceListener) -> None:
        self._listener = listener
        try:
            self._consumer = Consumer(self._properties, logger=self._resets)
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        entries = [TopicPartition(topic, number) for topic, number in partitions]
        try:
            found = self._client.committed(entries, timeout=ANSWER_SECONDS)
        except KafkaException as error:
            fatal = faults.fatal(error.args[0])
            if fatal is not None:
                raise fatal from None
            raise NotYet from None
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    @property
    def _client(self) -> Consumer:
        if self._consumer is None:
            raise RuntimeError("the source has not been started")
        return self._consumer

    def poll(self, limit: int, timeout: float) -> Sequence[Record]:
        # `consume` waits its whole timeout unless `limit` messages come, so the first one is awaited by `poll`.
        messages, self._fetched = self._fetched, []
        first = self._client.poll(0.0 if messages else timeout)
        if first is not None:
            messages.append(first)
            messages += self._client.consume(max(0, limit - len(messages)), 0.0)
        if self._raised is not None:
            self._fetched = messages
            kept, self._raised = self._raised, None
            raise kept
        return self._records(messages)

    def _records(self, messages: Sequence[Message]) -> list[Record]:
        """Those of partitions that no rebalance within the same call took away."""
        found, assigned = [], self._assigned
        for message in messages:
            error = message.error()
            if error is not None:
                self._note(error, message.topic())
            elif (message.topic(), message.partition()) in assigned:
                found.append(record(message))
        return found

    def _note(self, error: KafkaError, topic: str | None) -> None:
        """Raises what cannot be waited out."""
        if error.code() in _HARMLESS:
            return
        fatal = faults.fatal(error, topic)
        if fatal is not None:
            raise fatal
        log.warning("consumer error", error=error.name(), detail=error.str(), topic=topic)

    def pause(self) -> None:
        playing = self._assigned.keys() - self._paused
        self._client.pause(_entries(playing))
        self._paused |= playing

    def resume(self) -> None:
        # Only what is paused: to resume a partition that is not makes the client drop what it has fetched of it.
        paused = self._assigned.keys() & self._paused
        self._client.resume(_entries(paused))
        self._paused -= paused

    def commit(self, offsets: Mapping[Partition, int], *, wait: bool) -> None:
        entries = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
        if wait and not self._rebalancing:
            self._commit_within(entries, COMMIT_SECONDS)
        else:
            self._commit(entries, wait)

    def _commit(self, entries: list[TopicPartition], wait: bool) -> None:
        try:
            if wait:
                self._confirmed(self._client.commit(offsets=entries, asynchronous=False))
            else:
                self._client.commit(offsets=entries, asynchronous=True)
        except KafkaException as error:
            self._refused(error.args[0])

    def _commit_within(self, entries: list[TopicPartition], seconds: float) -> None:
        """Commit and wait; the client's own call waits for ever while the brokers are away.

        Not from within a callback: there the client serves no other thread. A worker that hangs in a revoke because
        the brokers left in that moment is found by its liveness probe.
        """
        refusals: list[KafkaError] = []
        answers: list[list[TopicPartition]] = []

        def call() -> None:
            try:
                answers.append(self._client.commit(offsets=entries, asynchronous=False))
            except KafkaException as error:
                refusals.append(error.args[0])

        thread = threading.Thread(target=call, name="commit", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            log.warning("commit not answered", seconds=seconds, consequence="will be redelivered")
        for answer in answers:
            self._confirmed(answer)
        for refusal in refusals:
            self._refused(refusal)

    def _confirmed(self, entries: Iterable[TopicPartition]) -> None:
        """A commit took effect. Of one that was waited for, the client makes no callback."""
        if self._listener is not None:
            self._listener.committed({(p.topic, p.partition): p.offset for p in entries if p.error is None})

    def _refused(self, error: KafkaError) -> None:
        if self._listener is not None:
            self._listener.refused()
        fatal = faults.fatal(error)
        if fatal is not None:
            raise fatal
        what = "will be redelivered" if error.code() in faults.REDELIVERED else "will be tried again"
        log.warning("commit refused", error=error.name(), consequence=what)

    def membership(self) -> object | None:
        """The group metadata that KIP-447 fences by.

        A member that a classic group has thrown out has lost its id, and learns of it with the next poll: its metadata
        would be that of a client outside of any group, which the coordinator lets pass. In groups of KIP-848 it keeps
        the id, and the coordinator refuses it.
        """
        metadata = self._client.consumer_group_metadata()
        return metadata if self._client.memberid() else None

    @property
    def resets(self) -> int:
        return self._resets.count

    def ends(self) -> Mapping[Partition, int]:
        ends = {}
        for topic, number in self._assigned:
            watermarks = self._client.get_watermark_offsets(TopicPartition(topic, number), cached=True)
            if watermarks is not None and watermarks[1] >= 0:
                ends[topic, number] = watermarks[1]
        return {**ends, **self._unread.ends(self._client, self._assigned.keys() - ends.keys())}

    def positions(self) -> Mapping[Partition, int]:
        read = self._client.position(_entries(self._assigned))
        found = {(each.topic, each.partition): each.offset for each in read if each.offset >= 0}
        return {**found, **self._unread.starts(self._client, self._assigned.keys() - found.keys())}

    def close(self) -> None:
        self._listener = None
        if self._consumer is not None:
            self._consumer.close()

    # Callbacks of the client: they never raise.

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by `poll`
            self._raised = self._raised or error

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(self._assign, partitions)

    def _assign(self, partitions: list[TopicPartition]) -> None:
        arrived = _named(partitions)
        self._joined = True
        self._assigned.update(dict.fromkeys(arrived))
        # What comes is paused where it was when it left, and what stays must be as what comes.
        if self._paused:
            self.resume()
        if self._listener is not None:
            self._listener.assigned(arrived)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(self._leave, partitions, "revoked")

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(self._leave, partitions, "lost")

    def _leave(self, partitions: list[TopicPartition], how: str) -> None:
        gone = _named(partitions)
        self._rebalancing = True
        try:
            if self._listener is not None:
                getattr(self._listener, how)(gone)
        finally:
            self._rebalancing = False
            self._unread.forget(gone)
            for partition in gone:
                self._assigned.pop(partition, None)

    def _on_stats(self, statistics: str) -> None:
        self._guarded(self._look, statistics)

    def _look(self, statistics: str) -> None:
        said = orjson.loads(statistics)
        self._lost.look(said)
        self._unread.look(said["topics"])
        self.connected = any(broker["state"] == "UP" for broker in said["brokers"].values())
        self._waited += said.get("cgrp", {}).get("state") == "up"
        # A group of KIP-848 does not tell a member that there is nothing for it, so it would never be ready. One that
        # was refused has ended by then.
        if self._waited >= STATISTICS_AS_STANDBY and not self._joined and self._consumer_protocol:
            self._assign([])

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.connected = False
        log.debug("client error", error=error.name(), detail=error.str())  # librdkafka's own line has been logged
        self._raised = self._raised or faults.fatal(error)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            self._guarded(self._refused, error)
        else:
            self._guarded(self._confirmed, partitions)


def _entries(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in sorted(partitions)]


def _named(partitions: list[TopicPartition]) -> list[Partition]:
    return [(p.topic, p.partition) for p in partitions]


def record(message: Any) -> Record:
    """The client's message, which must not be an error, as a `Record`."""
    kind, timestamp = message.timestamp()
    headers, unreadable = _headers(message)
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
        None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        unreadable,
        kind == TIMESTAMP_LOG_APPEND_TIME,
    )


def _headers(message: Any) -> tuple[Headers, bool]:
    """The headers, and whether they could not be read: the client fails on names that are not UTF-8."""
    try:
        return _headers_of(message) or [], False
    except (SystemError, UnicodeDecodeError):
        return [], True
