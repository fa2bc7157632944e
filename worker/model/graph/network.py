"""A checkpoint as the network that the graph builder writes down.

Adding an architecture is one entry in `architectures.families.FAMILIES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.model.graph.architectures.description import describe, labels_of
from worker.model.graph.architectures.reading import WrongLabels, read
from worker.model.graph.layers import Dense, Layer, Network, Norm, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["Dense", "Layer", "Network", "Norm", "Task", "WrongLabels", "from_checkpoint", "labels_of"]


def from_checkpoint(config: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Network:
    """The network of a Hugging Face checkpoint: the content of config.json and the tensors of model.safetensors.

    Each tensor that the network needs is read once; what else there is, is left alone.

    Raises:
        BundleError: unknown architecture or activation, a tensor missing, or sizes that contradict config.json.
    """
    return read(describe(config), tensors)
