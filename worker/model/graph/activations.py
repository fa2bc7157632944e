"""Activation functions by the names that config.json gives them, as ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.model.graph.emitter import MICROSOFT

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Operator:
    """One ONNX operator of one input."""

    name: str
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


_ERF_GELU = Operator("Gelu", MICROSOFT)
# The approximation by tanh; its names in transformers differ in the order of additions only.
_TANH_GELU = Operator("FastGelu", MICROSOFT)
_SILU = Operator("QuickGelu", MICROSOFT, {"alpha": 1.0})

OPERATORS: dict[str, Operator] = {
    "gelu": _ERF_GELU,
    "gelu_python": _ERF_GELU,
    "gelu_new": _TANH_GELU,
    "gelu_fast": _TANH_GELU,
    "gelu_accurate": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "gelu_python_tanh": _TANH_GELU,
    "quick_gelu": Operator("QuickGelu", MICROSOFT, {"alpha": 1.702}),
    "relu": Operator("Relu"),
    "silu": _SILU,
    "swish": _SILU,
    "tanh": Operator("Tanh"),
}
GELUS = frozenset(name for name, operator in OPERATORS.items() if operator in (_ERF_GELU, _TANH_GELU))
"""Names of Gelu, exact or by tanh."""
