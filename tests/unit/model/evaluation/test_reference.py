"""The reference of a bundle: how it labels and scores texts, stored in it, and shown beside a worker's own scores."""

from __future__ import annotations

import math
import sys

import orjson
import pytest

from tests.unit import toys
from worker import cli
from worker.app import DEFAULT_BUNDLE, Worker
from worker.config import load as load_settings
from worker.counting import edges
from worker.errors import ConfigError
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.model.bundle import amend, load
from worker.model.data import Example
from worker.model.evaluation.reference import of_answers, reference
from worker.model.manifest import Reference
from worker.pipeline.messages import Classification
from worker.pipeline.scores import SCORES

OPINIONS = {"good": (2, -2), "bad": (-2, 2), "dull": (-4, -4)}
LABELS = ("pro", "con")
SURE = 1 / (1 + math.exp(-4))


@pytest.fixture
def bundle(tmp_path):
    """`bundle(task)`: a toy bundle for it."""
    return lambda task, **fields: toys.write(tmp_path / task, task, OPINIONS, LABELS, **fields)


def examples(*texts: str) -> list[Example]:
    return [Example(str(i), text) for i, text in enumerate(texts)]


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object):
    monkeypatch.setattr(sys, "argv", ["winnow", "model", "reference", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_shares_are_of_the_texts_that_got_the_label():
    """Up to each bound, the bound itself included, as a histogram's buckets have it."""
    scores = (0.5, 0.55, 0.95, 1.0)
    found = of_answers(LABELS, [Classification("pro", score, {}) for score in scores])
    assert found == Reference(
        texts=4, labels={"pro": 1.0, "con": 0.0}, scores={"pro": (0.25, 0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75)}
    )


def test_the_bundle_decides_the_label_and_its_score(bundle):
    """By its temperature and its thresholds; what is known of a text's label does not matter."""
    told: list[int] = []
    plain = reference(bundle("single-label"), examples("good", "good", "bad", "dull"), told=told.append)
    assert plain.labels == {"pro": 0.75, "con": 0.25}
    assert plain.scores["con"] == tuple(float(bound >= SURE) for bound in SCORES)
    assert sum(told) == 4
    warm = reference(bundle("single-label", temperature=8.0), examples("good"))
    assert warm.scores["pro"] == tuple(float(bound >= 1 / (1 + math.exp(-0.5))) for bound in SCORES)
    strict = reference(bundle("single-label", thresholds={"con": 0.999}), examples("good", "bad"))
    assert strict.labels == {"pro": 1.0, "con": 0.0}


def test_of_several_labels_each_counts(bundle):
    """A text without a label counts as a text alone."""
    found = reference(bundle("multi-label", thresholds={"con": 0.1}), examples("good", "good bad", "dull", "dull"))
    assert (found.texts, found.labels) == (4, {"pro": 0.5, "con": 0.5})
    assert found.scores["con"][0] == 1.0


def test_texts_that_leave_early_count_with_the_score_that_they_leave_with(tmp_path):
    """As the worker serves them, which is what they are to be compared with."""
    texts = examples(*(" ".join((word, other)) for word in toys.WORDS for other in toys.WORDS))
    never = reference(toys.write_staged(tmp_path / "never", 1.0), texts)
    always = reference(toys.write_staged(tmp_path / "always", 0.5), texts)
    assert never.scores != always.scores


@pytest.mark.parametrize("task", ["regression", "token"])
def test_without_labels_there_is_nothing_to_compare(tmp_path, task):
    """Values and entities are another matter."""
    made = toys.write(tmp_path / task, task, {"good": (1.5,), "bad": (-1.25,)}, ("stars",))
    with pytest.raises(ConfigError, match=f"is for {task}: its results have no labels with scores"):
        reference(made, examples("good"))


def test_the_command_shows_and_stores_it(bundle, tmp_path, monkeypatch, capsys):
    """Nothing is written without --write; with it the digest stays, and `model show` tells."""
    made = bundle("single-label")
    (tmp_path / "texts.txt").write_text("good\ngood bad\nbad\nbad\n", "utf-8")
    code, said, _ = called(monkeypatch, capsys, made.path, tmp_path / "texts.txt")
    assert (code, load(made.path).manifest.reference) == (0, None)
    assert "Not written; --write stores it" in said
    code, said, _ = called(monkeypatch, capsys, made.path, tmp_path / "texts.txt", "--write", "--json")
    stored = load(made.path)
    assert (code, stored.digest) == (0, made.digest)
    assert stored.manifest.reference == Reference.model_validate(orjson.loads(said))
    assert stored.manifest.reference == reference(made, examples("good", "good bad", "bad", "bad"))
    monkeypatch.setattr(sys, "argv", ["winnow", "model", "show", str(made.path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "4 texts: pro 50.0%, con 50.0%" in capsys.readouterr().out


def test_the_default_bundle_is_not_written_to(tmp_path, monkeypatch, capsys):
    """It belongs to the installation."""
    (tmp_path / "texts.txt").write_text("good\n", "utf-8")
    before = (DEFAULT_BUNDLE / "bundle.json").read_bytes()
    code, _, said = called(monkeypatch, capsys, "default", tmp_path / "texts.txt", "--write")
    assert (code, (DEFAULT_BUNDLE / "bundle.json").read_bytes()) == (2, before)
    assert "The default bundle belongs to the installation: copy" in said


def ratios(made, **fields) -> dict[str, float]:
    """What a worker with this bundle shows of the reference for `pro`, by upper bound."""
    settings = load_settings(None, [f"model.bundle={made.path}", "serving.enabled=false", "model.lanes=1"])
    worker = Worker(settings, MemorySource(MemoryLog()), MemorySink())
    (family,) = [one for one in worker.registry.collect() if one.name == "winnow_score_reference_ratio"]
    return {sample.labels["le"]: sample.value for sample in family.samples if sample.labels["label"] == "pro"}


def test_a_worker_shows_the_reference_of_its_bundle(bundle):
    """At the buckets of its scores; not at all where the bundle has none, or one of other buckets."""
    made = bundle("single-label")
    assert ratios(made) == {}
    found = reference(made, examples("good", "dull"))
    made = amend(made, {"reference": found.model_dump(mode="json")})
    assert ratios(made) == dict(zip(edges(SCORES), found.scores["pro"], strict=True))
    other = Reference(texts=1, labels={"pro": 1}, scores={"pro": (0.5, 1)}, bounds=(0.25, 0.75))
    assert ratios(amend(made, {"reference": other.model_dump(mode="json")})) == {}
