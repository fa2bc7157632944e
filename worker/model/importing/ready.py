"""Graphs that others made: loaded, tried, and proven to be what they were rebuilt to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from worker.errors import BundleError
from worker.model.importing import vocabulary
from worker.model.session import open_session, run, run_each

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.importing.describing import Described
    from worker.model.importing.foreign import Graph

REBUILT = 1e-3
"""How far apart the logits of a graph and of its rebuilt form may be, in parts of the largest logit beyond 1."""


def session(model: bytes, path: Path) -> Any:
    """A session over a graph from the file `path`.

    Raises:
        BundleError: ONNX Runtime does not take it.
    """
    try:
        return open_session(model)
    except Exception as error:  # noqa: BLE001 - the runtime raises bare exceptions of its own kinds
        said = str(error).splitlines()[0]
        raise BundleError(f"ONNX Runtime cannot load {path} ({said}): export it again.") from None


def check_rebuilt(graph: Graph, rows: Sequence[Sequence[int]], logits: Sequence[np.ndarray], pad_id: int) -> None:
    """Holds the logits of our own graph against those of the graph that its weights came from.

    Raises:
        BundleError: they are of different networks.
    """
    original = run_each(session(graph.model, graph.path), rows, pad_id=pad_id)
    off = max(float(np.abs(a - b).max()) for a, b in zip(original, logits, strict=True))
    size = max(1.0, max(float(np.abs(a).max()) for a in original))
    if not off <= REBUILT * size:
        raise BundleError(
            f"The graph rebuilt from the weights of {graph.path} does not compute what that graph computes: a logit "
            f"is off by {off:.3g}. Import it without --rebuild."
        )


def check_answers(graph: Graph, described: Described) -> None:
    """Runs the graph on two rows of the greatest length: as many labels as there are names, for every token or text."""
    length = described.max_length
    trial = session(graph.model, graph.path)
    filler = vocabulary.filler_id(described.tokenizer)
    try:
        found = run(trial, [[filler] * length, [filler] * (length // 2)], pad_id=described.pad_id)
    except Exception as error:  # noqa: BLE001 - as above
        said = str(error).splitlines()[0][:200]
        raise BundleError(
            f"{graph.path} cannot be run on two texts of up to {length} tokens ({said}): if it reads fewer tokens, say "
            "how many with --max-length."
        ) from None
    if found.shape[-1] != len(described.labels):
        raise BundleError(
            f"{graph.path} classifies into {found.shape[-1]} labels, but {len(described.labels)} are named: give their "
            "names with --labels, in the order of their ids."
        )
    expected = (2, length) if graph.kind == "token" else (2,)
    if found.shape[:-1] != expected:
        raise BundleError(f"{graph.path} gives logits of the shape {found.shape} for two texts: export a classifier.")
