"""Graphs that others exported are served as they are, or refused with a sentence that names what is in the way."""

import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from tests.unit.model import checkpoints
from worker.errors import BundleError
from worker.model.importing import foreign
from worker.model.session import open_session, run


@pytest.fixture
def model():
    return checkpoints.foreign_graph()


def saved(folder, model, name="model.onnx"):
    return checkpoints.save_graph(folder / name, model)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.onnx"], "model.onnx"),
        (["model.onnx", "model_quantized.onnx"], "model_quantized.onnx"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx"], "onnx/model_quantized.onnx"),
        (["onnx/model.onnx"], "onnx/model.onnx"),
        (["bert_classification_onnx"], "bert_classification_onnx"),
        (["onnx/only.onnx"], "onnx/only.onnx"),
    ],
)
def test_the_quantized_graph_is_taken_first(tmp_path, names, chosen):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"graph")
    assert foreign.find(tmp_path) == tmp_path / chosen
    assert foreign.find(tmp_path, names[0]) == tmp_path / names[0]


def test_several_graphs_or_none(tmp_path):
    assert foreign.find(tmp_path) is None
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"graph")
    with pytest.raises(BundleError, match=r"several graphs \(a\.onnx, b\.onnx\): say which one with --onnx-file"):
        foreign.find(tmp_path)
    with pytest.raises(BundleError, match=r"c\.onnx is missing: give --onnx-file"):
        foreign.find(tmp_path, "c.onnx")


@pytest.mark.parametrize("integer", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("token_types", [True, False])
def test_exported_graphs_are_accepted(tmp_path, integer, token_types):
    graph = foreign.read(saved(tmp_path, checkpoints.foreign_graph(integer=integer, token_types=token_types)), tmp_path)
    assert graph.kind == "sequence"
    assert run(open_session(graph.model), [[2, 5, 3], [2, 3]]).shape == (2, 3)


def test_graph_over_tokens_is_one(tmp_path):
    graph = foreign.read(saved(tmp_path, checkpoints.foreign_graph(checkpoints.TOKEN_CONFIG)), tmp_path)
    assert graph.kind == "token"


def test_outputs_beside_the_logits_are_left_out(tmp_path, model):
    hidden = helper.make_tensor_value_info("layer.0.input", TensorProto.FLOAT, ["s", "b", 32])
    model.graph.output.insert(0, hidden)
    graph = foreign.read(saved(tmp_path, model), tmp_path)
    assert [value.name for value in graph.proto.graph.output] == ["logits"]


def test_external_data_is_taken_in(tmp_path, model):
    exact = open_session(model.SerializeToString())
    convert_model_to_external_data(model, location="weights.data", size_threshold=16)
    graph = foreign.read(saved(tmp_path, model, "onnx/model.onnx"), tmp_path)
    assert b"weights.data" not in graph.model
    rows = [[2, 5, 6, 3]]
    assert (run(open_session(graph.model), rows) == run(exact, rows)).all()


@pytest.mark.parametrize("location", ["../weights.data", "/etc/hostname", "onnx/../../weights.data", "link.data"])
def test_external_data_outside_of_the_folder_is_not_read(tmp_path, model, location):
    outside, inside = tmp_path / "weights.data", tmp_path / "model"
    outside.write_bytes(bytes(1_000_000))
    inside.mkdir()
    (inside / "link.data").symlink_to(outside)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (inside / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"in '.*', outside of the folder: that is not read"):
        foreign.read(inside / "model.onnx", inside)


def test_links_into_the_hubs_cache_are_followed(tmp_path, model):
    convert_model_to_external_data(model, location="model.onnx_data", size_threshold=16)
    path = saved(tmp_path / "snapshots" / "abc", model)
    (tmp_path / "blobs").mkdir()
    data = path.parent / "model.onnx_data"
    data.rename(tmp_path / "blobs" / "123")
    data.symlink_to("../../blobs/123")
    assert foreign.read(path, path.parent).kind == "sequence"


@pytest.mark.parametrize(("key", "value"), [("length", str(10**15)), ("length", "-1"), ("offset", "-4")])
def test_external_data_that_asks_for_more_than_there_is(tmp_path, model, key, value):
    """Found out from the size of the file, before anything is read."""
    convert_model_to_external_data(model, location="weights.data", size_threshold=16)
    path = saved(tmp_path, model)
    proto = onnx.load(path, load_external_data=False)
    tensor = next(each for each in proto.graph.initializer if each.external_data)
    kept = {entry.key: entry.value for entry in tensor.external_data} | {key: value}
    del tensor.external_data[:]
    for name, said in kept.items():
        tensor.external_data.add(key=name, value=said)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BundleError, match=r"weights\.data is shorter than model\.onnx says"):
        foreign.read(path, path.parent)


def test_external_data_that_is_missing_or_short(tmp_path, model):
    convert_model_to_external_data(model, location="weights.data", size_threshold=16)
    path = saved(tmp_path, model)
    data = tmp_path / "weights.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"weights\.data is shorter than model\.onnx says"):
        foreign.read(path, tmp_path)
    data.unlink()
    with pytest.raises(BundleError, match=r"weights\.data is missing or damaged"):
        foreign.read(path, tmp_path)


def test_custom_operators_are_named(tmp_path, model):
    model.graph.node[3].domain = "my.ops"
    model.graph.node[3].op_type = "Surprise"
    with pytest.raises(BundleError, match=r"needs the operator 'Surprise' of the domain 'my\.ops'.*not loaded"):
        foreign.read(saved(tmp_path, model), tmp_path)


def test_custom_operators_inside_of_branches_are_found(tmp_path, model):
    inner = helper.make_graph([helper.make_node("Hidden", [], ["x"], domain="evil")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))
    with pytest.raises(BundleError, match="'Hidden' of the domain 'evil'"):
        foreign.read(saved(tmp_path, model), tmp_path)


def test_functions_of_the_model_itself_are_no_custom_operators(tmp_path, model):
    function = helper.make_function(
        "local", "Same", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Same", ["before"], ["logits"], domain="local"))
    graph = foreign.read(saved(tmp_path, model), tmp_path)
    assert run(open_session(graph.model), [[2, 3]]).shape == (1, 3)


def _input(model, index, kind=TensorProto.INT64, shape=("b", "s"), name=None):
    value = model.graph.input[index]
    value.CopyFrom(helper.make_tensor_value_info(name or value.name, kind, shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: _input(m, 0, shape=(1, 128)),
            r"'input_ids' in a fixed shape \(1, 128\): export it with dynamic axes",
        ),
        (lambda m: _input(m, 1, shape=("b", 128)), r"'attention_mask' in a fixed shape \(b, 128\)"),
        (lambda m: _input(m, 0, kind=TensorProto.FLOAT), "'input_ids' in a type other than int32 and int64"),
        (lambda m: _input(m, 1, name="mask"), r"no input 'attention_mask' \(it has input_ids, mask, token_type_ids\)"),
        (lambda m: _input(m, 2, name="position_ids"), "the input 'position_ids', which the worker does not know"),
        (lambda m: _rename_outputs(m), "no output 'logits' among a, b"),
        (lambda m: _output(m, ["b", 2, 3, 4]), r"shape \(b, 2, 3, 4\), neither float logits"),
    ],
)
def test_graphs_that_cannot_be_served_are_refused_by_name(tmp_path, model, change, message):
    change(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=message):
        foreign.read(path, tmp_path)


def _rename_outputs(model):
    del model.graph.output[:]
    for name in ("a", "b"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]))


def _output(model, shape):
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x00" * 50])
def test_what_is_no_graph_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is no ONNX graph"):
        foreign.load(tmp_path / "model.onnx", tmp_path)


def test_looking_does_not_change_the_file(tmp_path, model):
    path = saved(tmp_path, model)
    before = path.read_bytes()
    foreign.read(path, tmp_path)
    assert path.read_bytes() == before
    assert onnx.load(path) == model
