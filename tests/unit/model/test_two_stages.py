"""A bundle with early exit holds two graphs in place of one, and is checked like any other."""

import hashlib

import numpy as np
import orjson
import pytest
from onnx import helper

from worker.errors import BundleError
from worker.model import bundle
from worker.model.manifest import EarlyExit, Probe, Quantization

CONFIG = {"id2label": {"1": "spam", "0": "ham"}}
EXIT = EarlyExit(layer=2, layers=6, temperature=1.2, threshold=0.9, agreement=0.999, left=0.8, texts=500)
FIELDS = {
    "name": "tiny",
    "licence": "Apache-2.0",
    "task": "single-label",
    "activation": "softmax",
    "max_length": 64,
    "early_exit": EXIT,
    "quantization": Quantization(weights="float32", activations="float32", embeddings="float32"),
    "probes": [Probe(text="hello", logits=(1.0, -1.0), early_logits=(0.5, -0.5))],
    "probe_tolerance": 0.01,
}
OTHERS = {"tokenizer.json": b"{}", "config.json": orjson.dumps(CONFIG)}
FILES = {"early.onnx": b"first layers", "rest.onnx": b"the others", **OTHERS}
WHOLE = {"model.onnx": b"graph", **OTHERS}
ONE_STAGE = FIELDS | {"early_exit": None, "probes": [Probe(text="hello", logits=(1.0, -1.0))]}


@pytest.fixture
def staged(tmp_path):
    return bundle.write(tmp_path / "staged", FILES, FIELDS)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_both_graphs_are_loaded_again(staged):
    again = bundle.load(staged.path)
    assert again.manifest.early_exit == EXIT
    assert again.early_path.read_bytes() == b"first layers"
    assert again.rest_path.read_bytes() == b"the others"
    assert again.graph_paths == (again.early_path, again.rest_path)
    assert again.graph_bytes == len(b"first layers" + b"the others")


@pytest.mark.parametrize("name", ["early.onnx", "rest.onnx"])
def test_each_graph_is_covered_by_a_digest(staged, name):
    (staged.path / name).write_bytes(b"other")
    with pytest.raises(BundleError, match=f"{name} does not match its digest in bundle.json"):
        bundle.load(staged.path)
    (staged.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        bundle.load(staged.path)


def test_a_graph_of_the_other_kind_of_bundle_is_refused(staged, tmp_path):
    (staged.path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(BundleError, match=r"model\.onnx does not belong to the bundle: remove it"):
        bundle.load(staged.path)
    whole = bundle.write(tmp_path / "whole", WHOLE, ONE_STAGE)
    (whole.path / "rest.onnx").write_bytes(b"rest")
    with pytest.raises(BundleError, match=r"rest\.onnx does not belong to the bundle: remove it"):
        bundle.load(whole.path)


def test_files_must_be_those_that_the_manifest_calls_for(tmp_path):
    with pytest.raises(BundleError, match=r"A bundle needs early\.onnx: give its content"):
        bundle.write(tmp_path / "b", WHOLE, FIELDS)
    with pytest.raises(BundleError, match=r"A bundle needs model\.onnx: give its content"):
        bundle.write(tmp_path / "b", FILES, ONE_STAGE)


def test_a_bundle_of_one_kind_is_replaced_by_one_of_the_other(staged):
    """And nothing of the first remains."""
    assert bundle.replace(staged.path, WHOLE, ONE_STAGE).manifest.early_exit is None
    assert names(staged.path) == {*WHOLE, "bundle.json"}
    assert bundle.replace(staged.path, FILES, FIELDS) == staged
    assert names(staged.path) == {*FILES, "bundle.json"}


def changed(staged, **change):
    path = staged.path / "bundle.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change))
    return staged.path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"task": "multi-label", "activation": "sigmoid"},
            "early_exit for multi-label with sigmoid: only single-label",
        ),
        ({"task": "token"}, "early_exit for token with softmax: only single-label"),
        ({"early_exit": EXIT.model_dump() | {"layer": 6}}, "early_exit after layer 6 of 6, where nothing is left"),
        ({"early_exit": EXIT.model_dump() | {"threshold": 1.5}}, "early_exit.threshold: Input should be less than"),
        ({"early_exit": EXIT.model_dump() | {"temperature": 0}}, "early_exit.temperature: Input should be greater"),
        ({"early_exit": EXIT.model_dump() | {"thresholds": {"spam": -1}}}, "early_exit.thresholds.spam: Input should"),
        (
            {"early_exit": EXIT.model_dump() | {"thresholds": {"eggs": 0.9}}},
            "names 'eggs' in early_exit.thresholds, which config",
        ),
        ({"early_exit": EXIT.model_dump() | {"surprise": 1}}, "early_exit.surprise: Extra inputs are not permitted"),
        ({"early_exit": None}, "must give the digests of model.onnx, tokenizer.json, config.json"),
        ({"probes": [{"text": "a", "logits": [1.0, 2.0]}]}, "a probe with 0 logits of an early head"),
    ],
)
def test_an_early_exit_that_cannot_be_used_is_refused_by_field(staged, change, message):
    with pytest.raises(BundleError, match=message):
        bundle.load(changed(staged, **change))


def test_probes_of_a_bundle_in_one_piece_have_no_early_logits(tmp_path):
    with pytest.raises(BundleError, match="a probe with 2 logits of an early head, which does not fit"):
        bundle.write(tmp_path / "b", WHOLE, ONE_STAGE | {"probes": FIELDS["probes"]})


def test_the_digest_covers_when_a_text_leaves_and_no_figure(staged):
    """What was measured of an exit decides nothing."""

    def digest(**change):
        exit_ = EXIT.model_copy(update=change)
        return bundle.digest_of(staged.manifest.model_copy(update={"early_exit": exit_}))

    assert digest(agreement=0.5, left=0.1, texts=7) == staged.sha256
    others = [digest(threshold=0.91), digest(temperature=1.3), digest(layer=3), digest(layers=7)]
    assert len({staged.sha256, *others, digest(thresholds={"spam": 0.91})}) == 6


def test_a_digest_is_what_it_was_before_a_label_could_have_a_threshold_of_its_own(staged):
    deciding = {
        "files": staged.manifest.files,
        "early_exit": {"layer": 2, "layers": 6, "temperature": 1.2, "threshold": 0.9},
        **{name: getattr(staged.manifest, name) for name in ("format", "task", "activation", "temperature")},
        **{name: getattr(staged.manifest, name) for name in ("thresholds", "max_length", "pad_id")},
    }
    assert staged.sha256 == hashlib.sha256(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()


def test_every_label_has_a_threshold_to_leave_with():
    assert EXIT.least(("ham", "spam")) == [0.9, 0.9]
    assert EXIT.model_copy(update={"thresholds": {"spam": 0.95}}).least(("ham", "spam")) == [0.9, 0.95]


def test_amending_keeps_both_graphs(staged):
    amended = bundle.amend(staged, {"thresholds": {"spam": 0.8}})
    assert amended.manifest.early_exit == EXIT
    assert names(amended.path) == {*FILES, "bundle.json"}


def logits_of(texts):
    return np.array([[1.0, -1.0] for _ in texts])


def early_logits_of(texts):
    return np.array([[0.5, -0.5] for _ in texts])


def test_probes_are_of_all_layers_and_of_the_early_head(staged):
    bundle.check_probes(staged, logits_of, early_logits_of)
    with pytest.raises(BundleError, match=r"early\.onnx with .*rest\.onnx computes something else.*off by 0\.02"):
        bundle.check_probes(staged, logits_of, lambda texts: early_logits_of(texts) + 0.02)
    with pytest.raises(BundleError, match=r"off by 0\.03"):
        bundle.check_probes(staged, lambda texts: logits_of(texts) + 0.03, early_logits_of)


def test_a_graph_that_finds_its_scales_at_run_time_depends_on_the_batch(tmp_path, staged):
    """Such scores are not to be kept: beside other texts they would be others."""
    dynamic = {"model.onnx": onnx_of("DynamicQuantizeLinear"), **{n: c for n, c in WHOLE.items() if n != "model.onnx"}}
    assert bundle.write(tmp_path / "dynamic", dynamic, ONE_STAGE).depends_on_the_batch
    fixed = {**dynamic, "model.onnx": onnx_of("QuantizeLinear")}
    assert not bundle.write(tmp_path / "fixed", fixed, ONE_STAGE).depends_on_the_batch
    assert not staged.depends_on_the_batch


def onnx_of(operator: str) -> bytes:
    node = helper.make_node(operator, ["x"], ["y", "scale", "zero"][: 3 if operator.startswith("Dynamic") else 1])
    return helper.make_model(helper.make_graph([node], "graph", [], [])).SerializeToString()
