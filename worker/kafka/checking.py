"""Whether the client takes the properties, asked of itself: without brokers, and without logging in anywhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from worker.kafka import clients
from worker.kafka.transactions import REQUEST_TIMEOUT_MS, transactional_id
from worker.sections_kafka import TRANSACTION_TIMEOUT_MS

if TYPE_CHECKING:
    from worker.config import KafkaSettings, Settings

_QUIET = logging.Logger("quiet", logging.CRITICAL + 1)
"""What is wrong is told by the exception."""
_TOKENS_FROM = "sasl.oauthbearer.token.endpoint.url"
_IMDS = "sasl.oauthbearer.metadata.authentication.type"
_NOBODY = "http://127.0.0.1:1"


def check(settings: Settings) -> None:
    """Make each client that a worker makes, in its order, and end it again.

    Raises:
        ConfigError: what the worker would be refused with.
    """
    kafka, bound = settings.kafka, clients.write_bounds(settings.output.max_bytes, None).batch
    _make(AdminClient, clients.common(kafka, _unheard))
    reading = clients.consumer(kafka, _unheard, _unheard)
    _make(Producer, _transactional(kafka) | clients.producer(kafka, bound, _unheard))
    _make(Consumer, reading)


def _transactional(kafka: KafkaSettings) -> clients.Properties:
    """Those that go with others: how long a transaction may last bounds what else may be set."""
    if not kafka.exactly_once:
        return {}
    return {
        "transactional.id": transactional_id(kafka),
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "socket.timeout.ms": min(REQUEST_TIMEOUT_MS, int(1000 * kafka.transaction_timeout)),
    }


def _make(kind: type[AdminClient | Producer | Consumer], properties: clients.Properties) -> None:
    try:
        client = kind(_apart(properties), logger=_QUIET)
    except (KafkaException, TypeError, ValueError) as error:
        raise clients.refused(error) from None
    if isinstance(client, Consumer):
        client.close()


def _apart(properties: clients.Properties) -> clients.Properties:
    """The same, with nobody to connect to: to end a client would wait for an answer, up to 20 s for a token."""
    asks = {_TOKENS_FROM, _IMDS} & properties.keys()
    return properties | {"bootstrap.servers": ""} | dict.fromkeys([_TOKENS_FROM] if asks else [], _NOBODY)


def _unheard(*_: Any) -> None:
    """A callback."""
