"""Every task from a message to a record on the output topic, through the worker as it is composed, over memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from tests.unit import toys
from worker.app import Worker
from worker.commands import classify as command
from worker.config import load
from worker.errors import BundleError, ConfigError
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.opening import open_model
from worker.pipeline.messages import Destination

if TYPE_CHECKING:
    from collections.abc import Callable

P0 = ("messages", 0)
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "result.schema.json").read_text("utf-8"))
TAGS = ("O", "B-PER", "I-PER", "B-LOC")
NAMES = {"ann": (0, 4, 0, 0), "lee": (0, 0, 4, 0), "paris": (0, 0, 0, 4), "rome": (0, 0, 0, 3), "went": (4, 0, 0, 0)}
FILLER = {"to": (4, 0, 0, 0), "and": (4, 0, 0, 0), "good": (4, 0, 0, 0)}
OPINIONS = {"good": (2, -2), "bad": (-2, 2), "dull": (-4, -4)}
DEFAULTS = ("model.lanes=1", "serving.enabled=false")


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., str]:
    """`bundle(task)`: the folder of a toy bundle for it."""
    kinds = {
        "single-label": (OPINIONS, ("pro", "con")),
        "multi-label": (OPINIONS, ("pro", "con")),
        "regression": ({"good": (1.5,), "bad": (-1.25,)}, ("stars",)),
        "token": (NAMES | FILLER, TAGS),
    }

    def make(task: str, **fields: Any) -> str:
        return str(toys.write(tmp_path / task, task, *kinds[task], **fields).path)

    return make


def settings_for(folder: str, *assignments: str):
    return load(None, [f"model.bundle={folder}", *DEFAULTS, *assignments])


def outcomes(folder: str, texts: list[str], *assignments: str) -> list[dict[str, Any]]:
    """What is on the output topic after these texts, each checked against the schema."""
    log = MemoryLog()
    for text in texts:
        log.append(*P0, json.dumps({"text": text}).encode())
    source, sink = MemorySource(log), MemorySink()
    worker = Worker(settings_for(folder, "kafka.commit_interval_ms=1", *assignments), source, sink)
    source.assign(P0)
    worker.run(lambda: log.committed.get(P0) == len(texts))
    assert [one.destination for one in sink.sent] == [Destination.OUTPUT] * len(texts)
    found = [json.loads(one.value or b"") for one in sink.sent]
    for one in found:
        Draft202012Validator(SCHEMA).validate(one)
    return found


def softmax(best: float, other: float) -> float:
    return pytest.approx(math.exp(best) / (math.exp(best) + math.exp(other)), abs=1e-6)


def sigmoid(x: float) -> float:
    return pytest.approx(1 / (1 + math.exp(-x)), abs=1e-6)


def test_single_label(bundle):
    """The best label and its probability, and nothing else than before there were other tasks."""
    good, bad = outcomes(bundle("single-label"), ["good good", "bad"])
    assert (good["label"], good["score"]) == ("pro", softmax(4, -4))
    assert (bad["label"], bad["score"]) == ("con", softmax(2, -2))
    assert list(good) == ["schema", "id", "result_id", "source", "label", "score", "truncated", "tokens", "model"]


def test_multi_label(bundle):
    """All labels over their thresholds, best first; a threshold of the bundle's own, and half where it has none."""
    folder = bundle("multi-label", thresholds={"con": 0.1})
    good, both, neither = outcomes(folder, ["good", "good bad", "dull"])
    assert (good["label"], good["score"]) == ("pro", sigmoid(2))
    assert good["labels"] == [{"label": "pro", "score": sigmoid(2)}, {"label": "con", "score": sigmoid(-2)}]
    assert [one["label"] for one in both["labels"]] == ["pro", "con"]
    assert (neither["label"], neither["score"], neither["labels"]) == (None, sigmoid(-4), [])


def test_one_logit_is_a_sigmoid_or_a_value(bundle, tmp_path: Path):
    """One logit of a classifier is a multi-label bundle with one label; of a regression the value as it is."""
    folder = str(toys.write(tmp_path / "one", "multi-label", {"good": (2,), "bad": (-2,)}, ["toxic"]).path)
    yes, no = outcomes(folder, ["good", "bad"])
    assert (yes["label"], yes["score"], no["label"], no["score"]) == ("toxic", sigmoid(2), None, sigmoid(-2))
    (stars,) = outcomes(bundle("regression"), ["good bad good"], "output.all_scores=true")
    assert (stars["label"], stars["score"], stars["scores"]) == ("stars", 1.75, {"stars": 1.75})


def test_entities(bundle):
    """Groups with their places in the message's own text, whatever it has between them."""
    text = "ann  lee went\tto paris 👋 and rome"
    found, nothing = outcomes(bundle("token"), [text, "went to"], "output.all_scores=true")
    assert "label" not in found
    assert "score" not in found
    assert [(one["entity_group"], text[one["start"] : one["end"]]) for one in found["entities"]] == [
        ("PER", "ann  lee"), ("LOC", "paris"), ("LOC", "rome"),
    ]  # fmt: skip
    assert found["entities"][1]["score"] == pytest.approx(math.exp(4) / (math.exp(4) + 3), abs=1e-6)
    assert nothing["entities"] == []


def test_entities_by_settings(bundle):
    """Tags instead of groups, chosen types, and a least score."""
    folder = bundle("token")
    (tags,) = outcomes(folder, ["ann lee"], "entities.aggregation=none")
    assert [one["entity_group"] for one in tags["entities"]] == ["B-PER", "I-PER"]
    (people,) = outcomes(folder, ["ann to paris"], "entities.types=PER")
    assert [one["entity_group"] for one in people["entities"]] == ["PER"]
    (sure,) = outcomes(folder, ["paris to rome"], "entities.min_score=0.9")
    assert [one["word"] for one in sure["entities"]] == ["paris"]


@pytest.mark.parametrize("kind", [toys.onnx.TensorProto.INT32, toys.onnx.TensorProto.INT64])
@pytest.mark.parametrize("token_types", [False, True])
@pytest.mark.parametrize("task", ["single-label", "token"])
def test_graphs_as_others_export_them(bundle, task: str, kind: int, token_types: bool):
    """int32 and int64 inputs, with and without token types, and `logits` that are not the first output."""
    (said,) = outcomes(bundle(task, graph={"kind": kind, "token_types": token_types}), ["good ann"])
    assert said["label"] == "pro" if task == "single-label" else len(said["entities"]) == 1


# Decisions


def test_abstaining(bundle):
    """Below the least score the label is the fallback, and the score says how far off it was."""
    asked = ("decision.min_score=0.9", "decision.fallback_label=unsure")
    sure, unsure = outcomes(bundle("single-label"), ["good", "good bad"], *asked)
    assert (sure["label"], unsure["label"], unsure["score"]) == ("pro", "unsure", 0.5)
    (none,) = outcomes(bundle("multi-label"), ["dull"], "decision.fallback_label=other")
    assert (none["label"], none["labels"]) == ("other", [])


def test_actions(bundle):
    """By the score of the label, or by what speaks against a message; and by a regression's value."""
    asked = ("decision.accept_score=0.9", "decision.review_score=0.6")
    folder = bundle("single-label")
    assert [one["action"] for one in outcomes(folder, ["good", "good bad", "bad"], *asked)] == [
        "accept", "reject", "accept",
    ]  # fmt: skip
    asked = ("decision.accept_score=0.9", "decision.review_score=0.5", "decision.unwanted_labels=con")
    unwanted = outcomes(folder, ["good", "good bad", "bad"], *asked)
    assert [one["action"] for one in unwanted] == ["accept", "review", "reject"]
    asked = ("decision.accept_score=2", "decision.review_score=1")
    stars = outcomes(bundle("regression"), ["good good", "good", "bad"], *asked)
    assert [one["action"] for one in stars] == ["accept", "review", "reject"]


@pytest.mark.parametrize(
    ("task", "assignments", "why"),
    [
        ("token", ["decision.accept_score=0.5"], "decision.accept_score has no meaning for the bundle toy .token."),
        ("regression", ["decision.fallback_label=a"], "decision.fallback_label has no meaning"),
        ("multi-label", ["decision.min_score=0.5", "decision.fallback_label=a"], "decision.min_score has no meaning"),
        ("single-label", ["decision.fallback_label=a"], "decision.fallback_label needs decision.min_score"),
        ("single-label", ["decision.accept_score=90"], "decision.accept_score is 90.0, and scores of the bundle toy"),
        (
            "multi-label",
            ["decision.accept_score=0.5", "decision.review_score=-0.1"],
            "decision.review_score is -0.1, and scores of the bundle toy .multi-label. are from 0 to 1",
        ),
        ("single-label", ["decision.accept_score=1", "decision.unwanted_labels=x"], "has 'x', which the bundle toy"),
        ("single-label", ["entities.types=PER"], "entities have no meaning for the bundle toy"),
        ("token", ["entities.types=ORG"], "has 'ORG', which the bundle toy does not find; it finds LOC, PER"),
        ("token", ["model.long_texts=windows", "model.window_stride=6"], "= 6 is more than half.*it to 5 or less"),
        ("token", ["model.long_texts=windows", "model.window_combine=max"], "window_combine has no meaning for"),
    ],
)
def test_settings_that_do_not_fit_the_bundle_are_refused(bundle, task: str, assignments: list[str], why: str):
    """What would have no effect, or names what the bundle does not have, is an error that says so."""
    settings = settings_for(bundle(task), *assignments)
    with pytest.raises(ConfigError, match=why):
        open_model(settings.model, settings.entities, settings.decision)


@pytest.mark.parametrize(
    ("task", "fields", "why"),
    [
        ("single-label", {"activation": "sigmoid"}, "single-label with sigmoid.*cannot serve; it serves single-label"),
        ("token", {"activation": "none"}, "cannot serve"),
    ],
)
def test_a_task_that_cannot_be_served_is_refused(bundle, task: str, fields: dict[str, Any], why: str):
    """Task and activation must be a pair that there is."""
    with pytest.raises(BundleError, match=why):
        open_model(settings_for(bundle(task, **fields)).model)


@pytest.mark.parametrize("task", ["single-label", "token"])
def test_a_pad_id_outside_of_the_vocabulary_is_found_when_the_bundle_is_opened(bundle, task: str):
    """Not by the first batch of messages of different lengths."""
    with pytest.raises(BundleError, match=r"of different lengths together.*correct pad_id = 14 in"):
        open_model(settings_for(bundle(task, pad_id=14)).model)


def test_a_regression_of_several_values_is_refused(tmp_path: Path):
    """A result has one value."""
    folder = toys.write(tmp_path / "two", "regression", {"good": (1, 2)}, ["a", "b"]).path
    with pytest.raises(BundleError, match="regression with 2 values"):
        open_model(settings_for(str(folder)).model)


# Long texts


def test_a_long_text_is_read_in_windows(bundle):
    """All of it counts, it is not truncated, and the result says in how many windows it was read."""
    text = "good " * 20 + "bad " * 20
    (cut,) = outcomes(bundle("single-label"), [text])
    assert (cut["label"], cut["truncated"], cut["tokens"]) == ("pro", True, toys.MAX_LENGTH)
    whole, short = outcomes(bundle("single-label"), [text, "bad"], "model.long_texts=windows")
    assert (whole["truncated"], whole["tokens"], whole["windows"]) == (False, 42, 5)
    # Two windows are all good, three are mostly or all bad, and each is sure.
    assert (whole["label"], whole["score"]) == ("con", pytest.approx(0.6, abs=1e-3))
    assert "windows" not in short
    asked = ["model.long_texts=windows", "model.window_combine=max", "output.all_scores=true"]
    (most,) = outcomes(bundle("single-label"), [text], *asked)
    assert min(most["scores"].values()) > 0.99
    (first,) = outcomes(bundle("single-label"), [text], "model.long_texts=windows", "model.window_combine=first")
    assert first == cut


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("stride", [0, 3, 5])
def test_entities_of_windows_are_those_of_one_pass(bundle, tmp_path: Path, aggregation: str, stride: int):
    """Where scores do not depend on context, no entity is doubled, cut in half or moved."""
    texts = [" ".join(("ann lee went to paris and rome " * 9).split()[start:]) for start in range(6)]
    asked = [f"entities.aggregation={aggregation}"]
    wide = toys.write(tmp_path / "wide", "token", NAMES | FILLER, TAGS, max_length=100).path
    single = outcomes(str(wide), texts, *asked)
    stitched = outcomes(bundle("token"), texts, *asked, "model.long_texts=windows", f"model.window_stride={stride}")
    assert [one["entities"] for one in stitched] == [one["entities"] for one in single]
    assert all(one["windows"] > 1 and not one["truncated"] for one in stitched)


# The command line


def test_classify_shows_every_task(bundle, capsys: pytest.CaptureFixture[str]):
    """A line a text: labels with their scores, or the text with its entities marked."""

    def shown(task: str, text: str, *assignments: str) -> str:
        asked = command.settings_for(bundle(task), None, None, list(assignments) or ["model.lanes=1"])
        command.classify([text], [], asked, False)
        return capsys.readouterr().out

    assert shown("single-label", "good") == "       pro  0.982  good\n"
    assert shown("multi-label", "good bad") == "pro 0.500, con 0.500  good bad\n"
    assert shown("multi-label", "dull") == "      none  0.018  dull\n"
    assert shown("regression", "bad") == "     stars  -1.250  bad\n"
    assert shown("token", "ann  lee went to paris") == "         2  [ann lee]PER went to [paris]LOC\n"
    assert shown("single-label", "good", "decision.accept_score=0.5") == "       pro  0.982  accept  good\n"


def test_classify_writes_json_of_every_task(bundle, capsys: pytest.CaptureFixture[str]):
    """What a result has, but for the place that a text on the command line does not have."""

    def written(task: str, text: str) -> dict[str, Any]:
        command.classify([text], [], command.settings_for(bundle(task), None, None, []), True)
        return json.loads(capsys.readouterr().out)

    assert list(written("single-label", "good")) == ["id", "label", "score", "scores", "truncated", "tokens", "model"]
    assert [one["label"] for one in written("multi-label", "good")["labels"]] == ["pro"]
    assert written("token", "rome")["entities"][0]["start"] == 0


def test_what_the_model_said_is_counted(bundle):
    """Each label of a multi-label result, each type of entity, actions, abstentions and windows."""

    def counted(task: str, texts: list[str], *assignments: str) -> Callable[..., float | None]:
        log = MemoryLog()
        for text in texts:
            log.append(*P0, json.dumps({"text": text}).encode())
        source = MemorySource(log)
        settings = settings_for(bundle(task), "kafka.commit_interval_ms=1", *assignments)
        worker = Worker(settings, source, MemorySink())
        source.assign(P0)
        worker.run(lambda: log.committed.get(P0) == len(texts))
        return lambda name, **labels: worker.registry.get_sample_value(f"winnow_{name}", labels)

    asked = ["decision.fallback_label=other", "decision.accept_score=0.8"]
    value = counted("multi-label", ["good bad", "good", "dull"], *asked)
    assert [value("results_total", label=one) for one in ("pro", "con", "other")] == [2, 1, 1]
    assert (value("abstained_total"), value("actions_total", action="reject")) == (1, 2)
    value = counted("token", ["ann to rome", "rome and paris", "went"], "model.long_texts=windows")
    assert [value("entities_total", type=one) for one in ("PER", "LOC")] == [1, 3]
    assert value("entity_score_count", type="LOC") == 3
    value = counted("single-label", ["good " * 30, "good"], "model.long_texts=windows")
    assert (value("windowed_total"), value("windows_total"), value("truncated_total")) == (1, 4, 0)
