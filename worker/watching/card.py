"""The model card: what is said of a bundle on the worker's page, and behind `/model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.model.bundle import Bundle

MOST_CHARACTERS = 65_536
"""Of the README."""


def card(bundle: Bundle) -> dict[str, Any]:
    """The bundle's manifest without probes and files, its digest and labels, and its README as it stands."""
    return {
        "digest": bundle.digest,
        "sha256": bundle.sha256,
        "labels": list(bundle.labels),
        **bundle.manifest.model_dump(mode="json", exclude={"probes", "files", "reference"}),
        "readme": _readme(bundle),
    }


def _readme(bundle: Bundle) -> str:
    try:
        with (bundle.path / "README.md").open(encoding="utf-8", errors="replace") as file:
            return file.read(MOST_CHARACTERS)
    except OSError:
        return ""
