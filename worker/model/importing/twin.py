"""The FP32 graph that lies beside a quantized one: what the gate holds it against, or why there is no gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import BundleError
from worker.model.importing import foreign, ready

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from worker.model.importing.foreign import Graph

MEASURE = "measure the bundle on labelled texts with `winnow evaluate`"


def missing(graph: Graph) -> str | None:
    """What is to be said of a graph that has no other beside it; nothing of one that is in FP32 itself."""
    if foreign.quantized_by(graph.proto) is None:
        return None
    return (
        f"{graph.path.name} is quantized and has no FP32 graph ({' or '.join(foreign.EXACT)}) beside it, so the "
        f"quality gate did not run: {MEASURE}"
    )


def unusable(graph: Graph, error: BundleError) -> str:
    """The same of one whose FP32 graph is of no use; a sentence of that says why."""
    return (
        f"{graph.path.name} was not held against an FP32 graph, so the quality gate did not run: {error} Else {MEASURE}"
    )


def logits(path: Path, folder: Path, graph: Graph, rows: Sequence[Sequence[int]], pad_id: int) -> list[np.ndarray]:
    """What the FP32 graph at `path` says of `rows`.

    Raises:
        BundleError: it is no FP32 form of `graph`, which can be served nevertheless.
    """
    beside = foreign.read(path, folder)
    operator = foreign.quantized_by(beside.proto)
    if operator is not None:
        raise BundleError(f"{path} is quantized, too ({operator}).")
    if beside.kind != graph.kind:
        raise BundleError(f"{path} gives logits for each {beside.kind}, {graph.path.name} for each {graph.kind}.")
    one, other = (ready.logits(each, rows[:1], pad_id)[0] for each in (beside, graph))
    if one.shape != other.shape:
        raise BundleError(
            f"{path} classifies into {one.shape[-1]} labels, {graph.path.name} into {other.shape[-1]}: they are of "
            "different models."
        )
    return ready.logits(beside, rows, pad_id)
