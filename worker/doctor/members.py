"""What a worker may do, the group that it joins, and its transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.doctor.findings import Finding, not_checked, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from worker.config import KafkaSettings
    from worker.kafka.inspecting import Cluster, Group, Progress, Topic
    from worker.pipeline.messages import Partition

AHEAD_MS = 5_000
"""By so much a newest message may be ahead of this machine's clock."""


def protocols(kafka: KafkaSettings, cluster: Cluster) -> Iterator[Finding]:
    """Whether the brokers take the requests that the settings need."""
    if not cluster.apis:
        yield not_checked("requests", "The brokers do not say which requests they take.")
        return
    yield ok("requests", f"The brokers take {len(cluster.apis)} kinds that the client knows{_can(cluster)}.")
    if kafka.exactly_once and not _transactions(cluster):
        yield problem(
            "exactly once",
            "The brokers cannot tie offsets to a transaction and its group (KIP-447).",
            "Use Apache Kafka 2.5 or later, or set kafka.delivery to 'at-least-once'.",
        )
    if kafka.group_protocol == "consumer" and not _new_groups(cluster):
        yield problem(
            "group protocol",
            "The brokers do not know the protocol of KIP-848.",
            "Use Apache Kafka 4.0 or later, or set kafka.group_protocol to 'classic'.",
        )


def _transactions(cluster: Cluster) -> bool:
    return "EndTxn" in cluster.apis and cluster.apis.get("TxnOffsetCommit", -1) >= 3


def _new_groups(cluster: Cluster) -> bool:
    return "ConsumerGroupHeartbeat" in cluster.apis


def _can(cluster: Cluster) -> str:
    abilities = {"exactly once": _transactions(cluster), "groups of KIP-848": _new_groups(cluster)}
    able, not_able = ([name for name, can in abilities.items() if can is which] for which in (True, False))
    return (f", with {' and '.join(able)}" if able else "") + (
        f", without {' and '.join(not_able)}" if not_able else ""
    )


def rights(
    kafka: KafkaSettings, topics: Mapping[str, Topic], group: Group | None, written: Collection[str]
) -> Iterator[Finding]:
    """READ on what is read and on the group, WRITE on the topics that are `written`."""
    for name, topic in topics.items():
        operation = "WRITE" if name in written else "READ"
        yield _right(f"right {name}", f"topic {name}", operation, topic.rights)
    if group is None:
        yield not_checked(
            f"right {kafka.group_id}",
            f"The brokers do not tell this user of the group {kafka.group_id}: the right to it may be missing.",
            f"Grant READ on the group {kafka.group_id}.",
        )
    else:
        yield _right(f"right {kafka.group_id}", f"group {kafka.group_id}", "READ", group.rights)


def _right(check: str, what: str, operation: str, rights: frozenset[str] | None) -> Finding:
    if rights is None:
        return not_checked(check, f"The brokers do not say what this user may do with the {what}.")
    if operation.lower() in rights or "all" in rights:
        return ok(check, f"This user has {operation} on the {what}.")
    return problem(check, f"This user has no {operation} on the {what}.", f"Grant {operation} on the {what}.")


def transactions(kafka: KafkaSettings, replicas: int, transactional_id: str) -> Iterator[Finding]:
    """Exactly once: the names of the workers. Whether they may use them cannot be asked without doing it."""
    if not kafka.exactly_once:
        return
    named = next((name for name in ("instance_id", "group_instance_id") if getattr(kafka, name)), None)
    if named is not None and replicas > 1:
        yield warning(
            "transactional id",
            f"{transactional_id} for all of {replicas} replicas, if all have these settings: they would fence each "
            "other.",
            f"Give each its own, e.g. by --set kafka.{named}=… or the environment; without one it is the host's name.",
        )
    else:
        yield ok("transactional id", f"{transactional_id}; each worker needs its own.")
    yield not_checked(
        "right to transactions",
        "Whether this user may use that id shows only when a transaction begins, and nothing is begun here.",
        f"Where there are ACLs, grant WRITE and DESCRIBE on transactional ids that start with "
        f"{kafka.transactional_id_prefix}.",
    )


def group(kafka: KafkaSettings, found: Group | None, replicas: int) -> Iterator[Finding]:
    """The group as it is: its members and their names."""
    check = f"group {kafka.group_id}"
    if found is None:
        yield not_checked(check, "The brokers do not tell this user of it.", f"Grant DESCRIBE on {kafka.group_id}.")
        return
    if kafka.group_instance_id and (replicas > 1 or kafka.group_instance_id in found.instances):
        used = "is a member's already" if kafka.group_instance_id in found.instances else f"is meant for {replicas}"
        yield warning(
            "static membership",
            f"kafka.group_instance_id {kafka.group_instance_id!r} {used}: a second worker with it makes one of the two "
            "end.",
            "Give each worker its own name, or leave it out. A worker that is restarted keeps its own.",
        )
    if found.members and found.protocol != kafka.group_protocol:
        yield warning(
            check,
            f"It has {found.members} members of the protocol {found.protocol!r}, and kafka.group_protocol is "
            f"{kafka.group_protocol!r}.",
            "Change all members one after the other, as Kafka's page on KIP-848 says, or take another group_id.",
        )
    elif found.members or found.state not in ("dead", "empty"):
        yield ok(check, f"It is {found.state}, with {found.members} members; a worker joins them.")
    else:
        yield ok(check, "It has no members.")


def lag(kafka: KafkaSettings, progress: Progress) -> Iterator[Finding]:
    """What waits, and whether what the group has committed is still there."""
    reset = (kafka.properties | kafka.consumer_properties).get("auto.offset.reset", "earliest")
    lost, beyond, waiting, new = [], [], 0, 0
    for partition, (first, end) in progress.extents.items():
        at = progress.committed.get(partition)
        if at is None:
            new += 1
            waiting += end - first if reset in ("earliest", "smallest", "beginning") else 0
            continue
        if at < first:
            lost.append((partition, first - at))
        elif at > end:
            beyond.append(partition)
        waiting += max(0, end - max(at, first))
    begins = f"; in {new} partitions it has committed nothing and begins by auto.offset.reset = {reset}" if new else ""
    if lost:
        total = sum(count for _, count in lost)
        yield problem(
            "lag",
            f"{total:,} offsets that the group had not read are deleted, in {_places(p for p, _ in lost)}.",
            "Raise retention.ms and retention.bytes of the input; what is deleted is lost to this group.",
        )
    if beyond:
        yield warning(
            "lag",
            f"The group has committed more than {_places(iter(beyond))} holds: the topic was truncated or made anew.",
            f"Set the group's offsets, or take another group_id; a worker begins by auto.offset.reset = {reset}.",
        )
    if not lost and not beyond:
        yield ok("lag", f"{waiting:,} messages wait{begins}.")


def _places(partitions: Iterator[Partition]) -> str:
    named = [f"{topic}/{number}" for topic, number in partitions]
    return ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")


def clock(progress: Progress, now_ms: float) -> Finding:
    """Whether a message is newer than now. That this clock is ahead cannot be seen so.

    Args:
        progress: with the newest message of each partition.
        now_ms: milliseconds since the epoch.
    """
    if not progress.newest:
        return not_checked("clock", "The inputs hold no message to compare the clock with.")
    (topic, number), newest = max(progress.newest.items(), key=lambda entry: entry[1])
    ahead = newest - now_ms
    if ahead > AHEAD_MS:
        return warning(
            "clock",
            f"The newest message of {topic}/{number} is {ahead / 1000:,.0f} s ahead of this machine's clock.",
            "Set the clocks of this machine, of the brokers and of whoever writes the messages by NTP.",
        )
    return ok(
        "clock", f"No message is newer than this machine's clock; the newest is {max(0, -ahead) / 1000:,.0f} s old."
    )
