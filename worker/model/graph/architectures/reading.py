"""From a checkpoint's tensors to a network, each tensor checked against what config.json says of its shape."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import BundleError
from worker.model.graph.architectures.bias import by_distance
from worker.model.graph.architectures.description import BIAS_BUCKETS, Size
from worker.model.graph.architectures.families import CLASSIFIER, EARLY_HEAD, EARLY_QUERIES
from worker.model.graph.layers import Dense, Early, Layer, Network, Norm
from worker.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.model.graph.architectures.description import Description
    from worker.model.graph.layers import Head

# The names that checkpoints converted from TensorFlow have for a norm's weight and bias.
_OLD_NAMES = {"weight": "gamma", "bias": "beta"}
_LABELS = "id2label"
_OTHER_CHECKPOINT = "use the config.json that was saved with these weights"


class WrongLabels(BundleError):
    """There are more or fewer names for labels than the weights have labels.

    Attributes:
        count: how many labels the weights have.
    """

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count


def read(description: Description, tensors: Mapping[str, np.ndarray]) -> Network:
    """The network of `description` with the numbers of `tensors`.

    Raises:
        BundleError: a tensor is missing, has another shape, or holds no float numbers.
    """
    return _Reader(description, tensors).network()


class _Reader:
    def __init__(self, description: Description, tensors: Mapping[str, np.ndarray]) -> None:
        self._is = description
        self._tensors = tensors
        base = f"{description.family.base}."
        # Encoders saved alone have no prefix.
        self._base = base if any(name.startswith(base) for name in tensors) else ""

    def network(self) -> Network:
        told = self._is
        self._check_layers()
        return Network(
            task=told.task,
            words=self._tensor(f"{self._base}embeddings.word_embeddings.weight", told.vocabulary, told.embedding),
            positions=self._positions(),
            embedding_norm=self._norm(f"{self._base}embeddings.LayerNorm", told.embedding),
            projection=self._projection(),
            relative_bias=self._relative_bias(),
            layers=tuple(self._layer(f"{self._layers}.{i}") for i in range(told.layers.value)),
            activation=told.activation,
            head=self._head(),
            heads=told.heads.value,
            epsilon=told.epsilon,
            labels=told.labels,
            position_padding=told.position_padding,
            early=self._early(),
        )

    @property
    def _layers(self) -> str:
        return f"{self._base}{self._is.family.layers}"

    def _check_layers(self) -> None:
        numbered = re.compile(rf"{re.escape(self._layers)}\.(\d+)\.")
        held = {int(found[1]) for name in self._tensors if (found := numbered.match(name))}
        wanted = self._is.layers
        if held and max(held) + 1 != wanted.value:
            raise BundleError(
                f"model.safetensors has {max(held) + 1} encoder layers, but config.json says {wanted.value}: "
                f"correct {wanted.key}, or {_OTHER_CHECKPOINT}."
            )

    def _positions(self) -> np.ndarray:
        """With the one row of token types that a single text uses, where there is such a table."""
        told, at = self._is, f"{self._base}embeddings"
        positions = self._tensor(f"{at}.position_embeddings.weight", told.positions, told.embedding)
        if not told.family.token_types:
            return positions
        types = self._tensor(f"{at}.token_type_embeddings.weight", None, told.embedding)
        return np.asarray(positions + types[0])

    def _projection(self) -> Dense | None:
        told = self._is
        if told.family.projection is None or told.embedding.value == told.hidden.value:
            return None
        return self._dense(f"{self._base}{told.family.projection}", told.embedding, told.hidden)

    def _relative_bias(self) -> np.ndarray | None:
        told = self._is
        if told.family.relative_bias is None:
            return None
        buckets = Size(BIAS_BUCKETS, "relative_attention_num_buckets")
        table = self._tensor(f"{self._base}{told.family.relative_bias}.weight", buckets, told.heads)
        return by_distance(table, max_tokens=told.positions.value)

    def _layer(self, at: str) -> Layer:
        told = self._is
        name = {part: f"{at}.{within}" for part, within in told.family.layer.items()}
        hidden, inner = told.hidden, told.inner
        return Layer(
            query=self._dense(name["query"], hidden, hidden),
            key=self._dense(name["key"], hidden, hidden),
            value=self._dense(name["value"], hidden, hidden),
            attention_output=self._dense(name["attention_output"], hidden, hidden),
            attention_norm=self._norm(name["attention_norm"], hidden),
            intermediate=self._dense(name["intermediate"], hidden, inner),
            output=self._dense(name["output"], inner, hidden),
            output_norm=self._norm(name["output_norm"], hidden),
        )

    def _head(self) -> Head:
        told = self._is
        if told.task == "token":
            return ((self._classifier(CLASSIFIER), None),)
        return self._two_products(*told.family.head)

    def _early(self) -> Early | None:
        layer, hidden = self._is.early_layer, self._is.hidden
        if layer is None:
            return None
        self._see_head(EARLY_QUERIES.removesuffix(".weight"))
        queries = self._tensor(EARLY_QUERIES, None, hidden)
        means = Size(len(queries) * hidden.value, f"{EARLY_QUERIES} and {hidden.key}")
        return Early(layer, np.ascontiguousarray(queries.T), self._two_products(*EARLY_HEAD, means))

    def _two_products(self, inner: tuple[str, str], last: str, inputs: Size | None = None) -> Head:
        hidden, (name, activation) = self._is.hidden, inner
        name = f"{self._base}{name[1:]}" if name.startswith(".") else name
        self._see_head(name)
        return (self._dense(name, inputs or hidden, hidden), activation), (self._classifier(last), None)

    def _classifier(self, name: str) -> Dense:
        told = self._is
        self._see_head(name)
        return self._dense(name, told.hidden, Size(len(told.labels), _LABELS))

    def _see_head(self, name: str) -> None:
        if f"{name}.weight" not in self._tensors:
            raise BundleError(
                f"model.safetensors has no tensor '{name}.weight', which belongs to the head of "
                f"{self._is.title}: use a checkpoint that was fine-tuned as that, and whose config.json says so."
            )

    def _dense(self, name: str, inputs: Size, outputs: Size) -> Dense:
        weight = self._tensor(f"{name}.weight", outputs, inputs)
        return Dense(np.ascontiguousarray(weight.T), self._tensor(f"{name}.bias", outputs))

    def _norm(self, name: str, size: Size) -> Norm:
        weight, bias = (
            old if (old := f"{name}.{_OLD_NAMES[part]}") in self._tensors else f"{name}.{part}" for part in _OLD_NAMES
        )
        return Norm(self._tensor(weight, size), self._tensor(bias, size))

    def _tensor(self, name: str, *shape: Size | None) -> np.ndarray:
        """The tensor in float32; `None` stands for a dimension of any size."""
        if name not in self._tensors:
            raise BundleError(
                f"model.safetensors has no tensor {name!r}: it does not hold the {self._is.title} of config.json; "
                f"{_OTHER_CHECKPOINT}."
            )
        tensor = self._tensors[name]
        _check_shape(name, tensor.shape, shape)
        if tensor.dtype.kind in "iub":
            raise BundleError(
                f"model.safetensors has {name!r} as {tensor.dtype}, so it is quantized already: "
                "import the checkpoint that it was made from."
            )
        found = tensor.astype(np.float32, copy=False)
        if not np.isfinite(found).all():
            raise BundleError(f"model.safetensors has {name!r} with values that are not finite: download it again.")
        return found


def _check_shape(name: str, found: tuple[int, ...], wanted: tuple[Size | None, ...]) -> None:
    if len(found) != len(wanted):
        raise BundleError(
            f"model.safetensors has {name!r} in {len(found)} dimensions where {len(wanted)} are needed: "
            f"{_OTHER_CHECKPOINT}."
        )
    for length, size in zip(found, wanted, strict=True):
        if size is None or length == size.value:
            continue
        if size.key == _LABELS:
            raise WrongLabels(
                f"model.safetensors classifies into {counted(length, 'label')}, but config.json names {size.value}: "
                f"correct {_LABELS}.",
                length,
            )
        raise BundleError(
            f"model.safetensors has {name!r} with a length of {length}, but config.json says {size.value}: "
            f"correct {size.key}, or {_OTHER_CHECKPOINT}."
        )
