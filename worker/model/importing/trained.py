"""The checkpoint that `winnow train` leaves beside its bundle: what it does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import BundleError
from worker.model import bundle

if TYPE_CHECKING:
    from pathlib import Path

_BUNDLE, _KEPT = "bundle", "checkpoint.pt"
"""What a training's folder holds beside its `hf`."""


def note(folder: Path, task: str) -> str | None:
    """What an import of the checkpoint in `folder` goes without; None where there is nothing, or no training's folder.

    Temperature and thresholds were fitted to the validation texts and are in no file of transformers.
    """
    beside = folder.resolve().parent / _BUNDLE
    if (beside / bundle.MANIFEST).is_file():
        return f"{_LOST}; they are in {beside}" if _has_some(beside) else None
    if task != "regression" and (folder.resolve().parent / _KEPT).is_file():
        return f"{_LOST}: the scores are those of temperature 1, and `winnow threshold` chooses thresholds anew"
    return None


_LOST = "temperature and thresholds, which the training fitted, are not in a checkpoint"


def _has_some(path: Path) -> bool:
    try:
        manifest = bundle.load(path).manifest
    except (BundleError, OSError):
        return False
    return manifest.temperature != 1.0 or bool(manifest.thresholds)
