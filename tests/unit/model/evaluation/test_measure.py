"""Figures against numbers by hand and against scikit-learn on the same arrays."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from worker.errors import ConfigError
from worker.model.data import Example, tokens_example
from worker.model.evaluation import measure
from worker.model.evaluation.answers import ABSTAINED, answers, by_name, check
from worker.model.evaluation.by_label import by_label
from worker.model.evaluation.calibration import fit_temperature
from worker.model.evaluation.compare import check_tasks, compare
from worker.model.evaluation.report import mistakes

LABELS = ("a", "b", "c")


def single(*labels):
    return [Example(f"id{i}", f"text {i}", (label,), form="single-label") for i, label in enumerate(labels)]


def logits(scores):
    return np.log(np.array(scores))


SCORES = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]


def test_single_label_by_hand():
    found = measure.measure(answers("single-label", LABELS, single("a", "b", "b", "c"), logits(SCORES)))
    assert found["accuracy"] == 0.75
    assert found["labels"]["a"] == {
        "precision": 0.5, "recall": 1.0, "f1": 0.6667, "support": 1, "decided": 2, "roc_auc": 1.0, "pr_auc": 1.0,
    }  # fmt: skip
    assert found["labels"]["b"]["recall"] == 0.5
    assert found["macro"]["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3, abs=1e-4)
    assert found["micro"]["f1"] == 0.75
    # Confidences 0.7, 0.7, 0.5, 0.8; right, right, wrong, right: |1.4 - 2| + |0.5 - 0| + |0.8 - 1| over 4.
    assert found["calibration_error"] == pytest.approx((0.6 + 0.5 + 0.2) / 4, abs=1e-4)


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 3, 200), rng.dirichlet([1, 1, 1], 200)
    found = measure.measure(answers("single-label", LABELS, single(*(LABELS[i] for i in truth)), logits(scores)))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, scores, multi_class="ovr"), abs=1e-4)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, scores.argmax(axis=1)), abs=1e-4)
    assert found["weighted"]["f1"] == pytest.approx(
        metrics.f1_score(truth, scores.argmax(axis=1), average="weighted"), abs=1e-4
    )


def test_what_cannot_be_computed_is_null():
    """A label that no text has leaves no area, and no warning."""
    found = measure.measure(answers("single-label", LABELS, single("a", "a", "b", "b"), logits(SCORES)))
    assert found["labels"]["c"]["roc_auc"] is None
    assert found["roc_auc"] is not None


def test_several_labels():
    examples = [Example(str(i), "", labels, form="multi-label") for i, labels in enumerate([("a",), ("a", "b"), ()])]
    given = np.array([[2.0, -2, -3], [1, -1, -3], [-1, -1, 0.5]])
    said = answers("multi-label", LABELS, examples, given, thresholds={"b": 0.2})
    assert said.decided.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    found = measure.measure(said)
    assert found["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["micro"] == {"precision": 0.6, "recall": 1.0, "f1": 0.75}
    assert said.named(said.decided[1]) == "a, b"
    assert said.named(np.zeros(3, int)) == "none"


def test_one_label_alone():
    examples = [Example(str(i), "", labels, form="multi-label") for i, labels in enumerate([("a",), (), ("a",)])]
    found = measure.measure(answers("multi-label", ("a",), examples, np.array([[1.0], [1.0], [-1.0]])))
    assert (found["labels"]["a"]["precision"], found["labels"]["a"]["recall"]) == (0.5, 0.5)
    assert found["micro"]["f1"] == 0.5


TAGS = ("O", "B-x", "I-x")


def tagged():
    """Two texts; the second one's entity is found too short."""
    examples = [
        tokens_example("one", ["in", "Ulm"], ["O", "B-x"]),
        tokens_example("two", ["New", "York", "is"], ["B-x", "I-x", "O"]),
    ]
    given = np.eye(3)[[0, 1, 1, 0, 0]] * 4
    return answers("token", TAGS, examples, given)


def test_entities_count_as_a_whole():
    found = measure.measure(tagged())
    assert found["spans"]["f1"] == 0.5
    assert found["spans"]["types"]["x"]["support"] == 2
    assert found["accuracy"] == 0.8
    assert measure.headline(tagged()) == ("span F1", 0.5)
    assert tagged().wrong_examples().tolist() == [False, True]
    assert tagged().sequences(tagged().decided) == [["O", "B-x"], ["B-x", "O", "O"]]


def test_regression():
    examples = single("1.5", "2")
    found = measure.measure(answers("regression", ("score",), examples, np.array([[1.0], [3.0]])))
    assert (found["mean_absolute_error"], found["root_mean_squared_error"]) == (0.75, 0.7906)


def test_a_temperature_is_found_for_every_task():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.05, 0.95, 4000)
    true = rng.uniform(size=4000) < share
    raw = np.log(share / (1 - share))
    both = np.stack([np.zeros(4000), 2 * raw], axis=1)
    assert fit_temperature("single-label", both, true.astype(int)) == pytest.approx(2, abs=0.15)
    assert fit_temperature("multi-label", 2 * raw[:, None], true[:, None].astype(int)) == pytest.approx(2, abs=0.15)
    assert fit_temperature("single-label", both, true.astype(int), (true == (raw > 0)).astype(float)) < 0.5


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(
        ConfigError, match=r"test.jsonl has labels that the bundle x \(a, b, c\) does not know: 1, on 1 of 2 examples"
    ):
        check("single-label", LABELS, single("a", "d"), "test.jsonl", "the bundle x")
    with pytest.raises(ConfigError, match='its lines need "tokens" and "tags"'):
        check("token", TAGS, single("a"), "test.jsonl", "the bundle x")
    for value in ("a", "nan", "inf", "-inf"):
        with pytest.raises(ConfigError, match="the label of the text id1 is no number"):
            check("regression", ("score",), single("1", value), "test.jsonl", "the bundle x")


def test_labels_of_the_texts_are_not_told():
    """As where --label-field names the text: ids and counts, not what anybody wrote."""
    with pytest.raises(ConfigError) as told:
        check("single-label", LABELS, single("a", "a secret", "another", "another"), "test.jsonl", "the bundle x")
    assert str(told.value) == (
        "test.jsonl has labels that the bundle x (a, b, c) does not know: 2, on 3 of 4 examples, by id id1, id2, id3. "
        "Rename them, or leave those lines out."
    )
    with pytest.raises(ConfigError, match=r"that train.jsonl does not know: 1, on"):
        check("single-label", LABELS, single("d"), "test.jsonl", "train.jsonl", public=False)


def labels_of(examples):
    return [each.labels[0] for each in examples]


def named(*given):
    return by_name(*given, "f.jsonl", "the bundle x")[0]


def note(*given):
    return by_name(*given, "f.jsonl", "the bundle x")[1]


def test_ids_stand_for_names():
    """As data sets of Hugging Face have them; tags, too."""
    assert labels_of(named("single-label", LABELS, single("2", "0"))) == ["c", "a"]
    tagged_by_id = [tokens_example("1", ["in", "Ulm"], ["0", "1"])]
    assert named("token", TAGS, tagged_by_id)[0].tags == ("O", "B-x")
    several = [Example("1", "", ("0", "2"), form="multi-label"), Example("2", "", (), form="multi-label")]
    assert [each.labels for each in named("multi-label", LABELS, several)] == [("a", "c"), ()]


def test_who_has_ids_taken_for_names_is_told():
    assert note("single-label", LABELS, single("2", "0")) == (
        "the texts' labels are numbers, which are taken for ids: 0 is a, 2 is c"
    )
    many = tuple(f"LABEL_{i}" for i in range(12))  # numbers in names that are the ids are of no harm
    assert note("single-label", many, single(*map(str, range(12)))).endswith("4 is LABEL_4 and 7 more")
    assert note("single-label", LABELS, single("a")) is None
    assert note("token", TAGS, single("0")) is None  # of another task, which is refused


STARS = ("1 star", "2 stars", "3 stars")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (STARS, ("1", "2")),
        (STARS, ("0", "2")),  # a rule that looked at 0 alone would take these for ids
        (("stars_1", "stars_2", "stars_3"), ("2",)),
        (("level 02", "level 01", "other"), ("2",)),
        (("1star", "2star", "3star"), ("1", "2")),
        (("1", "2", "3"), ("0", "1")),
    ],
)
def test_numbers_that_names_have_too_are_not_taken_for_ids(labels, found):
    """A file with 1 and 2 may mean `1 star` and `2 stars` as well as the labels with these ids."""
    with pytest.raises(
        ConfigError, match=r"^f\.jsonl has numbers for labels, which may be ids.*: write the names instead"
    ):
        named("single-label", labels, single(*found))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("1star", "2star", "3star"), ("0", "1", "2")),  # no name has a 0
        (("B2B", "B2C", "other"), ("0", "2")),
        (("none", "1 star", "2 stars"), ("0", "1", "2")),
        (("10 to 20", "20 to 30", "more"), ("1", "2")),
    ],
)
def test_other_numbers_in_names_are_no_matter(labels, found):
    assert labels_of(named("single-label", labels, single(*found))) == [labels[int(each)] for each in found]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("1", "2", "3"), ("1", "2")),  # stars: the numbers are the names
        (LABELS, ("0", "a")),  # neither all names nor all ids
        (LABELS, ("0", "3")),  # there is no such id
    ],
)
def test_what_is_a_name_or_no_id_stays(labels, found):
    assert labels_of(named("single-label", labels, single(*found))) == list(found)


def test_numbers_of_a_regression_are_no_ids():
    assert labels_of(named("regression", ("stars",), single("0", "0"))) == ["0", "0"]


def test_figures_by_label_are_those_of_scikit_learn():
    """One label alone, labels that no text has, and labels that no text is given among them."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 6):
        truth, decided = rng.integers(0, 2, (2, 40, count)) * (rng.uniform(size=count) < 0.7)
        found = by_label(truth, decided)
        only = {"labels": [1]} if count == 1 else {}
        given = (truth[:, 0], decided[:, 0]) if count == 1 else (truth, decided)
        for kind in (None, *measure.AVERAGES):
            expected = metrics.precision_recall_fscore_support(*given, average=kind, zero_division=0, **only)[:3]
            ours = found[:3] if kind is None else found.average(kind)
            for one, other in zip(ours, expected, strict=True):
                assert one == pytest.approx(other)
        assert found.support.tolist() == truth.sum(axis=0).tolist()


def test_who_abstains_is_wrong_but_gives_no_label_wrongly():
    said = replace(
        answers("single-label", LABELS, single("a", "b", "b", "c"), logits(SCORES)),
        decided=np.array([0, ABSTAINED, ABSTAINED, 2]),
        fallback="unclear",
        actions=("accept", "review", "review", "accept"),
    )
    found = measure.measure(said)
    assert (found["accuracy"], found["coverage"], found["selective_accuracy"]) == (0.5, 0.5, 1.0)
    assert found["micro"] == {"precision": 1.0, "recall": 0.5, "f1": 0.6667}
    assert (found["labels"]["b"]["decided"], found["labels"]["c"]["decided"]) == (0, 1)
    assert found["actions"] == {
        "accept": {"texts": 2, "accuracy": 1.0},
        "review": {"texts": 2, "accuracy": 0.0},
        "reject": {"texts": 0, "accuracy": None},
    }
    assert [(name, decided) for name, _, decided, _ in mistakes(said)] == [("id2", "unclear"), ("id1", "unclear")]
    assert measure.confusion(said).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    nothing = measure.measure(replace(said, decided=np.full(4, ABSTAINED)))
    assert (nothing["coverage"], nothing["selective_accuracy"]) == (0.0, None)


def test_the_best_label_is_decided_where_each_has_a_threshold_and_none_reaches_it():
    said = answers("single-label", LABELS, single("b"), logits([SCORES[1]]), thresholds=dict.fromkeys(LABELS, 0.9))
    assert said.decided.tolist() == [1]


def test_two_bundles_side_by_side():
    examples = single("a", "b", "b", "c")
    first = answers("single-label", LABELS, examples, logits(SCORES))
    second = answers("single-label", LABELS, examples, logits([SCORES[0], SCORES[0], SCORES[1], SCORES[3]]))
    found = compare(first, second)
    assert (found.both_right, found.only_first, found.only_second, found.both_wrong) == (2, 1, 1, 0)
    assert found.p_value == 1.0
    assert [each.id for each in found.disagreements] == ["id1", "id2"]
    assert found.disagreements[0] == ("id1", "b", "b", "a")


def test_what_cannot_be_compared_says_why():
    with pytest.raises(ConfigError, match="A bundle for token and one for regression cannot be compared"):
        check_tasks("token", "regression")
    with pytest.raises(ConfigError, match="a value is neither right nor wrong"):
        check_tasks("regression", "regression")


def test_mcnemar_by_hand():
    """Ten against none: twice a half to the tenth."""
    examples = single(*"a" * 10)
    right, wrong = np.tile([3.0, 0, 0], (10, 1)), np.tile([0.0, 3, 0], (10, 1))
    found = compare(*(answers("single-label", LABELS, examples, each) for each in (right, wrong)))
    assert found.p_value == pytest.approx(2 * 0.5**10, abs=1e-6)


def test_the_hardest_mistakes_come_first_and_by_id():
    said = answers("single-label", LABELS, single("b", "b", "b", "a"), logits(SCORES))
    assert [(name, truth, decided) for name, truth, decided, _ in mistakes(said)] == [
        ("id3", "a", "c"),
        ("id0", "b", "a"),
        ("id2", "b", "a"),
    ]
