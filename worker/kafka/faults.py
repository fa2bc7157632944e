"""From the client's error codes to what the worker does about them."""

from __future__ import annotations

import re

from confluent_kafka import KafkaError

from worker.errors import BrokerError, Fatal, TopicError

AUTHENTICATION = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
PERMANENT = {
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.INVALID_GROUP_ID,
}
REDELIVERED = {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError._NO_OFFSET,
    KafkaError._STATE,
    KafkaError._ASSIGNMENT_LOST,
}
"""Refusals of a commit because somebody else has, or will have, the partitions."""


_BEHIND_FATAL = (
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNRELEASED_INSTANCE_ID,
    KafkaError.UNSUPPORTED_ASSIGNOR,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.INVALID_GROUP_ID,
)
"""What ends a member of a group of KIP-848: the client reports it as `_FATAL`, and names it in the text alone."""
_HTTP = f"Invalid response size {int.from_bytes(b'HTTP')}"
"""The client takes the first four bytes of an answer for its length."""
_SERVER = re.compile(r"(?:\w+://)?(?P<host>[^/]+)/")


def handshake(error: KafkaError) -> Fatal | None:
    """The error of a first contact that the same settings will not get through, or None: TLS, or no Kafka at all.

    For the start alone: a worker that was connected before meets such errors when a broker is restarted, too.
    """
    said = error.str()
    server = _SERVER.match(said)
    host = server["host"] if server else "a broker"
    if error.code() == KafkaError._SSL and "certificate verify failed" in said:
        return BrokerError(
            f"The certificate of {host} is refused: no CA of ssl.ca.location signed it, or it has expired, or it does "
            "not name that host. Check ssl.ca.location in kafka.properties, and the name in kafka.bootstrap_servers."
        )
    if _HTTP in said:
        return BrokerError(
            f"{host} is no Kafka: it answers in HTTP. Check the port in kafka.bootstrap_servers; brokers listen on "
            "9092 by default."
        )
    if "SSL alert" in said:  # sent by the other side: nearly always for the lack of a certificate
        return BrokerError(
            f"{host} refused the TLS handshake ({said.rpartition('SSL routines::')[2]}). Set ssl.certificate.location "
            "and ssl.key.location in kafka.properties to a certificate that the brokers trust."
        )
    return None


def _code(error: KafkaError) -> int:
    code: int = error.code()
    if code != KafkaError._FATAL:
        return code
    return next((behind for behind in _BEHIND_FATAL if KafkaError(behind).str() in error.str()), code)


def fatal(error: KafkaError, topic: str | None = None) -> Fatal | None:
    """The error that ends the process, or None where the client recovers by itself."""
    code = _code(error)
    where = f" {topic!r}" if topic else ""
    if code in AUTHENTICATION:
        return BrokerError(
            f"The brokers refused the login ({error.str()}). Check security.protocol and the sasl.* and ssl.* "
            "entries in kafka.properties."
        )
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return TopicError(f"Access to the topic{where} is denied. Grant READ on inputs, WRITE on outputs.")
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return BrokerError("Access to the consumer group is denied. Grant READ on the group in kafka.group_id.")
    if code == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        return BrokerError("Writing is denied. Grant WRITE on the output and the dead-letter topic.")
    if code in (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID):
        return BrokerError(
            "Another member of the group uses the same kafka.group_instance_id. Give each worker its own."
        )
    if code in (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION, KafkaError.UNSUPPORTED_ASSIGNOR):
        return BrokerError(
            f"The brokers do not support what is asked ({error.str()}). With brokers before 4.0 set "
            "kafka.group_protocol = 'classic'."
        )
    if code == KafkaError._AUTO_OFFSET_RESET:
        return TopicError(
            f"The committed offset of a partition of{where} is no longer stored, and auto.offset.reset = 'error' says "
            "to stop then. Set the group's offsets, or auto.offset.reset to 'earliest' or 'latest'."
        )
    if code in PERMANENT:
        return BrokerError(f"The group refuses this worker ({error.str()}). Make its settings equal to its members'.")
    if error.fatal() or code == KafkaError._FATAL:
        return BrokerError(f"The Kafka client cannot go on: {error.str()}.")
    return None
