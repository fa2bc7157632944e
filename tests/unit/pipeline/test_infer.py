"""Token ids to logits, through a graph of four nodes: the sum of the ids that are no padding, and how many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, get_args

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.kit import item
from worker.classifier import OnnxClassifier
from worker.opening import open_model
from worker.pipeline.infer import Allocation, OnnxModel, session_options
from worker.pipeline.interpret import SingleLabel
from worker.pipeline.ledger import Ledger
from worker.sections import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path

onnx = pytest.importorskip("onnx", reason="building a graph needs the extra [import]")
PAD = 99


def graph(path: Path, kind: int = onnx.TensorProto.INT64, token_types: bool = False) -> str:
    from onnx import TensorProto, helper

    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    inputs = [helper.make_tensor_value_info(name, kind, ["rows", "length"]) for name in names]
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"]),
        helper.make_node("Add", ["masked", names[-1]] if token_types else ["masked", "zero"], ["typed"]),
        helper.make_node("ReduceSum", ["typed", "axis"], ["sum"]),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["count"]),
        helper.make_node("Concat", ["sum", "count"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["logits"], to=TensorProto.FLOAT),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", kind, [1], [0]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])
    made = helper.make_model(
        helper.make_graph(nodes, "sums", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(made, path)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return OnnxModel(graph(tmp_path_factory.mktemp("graph") / "model.onnx"), PAD)


@given(rows=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=9), min_size=1, max_size=6))
def test_padding_is_masked(model: OnnxModel, rows: list[list[int]]):
    """Rows of different lengths give what each gives alone: padding counts for nothing."""
    assert model(rows).tolist() == [[float(sum(row)), float(len(row))] for row in rows]
    assert model(rows).dtype == np.float32


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT32, onnx.TensorProto.INT64])
@pytest.mark.parametrize("token_types", [False, True])
def test_graphs_of_other_inputs_are_fed_what_they_ask_for(tmp_path: Path, kind: int, token_types: bool):
    """Ids as int32 or int64, and token types (all zero) where the graph has that input."""
    made = OnnxModel(graph(tmp_path / "model.onnx", kind, token_types), PAD)
    assert made([[1, 2], [3]]).tolist() == [[3.0, 2.0], [3.0, 1.0]]


def test_a_session_takes_one_thread():
    """Lanes bring the parallelism: a run takes one thread."""
    options = session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


@pytest.mark.parametrize(
    ("allocation", "arena", "pattern"), [("patterns", True, True), ("arena", True, False), ("system", False, False)]
)
def test_memory_is_got_as_asked(allocation: Allocation, arena: bool, pattern: bool):
    """From the arena, with or without a plan for each shape, or from the system."""
    model = open_model(ModelSettings(allocation=allocation)).classifier.model
    for session in (model._early, model._rest):
        options = session.get_session_options()
        assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (arena, pattern)


def test_where_memory_comes_from_changes_no_number():
    """The same bits for the same batch."""
    rows = [[101, *range(2000, 2000 + count), 102] for count in (3, 9, 30)]
    said = [open_model(ModelSettings(allocation=each)).classifier.model(rows) for each in get_args(Allocation)]
    for other in said[1:]:
        np.testing.assert_array_equal(other, said[0])


def test_a_file_that_is_no_graph_raises(tmp_path: Path):
    """What cannot be loaded is an error at once, not at the first run."""
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match=r"model\.onnx|[Pp]rotobuf"):
        OnnxModel(str(tmp_path / "model.onnx"), PAD)


def test_threads_share_one_session(model: OnnxModel):
    """Runs at the same time do not disturb each other."""
    said: dict[int, list] = {}

    def run(number: int) -> None:
        said[number] = [model([[number] * length]).tolist() for length in range(1, 30)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for number in range(4):
        assert said[number] == [[[float(number * length), float(length)]] for length in range(1, 30)]


def test_the_classifier_runs_interprets_and_forgets_a_termination(model: OnnxModel):
    """A lane classifies items; a termination that came between two runs does not fail the next one."""
    lane = OnnxClassifier(model, SingleLabel(["sum", "count"], 1.0, {}), [1, 2]).lane()
    ledger = Ledger()
    items = [item(ledger, 0, 3, 0.0), item(ledger, 1, 1, 0.0)]
    before = lane(items)
    assert [said.label for said in before] == ["sum", "sum"]
    lane.terminate()
    assert lane(items) == before
    lane.terminate()
    lane.check()


def test_a_graph_that_asks_for_something_else_is_refused(tmp_path: Path):
    """An input that nobody can give is named when the graph is loaded, not at the first message."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "length"]),
        helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["rows", 2]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])
    made = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["pixel_values"], ["logits"])], "picture", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="an input pixel_values of type tensor"):
        OnnxModel(str(tmp_path / "model.onnx"), PAD)
