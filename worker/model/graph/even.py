"""The same layer with channels rescaled and reordered, so that fewer of them are divided before they are quantized.

The product that makes an activation can take the division over, as long as nothing but a mean lies between: so it is
with values and their context. Where an activation function is between, as in the feed-forward, channels with one
divisor can stand side by side and be quantized with a scale of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from worker.model.graph.layers import Dense

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.model.graph.layers import Layer
    from worker.model.graph.quantize import Range


def evened(layer: Layer, name: str, ranges: Mapping[str, Range]) -> tuple[Layer, dict[str, Range]]:
    """The same function, and the ranges of its activations, by the names of `names.product_inputs`.

    The context has no divisors then, and equal ones of the feed-forward's activation are neighbours.
    """
    found = dict(ranges)
    context, activation = f"{name}.context", f"{name}.activation"
    if context in found:
        layer, found[context] = _with_even_context(layer, found[context])
    if activation in found:
        layer, found[activation] = _with_sorted_channels(layer, found[activation])
    return layer, found


def _with_even_context(layer: Layer, context: Range) -> tuple[Layer, Range]:
    divisors = context.divisors
    if divisors is None:
        return layer, context
    value, output = layer.value, layer.attention_output
    layer = replace(
        layer,
        value=Dense(value.weight / divisors, value.bias / divisors),
        attention_output=Dense(output.weight * divisors[:, None], output.bias),
    )
    return layer, replace(context, divisors=None)


def _with_sorted_channels(layer: Layer, activation: Range) -> tuple[Layer, Range]:
    if activation.divisors is None:
        return layer, activation
    order = np.argsort(activation.divisors, kind="stable")
    layer = replace(layer, intermediate=layer.intermediate.columns(order), output=layer.output.rows(order))
    return layer, replace(activation, divisors=activation.divisors[order])
