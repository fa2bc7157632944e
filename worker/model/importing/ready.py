"""Graphs that others made: loaded, tried, and proven to be what they were rebuilt to."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.errors import BundleError
from worker.model.importing import describing, vocabulary
from worker.model.session import open_session, run, run_each, session_options
from worker.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.importing.describing import Described
    from worker.model.importing.foreign import Graph

REBUILT = 1e-3
"""How far apart the logits of a graph and of its rebuilt form may be, in parts of the largest logit beyond 1."""
_SHOWN = 200
"""Characters of what ONNX Runtime says."""
_FATAL = 4


def session(model: bytes, path: Path) -> Any:
    """A session over a graph from the file `path`, which is tried out: what fails is told by us, not by the runtime.

    Raises:
        BundleError: ONNX Runtime does not take it.
    """
    options = session_options()
    options.log_severity_level = _FATAL
    try:
        return open_session(model, options)
    except Exception as error:  # noqa: BLE001 - the runtime raises bare exceptions of its own kinds
        raise BundleError(f"ONNX Runtime cannot load {path} ({_first_line(error)}): export it again.") from None


def check_rebuilt(graph: Graph, rows: Sequence[Sequence[int]], rebuilt: Sequence[np.ndarray], pad_id: int) -> None:
    """Holds the logits of our own graph, `rebuilt`, against those of the graph that its weights came from.

    Raises:
        BundleError: they are of different networks.
    """
    original = logits(graph, rows, pad_id)
    off = max(float(np.abs(a - b).max()) for a, b in zip(original, rebuilt, strict=True))
    size = max(1.0, max(float(np.abs(a).max()) for a in original))
    if not off <= REBUILT * size:
        raise BundleError(
            f"The graph rebuilt from the weights of {graph.path} does not compute what that graph computes: a logit "
            f"is off by {off:.3g}. Import it without --rebuild."
        )


def check_answers(graph: Graph, described: Described, given: Sequence[str] = ()) -> None:
    """Runs the graph on two rows of the greatest length: as many labels as there are names, for every token or text.

    `given` are those names that the user gave.

    Raises:
        ConfigError: there are more or fewer of these.
        BundleError: it cannot be run, or answers something else; the sentence says what does not fit.
    """
    length = described.max_length
    trial = session(graph.model, graph.path)
    filler, largest = vocabulary.filler_ids(described.tokenizer)
    try:
        found = run(trial, [[filler] * length, [largest, *[filler] * (length // 2)]], pad_id=described.pad_id)
    except Exception as error:  # noqa: BLE001 - as above
        raise BundleError(_why_not(trial, graph.path, described, _first_line(error))) from None
    describing.check_count(given, found.shape[-1])
    if found.shape[-1] != len(described.labels):
        raise BundleError(
            f"{graph.path} classifies into {counted(found.shape[-1], 'label')}, but {len(described.labels)} are named: "
            "give their names with --labels, in the order of their ids."
        )
    expected = (2, length) if graph.kind == "token" else (2,)
    if found.shape[:-1] != expected:
        raise BundleError(f"{graph.path} gives logits of the shape {found.shape} for two texts: export a classifier.")


def logits(graph: Graph, rows: Sequence[Sequence[int]], pad_id: int) -> list[np.ndarray]:
    """What the graph says of `rows`, which are no longer than it reads.

    Raises:
        BundleError: it cannot be run on them, or its answers are no numbers.
    """
    try:
        found = run_each(session(graph.model, graph.path), rows, pad_id=pad_id)
    except BundleError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise BundleError(f"{graph.path} cannot be run on the texts ({_first_line(error)}).") from None
    if not all(np.isfinite(each).all() for each in found):
        raise BundleError(f"{graph.path} gives logits that are not finite numbers: its weights are damaged.")
    return found


def _first_line(error: Exception) -> str:
    return shorten(str(error).partition("\n")[0], _SHOWN, placeholder=" …")


def _why_not(trial: Any, path: Path, described: Described, said: str) -> str:
    """Short rows tell apart what is in the way of long ones: the ids, the padding, or the length itself."""
    filler, largest = vocabulary.filler_ids(described.tokenizer)
    if not _runs(trial, [[0, 0]]):
        return f"{path} cannot be run on a single short text ({said}): export it again."
    if not _runs(trial, [[filler, largest]]):
        return (
            f"The tokenizer gives ids up to {largest}, for which {path} has no embedding ({said}): take both from the "
            "same export."
        )
    if not _runs(trial, [[0, 0], [0]], described.pad_id):
        return (
            f"{path} has no embedding for the pad_token_id {described.pad_id} ({said}): correct it in config.json, or "
            "take that of the same export."
        )
    return (
        f"{path} cannot be run on two texts of up to {described.max_length} tokens, but on short ones: say with "
        "--max-length how many it reads."
    )


def _runs(trial: Any, rows: Sequence[Sequence[int]], pad_id: int = 0) -> bool:
    try:
        run(trial, rows, pad_id=pad_id)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
