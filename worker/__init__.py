"""Winnow: a streaming message classifier, Kafka to Kafka through a quantized DistilBERT on the CPU.

`from worker import Classifier` classifies texts without Kafka.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.api import Classified, Classifier

__all__ = ["Classified", "Classifier", "__version__"]
__version__ = "0.1.0"

# onnxruntime reports to its maker unless this is there before it is imported; its own switch comes after a report.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    """Fetches what needs the model's runtime only when it is asked for."""
    if name in ("Classified", "Classifier"):
        from worker import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
