"""A network of twice the width that says the same: every channel is there twice (Net2Net, Chen et al., 2015).

With it a base size has an early head that knows what it decides, which no random weights have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_QUERIES

if TYPE_CHECKING:
    from bench.peers.weights import Tensors

_WIDTHS = ("dim", "hidden_dim")
_LABELS = ("classifier.weight", f"{EARLY_EXIT}.classifier.weight", EARLY_QUERIES)
"""What comes of these products does not become wider."""
_ADDED = ("classifier.bias", f"{EARLY_EXIT}.classifier.bias")


def config(of: dict[str, Any]) -> dict[str, Any]:
    """config.json of the wider DistilBERT; it has as many heads."""
    return of | {name: 2 * of[name] for name in _WIDTHS}


def tensors(of: Tensors) -> Tensors:
    """Those of the wider one, by the same names."""
    return {name: np.ascontiguousarray(_wider(name, array), np.float32) for name, array in of.items()}


def _wider(name: str, array: np.ndarray) -> np.ndarray:
    if name in _ADDED:
        return array
    if name in _LABELS:
        return _reading(array)
    if ".q_lin." in name:  # a head's products are twice as large, and divided by the root of twice its width
        array = array / np.sqrt(2)
    if array.ndim == 1 or "embeddings." in name:
        return np.repeat(array, 2, axis=-1)
    return np.repeat(_reading(array), 2, axis=0)


def _reading(weight: np.ndarray) -> np.ndarray:
    """A weight [out, in] whose inputs come twice."""
    return np.repeat(weight, 2, axis=1) / 2
