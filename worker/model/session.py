"""Running a graph over ragged token ids, for the tools of this package."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.cpu import usable_cores
from worker.pipeline.infer import DTYPES, open_session, padded, session_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnxruntime

__all__ = ["Stages", "feeds", "open_session", "run", "run_each", "run_sorted", "session_options"]


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

    def work(part: Sequence[Sequence[int]]) -> np.ndarray:
        return np.asarray(session.run(None, {**feeds(session, part, pad_id=pad_id), **given})[0])

    found = _by_length(rows, batch, work)
    return [each[: len(row)] if each.ndim == 2 else each for each, row in zip(found, rows, strict=True)]


class Stages:
    """Both graphs of a network with an early head.

    Args:
        early: its first stage, serialized.
        rest: its second one.
        pad_id: of its vocabulary.
    """

    def __init__(self, early: bytes, rest: bytes, pad_id: int = 0) -> None:
        self._early, self._rest = open_session(early), open_session(rest)
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[Sequence[int]], batch: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Logits [rows, labels] in the order of `rows`: those of the early head, and those of all layers."""
        both = np.stack(_by_length(rows, batch, lambda part: np.stack(self._said(part)[:2], 1)))
        return both[:, 0], both[:, 1]

    def states(self, rows: Sequence[Sequence[int]], batch: int = 16) -> tuple[list[np.ndarray], np.ndarray]:
        """What an early head may learn from, in the order of `rows`.

        Of each row the states that the first stage leaves, FP16 [tokens, hidden]; all layers' logits [rows, labels].
        """

        def work(part: Sequence[Sequence[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
            _, last, hidden = self._said(part)
            return [(hidden[i, : len(row)].astype(np.float16), last[i]) for i, row in enumerate(part)]

        states, logits = zip(*_by_length(rows, batch, work), strict=True)
        return list(states), np.stack(logits)

    def _said(self, part: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits of the early head and of all layers [rows, labels], and the states between [rows, tokens, hidden]."""
        given = feeds(self._early, part, pad_id=self._pad_id)
        early, hidden = self._early.run(["logits", "hidden"], given)
        (last,) = self._rest.run(["logits"], {"hidden": hidden, "attention_mask": given["attention_mask"]})
        return early, last, hidden


def _by_length(rows: Sequence[Sequence[int]], batch: int, work: Callable[[Sequence[Sequence[int]]], Any]) -> list[Any]:
    """What `work` says of each row, in the order of `rows`; it gets batches of similar length, on all cores."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]

    found: list[Any] = [None] * len(rows)
    with ThreadPoolExecutor(usable_cores()) as lanes:
        said = lanes.map(lambda part: work([rows[i] for i in part]), parts)
        for part, answers in zip(parts, said, strict=True):
            for i, each in zip(part, answers, strict=True):
                found[i] = each
    return found
