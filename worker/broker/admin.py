"""The few administrative calls a broker needs about itself, through a real client."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ATTEMPT_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
_TOPIC_SECONDS = 20.0


def connect(bootstrap_servers: str, properties: Mapping[str, str] | None = None) -> AdminClient:
    """A client that retries quickly and prints nothing while the broker is still coming up."""
    quiet_and_quick: dict[str, str | int | float | bool] = {
        "bootstrap.servers": bootstrap_servers,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        "log_level": 0,
    }
    return AdminClient(quiet_and_quick | dict(properties or {}))


def wait_until_ready(client: AdminClient, alive: Callable[[], bool], seconds: float) -> bool:
    """Poll until the broker lists itself; False when it died or the time is up."""
    deadline = time.monotonic() + seconds
    while alive() and time.monotonic() < deadline:
        try:
            if client.list_topics(timeout=_ATTEMPT_SECONDS).brokers:
                return True
        except KafkaException:
            Event().wait(_PAUSE_SECONDS)
    return False


def warm_groups(client: AdminClient) -> None:
    """Have the broker set up its consumer groups now: else the first group to join waits one to three seconds for it.

    Asking for a group makes the broker create the topic that groups are kept in. What it answers does not matter.
    """
    with suppress(KafkaException, TimeoutError):
        client.describe_consumer_groups(["warm-up"], request_timeout=_TOPIC_SECONDS)["warm-up"].result(_TOPIC_SECONDS)


def create_topics(
    client: AdminClient, topics: Mapping[str, int], config: Mapping[str, str] | None = None, replication: int = 1
) -> None:
    """Create what is missing, and return when every partition has a leader.

    A topic that exists is left as it is.

    Raises:
        BrokerError: the broker refused, or did not elect leaders in time.
    """
    if not topics:
        return
    wanted = [
        NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config or {}))
        for name, partitions in topics.items()
    ]
    for name, future in client.create_topics(wanted).items():
        try:
            future.result(timeout=_TOPIC_SECONDS)
        except KafkaException as refused:
            error = refused.args[0]
            if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerError(f"Topic {name!r} could not be created: {error.str()}.") from refused
    _wait_for_leaders(client, topics)


def _wait_for_leaders(client: AdminClient, names: Mapping[str, int]) -> None:
    deadline = time.monotonic() + _TOPIC_SECONDS
    while missing := [name for name in names if not _has_leaders(client, name)]:
        if time.monotonic() > deadline:
            raise BrokerError(f"Topic {missing[0]!r} was created, but has no leader after {_TOPIC_SECONDS:.0f} s.")
        Event().wait(_PAUSE_SECONDS)


def _has_leaders(client: AdminClient, name: str) -> bool:
    try:
        topic = client.list_topics(name, timeout=_TOPIC_SECONDS).topics[name]
    except KafkaException:
        return False
    return topic.error is None and bool(topic.partitions) and all(p.leader >= 0 for p in topic.partitions.values())
