"""Graphs that torch itself exports, quantized by ONNX Runtime's own tool: served, and rebuilt."""

import warnings

import numpy as np
import onnx
import orjson
import pytest

from tests.unit.model import checkpoints
from worker.app import open_model
from worker.config import ModelSettings
from worker.model.data import Example
from worker.model.importing.importer import Importer, ImportOptions
from worker.model.session import open_session, run

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

pytestmark = pytest.mark.torch
CALIBRATION = [Example(str(i), text) for i, text in enumerate(checkpoints.texts(60))]
INPUTS = ["input_ids", "attention_mask"]
FAMILIES = {
    "bert": ("BertForSequenceClassification", {}),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "activation": "gelu"},
    ),
    "bert-token": ("BertForTokenClassification", {}),
}


@pytest.fixture(params=list(FAMILIES))
def plain(request, tmp_path):
    """The folder that Optimum would write, still without a graph, and the model in transformers."""
    name, sizes = FAMILIES[request.param]
    config = checkpoints.CONFIG | sizes | {"model_type": request.param.partition("-")[0], "architectures": [name]}
    del config["_name_or_path"]
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**config)).eval()
    with torch.no_grad():
        # Fresh weights are so small that every text gets the same answer, and those of many norms and biases are
        # equal, so that an exporter keeps only one of them.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = checkpoints.write(tmp_path / "exported", config, {})
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_bytes(orjson.dumps(config))
    return folder, model


@pytest.fixture
def exported(plain):
    """By torch's older exporter, the one that traces."""
    folder, model = plain
    example = torch.randint(5, 40, (2, 9))
    tokens = {"logits": {0: "batch", 1: "sequence"}} if "Token" in type(model).__name__ else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks about values that do not change here
        torch.onnx.export(
            model,
            (example, torch.ones_like(example)),
            str(folder / "model.onnx"),
            input_names=INPUTS,
            output_names=["logits"],
            dynamic_axes={each: {0: "batch", 1: "sequence"} for each in INPUTS} | tokens,
            opset_version=17,
            dynamo=False,
        )
    return folder, model


@pytest.fixture
def newly_exported(plain):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    return plain[0], export_newly(*plain)


def export_newly(folder, model):
    """By torch's newer exporter, which transformers 5 uses; its weights lie in a file of their own."""
    example = torch.randint(5, 40, (2, 9))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of what torch is about to drop
        torch.onnx.export(
            model,
            (),
            str(folder / "model.onnx"),
            kwargs={"input_ids": example, "attention_mask": torch.ones_like(example)},
            input_names=INPUTS,
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
            dynamo=True,
        )
    return model


@pytest.mark.parametrize("rebuild", [False, True])
def test_graph_of_the_newer_exporter_is_served_and_rebuilt(newly_exported, tmp_path, rebuild):
    folder, _ = newly_exported
    result = imported(folder, tmp_path / "out", rebuild=rebuild)
    assert open_model(ModelSettings(bundle=str(result.bundle.path)))
    if rebuild:
        assert result.bundle.manifest.quantization.against_fp32.mean_logit_difference < 0.5


def test_equal_tensors_of_the_newer_exporter_are_told_apart_by_their_modules(plain, tmp_path):
    """Of biases that are all zero it keeps one, under one name, and for a product of the head none at all."""
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    folder, model = plain
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
    export_newly(folder, model)
    stored = [tensor.name for tensor in onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer]
    assert sum(name.endswith(".bias") for name in stored) < 5
    agreement = imported(folder, tmp_path / "out", rebuild=True).bundle.manifest.quantization.against_fp32
    assert agreement.mean_logit_difference < 0.5


def imported(folder, out, **options):
    settings = ImportOptions(**{"calibration": CALIBRATION, "min_agreement": 0.0, **options})
    return Importer(folder, settings).run(out)


def test_exported_graph_is_served(exported, tmp_path):
    folder, model = exported
    made = imported(folder, tmp_path / "out").bundle
    assert open_model(ModelSettings(bundle=str(made.path)))
    rows = [[2, 7, 8, 9, 3], [2, 3]]
    found = run(open_session(str(made.model_path)), rows)
    with torch.inference_mode():
        ids = torch.tensor([rows[0], [2, 3, 0, 0, 0]])
        expected = model(ids, attention_mask=(ids != 0).long()).logits.numpy()
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)


def test_dynamically_quantized_graph_is_held_against_the_exact_one(exported, tmp_path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder, _ = exported
    quantize_dynamic(folder / "model.onnx", folder / "model_quantized.onnx", weight_type=QuantType.QInt8)
    result = imported(folder, tmp_path / "out")
    assert result.comparison.agreement.texts == 30
    assert 0 < result.comparison.agreement.mean_logit_difference < 0.5
    assert open_model(ModelSettings(bundle=str(result.bundle.path)))


def test_exported_graph_is_rebuilt(exported, tmp_path):
    """Weights without names find theirs by the biases that are added to their products."""
    folder, _ = exported
    result = imported(folder, tmp_path / "out", rebuild=True)
    quantization = result.bundle.manifest.quantization
    assert quantization.activations == "static uint8"
    assert quantization.against_fp32.mean_logit_difference < 0.5
    assert open_model(ModelSettings(bundle=str(result.bundle.path)))
