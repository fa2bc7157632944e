"""What brokers say of themselves, of topics and of a group, without changing anything."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from worker.kafka import clients, topics
from worker.kafka.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

    from worker.config import KafkaSettings
    from worker.kafka.reading import Extent
    from worker.pipeline.messages import Partition

SECONDS = 5.0
"""For each question that may have no answer."""
_API = re.compile(r"ApiKey (\w+) \((\d+)\) Versions (\d+)\.\.(\d+)")


class Cluster(NamedTuple):
    """What answers at `kafka.bootstrap_servers`."""

    id: str
    brokers: int
    partitions: Mapping[str, int]
    """Of each topic that this user may describe."""
    apis: Mapping[str, int]
    """The newest version of each request that the brokers take; empty where they do not say."""


class Topic(NamedTuple):
    """A topic."""

    partitions: int
    leaderless: int
    """Partitions that no broker leads at present."""
    replicas: int
    """Of the partition that has the fewest."""
    in_sync: int
    """Replicas that are up to date, of the partition that has the fewest."""
    settings: Mapping[str, str] | None
    """None where this user may not know them."""
    rights: frozenset[str] | None
    """What this user may do, as `read`, `write`, `describe`; None where the brokers do not say."""


class Group(NamedTuple):
    """A consumer group."""

    state: str
    """`stable`, `empty`, `dead` where there is none, …"""
    protocol: str
    """`classic` or `consumer`."""
    members: int
    instances: frozenset[str]
    """The static names of its members."""
    rights: frozenset[str] | None
    """As of a topic."""


class Progress(NamedTuple):
    """How far a group has come."""

    extents: Mapping[Partition, Extent]
    committed: Mapping[Partition, int]
    newest: Mapping[Partition, int]
    """The greatest timestamp of a message, milliseconds since the epoch; of partitions that hold one."""


class Inspector:
    """Asks the brokers of the settings; joins no group, and writes and commits nothing."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Make the client; nothing is asked yet.

        Raises:
            ConfigError: the client refuses its properties, or a reference in them leads nowhere.
        """
        self._kafka = kafka
        self._heard = topics.Heard()
        self._apis = _Apis()
        properties = clients.common(kafka, self._heard) | {"log_level": 7, "debug": "feature"}
        try:
            self._admin = AdminClient(properties, logger=self._apis.logger())
        except (KafkaException, TypeError, ValueError) as error:
            raise clients.refused(error) from None
        self._metadata: ClusterMetadata | None = None

    def cluster(self) -> Cluster:
        """Raises BrokerError where none answers, or the login is refused."""
        found = self._metadata = topics.answer(self._admin, self._kafka, self._heard)
        self._admin.poll(0)
        partitions = {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None}
        return Cluster(found.cluster_id or "", len(found.brokers), partitions, dict(self._apis.versions))

    def topics(self, names: Collection[str]) -> dict[str, Topic]:
        """Those of the topics that there are; asks `cluster` first where nobody has. Raises BrokerError."""
        if self._metadata is None:
            self.cluster()
        assert self._metadata is not None
        there = [name for name in names if name in self._metadata.topics and not self._metadata.topics[name].error]
        if not there:
            return {}
        described = self._admin.describe_topics(
            TopicCollection(there), include_authorized_operations=True, request_timeout=SECONDS
        )
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in there}
        broker = min(self._metadata.brokers)
        configured = self._admin.describe_configs(list(resources.values()), request_timeout=SECONDS, broker=broker)
        return {
            name: _topic(self._metadata, name, _or_none(configured[resources[name]]), _or_none(described[name]))
            for name in there
        }

    def group(self) -> Group | None:
        """The group of the settings; None where the brokers do not tell this user."""
        name = self._kafka.group_id
        asked = self._admin.describe_consumer_groups(
            [name], include_authorized_operations=True, request_timeout=SECONDS
        )
        found = _or_none(asked[name])
        if found is None:
            return None
        names = frozenset(m.group_instance_id for m in found.members if m.group_instance_id)
        return Group(found.state.name.lower(), found.type.name.lower(), len(found.members), names, _rights(found))

    def progress(self, partitions: Collection[Partition]) -> Progress:
        """How far the group of the settings has come in partitions. Raises BrokerError, TopicError."""
        with closing(Reading(self._kafka, isolation="read_uncommitted")) as reading:
            reading.topics()
            extents = reading.extents(partitions)
            return Progress(extents, reading.committed(partitions), self._newest(partitions))

    def _newest(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        asked = {TopicPartition(*partition): OffsetSpec.max_timestamp() for partition in partitions}  # type: ignore[no-untyped-call]
        answers = self._admin.list_offsets(asked, request_timeout=SECONDS) if asked else {}
        found = {(one.topic, one.partition): _or_none(answer) for one, answer in answers.items()}
        return {
            partition: said.timestamp for partition, said in found.items() if said is not None and said.timestamp > 0
        }


class _Apis(logging.Handler):
    """Hears from the client's log which requests the brokers take: it tells so nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, int] = {}

    def logger(self) -> logging.Logger:
        """One of its own, that passes nothing on."""
        logger = logging.Logger("librdkafka features", logging.DEBUG)
        logger.addHandler(self)
        return logger

    def emit(self, record: logging.LogRecord) -> None:
        found = _API.search(record.getMessage())
        if found is not None:
            newest = int(found[4])
            # The brokers of a cluster that is being upgraded differ: what all of them can counts.
            self.versions[found[1]] = min(newest, self.versions.get(found[1], newest))


def _topic(metadata: ClusterMetadata, name: str, settings: Any, described: Any) -> Topic:
    found = metadata.topics[name].partitions.values()
    return Topic(
        len(found),
        sum(partition.leader < 0 for partition in found),
        min((len(partition.replicas) for partition in found), default=0),
        min((len(partition.isrs) for partition in found), default=0),
        None if settings is None else {key: entry.value for key, entry in settings.items() if entry.value is not None},
        None if described is None else _rights(described),
    )


def _rights(described: Any) -> frozenset[str] | None:
    operations = described.authorized_operations
    return None if operations is None else frozenset(operation.name.lower() for operation in operations)


def _or_none(answer: Any) -> Any:
    """What a future holds; None where the brokers refuse, or do not know the question."""
    try:
        return answer.result(2 * SECONDS)
    except (KafkaException, TimeoutError):
        return None
