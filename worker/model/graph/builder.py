"""Writes a network down as an ONNX graph: FP32, or static INT8 with one fixed scale per activation.

The layout serves two ends. Speed: attention is one operator, which reads the heads where the products left them and
needs no mask but the lengths; norms stay plain; where the head reads the first token alone, the last layer is computed
for that alone, without keys and values of the others. And equality: no step lets a row depend on its neighbours in the
batch or on how far it is padded.

Inputs `input_ids` and `attention_mask`, int32 [batch, sequence], whose padding comes after the tokens; output `logits`,
float32 [batch, labels], or [batch, sequence, labels] of a network that classifies tokens.

A network with an early head may be written as two graphs, one after the other bit for bit the whole. The stage `early`
has the first layers and ends in the logits of that head and in `hidden`, float32 [batch, sequence, hidden]; the stage
`rest` takes `hidden` and `attention_mask` and ends in the logits of the last layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from onnx import TensorProto, helper

from worker.model.graph.activations import OPERATORS
from worker.model.graph.emitter import MICROSOFT, Emitter
from worker.model.graph.even import evened
from worker.model.graph.names import EARLY_INPUT, EMBEDDINGS, HEAD_INPUT, HIDDEN, IDS, MASK, OUTPUT
from worker.model.graph.quantize import WEIGHT_LIMIT, by_column, by_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from worker.model.graph.layers import Dense, Head, Layer, Network, Norm
    from worker.model.graph.quantize import Range

Stage: TypeAlias = Literal["whole", "early", "rest"]
STAGES: tuple[Stage, Stage] = ("early", "rest")
# Far below any score, and still finite when a score is added.
_MASKED = np.float32(-1e30)


def build(
    network: Network,
    ranges: Mapping[str, Range] | None = None,
    *,
    weight_limit: int = WEIGHT_LIMIT,
    int8_words: bool = True,
    stage: Stage = "whole",
) -> onnx.ModelProto:
    """The graph of `network`, or of one stage of it.

    Args:
        network: sizes and tensors.
        ranges: the calibrated range of each product's input, by its name in `names.product_inputs`; a product whose
            input is not there stays FP32. Without `ranges` everything is FP32, the embedding table too.
        weight_limit: the largest INT8 weight code; `REDUCED_WEIGHT_LIMIT` for CPUs without VNNI.
        int8_words: whether, with `ranges`, the embedding table is INT8.
        stage: `early` and `rest` need a network with an early head. Both take the ranges of the whole.
    """
    graph = Writer(network, ranges or {}, weight_limit, int8_words=int8_words and ranges is not None, stage=stage)
    graph.write()
    return graph.model()


class Writer:
    """Writes one network down; `switched.py` has another that leaves the choice between INT8 and FP32 open."""

    grouped = True
    """Whether channels between two feed-forward products are quantized by groups, where their range has some."""

    def __init__(
        self,
        network: Network,
        ranges: Mapping[str, Range],
        weight_limit: int,
        *,
        int8_words: bool,
        stage: Stage = "whole",
    ) -> None:
        self.network = network
        self.ranges = ranges
        self.stage = stage
        self.int8_words = int8_words
        self.weight_limit = weight_limit
        self.emitter = Emitter()
        self._lengths = self._bias = ""
        self._quantized: dict[str, str] = {}

    def write(self) -> None:
        layers = self._layers()
        x = HIDDEN if self.stage == "rest" else self._embeddings()
        self._bias = self._relative_bias()
        last = len(self.network.layers) - 1
        for i in layers:
            first_only = i == last and self.network.task == "sequence"
            x = self._layer(x, self.network.layers[i], f"layer.{i}", first_only=first_only)
        early = self.network.early
        if self.stage == "early" and early is not None:
            self._head(self.means(x, early.queries), early.head, EARLY_INPUT)
        else:
            self._head(x, self.network.head, HEAD_INPUT)

    def model(self) -> onnx.ModelProto:
        """What was written."""
        ids, mask = (helper.make_tensor_value_info(n, TensorProto.INT32, ["batch", "sequence"]) for n in (IDS, MASK))
        states: list[str | int | None] = ["batch", "sequence", self.network.hidden]
        hidden = helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, states)
        rows: list[str | int | None] = ["batch", "sequence"] if self.network.task == "token" else ["batch"]
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [*rows, len(self.network.labels)])
        return self.emitter.model(
            inputs=[hidden, mask] if self.stage == "rest" else [ids, mask],
            outputs=[logits, hidden] if self.stage == "early" else [logits],
        )

    def _layers(self) -> range:
        """The numbers of the layers of this stage."""
        count, early = len(self.network.layers), self.network.early
        if self.stage == "whole":
            return range(count)
        if early is None:
            raise ValueError("a network without an early head has no stages")
        return range(early.layer) if self.stage == "early" else range(early.layer, count)

    def means(self, x: str, queries: np.ndarray) -> str:
        """What an early head reads of [batch, sequence, hidden]: a mean by each query, [batch, 1, queries · hidden].

        Padding weighs exactly nothing, as in attention, so it changes no bit of it.
        """
        emit = self.emitter
        scores = emit("Transpose", emit("MatMul", x, emit.constant(queries)), perm=[0, 2, 1])
        shape = emit.constant(np.array([-1, 1, queries.size], np.int64))
        return emit("Reshape", self._weighed(x, emit("Add", scores, self._mask())), shape, output=EARLY_INPUT)

    def _embeddings(self) -> str:
        """[batch, sequence] ids to normalized [batch, sequence, hidden]."""
        emit, network = self.emitter, self.network
        total = emit("Add", self._words(), self._positions())
        if network.projection is None:
            return self._norm(total, network.embedding_norm, "layer.0.input")
        narrow = self._norm(total, network.embedding_norm, EMBEDDINGS)
        return self._dense(narrow, EMBEDDINGS, network.projection, "layer.0.input")

    def _words(self) -> str:
        emit = self.emitter
        if not self.int8_words:
            return emit("Gather", emit.constant(self.network.words), IDS)
        codes, scales = by_row(self.network.words)
        rows = emit("Cast", emit("Gather", emit.constant(codes), IDS), to=TensorProto.FLOAT)
        return emit("Mul", rows, emit("Gather", emit.constant(scales), IDS))

    def _positions(self) -> str:
        """[sequence, hidden], or [batch, sequence, hidden] where the ids decide which token has which position."""
        emit, padding = self.emitter, self.network.position_padding
        if padding is None:
            length = emit("Shape", IDS, start=1, end=2)
            zero = emit.constant(np.zeros(1, np.int64))
            return emit("Slice", emit.constant(self.network.positions), zero, length, zero)
        offset = emit.constant(np.int32(padding))
        counted = emit("Cast", emit("Not", emit("Equal", IDS, offset)), to=TensorProto.INT32)
        count = emit("Mul", emit("CumSum", counted, emit.constant(np.int64(1))), counted)
        return emit("Gather", emit.constant(self.network.positions), emit("Add", count, offset))

    def _mask(self) -> str:
        """What is added to scores: [batch, 1, sequence], 0 for tokens and very low for padding."""
        emit = self.emitter
        missing = emit("Sub", emit.constant(np.float32(1)), emit("Cast", MASK, to=TensorProto.FLOAT))
        return emit("Unsqueeze", emit("Mul", missing, emit.constant(_MASKED)), emit.constant(np.array([1], np.int64)))

    def _counted(self) -> str:
        """How many tokens of each text are no padding, int64 [batch]."""
        emit = self.emitter
        tokens = emit("ReduceSum", MASK, emit.constant(np.array([1], np.int64)), keepdims=0)
        return emit("Cast", tokens, to=TensorProto.INT64)

    def _relative_bias(self) -> str:
        """What is added to the scores by distance, [heads, query, key], or no name where nothing is."""
        emit, by_distance = self.emitter, self.network.relative_bias
        if by_distance is None:
            return ""
        zero, one = emit.constant(np.int64(0)), emit.constant(np.int64(1))
        length = emit("Squeeze", emit("Shape", MASK, start=1, end=2))
        keys = emit("Range", zero, length, one)
        queries = emit("Unsqueeze", keys, emit.constant(np.array([1], np.int64)))
        middle = emit.constant(np.int64(by_distance.shape[1] // 2))
        columns = emit("Add", emit("Sub", keys, queries), middle)
        return emit("Gather", emit.constant(by_distance), columns, axis=1)

    def _layer(self, x: str, layer: Layer, name: str, *, first_only: bool) -> str:
        """[batch, sequence, hidden] to the same, or to [batch, 1, hidden] when only the first token is wanted."""
        emit = self.emitter
        layer = layer if layer.fit is None else layer.fit.applied(layer)
        layer, self.ranges = evened(layer, name, self.ranges)
        if first_only:
            everything, x = x, self._cut(x, 1, axis=1)
            query = self._dense(x, f"{name}.input", layer.query)
            context = self._first_context(everything, query, layer, f"{name}.context")
        else:
            parts = (layer.query, layer.key, layer.value)
            query, key, value = (self._dense(x, f"{name}.input", part) for part in parts)
            context = self._attention(query, key, value, f"{name}.context")
        attended = emit("Add", self._dense(context, f"{name}.context", layer.attention_output), x)
        attended = self._norm(attended, layer.attention_norm, f"{name}.intermediate")
        out = emit("Add", self._feed_forward(attended, layer, name), attended)
        return self._norm(out, layer.output_norm, self._after(name))

    def _feed_forward(self, x: str, layer: Layer, name: str) -> str:
        """Both products and the activation between them, which is made and quantized by groups of channels."""
        emit, found = self.emitter, self.ranges.get(f"{name}.activation")
        if found is None or not self.grouped or len(found.steps) < 2:
            inner = self._dense(x, f"{name}.intermediate", layer.intermediate, f"{name}.pre_activation")
            inner = self._activate(inner, self.network.activation, f"{name}.activation")
            return self._dense(inner, f"{name}.activation", layer.output)
        groups = []
        for channels, divisor in found.steps:
            part = self._dense(x, f"{name}.intermediate", layer.intermediate.columns(channels))
            part = self._activate(part, self.network.activation)
            scale = emit.constant(np.float32(found.scale * divisor))
            groups.append(emit("QuantizeLinear", part, scale, emit.constant(found.zero_point)))
        return self._product(emit("Concat", *groups, axis=-1), found, layer.output)

    def _activate(self, x: str, activation: str, output: str | None = None) -> str:
        operator = OPERATORS[activation]
        return self.emitter(operator.name, x, domain=operator.domain, output=output, **operator.attributes)

    def _after(self, name: str) -> str:
        following = int(name.rpartition(".")[2]) + 1
        if self.stage == "early" and following == self._layers().stop:
            return HIDDEN
        return f"layer.{following}.input" if following < len(self.network.layers) else HEAD_INPUT

    def _attention(self, query: str, key: str, value: str, name: str) -> str:
        """Queries, keys and values of all tokens, [batch, sequence, hidden], to their context."""
        self._lengths = self._lengths or self._counted()
        heads, inputs = self.network.heads, (query, key, value, self._bias, "", "", self._lengths)
        return self.emitter("Attention", *inputs, output=name, q_num_heads=heads, kv_num_heads=heads)

    def _first_context(self, x: str, query: str, layer: Layer, name: str) -> str:
        """The context of the first token alone: its query, [batch, 1, hidden], to the same.

        No keys and values are made. Taken back through the keys' weights, the query of each head asks the states
        themselves, [batch, sequence, hidden]; and the mean of values is the value of the mean. The keys' bias would add
        the same to every score of a query, which changes no weight.
        """
        emit, network = self.emitter, self.network
        by_head = (network.hidden, network.heads, network.head_size)
        query = emit("Reshape", query, emit.constant(np.array([-1, *by_head[1:]], np.int64)))
        asking = self._by_head(query, layer.key.weight.reshape(by_head).transpose(1, 2, 0))
        # Not `Attention`: it would add these long products up in an order that depends on the length of the batch.
        scale = float(1 / np.sqrt(network.head_size))
        scores = emit("FusedMatMul", x, asking, domain=MICROSOFT, alpha=scale, transB=1)
        scores = emit("Add", emit("Transpose", scores, perm=[0, 2, 1]), self._mask())
        if self._bias:
            scores = emit("Add", scores, emit("Gather", self._bias, emit.constant(np.int64(0)), axis=1))
        means = self._weighed(x, self._several(scores))
        values = self._by_head(means, layer.value.weight.reshape(by_head).transpose(1, 0, 2))
        merged = emit("Reshape", values, emit.constant(np.array([-1, 1, network.hidden], np.int64)))
        return emit("Add", merged, emit.constant(layer.value.bias), output=name)

    def _weighed(self, x: str, scores: str) -> str:
        """Means of `x`, [batch, sequence, hidden], by scores [batch, means, sequence]."""
        return self.emitter("MatMul", self.emitter("Softmax", scores, axis=-1), x)

    def _several(self, scores: str) -> str:
        """Scores [batch, heads, sequence], twice where there is one head.

        onnxruntime multiplies a single row with another routine, which adds up in an order that depends on its length,
        here the padded one. Of the two equal means that come of it, `_by_head` reads the first.
        """
        return scores if self.network.heads > 1 else self.emitter("Concat", scores, scores, axis=1)

    def _by_head(self, x: str, weights: np.ndarray) -> str:
        """[batch, heads, in] times [heads, in, out], in FP32.

        The first row is added once more, and dropped again: with one row, a text alone would differ from the same text
        in company, see `_several`.
        """
        emit = self.emitter
        x = x if self.network.heads > 1 else self._cut(x, 1, axis=1)
        rows = emit("Concat", x, self._cut(x, 1, axis=0), axis=0)
        products = emit("FusedMatMul", rows, emit.constant(weights), domain=MICROSOFT, transBatchA=1)
        return self._cut(emit("Transpose", products, perm=[1, 0, 2]), -1, axis=0)

    def _cut(self, x: str, count: int, axis: int) -> str:
        """The first `count`, or all but the last `-count`."""
        start, end, along = (self.emitter.constant(np.array([n], np.int64)) for n in (0, count, axis))
        return self.emitter("Slice", x, start, end, along)

    def _norm(self, x: str, norm: Norm, output: str) -> str:
        weight, bias = self.emitter.constant(norm.weight), self.emitter.constant(norm.bias)
        epsilon = float(self.network.epsilon)
        return self.emitter("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon, output=output)

    def _head(self, x: str, head: Head, observed: str) -> None:
        """The first token, or all, of a layer's output to the logits; `observed` is what the first product reads."""
        emit = self.emitter
        *inner, (classifier, _) = head
        for dense, activation in inner:
            x = self._dense(x, observed, dense)
            x = self._activate(x, activation) if activation else x
        if self.network.task == "token":
            self._plain(x, classifier, OUTPUT)
        else:
            emit("Identity", self._row_by_row(x, classifier), output=OUTPUT)

    def _row_by_row(self, x: str, dense: Dense) -> str:
        """[batch, 1, hidden] to [batch, labels] in FP32, as one product per row.

        A product of all rows at once is rounded differently for one row than for many.
        """
        emit = self.emitter
        columns = emit("Reshape", x, emit.constant(np.array([-1, self.network.hidden, 1], np.int64)))
        product = emit("MatMul", emit.constant(np.ascontiguousarray(dense.weight.T)), columns)
        flat = emit("Reshape", product, emit.constant(np.array([-1, len(dense.bias)], np.int64)))
        return emit("Add", flat, emit.constant(dense.bias))

    def _dense(self, x: str, observed: str, dense: Dense, output: str | None = None) -> str:
        """X · weight + bias, in INT8 when the range of what it reads is known."""
        if observed not in self.ranges:
            return self._plain(x, dense, output)
        found = self.ranges[observed]
        return self._product(self._quantize(x, found), found, dense, output)

    def _product(self, codes_of_x: str, found: Range, dense: Dense, output: str | None = None) -> str:
        """The same of the codes of X."""
        emit = self.emitter
        scale, zero_point = emit.constant(found.scale), emit.constant(found.zero_point)
        weight = dense.weight if found.divisors is None else dense.weight * found.divisors[:, None]
        codes, scales = by_column(weight, self.weight_limit)
        rest = [emit.constant(codes), scale, emit.constant(scales), zero_point, "", emit.constant(dense.bias)]
        return emit("MatMulIntegerToFloat", codes_of_x, *rest, domain=MICROSOFT, output=output)

    def _plain(self, x: str, dense: Dense, output: str | None = None) -> str:
        """X · weight + bias in FP32."""
        emit = self.emitter
        product = emit("MatMul", x, emit.constant(dense.weight))
        return emit("Add", product, emit.constant(dense.bias), output=output)

    def _quantize(self, x: str, found: Range) -> str:
        """The codes of `x`, made once however many products read them."""
        emit = self.emitter
        if x not in self._quantized:
            even = x if found.divisors is None else emit("Mul", x, emit.constant(1 / found.divisors))
            scale, zero_point = emit.constant(found.scale), emit.constant(found.zero_point)
            self._quantized[x] = emit("QuantizeLinear", even, scale, zero_point)
        return self._quantized[x]
