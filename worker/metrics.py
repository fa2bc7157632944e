"""Every metric's name, help text and buckets, on an injected registry. See `docs/metrics.md`.

What happens once a message is counted by `worker.counting`; children of labelled metrics are resolved once.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

import worker
from worker.counting import Count, Counts, Distribution, Distributions, Gauges, edges
from worker.pipeline.batches import CloseReason
from worker.pipeline.decision import ACTIONS
from worker.pipeline.lag import Ages
from worker.pipeline.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.pipeline.batches import Batch
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.lag import Lag
    from worker.pipeline.messages import Classification, Partition, Rejection, Result
    from worker.pipeline.scores import Reference

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048)
# Every reason a message can be refused for, so that each series starts at zero.
REASONS = {
    "decode": (
        "tombstone", "empty", "empty-text", "field-exists", "invalid-cloudevent", "invalid-header-value",
        "invalid-framing", "invalid-headers", "invalid-id", "invalid-json", "invalid-payload", "invalid-utf8",
        "missing-field", "not-an-object", "too-large", "unknown-schema", "wrong-type",
    ),
    "tokenize": ("no-tokens", "tokenizer-error"),
    "infer": ("model-error",),
    "encode": ("result-too-large",),
}  # fmt: skip
STAGES = ("decode", "tokenize", "queue", "infer", "infer_rest", "encode", "deliver")
KINDS = ("assigned", "revoked", "lost")
MOST_LABELS = 250
"""Labels, or types of entities, that have series of their own; those beyond share one."""
OTHER = "(other)"


class Metrics:
    """The worker's metrics, as the loop's `Observer`. Used by one thread; scraped by another."""

    def __init__(
        self,
        registry: CollectorRegistry,
        labels: Sequence[str],
        types: Sequence[str] = (),
        exits: Sequence[int] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Register everything.

        Args:
            registry: where the metrics live.
            labels: what the label of a result may be.
            types: what an entity may be.
            exits: after how many layers a text may have its result, where that is not the same for all.
            clock: seconds since the epoch, for the time between a message's broker timestamp and its delivery.
        """
        self._clock = clock
        self._registry = registry
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self._consumed = counter("consumed", "Messages read from the input topics.")
        self._tombstones = counter("tombstones", "Messages without a value.")
        self._rewinds = counter("rewinds", "Times a partition's offsets went backwards.")
        self._resets = counter("offset_resets", "Times what was to be read next was not stored any more.")
        self._register_answers(labels, types, exits)
        self._register_batches()
        self._register_cache()
        dead = counter("dead_letters", "Dead letters, by stage and reason.", "stage", "reason")
        self._dead = {(s, r): dead.labels(s, r) for s, reasons in REASONS.items() for r in reasons}
        self._delivered = self._count("delivered", "Results and dead letters acknowledged by the brokers.")
        self._worker_seconds = self._seconds("worker_seconds", "From poll to acknowledgement, by message.")
        self._end_to_end = self._seconds(
            "end_to_end_seconds", "From the message's broker timestamp to acknowledgement."
        )
        self._in_flight = gauge("in_flight_messages", "Messages taken in and not yet acknowledged.")
        self._paused = gauge("paused", "1 while the partitions are paused because too much is in flight.")
        self._paused_seconds = counter("paused_seconds", "Time for which the partitions were paused.")
        self._lanes_busy = gauge("lanes_busy", "Lanes at work.")
        self._partitions = gauge("partitions_assigned", "Partitions this worker has.")
        rebalances = counter("rebalances", "Changes of the assignment, by kind.", "kind")
        self._rebalances = {kind: rebalances.labels(kind) for kind in KINDS}
        self._rebalance_seconds = histogram("rebalance_seconds", "Time spent finishing revoked work.", SECONDS)
        self._given_up = counter("given_up", "Messages in flight that a rebalance took away; somebody else has them.")
        self._commits = counter("commits", "Commits of offsets that took effect; exactly once, of transactions.")
        self._aborted = counter("transactions_aborted", "Transactions that were aborted and written again.")
        self._connected = gauge("broker_connected", "1 while a broker is there; without, the worker waits.")
        self._connected.set(1)
        self._register_lag()
        self._progress = gauge("last_progress_timestamp_seconds", "When the last acknowledgement came.")
        self._progressed = clock()
        self._progress.set(self._progressed)

    def _register_answers(self, labels: Sequence[str], types: Sequence[str], exits: Sequence[int]) -> None:
        """Metrics of what the model says: they are counted for each message."""
        registry, by_label, by_type = self._registry, _series(labels), _series(types)
        results = Counts(
            "winnow_results",
            "Results handed to the producer, by label; a result with several labels counts for each.",
            "label",
            list(dict.fromkeys(by_label.values())),
        ).register(registry)
        scores = Distributions(
            "winnow_score", "Score of a label that a result has.", SCORES, "label", list(results)
        ).register(registry)
        self._answers = {label: (results[name], scores[name]) for label, name in by_label.items()}
        entities = Counts(
            "winnow_entities", "Entities in results, by type.", "type", list(dict.fromkeys(by_type.values()))
        ).register(registry)
        certain = Distributions("winnow_entity_score", "Score of an entity.", SCORES, "type", list(entities)).register(
            registry
        )
        self._entities = {kind: (entities[name], certain[name]) for kind, name in by_type.items()}
        actions = Counts("winnow_actions", "Results with an action, by action.", "action", ACTIONS)
        self._actions = actions.register(registry)
        self._abstained = self._count("abstained", "Results for which no score was high enough for a label.")
        left = Counts("winnow_exits", "Results, by the layers they took.", "layer", list(map(str, exits)))
        self._exits = dict(zip(exits, left.register(registry).values(), strict=True))
        self._truncated = self._count("truncated", "Results of texts that were cut to fit the model.")
        self._windowed = self._count("windowed", "Results of texts that were read in windows.")
        self._windows = self._count("windows", "Windows of those texts.")

    def _register_batches(self) -> None:
        self._tokens = self._counter("tokens", "Tokens that went through the model, without padding; once a stage.")
        self._padding = self._counter("padding_tokens", "Tokens of padding.")
        closed = self._counter("batch_closed", "Batches, by why they closed.", "reason")
        self._closed = {reason: closed.labels(reason.value) for reason in CloseReason}
        self._batch_messages = self._histogram("batch_messages", "Messages of a batch.", MESSAGES)
        self._batch_tokens = self._histogram("batch_tokens", "Padded tokens of a batch.", TOKENS)
        self._stages = Distributions(
            "winnow_stage_seconds",
            "Time in a stage: decode and tokenize a poll; queue, infer and infer_rest a batch; encode what is released "
            "together; deliver a message, from its result to its acknowledgement or, exactly once, its commit.",
            SECONDS,
            "stage",
            STAGES,
        ).register(self._registry)
        self._deliver = self._stages["deliver"]

    def _register_lag(self) -> None:
        self._lag = self._by_partition(
            "lag_messages",
            "Messages stored and not yet done with.",
        )
        self._uncommitted = self._by_partition("lag_committed_messages", "Messages stored and not yet committed.")
        self._lag_seconds = self._by_partition(
            "lag_seconds",
            "How long ago, at most, the oldest message was stored that is not done with; 0 where there is none. By its "
            "timestamp, or, where it was not read yet, that of the message before it; no longer ago than when "
            "nothing of the partition was left to do, and no less than in_flight_seconds. Of a partition of which this "
            "worker has read nothing yet: since it looked first.",
        )
        self._waiting = self._by_partition(
            "in_flight_seconds",
            "How long ago the oldest message was read that is not done with; 0 without one.",
        )
        self._lags: Mapping[Partition, Lag] = {}
        self._ages = Ages()

    def _register_cache(self) -> None:
        self._hits = self._count("cache_hits", "Messages whose text was known, with its result, or in work already.")
        self._misses = self._count("cache_misses", "Messages whose text was not, while results are kept.")
        self._cached = self._gauge("cache_bytes", "Texts and results that are kept.")

    def describe(self, model: ModelIdentity, lanes: int, reference: Reference | None = None) -> None:
        """Say what runs: bundle, versions, lanes, and the scores with which those of today are compared."""
        info = self._gauge("model_info", "The bundle that classifies.", "name", "digest")
        info.labels(model.name, model.digest).set(1)
        build = self._gauge("build_info", "What runs.", "version", "python")
        build.labels(worker.__version__, platform.python_version()).set(1)
        self._gauge("lanes", "Batches that may run at the same time.").set(lanes)
        ratios = Gauges(
            "winnow_score_reference_ratio",
            "Share of the bundle's reference texts with a label whose score is not above le, a bucket of winnow_score. "
            "Only where the bundle has a reference.",
            ("label", "le"),
        ).register(self._registry)
        ratios.set({} if reference is None else _ratios(reference, list(self._answers)[:MOST_LABELS]))

    def describe_worker(
        self,
        group: str,
        delivery: str,
        member: str,
        in_flight_limit: int,
        ready: Callable[[], bool],
        memory_limit: int,
    ) -> None:
        """Say who works: its group, how it delivers, what it is called there, what it takes in, whether it is ready.

        Args:
            group: the consumer group.
            delivery: `at-least-once` or `exactly-once`.
            member: a name of this worker.
            in_flight_limit: messages.
            ready: asked at each scrape.
            memory_limit: bytes.
        """
        info = self._gauge(
            "worker_info", "The worker: its group, its delivery, its name.", "group", "delivery", "member"
        )
        info.labels(group, delivery, member).set(1)
        self._gauge("in_flight_limit_messages", "Messages in flight from which on none is read.").set(in_flight_limit)
        self._gauge("ready", "1 while the worker is ready, as /readyz says.").set_function(ready)
        ProcessCollector(registry=self._registry)
        self._gauge(
            "memory_limit_bytes", "Memory that the worker may use: the control group's bound, or the machine's."
        ).set(memory_limit)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"winnow_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"winnow_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"winnow_{name}", text, labels, buckets=buckets, registry=self._registry)

    def _by_partition(self, name: str, text: str) -> Gauges:
        return Gauges(f"winnow_{name}", text, ("topic", "partition")).register(self._registry)

    def _count(self, name: str, text: str) -> Count:
        return Counts(f"winnow_{name}", text).register(self._registry)[""]

    def _seconds(self, name: str, text: str) -> Distribution:
        return Distributions(f"winnow_{name}", text, SECONDS).register(self._registry)[""]

    # worker.ports.Observer

    def consumed(self, records: int) -> None:
        self._consumed.inc(records)

    def tombstone(self) -> None:
        self._tombstones.inc()

    def rewound(self, times: int) -> None:
        self._rewinds.inc(times)

    def reset(self, times: int) -> None:
        self._resets.inc(times)

    def decoded(self, records: int, seconds: float) -> None:
        self._stages["decode"].observe(seconds)

    def tokenized(self, records: int, seconds: float) -> None:
        self._stages["tokenize"].observe(seconds)

    def encoded(self, records: int, seconds: float) -> None:
        self._stages["encode"].observe(seconds)

    def closed(self, batch: Batch) -> None:
        self._closed[batch.reason].inc()
        self._batch_messages.observe(len(batch.items))
        self._batch_tokens.observe(batch.padded_tokens)
        tokens = batch.tokens
        self._tokens.inc(tokens)
        self._padding.inc(batch.padded_tokens - tokens)

    def ran(self, batch: Batch, queued: float, seconds: float) -> None:
        self._stages["queue"].observe(queued)
        self._stages["infer_rest" if batch.rest else "infer"].observe(seconds)

    def result(self, result: Result) -> None:
        label, score, _, labels, entities, action, abstained, layer = result.classification
        if labels or entities is not None:
            self._several(result.classification)
        elif label is not None and score is not None:
            count, scores = self._answers[label]
            count.value += 1
            scores.observe(score)
        if action is not None:
            self._actions[action].value += 1
        if abstained:
            self._abstained.value += 1
        if layer is not None:
            self._exits[layer].value += 1
        if result.truncated:
            self._truncated.value += 1
        if result.windows > 1:
            self._windowed.value += 1
            self._windows.value += result.windows

    def _several(self, said: Classification) -> None:
        found = [(self._answers[label], score) for label, score in said.labels or ()]
        found += [(self._entities[entity.entity_group], entity.score) for entity in said.entities or ()]
        for (count, scores), score in found:
            count.value += 1
            scores.observe(score)

    def cache(self, hits: int, misses: int, size: int) -> None:
        self._hits.value, self._misses.value = hits, misses
        self._cached.set(size)

    def dead_letter(self, rejection: Rejection) -> None:
        self._dead[rejection.stage, rejection.reason].inc()

    def delivered(self, timestamp: int | None, worker_seconds: float, seconds: float) -> None:
        self._delivered.value += 1
        self._worker_seconds.observe(worker_seconds)
        self._deliver.observe(seconds)
        now = self._progressed = self._clock()
        if timestamp is not None:
            age = now - timestamp / 1000
            self._end_to_end.observe(age if age > 0 else 0.0)

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        self._commits.inc()

    def aborted(self) -> None:
        self._aborted.inc()

    def state(self, in_flight: int, paused: bool, lanes_busy: int) -> None:
        self._in_flight.set(in_flight)
        self._progress.set(self._progressed)
        self._paused.set(paused)
        self._lanes_busy.set(lanes_busy)

    def rebalanced(self, kind: str, assigned: Sequence[Partition], given_up: int, seconds: float) -> None:
        self._rebalances[kind].inc()
        self._partitions.set(len(assigned))
        self._given_up.inc(given_up)
        if kind != "assigned":
            self._rebalance_seconds.observe(seconds)
        kept = set(assigned)
        self.lag({partition: lag for partition, lag in self._lags.items() if partition in kept})

    def paused(self, seconds: float) -> None:
        self._paused_seconds.inc(seconds)

    def connected(self, connected: bool) -> None:
        self._connected.set(connected)

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        self._lags = lags
        seconds = self._ages.seconds(lags, self._clock())
        names = {partition: (partition[0], str(partition[1])) for partition in lags}
        self._lag.set({names[partition]: lag.messages for partition, lag in lags.items()})
        self._uncommitted.set({names[partition]: lag.uncommitted for partition, lag in lags.items()})
        self._lag_seconds.set({names[partition]: age for partition, age in seconds.items()})
        self._waiting.set({names[partition]: lag.waiting for partition, lag in lags.items()})


def _series(values: Sequence[str]) -> dict[str, str]:
    """The series in which each value is counted."""
    return {value: value if number < MOST_LABELS else OTHER for number, value in enumerate(values)}


def _ratios(reference: Reference, labels: Iterable[str]) -> dict[tuple[str, ...], float]:
    return {
        (label, edge): share
        for label, shares in reference.items()
        if label in labels
        for edge, share in zip(edges(SCORES), shares, strict=True)
    }
