"""What an error of a transactional call means: one function decides, by the error's own flags."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from worker.errors import BrokerError, DeliveryError, Fatal
from worker.kafka import faults

if TYPE_CHECKING:
    from confluent_kafka import KafkaException


class Reaction(StrEnum):
    """What to do after a call has failed."""

    RETRY = "make the same call again"
    ABORT = "abort the transaction and write it again"
    RENEW = "make the producer anew and write its transaction again"
    END = "end the process"


_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
# Abortable or not, they come again with every further transaction.
LASTING = faults.AUTHENTICATION | {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_GROUP_ID,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError._INVALID_ARG,
}


def reaction(error: KafkaError, *, overdue: bool) -> Reaction:
    """What to do.

    Args:
        error: of a call of the transactional API.
        overdue: whether the open transaction is older than its timeout. Then it was the coordinator that fenced this
            producer, otherwise another worker with the same `transactional.id`.
    """
    if error.code() in _FENCED:
        return Reaction.RENEW if overdue else Reaction.END
    if error.code() in LASTING:
        return Reaction.END
    if error.retriable():
        return Reaction.RETRY
    if error.txn_requires_abort():
        return Reaction.ABORT
    # Fatal for this producer, or a state that neither of us expects: a new one aborts what the old one left open.
    return Reaction.RENEW


def ending(error: KafkaException, transactional_id: str) -> Fatal:
    """The sentence for `Reaction.END`."""
    reason: KafkaError = error.args[0]
    code = reason.code()
    if code in _FENCED:
        return BrokerError(
            f"Another worker uses the transactional.id {transactional_id!r} as well, and has taken over. Give each "
            "worker a kafka.instance_id of its own."
        )
    if code == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return BrokerError(
            f"Access to the transactional.id {transactional_id!r} is denied. Grant WRITE and DESCRIBE on the "
            "transactional ids that start with kafka.transactional_id_prefix."
        )
    if code == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        return BrokerError("Writing is denied. Grant WRITE on the output and the dead-letter topic.")
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return DeliveryError("Access to the output or the dead-letter topic is denied. Grant WRITE on both.")
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return BrokerError(
            "The brokers do not allow transactions to last so long. Set transaction.timeout.ms in "
            "kafka.producer_properties to at most their transaction.max.timeout.ms."
        )
    if code in (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE):
        return BrokerError(
            f"The brokers cannot deliver exactly once ({reason.str()}): they need to be Apache Kafka 2.5 or later. Set "
            "kafka.delivery = 'at-least-once' otherwise."
        )
    return faults.fatal(reason) or DeliveryError(
        f"A transaction cannot be written: {reason.str()}. It was not committed; its messages will be read again when "
        "the worker starts."
    )
