"""The topics: whether they are there, and can serve as the settings mean to use them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from worker.doctor.findings import Finding, not_checked, ok, problem, warning
from worker.kafka.topics import SIZE_LIMIT, of_own_broker, why_too_small
from worker.pipeline.encode import LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from worker.config import KafkaSettings, Settings
    from worker.kafka.inspecting import Topic

SHORT_RETENTION_MS = 3_600_000
UNKNOWN = "The brokers do not tell this user the topic's settings."
GRANT_CONFIGS = "Grant DESCRIBE_CONFIGS on it to have this checked."


def matching(kafka: KafkaSettings, existing: Mapping[str, int]) -> list[str]:
    """The input topics that there are."""
    return [
        name
        for name in existing
        if any(re.match(one, name) if one.startswith("^") else one == name for one in kafka.input_topics)
    ]


def existence(settings: Settings, existing: Mapping[str, int]) -> Iterator[Finding]:
    """Each topic that the settings name, and each pattern."""
    kafka = settings.kafka
    for name, role in _named(settings).items():
        check = f"topic {name}"
        if name.startswith("^"):
            found = [topic for topic in existing if re.match(name, topic)]
            yield _matches(check, name, found)
        elif name in existing:
            yield ok(check, f"The {role} has {_counted(existing[name])}.")
        elif kafka.create_topics:
            yield ok(check, f"The {role} is missing; kafka.create_topics has it made at the start.")
        else:
            yield problem(
                check,
                f"The {role} is missing, or this user may not describe it.",
                f"{_tool(kafka, 'topics')} --create --topic {name} --partitions {kafka.create_partitions} -- or set "
                f"kafka.create_topics = true, or give `winnow broker` {of_own_broker(kafka, name)}",
            )


def partitions(settings: Settings, existing: Mapping[str, int], replicas: int) -> Iterator[Finding]:
    """Whether each replica gets a partition, and each partition has its place in the output."""
    kafka = settings.kafka
    inputs = {name: existing[name] for name in matching(kafka, existing)}
    if not inputs:
        yield not_checked("partitions", "There is no input topic.")
        return
    total = sum(inputs.values())
    found = f"{_counted(total)} to read, {replicas} {'replica' if replicas == 1 else 'replicas'}."
    if total < replicas:
        name, count = max(inputs.items(), key=lambda entry: entry[1])
        yield warning(
            "partitions",
            f"{found} {replicas - total} of them will have nothing to do.",
            f"Run {total}, or add partitions (keys move): {_tool(kafka, 'topics')} --alter --topic {name} "
            f"--partitions {count + replicas - total}",
        )
    else:
        yield ok("partitions", found)
    if kafka.output_partition == "source":
        yield from (_places(kafka, inputs, name, existing[name]) for name in settings.result_topics if name in existing)


def _places(kafka: KafkaSettings, inputs: Mapping[str, int], output: str, written: int) -> Finding:
    name, most = max(inputs.items(), key=lambda entry: entry[1])
    check = "output partitions" if output == kafka.output_topic else f"output partitions {output}"
    if most <= written:
        return ok(check, f"{output} has a partition for each of an input topic.")
    return problem(
        check,
        f"{name} has {_counted(most)} and {output} only {written}, but kafka.output_partition = 'source' keeps their "
        "numbers.",
        f"Set it to 'key', or: {_tool(kafka, 'topics')} --alter --topic {output} --partitions {most}",
    )


def serving(settings: Settings, topics: Mapping[str, Topic]) -> Iterator[Finding]:
    """What only topics that exist can be asked: replication, size limits, what is deleted, and when."""
    kafka = settings.kafka
    for name, topic in topics.items():
        yield from _replication(kafka, name, topic, written=name in settings.written_topics)
    for name in settings.written_topics:
        if name in topics:
            yield _size(settings, name, topics[name])
            yield from _policy(kafka, name, topics[name])
    inputs = [name for name in topics if name not in settings.written_topics]
    yield from _letters(settings, [topics[name] for name in inputs], topics.get(kafka.dead_letter_topic))
    for name in inputs:
        yield _retention(name, topics[name])


def _replication(kafka: KafkaSettings, name: str, topic: Topic, *, written: bool) -> Iterator[Finding]:
    """Silent where all is well: it is said of nothing else."""
    check = f"replication {name}"
    if topic.leaderless:
        yield problem(
            check,
            f"{topic.leaderless} of {_counted(topic.partitions)} have no leader: they can be neither read nor written.",
            "Bring the brokers back that hold them.",
        )
        return
    least = int((topic.settings or {}).get("min.insync.replicas", "1"))
    if written and topic.replicas < least:
        yield problem(
            check,
            f"{topic.replicas} replicas, but min.insync.replicas is {least}: nothing can be written with acks=all.",
            _set(kafka, name, f"min.insync.replicas={topic.replicas}") + ", or give it more replicas.",
        )
    elif written and topic.in_sync < least:
        yield problem(
            check,
            f"Only {topic.in_sync} of {topic.replicas} replicas are in sync, and min.insync.replicas is {least}: "
            "writing waits.",
            "Bring the brokers back that hold the others.",
        )


def _size(settings: Settings, name: str, topic: Topic) -> Finding:
    check, bound = f"size limit {name}", settings.output.max_bytes
    limit = _limit(topic)
    if limit is None:
        return not_checked(check, UNKNOWN, GRANT_CONFIGS)
    found = f"{SIZE_LIMIT} is {limit:,}, output.max_bytes {bound:,}."
    raised = max(bound, LEAST_BYTES)
    if limit < LEAST_BYTES:
        return problem(
            check,
            f"{found} {why_too_small(name, settings.kafka.dead_letter_topic)}",
            _set(settings.kafka, name, f"{SIZE_LIMIT}={raised}"),
        )
    if limit < bound:
        return warning(
            check,
            f"{found} The lower one holds: a larger result becomes a dead letter, a larger dead letter is cut.",
            f"Set output.max_bytes to {limit}, or: " + _set(settings.kafka, name, f"{SIZE_LIMIT}={raised}"),
        )
    return ok(check, found)


def _letters(settings: Settings, inputs: Sequence[Topic], letters: Topic | None) -> Iterator[Finding]:
    """Whether the largest message fits into a dead letter."""
    known = [limit for limit in map(_limit, inputs) if limit is not None]
    most = None if letters is None else _limit(letters)
    if not known or most is None:
        return
    room = min(settings.output.max_bytes, most) - LEAST_BYTES
    check, largest = "dead letters", max(known)
    found = f"Messages may have {largest:,} bytes, and a dead letter has room for {max(room, 0):,} of them"
    # By default the two differ by the headers of a letter alone: that is worth no warning.
    if room * 1.1 < largest:
        yield warning(
            check,
            f"{found}: larger ones are cut there.",
            f"Raise output.max_bytes and the {SIZE_LIMIT} of {settings.kafka.dead_letter_topic}, or lower the input's.",
        )
    else:
        yield ok(check, f"{found}; what is larger is cut.")


def _limit(topic: Topic) -> int | None:
    limit = (topic.settings or {}).get(SIZE_LIMIT)
    return None if limit is None else int(limit)


def _policy(kafka: KafkaSettings, name: str, topic: Topic) -> Iterator[Finding]:
    check = f"cleanup {name}"
    if topic.settings is None:
        return
    policy = topic.settings.get("cleanup.policy", "delete")
    if "compact" not in policy:
        yield ok(check, f"cleanup.policy is {policy}.")
        return
    said = f"cleanup.policy is {policy}: messages without a key are refused, which stops the worker"
    mend = _set(kafka, name, "cleanup.policy=delete")
    if name == kafka.dead_letter_topic:
        yield problem(check, f"{said}, and of equal keys only the last letter stays.", mend)
    else:
        yield warning(check, f"{said}; of equal keys only the last result stays.", f"{mend}, unless that is meant.")


def _retention(name: str, topic: Topic) -> Finding:
    check = f"retention {name}"
    if topic.settings is None:
        return not_checked(check, UNKNOWN, GRANT_CONFIGS)
    policy = topic.settings.get("cleanup.policy", "delete")
    milliseconds, most = (int(topic.settings.get(f"retention.{unit}", "-1")) for unit in ("ms", "bytes"))
    if "delete" not in policy or max(milliseconds, most) < 0:
        return ok(check, "Nothing is deleted because it is old.")
    limits = [_span(milliseconds)] if milliseconds >= 0 else []
    limits += [f"up to {most:,} bytes a partition"] if most >= 0 else []
    kept = f"Messages are kept {' and '.join(limits)}, read or not."
    if 0 <= milliseconds < SHORT_RETENTION_MS:
        return warning(
            check,
            f"{kept} A worker that is away for longer never sees them.",
            "Raise the topic's retention.ms above the longest outage that you expect.",
        )
    return ok(check, kept)


def _matches(check: str, pattern: str, found: Sequence[str]) -> Finding:
    if found:
        match = "1 topic matches" if len(found) == 1 else f"{len(found)} topics match"
        return ok(check, f"{match}: {', '.join(sorted(found)[:5])}{', …' if len(found) > 5 else ''}.")
    return warning(
        check,
        f"No topic matches the pattern {pattern!r} yet.",
        "Correct kafka.input_topics, or create a topic that it matches; a worker takes it up when it is there.",
    )


def _named(settings: Settings) -> dict[str, str]:
    """Topics, or patterns, with what they are for."""
    kafka = settings.kafka
    routes = {topic: f"output of {name!r}" for name, topic in reversed(settings.routing.topics.items())}
    inputs = dict.fromkeys(kafka.input_topics, "input")
    outputs = dict.fromkeys(settings.result_topics, "output") | routes | {kafka.output_topic: "output"}
    return inputs | outputs | {kafka.dead_letter_topic: "dead-letter topic"}


def _counted(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions:,} partitions"


def _tool(kafka: KafkaSettings, name: str) -> str:
    return f"kafka-{name}.sh --bootstrap-server {kafka.bootstrap_servers}"


def _set(kafka: KafkaSettings, topic: str, setting: str) -> str:
    return f"{_tool(kafka, 'configs')} --alter --entity-type topics --entity-name {topic} --add-config {setting}"


def _span(milliseconds: int) -> str:
    for unit, length in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if milliseconds >= 2 * length:
            return f"{milliseconds / length:.3g} {unit}"
    return f"{milliseconds / 1000:g} s"
