"""`openvino_int8.py MODEL`: NNCF's INT8 of an exported model, measured as lines of JSON on stdin ask for it.

Runs in an environment that has openvino and nncf and nothing of this project.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import cache
from typing import Any

import nncf
import numpy as np
import openvino

CALIBRATION = (16, 32, 64, 128, 256)


def main() -> None:
    logging.disable(logging.WARNING)
    core = openvino.Core()
    model = quantized(core, sys.argv[1])
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    answer({"openvino": openvino.__version__, "nncf": nncf.__version__, "bf16": "BF16" in capabilities})

    @cache
    def compiled(precision: str, streams: int, threads: int) -> Any:
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
        }
        return core.compile_model(model, "CPU", settings)

    for line in sys.stdin:
        asked = json.loads(line)
        network = compiled(asked["precision"], asked["streams"], asked["threads"])
        answer({"tokens_per_second": rate(network, asked)})


def quantized(core: Any, path: str) -> Any:
    """As NNCF's documentation quantizes transformers, calibrated with random texts of several lengths."""
    model = core.read_model(path)
    names = [each.get_any_name() for each in model.inputs]
    texts = nncf.Dataset([inputs(names, 1, tokens) for tokens in CALIBRATION])
    return nncf.quantize(model, texts, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(CALIBRATION))


def inputs(names: list[str], messages: int, tokens: int) -> dict[str, Any]:
    """A full batch of random ids."""
    ids = np.random.default_rng(1).integers(1000, 30000, (messages, tokens))
    ids[:, 0], ids[:, -1] = 101, 102
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {name: given[name] for name in names}


def rate(network: Any, asked: dict[str, Any]) -> float:
    """Tokens a second with as many requests at the same time as there are streams."""
    feed = inputs([each.get_any_name() for each in network.inputs], asked["messages"], asked["tokens"])
    queue = openvino.AsyncInferQueue(network, asked["streams"])
    for _ in range(asked["streams"]):
        queue.start_async(feed)
    queue.wait_all()
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < asked["seconds"]:
        queue.start_async(feed)
        runs += 1
    queue.wait_all()
    seconds = time.perf_counter() - started
    return float(asked["messages"] * asked["tokens"] * runs / seconds)


def answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
