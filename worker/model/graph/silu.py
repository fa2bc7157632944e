"""The same network with Silu between the feed-forward products instead of Gelu, which takes three times as long.

That is so in onnxruntime where the CPU has AVX-512. Both functions bend alike, ``x · Φ(x)`` and ``x · σ(x)``, and what
is before and after them is linear: so each channel can have the ``outer · silu(inner · x + shift) + offset`` that is
nearest to Gelu where its own values lie. The four numbers go into the products' weights and biases.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.model.graph.activations import GELUS
from worker.model.graph.layers import Dense
from worker.model.graph.names import pre_activations

if TYPE_CHECKING:
    from worker.model.graph.layers import Layer, Network
    from worker.model.graph.observe import Observed, Spread

_SILU = "silu"
_LOWEST_AT = -1.278464543
"""Where Silu is least: before it falls, after it rises."""

# outer, inner, shift, offset: nowhere further than 0.021 from Gelu (Hendrycks and Gimpel, "Gaussian Error Linear
# Units", 2016).
_START = np.array([1 / 1.702, 1.702, 0.0, 0.0])
# How much it counts to stay near these, against squared errors. Less of it gives no better fit to the values of other
# texts, and strays further where a text goes beyond what was seen.
_RIDGE = 1e-3
# Twice as many points change a value by less than a tenth of its error, and more steps by nothing.
_POINTS, _STEPS = 48, 25


class Fit(NamedTuple):
    """The parameters of ``outer · silu(inner · x + shift) + offset``, float32 [channels] each."""

    outer: np.ndarray
    inner: np.ndarray
    shift: np.ndarray
    offset: np.ndarray

    def applied(self, layer: Layer) -> Layer:
        """The layer that gives with Silu what it gave with Gelu."""
        before, after = layer.intermediate, layer.output
        return replace(
            layer,
            intermediate=Dense(before.weight * self.inner, before.bias * self.inner + self.shift),
            output=Dense(after.weight * self.outer[:, None], after.bias + self.offset @ after.weight),
            fit=None,
        )

    def extremes(self, spread: Spread) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest value that each Silu takes of values in that range, float32 [channels]."""
        ends = np.sort([self.inner * each + self.shift for each in (spread.low, spread.high)], axis=0)
        lowest = np.clip(_LOWEST_AT, *ends)
        return silu(lowest).astype(np.float32), silu(ends).max(axis=0).astype(np.float32)


def with_silu(network: Network, seen: Observed) -> tuple[Network, Observed]:
    """The network with Silu, and what calibration would have seen of it; both as they are where there is no Gelu.

    Args:
        network: as it was trained.
        seen: of its FP32 graph, on the calibration texts. Elsewhere the other one differs from it by less than INT8
            does, so only the ranges of the activations are put in anew.
    """
    if network.activation not in GELUS:
        return network, seen
    layers, low, high = [], dict(seen.low), dict(seen.high)
    for i, (layer, name) in enumerate(zip(network.layers, pre_activations(network), strict=True)):
        fit = fitted(seen.spreads[name])
        layers.append(replace(layer, fit=fit))
        low[f"layer.{i}.activation"], high[f"layer.{i}.activation"] = fit.extremes(seen.spreads[name])
    return replace(network, layers=tuple(layers), activation=_SILU), replace(seen, low=low, high=high)


def fitted(spread: Spread) -> Fit:
    """The Silu of each channel that is nearest to Gelu, by least squares over values that are spread like this.

    Values are taken as normally distributed between the extremes, which count as well. The method is Levenberg's and
    Marquardt's, for all channels at once.
    """
    x = _points(spread)
    wanted = gelu(x)
    parameters = np.tile(_START, (x.shape[1], 1))
    damping = np.full(len(parameters), 1e-3)
    cost = _cost(parameters, x, wanted)
    for _ in range(_STEPS):
        tried = parameters - _step(parameters, damping, x, wanted)
        cost_tried = _cost(tried, x, wanted)
        better = cost_tried < cost
        parameters = np.where(better[:, None], tried, parameters)
        cost = np.where(better, cost_tried, cost)
        damping = np.where(better, damping / 5, damping * 5)
    return Fit(*parameters.T.astype(np.float32))


def gelu(x: np.ndarray) -> np.ndarray:
    """Gelu by tanh, which is within 0.0005 of the exact one: far nearer than any Silu comes."""
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def silu(x: np.ndarray) -> np.ndarray:
    """Sigmoid linear unit, ``x · σ(x)``."""
    return np.asarray(x / _one_over_sigmoid(x))


def _one_over_sigmoid(x: np.ndarray) -> np.ndarray:
    # Bounded, so that nothing overflows in float32 either.
    return np.asarray(1 + np.exp(-np.maximum(x, -80)))


def _points(spread: Spread) -> np.ndarray:
    """Values of each channel, float64 [points, channels]."""
    low, high, mean, deviation = (each.astype(np.float64) for each in spread)
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / _POINTS) for i in range(_POINTS)])
    return np.stack([*np.clip(mean + quantiles[:, None] * deviation, low, high), low, high])


def _step(parameters: np.ndarray, damping: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """What to take from the parameters of each channel, [channels, 4]."""
    residuals, jacobian = _residuals(parameters, x, wanted), _jacobian(parameters, x)
    curvature = np.einsum("pci,pcj->cij", jacobian, jacobian) / len(x) + _RIDGE * np.eye(4)
    gradient = np.einsum("pci,pc->ci", jacobian, residuals) / len(x) + _RIDGE * (parameters - _START)
    damped = curvature * (1 + damping[:, None, None] * np.eye(4))
    return np.asarray(np.linalg.solve(damped, gradient[:, :, None])[:, :, 0])


def _residuals(parameters: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How far off each point is, [points, channels]."""
    outer, _, _, offset = parameters.T
    value, _ = _value_and_gate(parameters, x)
    return np.asarray(outer * value + offset - wanted)


def _jacobian(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How that changes with each parameter, [points, channels, 4]."""
    value, gate = _value_and_gate(parameters, x)
    slope = parameters.T[0] * (gate + value * (1 - gate))
    return np.stack([value, slope * x, slope, np.ones_like(x)], axis=-1)


def _value_and_gate(parameters: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Silu of what it reads, and its sigmoid, [points, channels] each."""
    _, inner, shift, _ = parameters.T
    inside = inner * x + shift
    gate = 1 / _one_over_sigmoid(inside)
    return inside * gate, gate


def _cost(parameters: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each channel, [channels]."""
    strayed = ((parameters - _START) ** 2).sum(axis=1)
    return np.asarray((_residuals(parameters, x, wanted) ** 2).mean(axis=0) + _RIDGE * strayed)
