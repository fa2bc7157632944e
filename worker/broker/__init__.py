"""Brokers for people without one: demo, trials and tests.

with open_broker("auto", print) as broker:
    broker.create_topics({"messages": 3})
    ... broker.bootstrap_servers ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from worker.broker.apache import ApacheKafka
from worker.broker.mock import MockCluster
from worker.broker.ports import is_free
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["ApacheKafka", "Broker", "MockCluster", "Preference", "open_broker"]

Preference = Literal["auto", "apache", "mock"]


class Broker(Protocol):
    """A running broker that belongs to this program and ends with it."""

    @property
    def bootstrap_servers(self) -> str: ...

    @property
    def kind(self) -> str:
        """What it is, e.g. `apache-kafka 4.3.1`."""
        ...

    @property
    def limits(self) -> tuple[str, ...]:
        """What it cannot do that Kafka can, in sentences; empty for Kafka itself."""
        ...

    @property
    def alive(self) -> bool: ...

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Create the topics that are missing, each with its number of partitions."""
        ...

    def stop(self) -> None:
        """End it and remove what it kept; may be called again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_broker(
    prefer: Preference,
    on_progress: Callable[[str], None],
    *,
    topics: Mapping[str, int] | None = None,
    port: int | None = None,
) -> Broker:
    """Start a broker and return it running; the caller stops it, or uses it in a `with`.

    `auto` takes Apache Kafka, and where that cannot be had the mock cluster, telling `on_progress` why.

    Raises:
        BrokerError: what was asked for cannot be had, or a topic cannot be created.
    """
    if port is not None and not is_free(port):
        raise BrokerError(f"Port {port} is in use: choose another, or 0 to have a free one picked.")
    if prefer == "mock":
        return MockCluster(topics=topics).start()
    kafka = ApacheKafka(port=port, on_progress=on_progress)
    try:
        kafka.start()
    except BrokerError as reason:
        if prefer == "apache":
            raise
        on_progress(f"No Apache Kafka here. {reason}")
        on_progress("Using librdkafka's mock cluster instead, which is not Kafka: see its limits.")
        return MockCluster(topics=topics).start()
    # Not in the above: a Kafka that refuses a topic is no reason for something that is no Kafka.
    try:
        kafka.create_topics(topics or {})
    except BaseException:  # Ctrl-C included: nothing stays behind
        kafka.stop()
        raise
    return kafka
