"""Running a graph over ragged token ids, for the tools of this package."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.cpu import usable_cores
from worker.pipeline.infer import open_session, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime

__all__ = ["feeds", "open_session", "run", "run_each", "run_sorted", "session_options"]

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def feeds(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], length: int | None = None, pad_id: int = 0
) -> dict[str, np.ndarray]:
    """What the session's inputs take for `rows`, padded to the longest one or to `length` tokens."""
    width = length or max(map(len, rows))
    ids, mask = np.full((len(rows), width), pad_id), np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    known: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    return {i.name: known[i.name].astype(_DTYPES[i.type]) for i in session.get_inputs() if i.type in _DTYPES}


def run(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], length: int | None = None, pad_id: int = 0
) -> np.ndarray:
    """Logits of one batch: [rows, labels], or [rows, tokens, labels] for token classification, padding included."""
    return np.asarray(session.run(None, feeds(session, rows, length, pad_id))[0])


def run_sorted(session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], batch: int = 8) -> np.ndarray:
    """Logits [rows, labels] in the order of `rows`, run in batches of similar length."""
    return np.stack(run_each(session, rows, batch))


def run_each(
    session: onnxruntime.InferenceSession,
    rows: Sequence[Sequence[int]],
    batch: int = 1,
    pad_id: int = 0,
    more: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Logits of each row in the order of `rows`, [labels] or [tokens, labels] without padding, on all cores.

    A `batch` of 1 pads nothing; larger ones take rows of similar length together. `more` are inputs by name that are
    the same for every batch.
    """
    given = more or {}
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]

    def work(part: list[int]) -> np.ndarray:
        texts = feeds(session, [rows[i] for i in part], pad_id=pad_id)
        return np.asarray(session.run(None, {**texts, **given})[0])

    found: list[Any] = [None] * len(rows)
    with ThreadPoolExecutor(usable_cores()) as lanes:
        for part, logits in zip(parts, lanes.map(work, parts), strict=True):
            for i, each in zip(part, logits, strict=True):
                found[i] = each[: len(rows[i])] if each.ndim == 2 else each
    return found
