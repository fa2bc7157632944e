"""Running a graph over ragged token ids, for the tools of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.pipeline.infer import open_session, session_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime

__all__ = ["open_session", "run", "run_sorted", "session_options"]


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
