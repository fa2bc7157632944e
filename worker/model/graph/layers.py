"""What a network is made of, whatever the architecture called it: products, norms, encoder layers, head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from worker.model.graph.silu import Fit

Task = Literal["sequence", "token"]


@dataclass(frozen=True, eq=False)
class Dense:
    """y = x · weight + bias; `weight` has the shape [in, out], float32."""

    weight: np.ndarray
    bias: np.ndarray

    def columns(self, chosen: slice | np.ndarray) -> Dense:
        """What gives only these channels."""
        return Dense(self.weight[:, chosen], self.bias[chosen])

    def rows(self, chosen: np.ndarray) -> Dense:
        """What reads only these channels."""
        return Dense(self.weight[chosen], self.bias)


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer normalization over the last axis."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer, norms after the residual sums (as BERT and all its near relatives have them).

    With a `fit` the weights are still those that go with Gelu; it says what they become with Silu.
    """

    query: Dense
    key: Dense
    value: Dense
    attention_output: Dense
    attention_norm: Norm
    intermediate: Dense
    output: Dense
    output_norm: Norm
    fit: Fit | None = None


Head = tuple[tuple[Dense, str | None], ...]
"""One product, or one before it; each is followed by the named activation (`None`: nothing)."""


@dataclass(frozen=True, eq=False)
class Early:
    """A second head, of the tokens' states after `layer` layers.

    Attributes:
        layer: how many layers come before it.
        queries: each weighs the tokens, by softmax over their products with it, and takes the mean of their states,
            [hidden, queries].
        head: reads these means, one after the other.
    """

    layer: int
    queries: np.ndarray
    head: Head


@dataclass(frozen=True, eq=False)
class Network:
    """An encoder with a classifier: over the first token (`sequence`) or over every token (`token`).

    Attributes:
        words: embedding table, [vocabulary, embedding].
        positions: what is added at each position, [rows, embedding]; includes whatever else is added to every token of
            a one-segment text.
        position_padding: `None` gives the n-th token row n. An id gives the tokens other than this one the rows that
            follow the id, in their order, and this one the row of the id itself (RoBERTa and its relatives).
        embedding_norm: over the sum of both.
        projection: from the embeddings' width to that of the layers, where they differ.
        relative_bias: added to the attention scores by distance, [heads, an odd number]; the middle column is for the
            query itself, the d-th after it for a key d tokens later.
        early: the head of texts that need no more layers; only of a `sequence`.
        activation: between a layer's two feed-forward products, by its name in `activations.OPERATORS`.
        head: reads the last layer.
        heads: attention heads of a layer.
        epsilon: of all norms.
        labels: what the classifier's outputs are called.
    """

    task: Task
    words: np.ndarray
    positions: np.ndarray
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    activation: str
    head: Head
    heads: int
    epsilon: float
    labels: tuple[str, ...]
    position_padding: int | None = None
    projection: Dense | None = None
    relative_bias: np.ndarray | None = None
    early: Early | None = None

    @property
    def hidden(self) -> int:
        """Width of the activations between layers."""
        return int(self.layers[0].query.weight.shape[0])

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def max_tokens(self) -> int:
        """The longest text that there are positions for, special tokens included."""
        return len(self.positions) - (0 if self.position_padding is None else self.position_padding + 1)
