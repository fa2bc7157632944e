"""A bundle in two stages from a message to its result: the same in any company, at the layer where it was clear."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from tests.kit import item
from tests.unit import toys
from worker.app import Worker
from worker.audit.again import Again
from worker.audit.answers import result_digest
from worker.classifier import EarlyExitClassifier
from worker.commands import classify as command
from worker.config import load
from worker.errors import BundleError
from worker.forms import Forms
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.model import bundle as bundles
from worker.model.data import Example
from worker.model.evaluation.serving import ServedBundle, Serving
from worker.offline import Offline
from worker.opening import open_model
from worker.pipeline.infer import StagedModel
from worker.pipeline.interpret import softmax
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Request, Result, Unsure
from worker.sections import ModelSettings

if TYPE_CHECKING:
    from worker.model.bundle import Bundle
    from worker.pipeline.messages import Outgoing
    from worker.pipeline.tokenization import TextTokenizer

P0 = ("messages", 0)
THRESHOLD = 0.9
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "result.schema.json").read_text("utf-8"))


def texts(count: int = 200, longest: int = 36) -> list[str]:
    chance = random.Random(3)
    return [" ".join(chance.choices(toys.WORDS, k=chance.randrange(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return toys.write_staged(tmp_path_factory.mktemp("bundles") / "staged", THRESHOLD)


@pytest.fixture(scope="module")
def stages(staged: Bundle) -> StagedModel:
    return StagedModel(str(staged.early_path), str(staged.rest_path), 0)


def settings_for(bundle: Bundle, *assignments: str):
    return load(None, [f"model.bundle={bundle.path}", "model.lanes=2", "serving.enabled=false", *assignments])


def said(bundle: Bundle, asked: list[str], *assignments: str) -> list[Classification]:
    settings = settings_for(bundle, *assignments)
    offline = Offline(open_model(settings.model, settings.entities, settings.decision), settings.batching)
    try:
        outcomes = list(offline([Request(str(i), text, False) for i, text in enumerate(asked)]))
    finally:
        offline.close()
    assert all(isinstance(outcome, Result) for outcome in outcomes)
    return [outcome.classification for outcome in outcomes if isinstance(outcome, Result)]


def worked(bundle: Bundle, asked: list[str], *assignments: str) -> tuple[Worker, MemoryLog, list[Outgoing]]:
    log, sink = MemoryLog(), MemorySink()
    for text in asked:
        log.append(*P0, json.dumps({"text": text}).encode())
    source = MemorySource(log)
    worker = Worker(settings_for(bundle, "kafka.commit_interval_ms=1", *assignments), source, sink)
    source.assign(P0)
    worker.run(lambda: log.committed.get(P0) == len(asked))
    return worker, log, sink.sent


@cache
def _tokenizer(folder: Path) -> TextTokenizer:
    return open_model(ModelSettings(bundle=str(folder))).tokenizer


def ids_of(bundle: Bundle, asked: list[str]) -> list[list[int]]:
    return [one.ids for one in _tokenizer(bundle.path)(asked)]


@given(data=st.data())
def test_going_on_from_states_is_the_whole_network(staged: Bundle, stages: StagedModel, data: st.DataObject):
    """Whoever was beside a text in the first stage, and whoever is in the second: bit for bit what it gives alone."""
    rows = data.draw(st.lists(st.sampled_from(ids_of(staged, texts(40))), min_size=1, max_size=8))
    _, hidden = stages.early(rows)
    states = [hidden[number, : len(row)] for number, row in enumerate(rows)]
    order = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, len(rows)))]
    together = stages.rest([states[number] for number in order])
    assert together.tolist() == [stages([rows[number]])[0].tolist() for number in order]


def test_a_text_leaves_where_the_early_head_is_sure(staged: Bundle, stages: StagedModel):
    """From the threshold on it has the early head's answer, and else that of all layers, bit for bit."""
    asked = texts()
    rows = ids_of(staged, asked)
    early = np.stack([softmax(stages.early([row])[0], 0.2)[0] for row in rows])
    full = np.stack([softmax(stages([row]), 0.2)[0] for row in rows])
    found = said(staged, asked)
    left = early.max(axis=1) >= THRESHOLD
    assert 20 < left.sum() < len(asked) - 20
    assert [one.layer for one in found] == np.where(left, toys.LAYER, toys.LAYERS).tolist()
    expected = np.where(left[:, None], early, full).round(6)
    assert [list(one.scores.values()) for one in found] == expected.tolist()


def test_each_label_may_leave_from_a_threshold_of_its_own(tmp_path: Path):
    bundle = toys.write_staged(tmp_path / "staged", THRESHOLD)
    early_exit = bundle.manifest.early_exit
    assert early_exit is not None
    last = bundle.labels[-1]
    least = {last: 0.6}
    other = bundles.amend(bundle, {"early_exit": early_exit.model_copy(update={"thresholds": least}).model_dump()})
    asked = texts()
    stages = StagedModel(str(other.early_path), str(other.rest_path), 0)
    early = np.stack([softmax(stages.early([row])[0], 0.2)[0] for row in ids_of(other, asked)])
    mine = early.argmax(axis=1) == len(bundle.labels) - 1
    left = early.max(axis=1) >= np.where(mine, 0.6, THRESHOLD)
    assert (left & mine & (early.max(axis=1) < THRESHOLD)).any()
    assert (~left & ~mine & (early.max(axis=1) >= 0.6)).any()
    assert [one.layer for one in said(other, asked)] == np.where(left, toys.LAYER, toys.LAYERS).tolist()


@pytest.mark.parametrize(
    "assignments",
    [
        ["batching.max_messages=1"],
        ["batching.max_messages=3", "model.lanes=1"],
        ["batching.max_messages=1000", "batching.max_tokens=60000", "model.lanes=3"],
    ],
)
def test_the_company_changes_no_bit(staged: Bundle, assignments: list[str]):
    """Alone, among a few or among all: the same label, scores and layer for each text, to the last bit."""
    asked = texts()
    assert said(staged, asked, *assignments) == said(staged, asked)
    assert said(staged, asked[::-1], *assignments)[::-1] == said(staged, asked)


def test_results_are_the_same_bytes_in_any_batch(staged: Bundle):
    """Through the worker as it is composed: batches, lanes and the memory of repeats leave no trace in a result."""
    asked = [*texts(150), *texts(150)[::2]]
    worker, _, sent = worked(staged, asked)
    _, _, alone = worked(staged, asked, "batching.max_messages=1", "model.lanes=1", "cache.max_bytes=0")
    assert sent == alone
    for one in sent:
        Draft202012Validator(SCHEMA).validate(json.loads(one.value or b""))
    layers = [json.loads(one.value or b"")["layer"] for one in sent]
    for layer in (toys.LAYER, toys.LAYERS):
        counted = worker.registry.get_sample_value("winnow_exits_total", {"layer": str(layer)})
        assert counted == layers.count(layer) > 0
    assert worker.registry.get_sample_value("winnow_stage_seconds_count", {"stage": "infer_rest"})


def test_all_layers_by_setting(staged: Bundle, stages: StagedModel):
    """Without the early exit every text has the answer of all layers, and no result speaks of layers."""
    asked = texts(50)
    scores = np.stack([softmax(stages([row]), 0.2)[0] for row in ids_of(staged, asked)]).round(6)
    assert [list(one.scores.values()) for one in said(staged, asked, "model.early_exit=off")] == scores.tolist()
    worker, _, sent = worked(staged, asked, "model.early_exit=off")
    assert not [one for one in sent if b'"layer"' in (one.value or b"")]
    assert worker.registry.get_sample_value("winnow_exits_total", {"layer": "1"}) is None


def test_an_audit_finds_what_the_worker_wrote(staged: Bundle):
    """Classified again, offline and in other batches, each message gives the result that stands on the topic."""
    worker, log, sent = worked(staged, texts(60))
    again = Again(worker._settings, Forms(worker._settings), 1_000_000)
    today = [answer.digest for _, answer in again(log.records[P0])]
    again.close()
    assert today == [result_digest(one.topic, one.key, one.value or b"") for one in sent]


def test_long_texts_in_windows_go_through_all_layers(staged: Bundle):
    """The scores that are combined are those of all layers; short texts beside them leave early all the same."""
    asked = [*texts(20, 150), *texts(20)]
    windows = "model.long_texts=windows"
    both, full = (said(staged, asked, windows, f"model.early_exit={how}") for how in ("auto", "off"))
    short = said(staged, asked)
    pairs = list(zip(both, full, short, [len(ids) for ids in whole_ids(staged, asked)], strict=True))
    assert [one for one, _, _, tokens in pairs if tokens > toys.LONGEST] == [
        one._replace(layer=toys.LAYERS) for _, one, _, tokens in pairs if tokens > toys.LONGEST
    ]
    assert [one for one, _, _, tokens in pairs if tokens <= toys.LONGEST] == [
        one for _, _, one, tokens in pairs if tokens <= toys.LONGEST
    ]


def whole_ids(bundle: Bundle, asked: list[str]) -> list[list[int]]:
    settings = settings_for(bundle, "model.long_texts=windows")
    return [one.ids for one in open_model(settings.model).tokenizer(asked)]


def test_a_lane_hands_back_states_that_share_nothing(staged: Bundle):
    """What waits for the second stage is its own states, not a view that keeps those of the whole batch."""
    model = open_model(settings_for(staged).model)
    lane, ledger = model.classifier.lane(), Ledger()
    rows = ids_of(staged, texts(30))
    items = [item(ledger, i, len(ids), 0.0)._replace(ids=ids) for i, ids in enumerate(rows)]
    lane.terminate()
    first = lane(items)
    unsure = [(one, answer.hidden) for one, answer in zip(items, first, strict=True) if isinstance(answer, Unsure)]
    assert unsure
    for one, hidden in unsure:
        assert hidden.base is None
        assert hidden.shape == (len(one.ids), 32)
    rest = lane([one._replace(hidden=hidden) for one, hidden in unsure])
    assert [answer.layer for answer in rest if isinstance(answer, Classification)] == [toys.LAYERS] * len(unsure)
    lane.terminate()
    lane.check()


def test_a_check_runs_both_stages(staged: Bundle, monkeypatch: pytest.MonkeyPatch):
    """A text that is known to work proves nothing while half of the model is not asked."""
    classifier = open_model(settings_for(staged).model).classifier
    assert isinstance(classifier, EarlyExitClassifier)

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(classifier.stages, "_going_on", broken)
    with pytest.raises(MemoryError):
        classifier.lane().check()


def test_the_early_head_is_probed_at_start(tmp_path: Path):
    """An early head that computes something else on this machine is found before the first message."""
    made = toys.write_staged(tmp_path / "staged", THRESHOLD)
    probes = [one.model_dump() for one in made.manifest.probes]
    probes[0]["early_logits"] = [logit + 1 for logit in probes[0]["early_logits"]]
    bundles.amend(made, {"probes": probes})
    with pytest.raises(BundleError, match="a probe's logit is off by 1"):
        open_model(settings_for(made).model)


def test_graphs_in_the_wrong_places_are_refused(staged: Bundle):
    """A first stage that asks for states is none."""
    with pytest.raises(ValueError, match="an input hidden of type"):
        StagedModel(str(staged.rest_path), str(staged.early_path), 0)


def test_states_by_tokens_first_are_refused(tmp_path: Path):
    """Read the other way round they would be of the wrong texts, without a word where both numbers are the same."""
    made = toys.write_staged(tmp_path / "staged", THRESHOLD)
    rest = onnx.load(str(made.rest_path))
    tokens, rows = (rest.graph.input[0].type.tensor_type.shape.dim[axis] for axis in (1, 0))
    tokens.dim_param, rows.dim_param = rows.dim_param, tokens.dim_param
    onnx.save(rest, str(tmp_path / "rest.onnx"))
    with pytest.raises(ValueError, match="by tokens first, and not by texts: make the bundle again"):
        StagedModel(str(made.early_path), str(tmp_path / "rest.onnx"), 0)


def test_an_evaluation_is_of_what_is_served(staged: Bundle):
    """With exact scores, and the early head's where a text leaves."""
    asked = texts(40)
    told = ServedBundle(staged, Serving())([Example(str(i), text, ("pro",)) for i, text in enumerate(asked)])
    assert [Classification(*one.said) for one in told] == said(staged, asked)
    assert [one.scores.round(6).tolist() for one in told] == [list(one.said.scores.values()) for one in told]


def test_classify_says_the_layer(staged: Bundle, capsys: pytest.CaptureFixture[str]):
    """As a result on the topic does."""
    command.classify(texts(5), [], command.settings_for(str(staged.path), None, None, []), True)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["layer"] for one in shown] == [one.layer for one in said(staged, texts(5))]
