"""What the worker counts, on a registry of its own."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import MODEL, item
from worker.metrics import KINDS, MOST_LABELS, OTHER, REASONS, STAGES, Metrics
from worker.pipeline.batches import Batch, CloseReason
from worker.pipeline.entities import Entity
from worker.pipeline.lag import Lag
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Rejection, Request, Result
from worker.pipeline.scores import SCORES

NOW = 1_700_000_000.0
P0, P1 = ("in", 0), ("in", 1)
REQUEST = Request("1", "text", False)
BY_PARTITION = ("lag_messages", "lag_committed_messages", "lag_seconds", "in_flight_seconds")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, ["ham", "spam"], clock=lambda: NOW)


@pytest.fixture
def value(registry: CollectorRegistry):
    return lambda name, /, **labels: registry.get_sample_value(f"winnow_{name}", labels)


def test_every_series_is_there_from_the_start_at_zero(metrics, value):
    """A rate over a series that has not happened yet is zero, not absent: reasons, labels, kinds, closings."""
    for stage, reasons in REASONS.items():
        for reason in reasons:
            assert value("dead_letters_total", stage=stage, reason=reason) == 0
    assert [value("results_total", label=label) for label in ("ham", "spam")] == [0, 0]
    assert [value("rebalances_total", kind=kind) for kind in KINDS] == [0, 0, 0]
    assert [value("batch_closed_total", reason=reason.value) for reason in CloseReason] == [0] * len(CloseReason)


def test_two_workers_in_one_process_do_not_meet():
    """Each registry holds its own metrics; nothing is global."""
    one, other = CollectorRegistry(), CollectorRegistry()
    Metrics(one, ["a"]).consumed(3)
    Metrics(other, ["a"])
    assert one.get_sample_value("winnow_consumed_total") == 3
    assert other.get_sample_value("winnow_consumed_total") == 0


def test_a_batch_counts_its_messages_tokens_and_padding(metrics, value):
    """Tokens are without padding; padding is what the longest row adds to the others."""
    ledger = Ledger()
    items = tuple(item(ledger, offset, length, 0.0) for offset, length in enumerate([3, 5, 10]))
    metrics.closed(Batch(items, 10, CloseReason.IDLE))
    metrics.ran(Batch(items, 10, CloseReason.IDLE), 0.25, 0.5)
    assert value("batch_closed_total", reason="idle") == 1
    assert (value("tokens_total"), value("padding_tokens_total")) == (18, 12)
    assert (value("batch_messages_sum"), value("batch_tokens_sum")) == (3, 30)
    assert (value("stage_seconds_sum", stage="queue"), value("stage_seconds_sum", stage="infer")) == (0.25, 0.5)


def test_the_stages_of_an_early_exit_are_told_apart(registry, value):
    """Results by the layers they took, from the start at zero, and runs by what they went through."""
    metrics = Metrics(registry, ["ham"], exits=[2, 6])
    assert [value("exits_total", layer=layer) for layer in "26"] == [0, 0]
    for layer in (2, 6, 2):
        metrics.result(Result(REQUEST, Classification("ham", 0.75, {}, layer=layer), False, 3))
    assert [value("exits_total", layer=layer) for layer in "26"] == [2, 1]
    rest = item(Ledger(), 0, 3, 0.0)._replace(hidden=np.zeros((3, 2), np.float32))
    metrics.ran(Batch((rest,), 3, CloseReason.IDLE), 0.25, 0.5)
    assert [value("stage_seconds_sum", stage=stage) for stage in ("infer", "infer_rest")] == [0, 0.5]


def test_outcomes_are_counted_by_label_and_by_reason(metrics, value):
    """Results by label with their scores, dead letters by stage and reason."""
    metrics.result(Result(REQUEST, Classification("spam", 0.75, {}), True, 3))
    metrics.dead_letter(Rejection("decode", "invalid-json", "No.", "InvalidMessage"))
    assert (value("results_total", label="spam"), value("truncated_total")) == (1, 1)
    assert value("score_sum", label="spam") == 0.75
    assert value("dead_letters_total", stage="decode", reason="invalid-json") == 1


def test_delivery_is_timed_from_poll_and_from_the_broker(metrics, value):
    """End to end is measured from the record's timestamp, where it has one, and never negative."""
    metrics.delivered(int(NOW * 1000) - 250, 0.125, 0.0625)
    metrics.delivered(int(NOW * 1000) + 9_000, 0.125, 0.0625)
    metrics.delivered(None, 0.125, 0.0625)
    assert value("delivered_total") == 3
    assert value("worker_seconds_sum") == 0.375
    assert value("stage_seconds_sum", stage="deliver") == 0.1875
    assert value("end_to_end_seconds_count") == 2
    assert value("end_to_end_seconds_sum") == pytest.approx(0.25)
    assert value("last_progress_timestamp_seconds") == NOW


def test_lag_is_in_messages_stored_and_committed_and_in_seconds(metrics, value):
    """By partition; the age is that of the oldest message that is not done with, 0 where there is none."""
    metrics.lag({P0: Lag(5, 9, int(NOW * 1000) - 2_500, 1.5), P1: Lag(0, 3, int(NOW * 1000) - 60_000)})
    assert [value(name, topic="in", partition="0") for name in BY_PARTITION] == [5, 9, pytest.approx(2.5), 1.5]
    assert [value(name, topic="in", partition="1") for name in BY_PARTITION] == [0, 3, 0, 0]


def test_lag_of_a_partition_that_has_gone_is_forgotten(metrics, value):
    """A partition that belongs to another worker now has no series here, so sums over workers are right."""
    metrics.rebalanced("assigned", [P0, P1], 0, 0.0)
    metrics.lag({P0: Lag(5, 5, None), P1: Lag(7, 7, None)})
    metrics.rebalanced("revoked", [P0], 2, 0.5)
    for name in BY_PARTITION:
        assert value(name, topic="in", partition="0") is not None
        assert value(name, topic="in", partition="1") is None
    assert (value("partitions_assigned"), value("given_up_total")) == (1, 2)
    assert value("rebalance_seconds_sum") == 0.5
    metrics.rebalanced("lost", [], 0, 0.0)
    assert value("lag_messages", topic="in", partition="0") is None


def test_every_stage_has_its_series_and_what_it_took(metrics, value):
    """From the start at zero; each stage is told by the call that it belongs to."""
    assert [value("stage_seconds_count", stage=stage) for stage in STAGES] == [0] * len(STAGES)
    metrics.decoded(4, 0.5)
    metrics.tokenized(4, 0.25)
    metrics.encoded(4, 0.125)
    told = {stage: value("stage_seconds_sum", stage=stage) for stage in STAGES}
    assert told == dict.fromkeys(STAGES, 0) | {"decode": 0.5, "tokenize": 0.25, "encode": 0.125}


def test_time_in_pause_adds_up(metrics, value):
    """In seconds, from zero on."""
    assert value("paused_seconds_total") == 0
    metrics.paused(1.5)
    metrics.paused(0.25)
    assert value("paused_seconds_total") == 1.75


def test_state_and_counts_are_as_told(metrics, value):
    """Gauges are set, counters rise."""
    metrics.consumed(4)
    metrics.tombstone()
    metrics.tokenized(4, 0.5)
    metrics.cache(3, 2, 100)
    metrics.cache(5, 2, 80)
    metrics.committed({P0: 1})
    metrics.state(9, True, 2)
    assert (value("consumed_total"), value("tombstones_total")) == (4, 1)
    assert (value("cache_hits_total"), value("cache_misses_total"), value("cache_bytes")) == (5, 2, 80)
    assert (value("in_flight_messages"), value("paused"), value("lanes_busy"), value("commits_total")) == (9, 1, 2, 1)


def test_what_runs_is_described(metrics, value):
    """Bundle, versions and lanes are series of their own."""
    metrics.describe(MODEL, 3)
    assert value("model_info", name=MODEL.name, digest=MODEL.digest) == 1
    assert value("lanes") == 3


def test_who_works_is_described(metrics, value, registry):
    """Group, delivery and name; readiness is asked at each scrape; what the process takes is there, too."""
    ready = [True]
    metrics.describe_worker("group", "exactly-once", "pod-0", 2_048, lambda: ready[0], 1 << 30)
    assert value("worker_info", group="group", delivery="exactly-once", member="pod-0") == 1
    assert (value("in_flight_limit_messages"), value("memory_limit_bytes")) == (2_048, 1 << 30)
    assert value("ready") == 1
    ready[0] = False
    assert value("ready") == 0
    assert registry.get_sample_value("process_resident_memory_bytes") > 0


def test_the_reference_stands_beside_the_scores_it_is_compared_with(metrics, registry):
    """At exactly the buckets of winnow_score but the last, for the labels that there are; as a page it can be read."""
    shares = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0]
    metrics.describe(MODEL, 1, {"spam": shares, "of another bundle": shares})
    series = {
        family.name: [sample.labels for sample in family.samples]
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }
    reference = series["winnow_score_reference_ratio"]
    buckets = [labels for labels in series["winnow_score"] if labels.get("label") == "spam" and "le" in labels]
    assert reference == buckets[:-1]
    assert registry.get_sample_value("winnow_score_reference_ratio", {"label": "spam", "le": "0.99"}) == 0.75


def test_of_labels_without_a_series_no_reference_is_shown():
    """It would be compared with nothing, and the bound on series holds for it, too."""
    registry = CollectorRegistry()
    labels = [f"l{i}" for i in range(MOST_LABELS + 50)]
    Metrics(registry, labels, []).describe(MODEL, 1, {label: [0.5] * len(SCORES) for label in labels})
    (family,) = [f for f in registry.collect() if f.name == "winnow_score_reference_ratio"]
    assert {sample.labels["label"] for sample in family.samples} == set(labels[:MOST_LABELS])


def test_without_a_reference_there_is_no_series(metrics, registry):
    """Nothing is compared with zeros."""
    metrics.describe(MODEL, 1)
    (family,) = [f for f in registry.collect() if f.name == "winnow_score_reference_ratio"]
    assert family.samples == []


def test_names_are_prefixed_and_explained(metrics, registry):
    """Every metric of ours begins with `winnow_` and has a help text that ends as a sentence."""
    metrics.describe(MODEL, 1)
    metrics.describe_worker("group", "at-least-once", "host", 1, lambda: True, 1 << 30)
    for metric in registry.collect():
        assert metric.name.startswith(("winnow_", "process_"))
        assert metric.documentation.endswith(".") or metric.name.startswith("process_")
    assert b"winnow_consumed_total 0.0" in generate_latest(registry)


def test_many_labels_share_a_series():
    """However many labels a bundle has, the series are bounded; those beyond are counted together."""
    registry = CollectorRegistry()
    labels = [f"l{i}" for i in range(MOST_LABELS + 50)]
    metrics = Metrics(registry, labels, [])
    for label in labels:
        metrics.result(Result(REQUEST, Classification(label, 0.5, {}), False, 3))
    assert registry.get_sample_value("winnow_results_total", {"label": "l0"}) == 1
    assert registry.get_sample_value("winnow_results_total", {"label": OTHER}) == 50
    assert registry.get_sample_value("winnow_results_total", {"label": labels[-1]}) is None


def test_entities_actions_and_windows_are_counted():
    """Entities by type with their scores; a result without a label counts as abstained alone."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, ["a"], ["PER"])
    found = (Entity("PER", 0.75, "ann", 0, 3), Entity("PER", 0.5, "lee", 4, 7))
    metrics.result(Result(REQUEST, Classification(None, None, {}, entities=found), False, 3, windows=4))
    metrics.result(Result(REQUEST, Classification(None, 0.1, {}, labels=(), action="reject", abstained=True), False, 3))
    value = registry.get_sample_value
    assert value("winnow_entities_total", {"type": "PER"}) == 2
    assert value("winnow_entity_score_sum", {"type": "PER"}) == 1.25
    assert (value("winnow_windowed_total"), value("winnow_windows_total")) == (1, 4)
    assert (value("winnow_abstained_total"), value("winnow_actions_total", {"action": "reject"})) == (1, 1)
    assert value("winnow_results_total", {"label": "a"}) == 0
