"""A bundle is refused with one sentence whenever it is not what its manifest says."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.unit.model import networks
from worker.errors import BundleError
from worker.model import bundle
from worker.model.manifest import Probe, Quantization
from worker.model.spam.making import DEFAULT

CONFIG = {"id2label": {"1": "spam", "0": "ham"}}
FIELDS = {
    "name": "tiny",
    "licence": "Apache-2.0",
    "task": "single-label",
    "activation": "softmax",
    "thresholds": {"spam": 0.7},
    "max_length": 64,
    "quantization": Quantization(weights="float32", activations="float32", embeddings="float32"),
    "probes": [Probe(text="hello", logits=(1.0, -1.0)), Probe(text="win", logits=(-2.0, 2.0))],
    "probe_tolerance": 0.01,
}
FILES = {"model.onnx": b"graph", "tokenizer.json": b"{}", "config.json": orjson.dumps(CONFIG)}


@pytest.fixture
def tiny(tmp_path):
    return bundle.write(tmp_path / "tiny", FILES, FIELDS)


def logits_of(texts):
    return np.array([{"hello": [1.0, -1.0], "win": [-2.0, 2.0]}[text] for text in texts], np.float32)


def test_what_was_written_is_loaded_again(tiny):
    again = bundle.load(tiny.path)
    assert again == tiny
    assert again.labels == ("ham", "spam")
    assert again.tokenizer_json == "{}"
    assert again.model_path.read_bytes() == b"graph"
    assert again.digest == again.sha256[:12]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
def test_changed_file_is_refused(tiny, name):
    (tiny.path / name).write_bytes(FILES[name] + b" ")
    with pytest.raises(BundleError, match=f"{name} does not match its digest in bundle.json.*copy the bundle again"):
        bundle.load(tiny.path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
def test_missing_file_is_refused(tiny, name):
    (tiny.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        bundle.load(tiny.path)


def test_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        bundle.load(tmp_path)
    with pytest.raises(BundleError, match="is not a folder"):
        bundle.load(tmp_path / "nowhere")


def test_file_that_does_not_belong_is_refused(tiny):
    """Weights beside the graph would be read without a digest."""
    (tiny.path / "model.onnx.data").write_bytes(b"weights")
    with pytest.raises(BundleError, match=r"model\.onnx\.data does not belong to the bundle: remove it"):
        bundle.load(tiny.path)


def test_model_card_and_notice_may_lie_beside(tiny):
    for name in ("README.md", "NOTICE", "LICENSE.txt"):
        (tiny.path / name).write_text("words")
    assert bundle.load(tiny.path) == tiny


def test_what_a_killed_writer_left_does_no_harm(tiny):
    (tiny.path / ".winnow-abc").mkdir()
    assert bundle.load(tiny.path) == tiny
    bundle.check_place(tiny.path)


def test_replacing_leaves_nothing_of_another_bundle(tiny):
    """A README, a licence or a notice of the model that was there does not speak for the new one."""
    for name in ("README.md", "NOTICE", "LICENSE.txt"):
        (tiny.path / name).write_text("of another model")
    made = bundle.replace(tiny.path, FILES | {"README.md": b"mine"}, FIELDS | {"name": "other"})
    assert made.manifest.name == "other"
    assert {path.name for path in tiny.path.iterdir()} == {*FILES, "bundle.json", "README.md"}
    assert (tiny.path / "README.md").read_bytes() == b"mine"


def test_a_bundle_that_cannot_be_used_replaces_nothing(tiny):
    (tiny.path / "README.md").write_text("words")
    with pytest.raises(BundleError, match="has no id2label"):
        bundle.replace(tiny.path, FILES | {"config.json": b"{}"}, FIELDS)
    assert bundle.load(tiny.path) == tiny
    assert {path.name for path in tiny.path.iterdir()} == {*FILES, "bundle.json", "README.md"}


def only_within(folder: Path) -> Callable[[Path, Path], None]:
    """`os.replace` as it is where `folder` is a mount of its own."""
    replace = os.replace

    def moved(source: Path, target: Path) -> None:
        if folder not in Path(source).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    return moved


def test_a_bundle_may_be_a_mount_of_its_own(tiny, monkeypatch):
    monkeypatch.setattr(os, "replace", only_within(tiny.path))
    assert bundle.amend(tiny, {"thresholds": {"spam": 0.9}}).manifest.thresholds == {"spam": 0.9}
    assert bundle.replace(tiny.path, FILES, FIELDS) == tiny
    assert {path.name for path in tiny.path.iterdir()} == {*FILES, "bundle.json"}
    assert [path.name for path in tiny.path.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    "change", [lambda tiny: bundle.amend(tiny, {}), lambda tiny: bundle.replace(tiny.path, FILES, FIELDS)]
)
def test_a_folder_that_cannot_be_written_is_told_and_left_alone(tiny, monkeypatch, change):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BundleError, match=r"tiny cannot be written \(No space left on device\): make room"):
        change(tiny)
    assert {path.name for path in tiny.path.iterdir()} == {*FILES, "bundle.json"}
    assert [path.name for path in tiny.path.parent.iterdir()] == ["tiny"]
    assert bundle.load(tiny.path) == tiny


def test_a_label_needs_a_name(tmp_path):
    config = orjson.dumps({"id2label": {"0": "", "1": "spam"}})
    with pytest.raises(BundleError, match=r"config\.json has no name for label 0: name it"):
        bundle.write(tmp_path / "b", FILES | {"config.json": config}, FIELDS)


def test_external_data_is_refused(tmp_path):
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    model = networks.int8_model()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=16)
    path = tmp_path / "external.onnx"
    onnx.save_model(model, str(path))
    with pytest.raises(BundleError, match="keeps weights in another file: save it as one file"):
        bundle.write(tmp_path / "b", FILES | {"model.onnx": path.read_bytes()}, FIELDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format: Input should be 1"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"temperature": 0}, "temperature: Input should be greater than 0"),
        ({"thresholds": {"spam": 1.5}}, "thresholds.spam: Input should be less than or equal to 1"),
        ({"thresholds": {"eggs": 0.5}}, "names 'eggs' in thresholds, which config.json does not name"),
        ({"probes": []}, "probes: "),
        ({"probes": [{"text": "a", "logits": [1.0]}]}, "a probe with 1 logits for 2 labels"),
        ({"reference": {"texts": 0, "labels": {}, "scores": {}}}, "reference.texts: Input should be greater than 0"),
        ({"reference": {"texts": 1, "labels": {"eggs": 1}, "scores": {}}}, "does not name its label 'eggs'"),
        ({"reference": {"texts": 1, "labels": {}, "scores": {"ham": [1]}}}, "'ham' needs one share for each of 8"),
        (
            {
                "reference": {
                    "texts": 1,
                    "labels": {},
                    "scores": {
                        "ham": [0.5, 0.4],
                    },
                    "bounds": [0.1, 0.2],
                }
            },
            "none below",
        ),
        ({"reference": {"texts": 1, "labels": {}, "scores": {}, "bounds": [0.5, 0.5]}}, "its bounds do not ascend"),
        ({"files": {}}, "must give the digests of model.onnx, tokenizer.json, config.json"),
    ],
)
def test_manifest_that_cannot_be_used_is_refused_by_field(tiny, change, message):
    path = tiny.path / "bundle.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change))
    with pytest.raises(BundleError, match=message):
        bundle.load(tiny.path)


def test_broken_manifest_is_refused(tiny):
    (tiny.path / "bundle.json").write_bytes(b"{")
    with pytest.raises(BundleError, match=r"bundle\.json cannot be used: the document"):
        bundle.load(tiny.path)


@pytest.mark.parametrize("config", [b"{}", b"[]", b'{"id2label": {"1": "a"}}', b'{"id2label": {"x": "a"}}'])
def test_labels_must_be_numbered_from_zero(tmp_path, config):
    with pytest.raises(BundleError, match=r"config\.json has no id2label that numbers the labels from 0 without gaps"):
        bundle.write(tmp_path / "b", FILES | {"config.json": config}, FIELDS | {"thresholds": {}})


def test_bundle_needs_all_its_files(tmp_path):
    with pytest.raises(BundleError, match=r"needs tokenizer\.json"):
        bundle.write(tmp_path, {name: FILES[name] for name in ("model.onnx", "config.json")}, FIELDS)


def test_digest_covers_what_decides_a_result_and_nothing_else(tmp_path):
    """The same files with another threshold give other results; other probes or figures do not."""

    def digest(**change):
        return bundle.write(tmp_path / "b", FILES | change.pop("files", {}), FIELDS | change).sha256

    original = digest()
    assert digest(probes=FIELDS["probes"][:1], probe_tolerance=0.5, licence="MIT") == original
    assert digest(thresholds={"spam": 0.8}) != original
    assert digest(temperature=1.1) != original
    assert digest(files={"model.onnx": b"other"}) != original


def test_probes_that_agree_pass(tiny):
    bundle.check_probes(tiny, logits_of)
    bundle.check_probes(tiny, lambda texts: logits_of(texts) + 0.009)


@pytest.mark.parametrize("off", [0.02, float("nan"), float("inf")])
def test_probe_that_is_off_is_refused(tiny, off, monkeypatch):
    monkeypatch.setattr(bundle, "_cpu_flags", lambda: frozenset({"avx2", "avx512_vnni"}))
    with pytest.raises(BundleError, match=r"a probe's logit is off by .* use the onnxruntime version"):
        bundle.check_probes(tiny, lambda texts: logits_of(texts) + off)


def test_probe_that_is_off_without_vnni_names_the_instruction_set(tiny, monkeypatch):
    monkeypatch.setattr(bundle, "_cpu_flags", lambda: frozenset({"sse4_2", "avx2"}))
    with pytest.raises(BundleError, match=r"lacks the instruction set VNNI \(avx512_vnni or avx_vnni\)"):
        bundle.check_probes(tiny, lambda texts: logits_of(texts) + 1)


def test_logits_of_another_shape_are_refused(tiny):
    with pytest.raises(BundleError, match="logits of shape"):
        bundle.check_probes(tiny, lambda texts: np.zeros((len(texts), 3)))


def test_default_bundle_is_whole_small_and_documented():
    found = bundle.load(DEFAULT)
    assert found.labels == ("ham", "spam")
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) < 30e6
    assert {"README.md", "NOTICE"} <= {path.name for path in DEFAULT.iterdir()}
    assert "CC-BY-4.0" in {source.licence for source in found.manifest.data}


def test_default_bundle_keeps_its_quality():
    """What its own manifest says of its held-out texts; `worker.model.spam.__main__` measured it."""
    by_channel = {e.channel: e for e in bundle.load(DEFAULT).manifest.evaluation}
    for channel, bar in (("sms", 0.95), ("comments", 0.95), ("mails", 0.97)):
        found = by_channel[channel]
        assert found.quantized.f1["spam"] >= bar, channel
        assert abs(found.quantized.f1["spam"] - found.fp32.f1["spam"]) <= 0.005, channel
        assert found.quantized.calibration_error <= 0.03, channel
        assert found.early_exit is not None, channel
        assert abs(found.early_exit.figures.f1["spam"] - found.quantized.f1["spam"]) <= 0.002, channel
        assert found.early_exit.figures.f1["spam"] >= bar, channel
        assert found.early_exit.figures.calibration_error <= 0.03, channel
        assert found.early_exit.same_label >= 0.998, channel


def test_reading_a_bundle_needs_neither_onnx_nor_torch():
    """What `winnow run` imports stays small."""
    script = "import sys, worker.model.bundle; print(sorted({'onnx', 'torch', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
