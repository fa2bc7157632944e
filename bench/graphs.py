"""The candidates of `bench graph`: one network with random weights as several graphs, and how fast each of them is."""

from __future__ import annotations

import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime
import orjson
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.silu import with_silu
from worker.model.session import open_session, session_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedModel

SIZES = {"small": 384, "base": 768}
HEADS = 12
MODELS = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
TASKS = {"sequence": "AutoModelForSequenceClassification", "token": "AutoModelForTokenClassification"}
LABELS = {"sequence": 2, "token": 9}
FP32, DYNAMIC, FUSED = "exported, FP32", "exported + quantize_dynamic", "optimizer + quantize_dynamic"
OURS = "ours, static INT8"
EXPORTED = "model.onnx"
"""The file of what was exported."""


class Candidates(NamedTuple):
    """Sessions over the same weights, by name, and the serialized graph of `OURS`."""

    sessions: Mapping[str, onnxruntime.InferenceSession]
    ours: bytes


def random_model(kind: str, task: str, size: str, attention: str | None) -> PreTrainedModel:
    """6 layers of 384 or 768 with 12 heads and 30,522 wordpieces, initialized as transformers does it.

    `attention` is the implementation that is exported; `None`: what transformers takes unless it is told.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    labels = {i: f"label {i}" for i in range(LABELS[task])}
    config = transformers.AutoConfig.for_model(kind, vocab_size=30522, id2label=labels)
    config.hidden_size, config.num_hidden_layers, config.num_attention_heads = SIZES[size], 6, HEADS
    setattr(config, "hidden_dim" if kind == "distilbert" else "intermediate_size", 4 * SIZES[size])
    if kind == "electra":
        config.embedding_size = SIZES[size]
    if kind in ("roberta", "xlm-roberta", "mpnet"):
        config.max_position_embeddings = 514
    return getattr(transformers, TASKS[task]).from_config(config, attn_implementation=attention).eval()


def export(model: PreTrainedModel, task: str, path: Path) -> None:
    """What `torch.onnx.export` makes of the model, dynamic in both axes."""
    import torch

    example = torch.randint(1000, 30000, (2, 16))
    axes = {0: "b", 1: "s"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks about values that do not change here
        torch.onnx.export(
            model,
            (example, torch.ones_like(example)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": axes if task == "token" else {0: "b"}},
            opset_version=17,
            dynamo=False,
        )


def candidates(model: PreTrainedModel, task: str, folder: Path) -> Candidates:
    """All of them, their files in `folder`; the exported ones keep the optimizations that sessions have by default."""
    paths = {FP32: folder / EXPORTED, DYNAMIC: folder / "dynamic.onnx", FUSED: folder / "fused-dynamic.onnx"}
    export(model, task, paths[FP32])
    quantize_dynamic(paths[FP32], paths[DYNAMIC], weight_type=QuantType.QInt8)
    _fuse(paths[FP32], model.config.hidden_size, folder / "fused.onnx")
    # Shape inference knows nothing of what the fused operators give.
    known = {"DefaultTensorType": TensorProto.FLOAT}
    quantize_dynamic(folder / "fused.onnx", paths[FUSED], weight_type=QuantType.QInt8, extra_options=known)
    found = {
        name: onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
        for name, path in paths.items()
    }
    ours = _ours(model)
    return Candidates({**found, OURS: open_session(ours)}, ours)


def _fuse(exported: Path, hidden: int, out: Path) -> None:
    """What ONNX Runtime's tool for transformers makes of an exported model."""
    from onnxruntime.transformers.optimizer import optimize_model

    optimize_model(str(exported), "bert", num_heads=HEADS, hidden_size=hidden, opt_level=1).save_model_to_file(str(out))


def _ours(model: PreTrainedModel) -> bytes:
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    network = from_checkpoint(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    rng = np.random.default_rng(0)
    rows = [rng.integers(1000, 30000, n).tolist() for n in (16, 32, 64, 128, 256)]
    network, seen = with_silu(network, observe(network, rows))
    return bytes(build(network, seen.equalized()).SerializeToString())


def feeds(session: onnxruntime.InferenceSession, messages: int, tokens: int) -> dict[str, np.ndarray]:
    """One full batch of random ids, of the types that the session declares."""
    ids = np.random.default_rng(1).integers(1000, 30000, (messages, tokens))
    ids[:, 0], ids[:, -1] = 101, 102
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {i.name: arrays[i.name].astype(i.type[7:-1]) for i in session.get_inputs()}


def profiled(
    model: bytes, feed_of: Callable[[onnxruntime.InferenceSession], dict[str, np.ndarray]], runs: int = 1
) -> list[dict[str, Any]]:
    """The events of ONNX Runtime's profile of some runs over one batch."""
    options = session_options()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(model, options)
        feed = feed_of(session)
        for _ in range(runs):
            session.run(None, feed)
        return list(orjson.loads(Path(session.end_profiling()).read_bytes()))


def rate(session: onnxruntime.InferenceSession, messages: int, tokens: int, lanes: int, seconds: float) -> float:
    """Tokens per second of `lanes` threads that run the batch for `seconds`."""
    feed = feeds(session, messages, tokens)
    session.run(None, feed)
    return messages * tokens * runs_per_second(lambda: session.run(None, feed), lanes, seconds)


def runs_per_second(run: Callable[[], object], lanes: int, seconds: float) -> float:
    """Of all of `lanes` threads that run again and again for `seconds`."""
    spent: list[tuple[int, float]] = []
    barrier = threading.Barrier(lanes)

    def lane() -> None:
        barrier.wait()
        start, runs = time.perf_counter(), 0
        while (now := time.perf_counter()) - start < seconds:
            run()
            runs += 1
        spent.append((runs, now - start))

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(runs / took for runs, took in spent)
