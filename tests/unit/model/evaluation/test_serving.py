"""Bundles measured as the worker serves them: its settings decide what is read of a text and what is made of it."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from tests.unit import toys
from worker.cli import app
from worker.commands.classify import settings_for
from worker.errors import ConfigError
from worker.model.data import Example, tokens_example
from worker.model.evaluation import measure
from worker.model.evaluation.predict import Predictor
from worker.model.evaluation.served import Place
from worker.model.evaluation.serving import Serving, in_words
from worker.pipeline.tokenization import TextTokenizer

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
NAMES = {"ann": (0, 4, 0, 0), "lee": (0, 0, 4, 0), "paris": (0, 0, 0, 4), "rome": (0, 0, 0, 3), "went": (4, 0, 0, 0)}
FILLER = {"to": (4, 0, 0, 0), "and": (4, 0, 0, 0), "good": (4, 0, 0, 0)}
OPINIONS = {"good": (2, -2), "bad": (-2, 2), "dull": (-4, -4)}
KINDS = {
    "single-label": (OPINIONS, ("pro", "con")),
    "multi-label": (OPINIONS, ("pro", "con")),
    "regression": ({"good": (1.5,), "bad": (-1.25,)}, ("stars",)),
    "token": (NAMES | FILLER, TAGS),
}
LONG = "good " * 10 + "bad " * 30
WINDOWS = ("model.long_texts=windows", "model.window_stride=0")


@pytest.fixture
def bundle(tmp_path):
    """`bundle(task)`: a toy bundle for it, which reads 12 tokens."""
    return lambda task, **fields: toys.write(tmp_path / task, task, *KINDS[task], **fields)


def serving(*assignments):
    return Serving(**settings_for("default", None, None, ["model.lanes=1", *assignments])._asdict())


def said(opened, examples, *assignments):
    return Predictor(opened, serving(*assignments))(examples)


def labelled(*texts, label="pro", form="single-label"):
    return [Example(str(i), text, (label,), form=form) for i, text in enumerate(texts)]


def classified(opened, texts, *assignments):
    """What `winnow classify` says."""
    given = [word for each in ("model.lanes=1", *assignments) for word in ("--set", each)]
    done = CliRunner().invoke(app, ["classify", "--json", "--bundle", str(opened.path), *given, "--", *texts])
    assert done.exit_code == 0, done.output
    return [orjson.loads(line) for line in done.stdout.splitlines()]


DECIDED = {
    "single-label": [
        (),
        ("decision.min_score=0.99", "decision.fallback_label=unclear"),
        ("decision.min_score=0.99", "decision.fallback_label=con"),
        ("decision.accept_score=0.999", "decision.review_score=0.9", "decision.unwanted_labels=con"),
        WINDOWS,
        (*WINDOWS, "model.window_combine=max"),
        ("model.max_length=8", "input.max_characters=16"),
    ],
    "multi-label": [(), ("decision.fallback_label=other",), WINDOWS, ("decision.accept_score=0.9",)],
    "regression": [(), WINDOWS, ("input.max_characters=17",)],
}


@pytest.mark.parametrize(("task", "asked"), [(task, asked) for task, each in DECIDED.items() for asked in each])
def test_what_is_measured_is_what_classify_says(bundle, task, asked):
    texts = ["good", "good bad", "dull", LONG, "bad bad dull " * 9]
    opened = bundle(task, **({"thresholds": {"con": 0.1}} if task == "multi-label" else {}))
    examples = labelled(*texts, label="1" if task == "regression" else "pro")
    found, expected = said(opened, examples, *asked), classified(opened, texts, *asked)
    if task == "single-label":
        assert [found.named(each) for each in found.decided] == [each["label"] for each in expected]
    elif task == "multi-label":
        given = [{label for label, on in zip(opened.labels, row, strict=True) if on} for row in found.decided]
        assert given == [{each["label"] for each in one["labels"]} for one in expected]
    else:
        assert found.decided == pytest.approx([each["score"] for each in expected], abs=1e-6)
    assert found.scores.ravel() == pytest.approx([s for one in expected for s in one["scores"].values()], abs=1e-6)
    assert list(found.actions) == [each["action"] for each in expected if "action" in each]
    assert found.truncated == sum(each["truncated"] for each in expected)


def test_scores_are_not_rounded(bundle):
    """So that a threshold chosen by them is one that the worker's own comparison knows."""
    (score,) = said(bundle("regression"), labelled("good", label="1")).scores
    assert score[0] == 1.5
    scores = said(bundle("single-label"), labelled("good")).scores
    assert scores[0, 0] == 1 / (1 + np.exp(-4.0))


def test_windows_read_what_truncation_leaves_out(bundle):
    opened = bundle("single-label")
    cut, whole = said(opened, labelled(LONG)), said(opened, labelled(LONG), *WINDOWS)
    assert (cut.named(cut.decided[0]), cut.truncated) == ("pro", 1)
    assert (whole.named(whole.decided[0]), whole.truncated) == ("con", 0)


def test_characters_beyond_the_bound_are_not_read(bundle):
    found = said(bundle("single-label"), labelled(LONG), *WINDOWS, "input.max_characters=50")
    assert (found.named(found.decided[0]), found.truncated) == ("pro", 1)


TRIP = tokens_example(
    "1", ["ann", "lee", "went", "to", "paris", "and", "rome"], ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "B-LOC"]
)
LONG_TRIP = tokens_example("1", ["went"] * 30 + list(TRIP.tokens), ["O"] * 30 + list(TRIP.tags))


def test_entities_of_all_windows_are_found(bundle):
    """By their places as by their tags, to which the words beyond the model's length are lost where they are cut."""
    opened = bundle("token")
    cut, whole = said(opened, [LONG_TRIP]), said(opened, [LONG_TRIP], *WINDOWS)
    assert (measure.measure(cut)["served"]["recall"], measure.measure(cut)["spans"]["recall"]) == (0.0, 0.0)
    assert whole.served.found == whole.served.true
    assert measure.measure(whole)["spans"]["f1"] == 1.0
    assert whole.decided.tolist() == whole.truth.tolist()


def test_settings_of_entities_are_those_of_the_worker(bundle):
    opened = bundle("token")
    people = said(opened, [TRIP], "entities.types=PER").served
    assert people.found == people.true == ({Place("PER", 0, 7)},)
    sure = said(opened, [TRIP], "entities.min_score=0.9").served
    assert {place.start for place in sure.found[0]} == {0, 16}
    assert said(opened, [TRIP], "entities.aggregation=none").served is None
    assert said(opened, [TRIP], "entities.aggregation=max").served.aggregation == "max"


def test_settings_that_do_not_fit_are_refused_as_by_the_worker(bundle):
    with pytest.raises(ConfigError, match=r"decision\.fallback_label has no meaning for the bundle toy"):
        said(bundle("token"), [TRIP], "decision.min_score=0.5", "decision.fallback_label=x")


def test_a_text_that_the_worker_refuses_is_named_by_its_id(bundle, monkeypatch):
    def refuse(*_):
        raise TypeError("poison and its text")

    opened = bundle("single-label")
    predictor = Predictor(opened, serving())
    monkeypatch.setattr(TextTokenizer, "__call__", refuse)
    with pytest.raises(ConfigError, match="The text 0 cannot be classified, and the worker would make") as told:
        predictor(labelled("poison"))
    assert "poison" not in str(told.value)


def test_only_settings_that_decide_are_told():
    given = serving("batching.max_messages=3", "input.max_bytes=99", "model.long_texts=windows", "entities.types=A,B")
    assert given.changed() == {"model.long_texts": "windows", "entities.types": ["A", "B"]}
    assert in_words(given.changed()) == 'model.long_texts=windows, entities.types=["A","B"]'
    assert Serving().changed() == {}
