"""The transactional producer: results, dead letters and offsets that count together or not at all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from worker.errors import BrokerError
from worker.kafka import clients, faults
from worker.kafka.reactions import LASTING, Reaction, ending, reaction
from worker.kafka.writer import Writer, undeliverable
from worker.ports import AbortNeeded, NotYet, RenewalNeeded
from worker.sections_kafka import TRANSACTION_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.config import KafkaSettings
    from worker.errors import Fatal
    from worker.pipeline.messages import Outgoing, Partition
    from worker.ports import Clock

log = structlog.get_logger("kafka")
CALL_SECONDS = 1.0
"""For which a call waits before it is made again in the next turn of the loop."""
CLOSING_SECONDS = 2.0
BETWEEN_TRIALS = 0.1
RENEWALS = 5
"""Producers in a row that may fail before one transaction is committed."""
REQUEST_TIMEOUT_MS = 3_000
_NO_TOPIC = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}
_OF_THE_ABORT = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}


def transactional_id(kafka: KafkaSettings) -> str:
    """The prefix and a name of this worker that no other has."""
    return f"{kafka.transactional_id_prefix}-{clients.member_name(kafka)}"


class KafkaTransactions:
    """See `worker.ports.Transactions`. Ready for the first transaction when the constructor returns.

    Raises:
        BrokerError: the brokers cannot, or will not, take transactions from this worker.
    """

    def __init__(self, kafka: KafkaSettings, max_bytes: int, clock: Clock) -> None:
        self._clock = clock
        self._id = transactional_id(kafka)
        self._timeout = kafka.transaction_timeout
        defaults = {
            "transactional.id": self._id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            # The first record after a commit may meet "concurrent transactions", and waits so long (default 100 ms).
            "retry.backoff.ms": 5,
            # What was written counts with its transaction: only what failed is news.
            "delivery.report.only.error": True,
            # Offsets are sent without a timeout but that of the request, by default as long as a transaction may last.
            "socket.timeout.ms": min(REQUEST_TIMEOUT_MS, int(1000 * self._timeout)),
        }
        self._new: Callable[[], Writer] = partial(Writer, kafka, max_bytes, clock, defaults, _fatal)
        self._begun: float | None = None
        self._renewals = 0
        self._writer = self._new()
        self._initialized = False
        self._initialize_within(kafka.connect_timeout_ms / 1000)

    def send(self, outgoing: Outgoing) -> None:
        self._begin()
        try:
            self._writer.produce(outgoing, self._report)
        except KafkaException as error:
            # The transaction, or the producer, has failed already; why, the abort will be told.
            if error.args[0].code() in (KafkaError._STATE, KafkaError._FATAL):
                raise AbortNeeded from None
            raise undeliverable(outgoing.topic, error.args[0]) from None

    def poll(self) -> None:
        self._writer.poll()

    def send_offsets(self, offsets: Mapping[Partition, int], membership: object) -> None:
        self._begin()
        entries = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
        self._call(self._writer.producer.send_offsets_to_transaction, entries, membership, CALL_SECONDS)

    def commit(self) -> None:
        self._call(self._writer.producer.commit_transaction, CALL_SECONDS)
        self._begun = None
        self._renewals = 0

    def abort(self) -> None:
        if self._begun is None:
            return
        try:
            self._call(self._writer.producer.abort_transaction, CALL_SECONDS)
        except AbortNeeded:
            raise RenewalNeeded from None
        self._begun = None

    def renew(self) -> None:
        if self._initialized:
            self._replace()
        try:
            self._initialize()
        except (AbortNeeded, RenewalNeeded):
            self._initialized = True  # such as it is: the next call takes another one
            raise NotYet from None

    def _replace(self) -> None:
        self._renewals += 1
        if self._renewals > RENEWALS:
            raise BrokerError(
                f"{RENEWALS} transactional producers in a row have failed. Nothing unfinished was committed; the log "
                "of the brokers may say why."
            )
        self._writer.close()
        self._writer = self._new()
        self._initialized, self._begun = False, None

    def close(self) -> None:
        if self._begun is None:
            return
        try:
            self._writer.producer.abort_transaction(CLOSING_SECONDS)
        except KafkaException as error:
            log.warning("transaction left open", error=error.args[0].name(), consequence="the coordinator ends it")

    def _initialize(self) -> None:
        self._call(self._writer.producer.init_transactions, CALL_SECONDS)
        self._initialized = True

    def _initialize_within(self, seconds: float) -> None:
        deadline = self._clock() + seconds
        while not self._initialized:
            try:
                self._initialize()
            except (NotYet, AbortNeeded, RenewalNeeded):
                self._writer.wait(BETWEEN_TRIALS)
                if self._clock() >= deadline:
                    raise BrokerError(
                        f"The brokers' transaction coordinator did not answer within {seconds:g} s. See that their "
                        "topic __transaction_state has as many replicas as transaction.state.log.min.isr asks for."
                    ) from None

    def _begin(self) -> None:
        if self._begun is None:
            self._call(self._writer.producer.begin_transaction)
            self._begun = self._clock()

    def _call(self, call: Callable[..., object], *arguments: Any) -> None:
        try:
            call(*arguments)
        except KafkaException as error:
            self._react(error)

    def _react(self, error: KafkaException) -> None:
        overdue = self._begun is not None and self._clock() - self._begun >= self._timeout
        what = reaction(error.args[0], overdue=overdue)
        log.debug("transaction call failed", error=error.args[0].name(), reaction=what.name)
        match what:
            case Reaction.RETRY:
                raise NotYet from None
            case Reaction.ABORT:
                raise AbortNeeded from None
            case Reaction.RENEW:
                raise RenewalNeeded from None
            case Reaction.END:
                raise ending(error, self._id) from None

    # A callback of the client: it never raises.

    def _report(self, error: KafkaError | None, message: Any) -> None:
        """Whatever failed makes the transaction abortable; what would fail again ends the worker."""
        if error is None or error.code() in _OF_THE_ABORT:
            return
        if error.code() in LASTING | _NO_TOPIC:
            self._writer.fail(undeliverable(message.topic(), error))


def _fatal(error: KafkaError) -> Fatal | None:
    """What is fatal for the producer is not for the worker: the next call says what to do."""
    return None if error.fatal() or error.code() == KafkaError._FATAL else faults.fatal(error)
