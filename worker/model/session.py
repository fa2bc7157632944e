"""Running a graph over ragged token ids, for the tools of this package."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.cpu import usable_cores
from worker.pipeline.infer import DTYPES, open_session, padded, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime

__all__ = ["feeds", "open_session", "run", "run_each", "run_sorted", "session_options"]


def feeds(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], length: int | None = None, pad_id: int = 0
) -> dict[str, np.ndarray]:
    """What the session's inputs take for `rows`, padded to the longest one or to `length` tokens."""
    dtypes = {each.name: DTYPES[each.type] for each in session.get_inputs() if each.type in DTYPES}
    return padded(dtypes, rows, pad_id, length)


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
