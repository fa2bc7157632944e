"""What the gate calls the same answer, and the figures that it gives, for every task."""

import re

import numpy as np
import pytest

from worker.model.data import Example, tokens_example
from worker.model.importing.bounds import Bounds, GateRefused
from worker.model.importing.gate import Comparison, Meaning, WordTags, compare, truth_of, without_truth
from worker.model.manifest import Agreement, Figures

SINGLE = Meaning("single-label", ("a", "b", "c"))
MULTI = Meaning("multi-label", ("a", "b"))
VALUE = Meaning("regression", ("stars",))
TOKENS = Meaning("token", ("O", "B-PER", "I-PER"))


def rows(*values):
    return [np.array(value, np.float32) for value in values]


def test_best_label_wins():
    assert SINGLE.decide(rows([1, 2, 0], [3, 0, 0])).tolist() == [1, 0]


def test_label_with_a_threshold_wins_if_and_only_if_it_reaches_it():
    strict = Meaning("single-label", ("a", "b", "c"), thresholds={"b": 0.9})
    assert strict.decide(rows([1, 2, 0], [0, 9, 0])).tolist() == [0, 1]
    loose = Meaning("single-label", ("a", "b", "c"), thresholds={"c": 0.05})
    assert loose.decide(rows([2, 2, 0])).tolist() == [2]


def test_best_label_wins_where_each_has_a_threshold_and_none_reaches_it():
    strict = Meaning("single-label", ("a", "b", "c"), thresholds=dict.fromkeys("abc", 0.99))
    assert strict.decide(rows([0, 2, 1])).tolist() == [1]


def test_temperature_counts_where_there_are_thresholds():
    assert Meaning("single-label", ("a", "b"), 0.1, {"b": 0.9}).decide(rows([0, 1])).tolist() == [1]


def test_each_label_of_a_multi_label_model_is_a_decision():
    assert MULTI.decide(rows([1, -1], [0.1, 3])).tolist() == [1, 0, 1, 1]
    assert Meaning("multi-label", ("a", "b"), thresholds={"a": 0.9}).decide(rows([1, 1])).tolist() == [0, 1]


def test_tokens_between_the_special_ones_are_decisions():
    one = np.array([[9, 0, 0], [0, 1, 0], [0, 0, 1], [0, 9, 0]])
    assert TOKENS.decide([one]).tolist() == [1, 2]


def test_distances_and_agreement():
    found = compare(SINGLE, rows([1, 2, 0], [3, 0, 0]), rows([1, 0.5, 0], [3, 0, 0]))
    assert found.agreement == Agreement(
        texts=2, same_label=0.5, mean_logit_difference=0.25, largest_logit_difference=1.5
    )
    assert found.evaluation is None
    assert found.drop == 0.0
    assert Bounds(0.5, 0.0).passes(found)
    assert not Bounds(0.51, 0.0).passes(found)


def test_values_agree_within_a_share_of_their_spread():
    fp32 = rows([1], [2], [3], [4])
    assert compare(VALUE, fp32, rows([1.01], [2], [3], [3.0])).agreement.same_label == 0.75


def test_what_is_no_number_passes_nothing():
    agreement = Agreement(texts=1, same_label=1.0, mean_logit_difference=0.0, largest_logit_difference=0.0)
    assert Bounds(1.0, 0.0).passes(Comparison(agreement, 1))
    assert not Bounds(0.5, 0.0).passes(compare(VALUE, rows([1], [2]), rows([np.nan], [np.nan])))


def test_figures_of_a_single_label_model():
    truth = np.array([0, 1, 1, 2])
    found = compare(SINGLE, rows([1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]), rows(*[[1, 0, 0]] * 4), truth, "note")
    assert found.fp32.accuracy == 1.0
    assert found.int8.accuracy == 0.25
    assert found.drop == 0.75
    assert found.metric == "accuracy"
    assert found.int8.recall == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert found.int8.f1["a"] == 0.4
    assert found.evaluation.per_label == {"a": 1, "b": 2, "c": 1}
    assert found.evaluation.note == "note"
    assert not Bounds(0.0, 0.5).passes(found)


def test_figures_of_a_multi_label_model():
    truth = np.array([1, 0, 1, 1])
    found = compare(MULTI, rows([1, -1], [1, 1]), rows([1, -1], [1, -1]), truth)
    assert found.fp32.metrics["micro_f1"] == 1.0
    assert found.int8.metrics["micro_f1"] == 0.8
    assert found.int8.f1 == {"a": 1.0, "b": 0.0}
    assert found.metric == "micro F1"


def test_figures_of_a_regression():
    found = compare(VALUE, rows([1], [2], [3]), rows([1], [2], [4]), np.array([1.0, 2.0, 3.0]))
    assert found.fp32.metrics == {"r2": 1.0, "mae": 0.0}
    assert found.drop == 0.5
    assert found.evaluation.per_label == {}


def test_figures_of_entities_are_of_whole_spans():
    fp32 = [np.eye(3)[[0, 1, 2, 0]]]
    int8 = [np.eye(3)[[0, 1, 0, 0]]]
    truth = WordTags([("B-PER", "I-PER")], [[1, 2]])
    found = compare(TOKENS, fp32, int8, truth)
    assert found.fp32.metrics == {"span_f1": 1.0}
    assert found.int8.metrics == {"span_f1": 0.0}
    assert found.fp32.f1 == {"PER": 1.0}
    assert found.evaluation.per_label == {"PER": 1}


def test_word_that_was_cut_off_has_no_tag():
    truth = WordTags([("B-PER", "B-PER")], [[1, -1]])
    found = compare(TOKENS, [np.eye(3)[[0, 1, 0]]], [np.eye(3)[[0, 1, 0]]], truth)
    assert found.fp32.recall == {"PER": 0.5}


def test_truth_of_each_task():
    single = [Example("1", "x", ("b",), form="single-label"), Example("2", "x", ("c",), form="single-label")]
    assert truth_of(SINGLE, single).tolist() == [1, 2]
    multi = [Example("1", "x", ("b", "a"), form="multi-label"), Example("2", "x", (), form="multi-label")]
    assert truth_of(MULTI, multi).tolist() == [1, 1, 0, 0]
    value = [Example(str(i), "x", (number,), form="single-label") for i, number in enumerate(("3.5", "-1"))]
    assert truth_of(VALUE, value).tolist() == [3.5, -1]
    tagged = [tokens_example("1", ["Ann", "ran"], ["B-PER", "O"])]
    assert truth_of(TOKENS, tagged, [[1, 2]]) == WordTags([("B-PER", "O")], [[1, 2]])


@pytest.mark.parametrize(
    ("meaning", "examples"),
    [
        (SINGLE, []),
        (SINGLE, [Example("1", "x")]),
        (SINGLE, [Example("1", "x", ("z",), form="single-label")]),
        (SINGLE, [Example("1", "x", ("a", "b"), form="multi-label")]),
        (SINGLE, [tokens_example("1", ["a"], ["O"])]),
        (TOKENS, [Example("1", "x", ("O",), form="single-label")]),
        (TOKENS, [tokens_example("1", ["a"], ["B-LOC"])]),
        (VALUE, [Example("1", "x", ("good",), form="single-label")]),
        (VALUE, [Example("1", "x", ("nan",), form="single-label"), Example("2", "x", ("1",), form="single-label")]),
        (VALUE, [Example("1", "x", ("3.5",), form="single-label")]),
        (VALUE, [Example(str(i), "x", ("3.5",), form="single-label") for i in range(3)]),
        (SINGLE, [Example("1", "x", ("a",), form="multi-label")]),
    ],
)
def test_labels_that_are_not_the_models_are_no_truth(meaning, examples):
    assert truth_of(meaning, examples) is None


@pytest.mark.parametrize(
    ("meaning", "words"),
    [
        (SINGLE, r"not the model's \(single-label: a, b, c\).*name them alike, in the texts or with --labels"),
        (Meaning("multi-label", tuple("abcdefg")), r"\(multi-label: a, b, c, d, e and 2 more\)"),
        (VALUE, "are no numbers, or all the same one"),
    ],
)
def test_why_there_is_no_truth_is_said_in_the_models_words(meaning, words):
    assert re.search(words, without_truth(meaning))


@pytest.mark.parametrize(("int8", "same"), [([3.1], 1.0), ([3.0], 1.0), ([3.2], 0.0), ([-3.0], 0.0), ([np.nan], 0.0)])
@pytest.mark.parametrize("count", [1, 7])
def test_values_without_a_spread_agree_within_a_share_of_their_size(int8, same, count):
    """Of one text, or of equal answers, the spread says nothing."""
    found = compare(VALUE, rows(*[[3.0]] * count), rows(*[int8] * count))
    assert found.agreement.same_label == same
    assert Bounds().passes(found) is (same == 1.0)
    assert Bounds().passes_surely(found) is (same == 1.0)


def test_equal_values_that_differ_in_their_last_bit_have_no_spread():
    fp32 = rows(*[[0.1 + i * 1e-9] for i in range(6)])
    assert compare(VALUE, fp32, rows(*[[0.1004]] * 6)).agreement.same_label == 1.0


@pytest.mark.parametrize(
    ("meaning", "logits", "truth"),
    [
        (SINGLE, [1, 2, 0], np.array([1])),
        (MULTI, [1, -1], np.array([1, 0])),
        (MULTI, [-1, -1], np.array([0, 0])),
        (VALUE, [0.0], None),
        (TOKENS, np.eye(3)[[0, 1, 0]], WordTags([("B-PER",)], [[1]])),
        (TOKENS, np.eye(3)[[0, 0]], WordTags([()], [[]])),
    ],
)
def test_one_text_is_compared_like_many(meaning, logits, truth):
    """Without a warning, which fails a test here."""
    found = compare(meaning, rows(logits), rows(logits), truth)
    assert (found.agreement.texts, found.agreement.same_label, found.drop) == (1, 1.0, 0.0)
    assert Bounds().passes(found)
    assert Bounds().passes_surely(found)
    Bounds().check(found)


def judged(same, count, drop=0.0):
    agreement = Agreement(texts=count, same_label=same, mean_logit_difference=0.0, largest_logit_difference=0.0)
    return Comparison(agreement, count, Figures(accuracy=0.9), Figures(accuracy=0.9 - drop), "accuracy")


@pytest.mark.parametrize(
    ("same", "count", "drop", "surely"),
    [
        (0.989, 1000, 0.0, True),
        (0.988, 1000, 0.0, False),  # within one standard error of the bound, 0.0038
        (0.987, 4000, 0.0, True),
        (0.986, 4000, 0.0, False),
        (0.9867, 75, 0.0, True),  # a single decision
        (0.98, 50, 0.0, False),  # that is below the bound itself
        (1.0, 10, 0.0, True),
        (0.99, 1000, 0.0065, True),
        (0.99, 1000, 0.0075, False),
        (0.995, 200, 0.005, True),  # a single decision
        (0.99, 200, 0.01, False),
    ],
)
def test_surely_is_better_than_the_bounds_by_a_standard_error(same, count, drop, surely):
    assert Bounds(0.985, 0.01).passes_surely(judged(same, count, drop)) is surely


def test_bounds_that_ask_for_nothing_are_passed_surely():
    assert Bounds(0.0, 1.0).passes_surely(judged(0.1, 20, 0.5))
    assert not Bounds(1.01, 1.0).passes_surely(judged(1.0, 20))


def test_multi_label_graph_that_finds_nothing_is_refused():
    """It agrees on 99 pairs of a hundred, and is of no use."""
    meaning = Meaning("multi-label", tuple(map(str, range(100))))
    fp32 = [np.where(np.arange(100) == i, 3.0, -3.0) for i in range(20)]
    none = [np.full(100, -3.0)] * 20
    found = compare(meaning, fp32, none)
    assert (found.agreement.same_label, found.positives_f1) == (0.99, 0.0)
    assert not Bounds().passes(found)
    with pytest.raises(GateRefused, match=r"finds what FP32 finds with an F1 of 0\.0000 on 20 texts, less than 0\.9"):
        Bounds().check(found)
    held = np.concatenate([each > 0 for each in fp32]).astype(int)
    assert compare(meaning, fp32, none, held).positives_f1 == 0.0
    assert Bounds().passes(compare(meaning, fp32, fp32))
    assert compare(meaning, none, none).positives_f1 == 1.0
    assert Bounds(0.0).passes(found)


def test_token_graph_that_finds_nothing_is_refused():
    fp32 = [np.eye(3)[[0, *[0] * 149, 1, 0]]] * 5
    none = [np.eye(3)[[0] * 152]] * 5
    found = compare(TOKENS, fp32, none)
    assert found.agreement.same_label > 0.985
    assert found.positives_f1 == 0.0
    assert not Bounds().passes(found)
    other = [np.eye(3)[[0, *[0] * 149, 2, 0]]] * 5
    assert compare(TOKENS, fp32, other).positives_f1 == 0.0
    assert Bounds().passes(compare(TOKENS, fp32, fp32))


def test_positives_are_of_no_concern_where_every_text_has_a_label():
    assert compare(SINGLE, rows([1, 2, 0]), rows([1, 2, 0])).positives_f1 is None
    assert compare(Meaning("token", ("A", "B")), [np.eye(2)], [np.eye(2)]).positives_f1 is None


@pytest.mark.parametrize(
    ("parts", "most", "said"),
    [
        (0, 0, r"decisions on 1 text, less"),
        (0, 4, r"decisions, and no more with up to 4 parts in FP32 on"),
        (1, 1, r"decisions, even with 1 part in FP32, the most that were tried on"),
        (1, 8, r"decisions, even with 1 part in FP32, the best of up to 8 that were tried on"),
    ],
)
def test_how_many_parts_were_tried_is_told(parts, most, said):
    found = compare(Meaning("single-label", ("a", "b")), rows([1, 0]), rows([0, 1]))
    with pytest.raises(GateRefused, match=said):
        Bounds().check(found, parts, most)


@pytest.mark.parametrize(
    ("values", "truth", "narrow"),
    [
        ([3.0, 3.01, 2.99], None, True),
        ([3.0, 3.01, 2.99], [1, 3, 5], True),
        ([3.0, 3.01, 2.99], [3.0, 3.01, 2.99], False),
        ([1.0, 3.0, 5.0], None, False),
    ],
)
def test_values_that_hardly_vary_are_told(values, truth, narrow):
    """Beside what is true, or their own size: then any difference is a large one."""
    fp32 = rows(*([value] for value in values))
    other = rows(*([value + 1] for value in values))
    found = compare(VALUE, fp32, other, None if truth is None else np.array(truth))
    assert found.narrow is narrow
    with pytest.raises(GateRefused) as refused:
        Bounds().check(found)
    assert ("hardly vary, so that the smallest difference is large beside them" in str(refused.value)) is narrow
