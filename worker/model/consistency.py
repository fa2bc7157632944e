"""Whether a manifest fits the labels of its bundle, and itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import BundleError

if TYPE_CHECKING:
    from worker.model.manifest import Manifest

MANIFEST = "bundle.json"


def check(manifest: Manifest, labels: tuple[str, ...]) -> None:
    """See that a manifest fits the labels of its bundle.

    Raises:
        BundleError: it does not.
    """
    _check_exit(manifest)
    _check_reference(manifest, labels)
    early = {} if manifest.early_exit is None else manifest.early_exit.thresholds
    for field, thresholds in (("thresholds", manifest.thresholds), ("early_exit.thresholds", early)):
        for label in thresholds:
            if label not in labels:
                raise BundleError(
                    f"{MANIFEST} names {label!r} in {field}, which config.json does not name: correct it."
                )
    for probe in manifest.probes:
        count = len(probe.logits)
        if count % len(labels) if manifest.task == "token" else count != len(labels):
            raise BundleError(f"{MANIFEST} has a probe with {count} logits for {len(labels)} labels.")
        if len(probe.early_logits) != (0 if manifest.early_exit is None else len(labels)):
            raise BundleError(
                f"{MANIFEST} has a probe with {len(probe.early_logits)} logits of an early head, which does not fit "
                f"its early_exit and {len(labels)} labels: make the bundle again."
            )


def _check_exit(manifest: Manifest) -> None:
    early = manifest.early_exit
    if early is None:
        return
    if (manifest.task, manifest.activation) != ("single-label", "softmax"):
        raise BundleError(
            f"{MANIFEST} has early_exit for {manifest.task} with {manifest.activation}: only single-label with softmax "
            "can leave early; make the bundle without it."
        )
    if early.layer >= early.layers:
        raise BundleError(
            f"{MANIFEST} has early_exit after layer {early.layer} of {early.layers}, where nothing is left to be "
            "spared: make the bundle again with an earlier one."
        )


def _check_reference(manifest: Manifest, labels: tuple[str, ...]) -> None:
    """Whether it is of these labels, and each row of shares is one of shares up to a bound."""
    reference = manifest.reference
    if reference is None:
        return
    unknown = sorted({*reference.labels, *reference.scores} - set(labels))
    wrong = f"{MANIFEST} has a reference that cannot be used"
    if unknown:
        raise BundleError(f"{wrong}: config.json does not name its label {unknown[0]!r}; make the reference again.")
    if list(reference.bounds) != sorted(set(reference.bounds)):
        raise BundleError(f"{wrong}: its bounds do not ascend; make the reference again.")
    for label, shares in reference.scores.items():
        if len(shares) != len(reference.bounds) or list(shares) != sorted(shares):
            raise BundleError(
                f"{wrong}: {label!r} needs one share for each of {len(reference.bounds)} bounds, none below the one "
                "before; make the reference again."
            )
