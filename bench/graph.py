"""Tokens per second of one network in three graphs: FP32, exported + `quantize_dynamic`, and ours, static INT8.

    python -m bench.graph --model bert --task token --json graph.json

Needs the extra `train` (torch exports the first two). Weights are random and the same for all; batches are full and
the same for all; one lane is one thread running one session, two lanes are two threads sharing it. Candidates take
turns within every round, so that a disturbance of the machine meets all of them; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import orjson
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench import kit
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.session import open_session, session_options

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES = {"small": 384, "base": 768}
MODELS = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
TASKS = {"sequence": "AutoModelForSequenceClassification", "token": "AutoModelForTokenClassification"}
LABELS = {"sequence": 2, "token": 9}
SHAPES = ((1, 32), (4, 32), (8, 32), (16, 32), (4, 128), (1, 512))
FP32, DYNAMIC, OURS = "exported, FP32", "exported + quantize_dynamic", "ours, static INT8"


@dataclass(frozen=True)
class Cell:
    """Tokens per second of one graph at one shape."""

    graph: str
    messages: int
    tokens: int
    lanes: int
    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def random_model(kind: str, task: str, size: str, attention: str | None) -> PreTrainedModel:
    """6 layers of 384 or 768 with 12 heads and 30,522 wordpieces, initialized as transformers does it.

    `attention` is the implementation that is exported; `None`: what transformers takes unless it is told.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    labels = {i: f"label {i}" for i in range(LABELS[task])}
    config = transformers.AutoConfig.for_model(kind, vocab_size=30522, id2label=labels)
    config.hidden_size, config.num_hidden_layers, config.num_attention_heads = SIZES[size], 6, 12
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


def sessions(kind: str, task: str, size: str, attention: str | None = None) -> dict[str, onnxruntime.InferenceSession]:
    """The three candidates; the exported ones keep the optimizations that sessions have by default."""
    model = random_model(kind, task, size, attention)
    with tempfile.TemporaryDirectory() as folder:
        exported, dynamic = Path(folder) / "model.onnx", Path(folder) / "dynamic.onnx"
        export(model, task, exported)
        quantize_dynamic(exported, dynamic, weight_type=QuantType.QInt8)
        found = {
            name: onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
            for name, path in ((FP32, exported), (DYNAMIC, dynamic))
        }
    return {**found, OURS: open_session(_ours(model))}


def _ours(model: PreTrainedModel) -> bytes:
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    network = from_checkpoint(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    rng = np.random.default_rng(0)
    ranges = observe(network, [rng.integers(1000, 30000, n).tolist() for n in (16, 32, 64, 128, 256)]).equalized()
    return bytes(build(network, ranges).SerializeToString())


def feeds(session: onnxruntime.InferenceSession, messages: int, tokens: int) -> dict[str, np.ndarray]:
    """One full batch of random ids, of the types that the session declares."""
    ids = np.random.default_rng(1).integers(1000, 30000, (messages, tokens))
    ids[:, 0], ids[:, -1] = 101, 102
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {i.name: arrays[i.name].astype(i.type[7:-1]) for i in session.get_inputs()}


def rate(session: onnxruntime.InferenceSession, messages: int, tokens: int, lanes: int, seconds: float) -> float:
    """Tokens per second of `lanes` threads that run the batch for `seconds`."""
    feed = feeds(session, messages, tokens)
    session.run(None, feed)
    spent: list[tuple[int, float]] = []
    barrier = threading.Barrier(lanes)

    def lane() -> None:
        barrier.wait()
        start, runs = time.perf_counter(), 0
        while (now := time.perf_counter()) - start < seconds:
            session.run(None, feed)
            runs += 1
        spent.append((runs, now - start))

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(runs * messages * tokens / took for runs, took in spent)


def measure(found: dict[str, onnxruntime.InferenceSession], rounds: int, seconds: float) -> list[Cell]:
    """Every candidate at every shape with one lane and with two, in turns, `rounds` times."""
    cells = {
        (name, shape, lanes): Cell(name, *shape, lanes, []) for shape in SHAPES for lanes in (1, 2) for name in found
    }
    for _ in range(rounds):
        for (name, (messages, tokens), lanes), cell in cells.items():
            cell.rounds.append(rate(found[name], messages, tokens, lanes, seconds))
    return list(cells.values())


def summary(cells: list[Cell]) -> dict[str, Any]:
    """Medians by cell, our ratios, and the best batch of each graph."""
    by = {(c.graph, c.messages, c.tokens, c.lanes): c for c in cells}
    ratios = [
        {
            "messages": messages,
            "tokens": tokens,
            "lanes": lanes,
            "to_dynamic": _ratio(by[OURS, messages, tokens, lanes], by[DYNAMIC, messages, tokens, lanes]),
            "to_fp32": _ratio(by[OURS, messages, tokens, lanes], by[FP32, messages, tokens, lanes]),
        }
        for messages, tokens in SHAPES
        for lanes in (1, 2)
    ]
    best = {g: max(c.median for c in cells if c.graph == g and c.lanes == 1) for g in (FP32, DYNAMIC, OURS)}
    return {
        "cells": [{**asdict(c), "median": c.median} for c in cells],
        "ratios": ratios,
        "best_one_lane": best,
        "best_to_dynamic": best[OURS] / best[DYNAMIC],
        "best_to_fp32": best[OURS] / best[FP32],
    }


def _ratio(ours: Cell, other: Cell) -> float:
    """The median of the ratios within a round: what disturbed a round disturbed both."""
    return statistics.median(a / b for a, b in zip(ours.rounds, other.rounds, strict=True))


def show(figures: dict[str, Any], rounds: int) -> None:
    """The table, in thousands of tokens per second."""
    medians = {(c["graph"], c["messages"], c["tokens"], c["lanes"]): c["median"] for c in figures["cells"]}
    print(f"thousand tokens per second, median of {rounds} rounds")
    print(f"{'messages × tokens':>18} lanes    FP32  dynamic    ours  to dynamic  to FP32")
    for r in figures["ratios"]:
        at = (r["messages"], r["tokens"], r["lanes"])
        fp32, dynamic, ours = (medians[(graph, *at)] / 1e3 for graph in (FP32, DYNAMIC, OURS))
        speeds = f"{fp32:7.1f} {dynamic:8.1f} {ours:7.1f} {r['to_dynamic']:11.2f} {r['to_fp32']:8.2f}"
        print(f"{at[0]:>10} × {at[1]:<5} {at[2]:>5} {speeds}")
    best = figures["best_to_dynamic"], figures["best_to_fp32"]
    print(f"best batch of each, one lane: {best[0]:.2f} × dynamic, {best[1]:.2f} × FP32")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench graph", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="distilbert")
    parser.add_argument("--task", choices=sorted(TASKS), default="sequence")
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="6 layers of 384 or of 768")
    parser.add_argument("--attention", choices=("eager", "sdpa"), help="what is exported instead of the default")
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for figures to quote")
    parser.add_argument("--seconds", type=float, default=0.5, help="per candidate, shape and round")
    parser.add_argument("--json", type=Path, help="write the figures there instead of into bench/results")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in ("model", "task", "size", "attention", "rounds", "seconds")}
    conditions = kit.machine() | asked
    print(f"{conditions['cpu']}: {' '.join(conditions['instruction_sets'])}; onnxruntime {conditions['onnxruntime']}")
    found = sessions(options.model, options.task, options.size, options.attention)
    figures = summary(measure(found, options.rounds, options.seconds))
    show(figures, options.rounds)
    if options.json is None:
        kind = () if (options.model, options.task) == ("distilbert", "sequence") else (options.model, options.task)
        kit.save("-".join(["graph", *kind, options.size]), conditions, figures)
    else:
        document = {"conditions": conditions, "figures": figures}
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


if __name__ == "__main__":
    main()
