"""A checkpoint's tensors as the network that the graph builder writes down, whatever the architecture called them.

Adding an architecture is one entry in `ARCHITECTURES`: where its tensors are, and what its head looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Tensors = "Mapping[str, np.ndarray]"


@dataclass(frozen=True, eq=False)
class Dense:
    """y = x · weight + bias; `weight` has the shape [in, out], float32."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer normalization over the last axis."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer, norms after the residual sums (as BERT and all its near relatives have them)."""

    query: Dense
    key: Dense
    value: Dense
    attention_output: Dense
    attention_norm: Norm
    intermediate: Dense
    output: Dense
    output_norm: Norm


@dataclass(frozen=True, eq=False)
class Network:
    """A sequence classifier over the first token.

    `head` is applied from left to right, each product followed by the ONNX operator named beside it (`None`: nothing).
    `positions` includes whatever else is added to every token of a one-segment text.
    """

    words: np.ndarray
    positions: np.ndarray
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    head: tuple[tuple[Dense, str | None], ...]
    heads: int
    epsilon: float
    labels: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Width of the activations between layers."""
        return int(self.words.shape[1])

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


def from_checkpoint(config: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Network:
    """The network of a Hugging Face checkpoint: the content of config.json and the tensors of model.safetensors.

    Raises:
        BundleError: unknown architecture or activation, a tensor missing, or sizes that contradict config.json.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise BundleError(f"config.json names the architecture {kind!r}: only {known} can be built.")
    network = ARCHITECTURES[kind](config, tensors)
    _check(network, config)
    return network


def labels_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of config.json's `id2label`, in id order.

    Raises:
        BundleError: there is no `id2label`, or its ids are not 0 … n - 1.
    """
    by_id = {int(i): str(label) for i, label in config.get("id2label", {}).items()}
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise BundleError("config.json must have an id2label that numbers the labels from 0 without gaps: add it.")
    return tuple(by_id[i] for i in range(len(by_id)))


def _distilbert(config: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Network:
    if config.get("activation", "gelu") != "gelu":
        raise BundleError(f"config.json names the activation {config['activation']!r}: only gelu can be built.")
    embeddings = "distilbert.embeddings"
    return Network(
        words=_tensor(tensors, f"{embeddings}.word_embeddings.weight"),
        positions=_tensor(tensors, f"{embeddings}.position_embeddings.weight"),
        embedding_norm=_norm(tensors, f"{embeddings}.LayerNorm"),
        layers=tuple(
            _distilbert_layer(tensors, f"distilbert.transformer.layer.{i}") for i in range(config["n_layers"])
        ),
        head=((_dense(tensors, "pre_classifier"), "Relu"), (_dense(tensors, "classifier"), None)),
        heads=config["n_heads"],
        epsilon=1e-12,
        labels=labels_of(config),
    )


def _distilbert_layer(tensors: Mapping[str, np.ndarray], at: str) -> Layer:
    return Layer(
        query=_dense(tensors, f"{at}.attention.q_lin"),
        key=_dense(tensors, f"{at}.attention.k_lin"),
        value=_dense(tensors, f"{at}.attention.v_lin"),
        attention_output=_dense(tensors, f"{at}.attention.out_lin"),
        attention_norm=_norm(tensors, f"{at}.sa_layer_norm"),
        intermediate=_dense(tensors, f"{at}.ffn.lin1"),
        output=_dense(tensors, f"{at}.ffn.lin2"),
        output_norm=_norm(tensors, f"{at}.output_layer_norm"),
    )


ARCHITECTURES: dict[str, Callable[[dict[str, Any], Mapping[str, np.ndarray]], Network]] = {"distilbert": _distilbert}


def _dense(tensors: Mapping[str, np.ndarray], name: str) -> Dense:
    weight = _tensor(tensors, f"{name}.weight")
    return Dense(np.ascontiguousarray(weight.T), _tensor(tensors, f"{name}.bias"))


def _norm(tensors: Mapping[str, np.ndarray], name: str) -> Norm:
    return Norm(_tensor(tensors, f"{name}.weight"), _tensor(tensors, f"{name}.bias"))


def _tensor(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise BundleError(f"model.safetensors has no tensor {name!r}: it is not the checkpoint that config.json names.")
    return tensors[name].astype(np.float32)


def _check(network: Network, config: dict[str, Any]) -> None:
    if network.hidden % network.heads:
        raise BundleError(
            f"config.json asks for {network.heads} attention heads, which do not divide the hidden size "
            f"{network.hidden}: correct n_heads."
        )
    outputs = network.head[-1][0].weight.shape[1]
    if outputs != len(network.labels):
        raise BundleError(
            f"model.safetensors classifies into {outputs} labels, but config.json names {len(network.labels)}: "
            "correct id2label."
        )
    if len(network.words) != config["vocab_size"]:
        raise BundleError(
            f"model.safetensors knows {len(network.words)} wordpieces, but config.json says {config['vocab_size']}: "
            "correct vocab_size."
        )
