"""Winnow: a streaming message classifier, Kafka to Kafka through a quantized DistilBERT on the CPU.

`from worker import Classifier` classifies texts without Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.api import Classified, Classifier

__all__ = ["Classified", "Classifier", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Fetches what needs the model's runtime only when it is asked for."""
    if name in ("Classified", "Classifier"):
        from worker import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
