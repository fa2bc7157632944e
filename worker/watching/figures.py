"""The figures of a worker that its page and `winnow top` show. Seconds, bytes and shares of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.watching.histogram import Histogram, Quantile
    from worker.watching.snapshot import Between, Snapshot

STAGES = ("decode", "tokenize", "queue", "infer", "infer_rest", "encode", "deliver")
"""In the order of a message's way."""
MOST_PARTITIONS = 1_000
"""With their figures, those with most lag; of the others, how many there are."""


@dataclass(frozen=True)
class Share:
    """One of several kinds: how many of it, and what share of all."""

    name: str
    count: float
    share: float


@dataclass(frozen=True)
class Rate:
    """Messages a second; None where it is not known since when."""

    consumed: float | None
    delivered: float | None


@dataclass(frozen=True)
class Latency:
    """Quantiles in seconds, by interpolation within the histogram's buckets."""

    messages: float
    mean: float | None
    p50: Quantile | None
    p95: Quantile | None
    p99: Quantile | None


@dataclass(frozen=True)
class Bucket:
    """So many were at most `most`, and more than the bucket before; None has no bound."""

    most: float | None
    count: float


@dataclass(frozen=True)
class Batches:
    count: float
    mean_messages: float | None
    mean_tokens: float | None
    messages: list[Bucket]
    closed: list[Share]
    """Why they closed."""
    padding: float | None
    """Share of the tokens that went through the model."""


@dataclass(frozen=True)
class Partition:
    topic: str
    partition: int
    messages: float
    """Stored and not yet done with."""
    committed: float | None
    """Stored and not yet committed."""
    seconds: float | None
    """Since when the oldest of them is stored."""
    in_flight_seconds: float | None
    """Since when the oldest is in work that was read."""


@dataclass(frozen=True)
class Lag:
    messages: float | None
    """None: it has partitions, and of none is it known yet."""
    committed: float | None
    seconds: float | None
    """Since when the oldest of all is stored."""
    growth: float | None
    """Messages a second; negative where it is worked off."""
    partitions: list[Partition]
    """Those with most lag first."""
    more: int
    """Partitions that are not listed."""


@dataclass(frozen=True)
class Refused:
    stage: str
    reason: str
    count: float
    since_start: float


@dataclass(frozen=True)
class DeadLetters:
    count: float
    share: float | None
    """Of the messages that were read."""
    since_start: float
    reasons: list[Refused]


@dataclass(frozen=True)
class Cache:
    hits: float | None
    """Share of the messages whose text was known; None where no result is kept, or none was asked for."""
    bytes: float | None


@dataclass(frozen=True)
class Load:
    in_flight: float | None
    in_flight_limit: float | None
    lanes: float | None
    lanes_busy: float | None
    paused: bool
    paused_share: float | None
    """Of the time."""
    memory_bytes: float | None
    memory_limit_bytes: float | None
    cores: float | None
    """CPU seconds a second."""


def rate(between: Between) -> Rate:
    return Rate(between.rate("winnow_consumed_total"), between.rate("winnow_delivered_total"))


def mix(between: Between, name: str, label: str) -> list[Share]:
    """What share each value of a counter's label had, the most frequent first."""
    grown = {key[0]: count for key, count in between.by(name, label).items()}
    return shares(grown)


def shares(counts: Mapping[str, float]) -> list[Share]:
    total = sum(counts.values())
    found = [Share(name, count, count / total if total else 0.0) for name, count in counts.items()]
    return sorted(found, key=lambda one: (-one.count, one.name))


def latency(histogram: Histogram) -> Latency:
    p50, p95, p99 = (histogram.quantile(share) for share in (0.5, 0.95, 0.99))
    return Latency(histogram.count, histogram.mean, p50, p95, p99)


def stages(between: Between) -> dict[str, Latency]:
    """By stage, those that were passed through."""
    found = {stage: latency(told) for (stage,), told in between.histograms("winnow_stage_seconds", "stage").items()}
    order = {stage: number for number, stage in enumerate(STAGES)}
    passed = (stage for stage in found if found[stage].messages)
    return {stage: found[stage] for stage in sorted(passed, key=lambda stage: order.get(stage, len(order)))}


def batches(between: Between) -> Batches:
    messages, tokens = between.histogram("winnow_batch_messages"), between.histogram("winnow_batch_tokens")
    real, padded = between.count("winnow_tokens_total"), between.count("winnow_padding_tokens_total")
    return Batches(
        messages.count,
        messages.mean,
        tokens.mean,
        [Bucket(bound if bound != float("inf") else None, count) for bound, count in messages.counts()],
        mix(between, "winnow_batch_closed_total", "reason"),
        padded / (real + padded) if real + padded else None,
    )


def lag(between: Between) -> Lag:
    later = between.later
    partitions = _partitions(later)
    grown = _grown(between)
    known = bool(partitions) or not later.value("winnow_partitions_assigned")
    return Lag(
        sum(one.messages for one in partitions) if known else None,
        later.value("winnow_lag_committed_messages"),
        max((one.seconds for one in partitions if one.seconds is not None), default=None),
        grown / between.seconds if grown is not None and between.seconds else None,
        partitions[:MOST_PARTITIONS],
        max(0, len(partitions) - MOST_PARTITIONS),
    )


def _partitions(later: Snapshot) -> list[Partition]:
    messages, committed, seconds, in_flight = (
        later.by(f"winnow_{name}", "topic", "partition")
        for name in ("lag_messages", "lag_committed_messages", "lag_seconds", "in_flight_seconds")
    )
    found = [
        Partition(key[0], int(key[1]), count, committed.get(key), seconds.get(key), in_flight.get(key))
        for key, count in messages.items()
    ]
    return sorted(found, key=lambda one: (-one.messages, -(one.seconds or 0.0), one.topic, one.partition))


def _grown(between: Between) -> float | None:
    """By how much the lag grew, of the partitions that were there all the time."""
    if between.earlier is None:
        return None
    before, after = (one.by("winnow_lag_messages", "topic", "partition") for one in (between.earlier, between.later))
    same = before.keys() & after.keys()
    return sum(after[key] - before[key] for key in same) if same else None


def dead_letters(between: Between) -> DeadLetters:
    grown = between.by("winnow_dead_letters_total", "stage", "reason")
    totals = between.later.by("winnow_dead_letters_total", "stage", "reason")
    found = [Refused(stage, reason, grown[stage, reason], total) for (stage, reason), total in totals.items() if total]
    count, consumed = sum(grown.values()), between.count("winnow_consumed_total")
    return DeadLetters(
        count,
        min(1.0, count / consumed) if consumed else None,
        sum(totals.values()),
        sorted(found, key=lambda one: (-one.count, -one.since_start, one.stage, one.reason)),
    )


def cache(between: Between) -> Cache:
    hits, misses = between.count("winnow_cache_hits_total"), between.count("winnow_cache_misses_total")
    return Cache(hits / (hits + misses) if hits + misses else None, between.later.value("winnow_cache_bytes"))


def load(between: Between) -> Load:
    later = between.later
    paused = between.rate("winnow_paused_seconds_total") if "winnow_paused_seconds_total" in later.samples else None
    cores = between.rate("process_cpu_seconds_total") if "process_cpu_seconds_total" in later.samples else None
    return Load(
        later.value("winnow_in_flight_messages"),
        later.value("winnow_in_flight_limit_messages"),
        later.value("winnow_lanes"),
        later.value("winnow_lanes_busy"),
        bool(later.value("winnow_paused")),
        None if paused is None else min(1.0, paused),
        later.value("process_resident_memory_bytes"),
        later.value("winnow_memory_limit_bytes"),
        cores,
    )
