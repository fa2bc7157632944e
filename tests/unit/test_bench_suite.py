"""The arithmetic of the benchmarks: what is drawn, counted and compared."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the benchmarks need the extra [import]")

from bench import cache, exits, graph, kit, load, overhead, stream
from bench.ceiling import as_served, ceiling, ideal_batches, on_threads
from bench.exits import Said
from bench.graphs import DYNAMIC, FP32, FUSED, OURS, runs_per_second
from bench.load import Load, Look
from bench.openvino import OpenVino, Setting
from bench.peak import Peak, Product
from worker.classifier import EarlyExitClassifier, EarlyHead
from worker.model.data import Example
from worker.opening import Model
from worker.pipeline.encode import ModelIdentity


def test_repeats_are_the_share_asked_for_and_texts_that_were_there():
    """Of a hundred texts eighty were there before, word by word; the twenty others are all different."""
    texts = cache.with_repeats([f"text {n}" for n in range(50)], 100, 0.8)
    assert len(texts) == 100
    assert len(set(texts)) == 20
    assert all(count >= 1 for count in Counter(texts).values())


def test_too_few_texts_are_made_different():
    """Where there are fewer texts than are needed, a number behind them makes more."""
    assert cache.different(["a", "b", "a"], 5) == ["a", "b", "a 1", "b 1", "a 2"]


def test_ideal_batches_are_sorted_and_within_the_bounds():
    """As little padding as there can be, each text once."""
    rows = [[7] * n for n in (5, 1, 3, 8, 8, 2)]
    batches = ideal_batches(rows, max_messages=3, max_tokens=10)
    assert sorted(map(len, (row for batch in batches for row in batch))) == [1, 2, 3, 5, 8, 8]
    assert all(len(batch) <= 3 for batch in batches)
    assert all(len(batch) * max(map(len, batch)) <= 10 or len(batch) == 1 for batch in batches)


def test_threads_run_every_batch_once_and_tell_what_failed():
    """Each batch is one thread's; what is raised in a thread is raised."""
    ran: list[int] = []
    on_threads(ran.append, range(100), 4)
    assert sorted(ran) == list(range(100))
    with pytest.raises(ZeroDivisionError):
        on_threads(lambda n: 1 // n, [1, 0, 1], 2)


class FakeStages:
    """The first stage is sure of texts that begin with 1; `went_on` are the lengths of those in the second."""

    def __init__(self) -> None:
        self.went_on: list[int] = []

    def early(self, ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        logits = np.array([[9.0, 0.0] if row[0] == 1 else [0.1, 0.0] for row in ids], np.float32)
        return logits, np.zeros((len(ids), max(map(len, ids)), 4), np.float32)

    def rest(self, states: list[np.ndarray]) -> None:
        self.went_on += map(len, states)

    def __call__(self, ids: list[list[int]]) -> None:
        raise AssertionError("all layers were run")


class FakeInterpret:
    def scores(self, logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits)
        return powers / powers.sum(axis=1, keepdims=True)


def test_the_ceiling_of_early_exit_runs_the_second_stage_for_those_that_go_on():
    """Each text once in the first stage; in the second, without padding, those that it is not sure of."""
    stages = FakeStages()
    classifier = EarlyExitClassifier(stages, FakeInterpret(), [1], EarlyHead(FakeInterpret(), np.array([0.99, 0.99])))
    model = Model(ModelIdentity("fake", "0"), ("a", "b"), None, classifier, 512, 2)
    assert ceiling(model, [[1] * 3, [2] * 5, [1] * 7, [2] * 2]) > 0
    assert sorted(stages.went_on) == [2, 5]
    as_served(model)([[1, 1], [2, 2, 2]])
    assert sorted(stages.went_on) == [2, 3, 5]


def test_runs_are_counted_over_all_lanes():
    """Two threads that each take a while do about twice as much as one; here only that they run."""
    assert runs_per_second(lambda: time.sleep(0), 2, 0.001) > 0


def test_a_rate_leaves_out_the_beginning():
    """The first tenth of the results is warm-up; a hundred milliseconds between the others is ten a second."""
    stamps = [0, 0, *range(10_000, 11_800, 100)]
    assert stream.rate(stamps) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("truth", "said", "expected"),
    [
        (["spam", "ham", "spam"], ["spam", "ham", "ham"], 2 / 3),
        (["spam", "ham"], ["ham", "spam"], 0.0),
        (["ham"], [None], 0.0),
        (["spam"], ["spam"], 1.0),
    ],
)
def test_f1(truth: list[str], said: list[str | None], expected: float):
    """Twice the right ones over those given and those there."""
    assert exits.f1(truth, said, "spam") == pytest.approx(expected)


def test_a_channels_row_compares_round_by_round():
    """The ratio is the median of the rounds' ratios; agreement and F1 are of the labels."""
    examples = [Example(str(n), "text", (label,), form="single-label") for n, label in enumerate(("spam", "ham"))]
    said = {
        "auto": [Said(rate, ("spam", "spam"), 0.5) for rate in (200.0, 20.0, 300.0)],
        "off": [Said(rate, ("spam", "ham"), 0.0) for rate in (100.0, 10.0, 100.0)],
    }
    row = exits.summary("sms", examples, said, "spam")
    assert (row["ratio"], row["ratio_max"], row["left"], row["agreement"]) == (2.0, 3.0, 0.5, 0.5)
    assert (row["f1_on"], row["f1_off"]) == (pytest.approx(2 / 3), 1.0)


def test_a_load_is_told_by_what_was_seen():
    """Results a second while messages were sent, what working off the rest took, and the most memory."""
    looks = [Look(at, delivered, mib) for at, delivered, mib in ((0, 0, 100), (10, 900, 120), (14, 1300, 110))]
    row = load.row(1.1, 130.0, Load({str(n): 0.0 for n in range(1300)}, 0.002, looks, 10.0))
    assert (row["results_per_s"], row["backlog_s"], row["backlog_per_s"]) == (90.0, 4.0, 100.0)
    assert (row["resident_mib_first"], row["resident_mib_max"], row["sender_late_ms"]) == (100, 120, 2.0)


def test_a_backlog_that_is_gone_at_once_has_no_rate():
    """A second is too short to say how fast it was worked off."""
    looks = [Look(0, 0, 1), Look(10, 100, 1), Look(11, 101, 1)]
    assert load.row(0.5, 10.0, Load({}, 0.0, looks, 10.0))["backlog_per_s"] is None


def carried(share: float, p99: float, backlog_per_s: float | None, capacity: float = 100.0) -> load.Carried:
    row = {"load": share, "capacity_per_s": capacity, "backlog_per_s": backlog_per_s}
    return load.Carried(row, {"p99": p99 + 1}, {"p99": p99})


def test_rounds_of_loads_are_told_by_their_medians():
    """A percentile is compared with the bare batch of its own round; what only some rounds have is of those."""
    rounds = [
        load.Round(200.0, 10.0, [carried(0.7, 40.0, None), carried(1.1, 500.0, 90.0)]),
        load.Round(200.0, 20.0, [carried(0.7, 40.0, None, 108.0), carried(1.1, 600.0, None, 112.0)]),
        load.Round(100.0, 20.0, [carried(0.7, 100.0, None, 130.0), carried(1.1, 700.0, 110.0, 110.0)]),
    ]
    found = load.summary(rounds)
    assert found["capacity_per_s"] == {"median": 110.0, "min": 100.0, "max": 120.0, "rounds": 3}
    assert found["p99_to_bare_batch"][0] == {"load": 0.7, "median": 4.0, "min": 2.0, "max": 5.0, "rounds": 3}
    assert found["arrival_to_result_ms"] == [{"load": 0.7, "p99": 40.0}, {"load": 1.1, "p99": 600.0}]
    assert found["intended_to_result_ms"][0] == {"load": 0.7, "p99": 41.0}
    assert [row["backlog_per_s"] for row in found["loads"]] == [None, 100.0]


def test_percentiles_are_of_all_that_was_recorded():
    """In milliseconds, to three digits; nothing is below a microsecond."""
    pytest.importorskip("hdrh", reason="percentiles need the group bench")
    from bench.percentiles import percentiles

    found = percentiles(n / 1000 for n in range(1, 1001))
    assert found["p50"] == pytest.approx(500, rel=2e-3)
    assert found["p99"] == pytest.approx(990, rel=2e-3)
    assert found["max"] == pytest.approx(1000, rel=2e-3)
    assert percentiles([-1.0])["max"] == 0.001


class FakePeak(Peak):
    """Two products for every batch, at fixed speeds."""

    def __init__(self) -> None:
        product, other = Product(32, 10, 20), Product(1, 10, 20)
        self.by_shape = {shape: Counter({product: 2, other: 1}) for shape in graph.SHAPES}
        self.rates = {lanes: {product: [100.0, 100.0], other: [200.0, 200.0]} for lanes in graph.LANES}


def cells(speeds: dict[str, float]) -> list[graph.Cell]:
    return [
        graph.Cell(name, *shape, lanes, [speed, speed / 2])
        for name, speed in speeds.items()
        for shape in graph.SHAPES
        for lanes in graph.LANES
    ]


SPEEDS = {FP32: 16.0, DYNAMIC: 40.0, FUSED: 32.0, OURS: 64.0}


def test_our_ratios_are_to_each_of_the_others():
    """Round by round, and of the best batch of each."""
    figures = graph.summary(cells(SPEEDS), FakePeak())
    assert all((row["to_fp32"], row["to_dynamic"], row["to_fused"]) == (4.0, 1.6, 2.0) for row in figures["ratios"])
    assert "to_openvino" not in figures["ratios"][0]
    assert (figures["best_to_fp32"], figures["best_to_dynamic"]) == (4.0, 1.6)


def test_two_lanes_are_compared_at_the_batch_that_is_best_on_one():
    """Round by round, whatever other batches do on two."""
    one = [graph.Cell(OURS, *shape, 1, [10.0 + i] * 2) for i, shape in enumerate(graph.SHAPES)]
    two = [graph.Cell(OURS, *shape, 2, [20.0 + 3 * i] * 2) for i, shape in enumerate(reversed(graph.SHAPES))]
    found = [*one, *two, *(cell for cell in cells(SPEEDS) if cell.graph != OURS)]
    assert graph.summary(found, FakePeak())["two_lanes_to_one"] == 20 / (9 + len(graph.SHAPES))


def test_openvino_is_compared_at_its_best():
    """Of its settings the fastest one counts, batch by batch."""
    more = {Setting("f32", 1).name: 50.0, Setting("bf16", 2).name: 80.0}
    figures = graph.summary(cells(SPEEDS | more), FakePeak())
    assert figures["ratios"][0]["to_openvino"] == 0.8
    assert figures["best_to_openvino"] == 0.8


def test_openvino_has_no_more_streams_than_cores():
    """On one core there is one stream."""
    known = OpenVino.__new__(OpenVino)
    known.settings = [Setting("f32", 1), Setting("f32", 2)]
    assert known.settings_for(1) == [Setting("f32", 1)]
    assert len(known.settings_for(2)) == 2


def test_the_share_of_the_products_is_their_time_alone():
    """32 tokens a run, 0.5 runs a second; alone they take 2/100 + 1/200 seconds: a share of 0.0125 then."""
    row = FakePeak().row((1, 32), 1, [16.0, 16.0])
    assert row["of_products"] == pytest.approx(0.5 * 0.025)
    operations, best = 2 * 2 * 32 * 10 * 20 + 2 * 10 * 20, 100.0 * 2 * 32 * 10 * 20
    assert row["of_peak"] == pytest.approx(0.5 * operations / best)
    assert row["peak_tops"] == pytest.approx(best / 1e12)


class Round(NamedTuple):
    messages_per_s: float
    cpu_ms_per_message: float


def test_an_overhead_row_is_in_messages_of_a_second_of_cpu():
    """Rates and ratios of the rounds that both have; a reason where there are none."""
    ours, theirs = {0: Round(300.0, 0.02), 1: Round(100.0, 0.02)}, {0: Round(100.0, 0.04)}
    row = overhead.row(overhead.OURS, theirs, ours, None)  # type: ignore[arg-type]
    assert (row["messages_per_s"], row["cpu_us_per_message"], row["messages_per_cpu_s"]) == (100.0, 40.0, 25_000.0)
    assert row["winnow_is_faster_by"] == 3.0
    assert overhead.row(overhead.OURS, {}, ours, "not here") == {"what": overhead.OURS.what, "reason": "not here"}


def test_settings_are_told_as_everywhere_else():
    """`section.name=value`, whatever the value holds."""
    assert kit.settings(["model.early_exit=off", "kafka.properties.a.b=c=d"]) == {
        "model__early_exit": "off",
        "kafka__properties.a.b": "c=d",
    }
    assert kit.bundle("default") == "default"
