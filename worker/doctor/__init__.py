"""Can a worker run here, with these settings, on that Kafka? Looks, and changes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from worker import cgroup
from worker.capacity.machine import cpu as this_cpu
from worker.doctor import machine, members, registry, topics, tracing
from worker.doctor.findings import Finding, Status, not_checked, ok, refused, worst
from worker.errors import ConfigError, Fatal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.config import Settings
    from worker.kafka.inspecting import Cluster, Group, Inspector

__all__ = ["Finding", "Status", "examine", "local", "remote", "worst"]
NO_BROKER = "No broker answered."
MEND_BROKERS = "Check kafka.bootstrap_servers."
MEND_CLIENT = "Correct it in kafka.properties, or in the table of the consumer or the producer."
DEPENDING = ("requests", "topics", "partitions", "rights", "group", "lag", "clock")
"""What is not checked without brokers."""


def examine(settings: Settings, replicas: int, now_ms: float) -> Iterator[Finding]:
    """Everything, in the order in which one would mend it; each finding as soon as it is there.

    Args:
        settings: of the worker.
        replicas: workers that are meant to run.
        now_ms: milliseconds since the epoch.
    """
    yield from local(settings)
    yield from registry.registered(settings)
    yield from tracing.exporting(settings)
    yield from remote(settings, replicas, now_ms)


def local(settings: Settings) -> Iterator[Finding]:
    """What needs no broker."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield machine.instruction_set(this_cpu())
    yield machine.cores(settings.model.lanes, affinity, cgroup.quota_of(cgroup.CGROUP))
    yield machine.port(settings.serving)
    yield from machine.model(settings)


def remote(settings: Settings, replicas: int, now_ms: float) -> Iterator[Finding]:
    """What the brokers can be asked; where none answers, what depends on them is named as not checked."""
    from worker.kafka.inspecting import Inspector

    kafka = settings.kafka
    try:
        inspector = Inspector(kafka)
        cluster = inspector.cluster()
    except Fatal as error:
        yield refused("brokers", error, MEND_CLIENT if isinstance(error, ConfigError) else MEND_BROKERS)
        yield from (not_checked(check, NO_BROKER) for check in DEPENDING)
        return
    number = "1 broker answers" if cluster.brokers == 1 else f"{cluster.brokers} brokers answer"
    yield ok("brokers", f"{number} at {kafka.bootstrap_servers} (cluster {cluster.id or 'without a name'}).")
    yield from members.protocols(kafka, cluster)
    yield from topics.existence(settings, cluster.partitions)
    yield from topics.partitions(settings, cluster.partitions, replicas)
    yield from _asked(settings, inspector, cluster, replicas)
    yield from _progress(settings, inspector, cluster, now_ms)


def _asked(settings: Settings, inspector: Inspector, cluster: Cluster, replicas: int) -> Iterator[Finding]:
    from worker.kafka.transactions import transactional_id

    kafka = settings.kafka
    inputs = topics.matching(kafka, cluster.partitions)
    found = inspector.topics([*inputs, *settings.written_topics])
    group: Group | None = inspector.group()
    yield from topics.serving(settings, found)
    yield from members.rights(kafka, found, group, settings.written_topics)
    yield from members.transactions(kafka, replicas, transactional_id(kafka))
    yield from members.group(kafka, group, replicas)


def _progress(settings: Settings, inspector: Inspector, cluster: Cluster, now_ms: float) -> Iterator[Finding]:
    inputs = topics.matching(settings.kafka, cluster.partitions)
    if not inputs:
        yield from (not_checked(check, "There is no input topic.") for check in ("lag", "clock"))
        return
    asked = [(name, number) for name in inputs for number in range(cluster.partitions[name])]
    try:
        progress = inspector.progress(asked)
    except Fatal as error:
        yield from (not_checked(check, str(error)) for check in ("lag", "clock"))
        return
    yield from members.lag(settings.kafka, progress)
    yield members.clock(progress, now_ms)
