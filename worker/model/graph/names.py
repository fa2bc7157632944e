"""What tensors of the graph are called that are fed, read, observed or quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.model.graph.layers import Network

IDS, MASK = "input_ids", "attention_mask"
OUTPUT, HIDDEN = "logits", "hidden"
# What a projection of the embeddings and the heads' first products read; names within layers are composed.
EMBEDDINGS, HEAD_INPUT = "embeddings", "head.0"
EARLY_INPUT = "early.0"


def product_inputs(network: Network) -> list[str]:
    """Names of the float tensors that quantized products read: what calibration has to observe."""
    layers = [
        f"layer.{i}.{part}"
        for i in range(len(network.layers))
        for part in ("input", "context", "intermediate", "activation")
    ]
    # The last layer's query reads the first token only, which its whole input contains. The last product of a head is
    # never quantized.
    inner = [HEAD_INPUT] if len(network.head) > 1 else []
    return [*([EMBEDDINGS] if network.projection else []), *layers, *inner, *([EARLY_INPUT] if network.early else [])]


def pre_activations(network: Network) -> list[str]:
    """Names of what the activations between feed-forward products read, layer by layer."""
    return [f"layer.{i}.pre_activation" for i in range(len(network.layers))]
