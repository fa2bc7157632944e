"""Entities as the worker gives them, held against the true ones by their characters."""

import numpy as np

from worker.model.data import tokens_example
from worker.model.evaluation import charts, measure
from worker.model.evaluation.answers import answers
from worker.model.evaluation.served import Place, Served, places

TAGS = ("O", "B-x", "I-x")


def test_true_entities_are_where_their_words_are():
    example = tokens_example("1", ["in", "New", "York", "now"], ["O", "B-x", "I-x", "O"])
    assert places(example, TAGS) == {Place("x", 3, 11)}


def test_half_a_word_is_no_hit():
    true = (places(tokens_example("1", ["in", "Ulmer"], ["O", "B-x"]), TAGS),)
    half, whole = (frozenset({Place("x", 3, end)}) for end in (6, 8))
    assert Served("simple", true, (half,)).scores().f1 == 0.0
    assert Served("first", true, (whole,)).scores().types["x"].f1 == 1.0


def test_many_labels_leave_a_matrix_that_can_be_read():
    """Of 77 labels those that are mistaken most; every label that is part of a mistake is among them."""
    labels = tuple(f"label-{i:02}" for i in range(77))
    examples = [tokens_example(str(i), ["a"], [labels[i % 77]]) for i in range(308)]
    logits = 9 * np.eye(77)[[i % 77 for i in range(308)]]
    logits[5] = 9 * np.eye(77)[60]
    picture = charts.confusion(answers("token", labels, examples, logits))
    assert picture.count(">label-") == 2 * charts.CELLS
    assert ">label-05" in picture
    assert ">label-60" in picture


def test_figures_of_both_kinds_are_told_apart():
    found = {"spans": {}, "served": {"aggregation": "first"}}
    assert measure.entity_kinds(found, "F1 of ") == {
        "spans": "F1 of entities by tag",
        "served": "F1 of entities as served (first)",
    }
