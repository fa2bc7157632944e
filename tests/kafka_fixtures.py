"""Pytest plugin: the brokers that tests run against.

`WINNOW_TEST_KAFKA` chooses what the fixture `kafka` is: `apache` (default: started by `worker.broker`),
`testcontainers` (needs a Docker engine), or `HOST:PORT` of one that runs already. Where it cannot be had, the tests
that need it are skipped by name, and the end of the report says why.
"""

from __future__ import annotations

import gc
import os
import warnings
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.broker import ApacheKafka, Broker, MockCluster, admin, artifacts
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A group notices within seconds, not Kafka's 45, that a member was killed; transactions of the dead end as quickly.
QUICK_TO_NOTICE = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}

_report = pytest.StashKey[str]()


@dataclass
class RunningKafka:
    """A Kafka that somebody else started."""

    bootstrap_servers: str
    kind: str
    limits: tuple[str, ...] = ()
    alive: bool = True
    on_stop: Callable[[], object] = field(default=lambda: None)

    def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        admin.create_topics(admin.connect(self.bootstrap_servers), topics, config)

    def stop(self) -> None:
        self.on_stop()

    def __enter__(self) -> RunningKafka:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def apache_or_skip(**options) -> ApacheKafka:
    """A started Apache Kafka of the test's own, for tests that restart or kill it; the caller stops it."""
    try:
        artifacts.obtain(lambda _: None)
    except BrokerError as reason:
        pytest.skip(f"needs a real Apache Kafka: {reason}")
    return ApacheKafka(**options).start()  # once it can be had, not starting is a failure


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """A real Kafka, one for the whole run: use the fixture `topics` for names of one's own on it."""
    choice = os.environ.get("WINNOW_TEST_KAFKA", "apache")
    began = monotonic()
    try:
        broker = _open(choice)
    except BrokerError as reason:
        pytestconfig.stash[_report] = f"no Kafka, the tests that need one were skipped: {reason}"
        pytest.skip(f"needs a real Kafka ({choice}): {reason}")
    took = monotonic() - began
    pytestconfig.stash[_report] = f"{broker.kind} at {broker.bootstrap_servers}, ready in {took:.1f} s"
    with broker:
        yield broker


@pytest.fixture(scope="session")
def mock_cluster() -> Iterator[MockCluster]:
    """librdkafka's cluster, one for the whole run; see its limits."""
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture
def topics(kafka: Broker) -> Callable[..., str]:
    """`topics("in", partitions=3, **config)` creates a topic with a name nobody else uses, and returns the name.

    The broker's own names of settings have dots, which underscores stand for: `max_message_bytes=2000`.
    """

    def create(prefix: str = "topic", partitions: int = 1, **config: object) -> str:
        name = f"{prefix}-{uuid4().hex[:10]}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        kafka.create_topics({name: partitions}, settings)
        return name

    return create


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if said := config.stash.get(_report, None):
        terminalreporter.write_line(f"kafka: {said}")


def _open(choice: str) -> Broker:
    if choice == "apache":
        return ApacheKafka(properties=QUICK_TO_NOTICE).start()
    if choice == "testcontainers":
        return _in_a_container()
    return _already_running(choice)


def _already_running(address: str) -> Broker:
    if not admin.wait_until_ready(admin.connect(address), lambda: True, seconds=10):
        raise BrokerError(f"WINNOW_TEST_KAFKA is {address!r}, and no Kafka answers there.")
    return RunningKafka(address, kind="running kafka")


def _in_a_container() -> Broker:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations and leaks are not this project's
        try:
            return _container()
        # Whatever it is that fails there (no engine, no image, no rights), the answer is the same.
        except Exception as failed:  # noqa: BLE001
            reason = str(failed)
        gc.collect()  # the sockets it forgot, while their warnings are still ignored
    raise BrokerError(f"testcontainers could not start Kafka ({reason}): is a Docker engine running?")


def _container() -> Broker:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer("confluentinc/cp-kafka:8.1.0").with_kraft()
    for name, value in QUICK_TO_NOTICE.items():
        container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
    container.start()
    return RunningKafka(container.get_bootstrap_server(), "testcontainers' Kafka", on_stop=container.stop)
