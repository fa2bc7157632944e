"""Running a graph over ragged token ids, for the tools of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Sequence

# Costs several times what Add and LayerNormalization cost.
DISABLED_OPTIMIZERS = ["SkipLayerNormFusion"]


def session_options() -> onnxruntime.SessionOptions:
    """One thread, no spinning; the worker's own sessions are `worker.pipeline.infer`'s."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def open_session(model: bytes | str, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session over a serialized model or the path of one, set up as the worker's are."""
    return onnxruntime.InferenceSession(
        model,
        options or session_options(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=DISABLED_OPTIMIZERS,
    )


def run(session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    """Logits [rows, labels] of one batch, padded to its longest row or to `length` tokens."""
    width = length or max(map(len, rows))
    ids, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def run_sorted(session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], batch: int = 8) -> np.ndarray:
    """Logits [rows, labels] in the order of `rows`, run in batches of similar length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    found = np.concatenate([run(session, [rows[i] for i in part]) for part in parts])
    out = np.empty_like(found)
    out[order] = found
    return out
