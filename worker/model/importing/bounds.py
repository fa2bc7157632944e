"""How far INT8 may be from FP32, and how sure that has to be."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from worker.errors import BundleError
from worker.model.words import counted

if TYPE_CHECKING:
    from worker.model.importing.gate import Comparison

MIN_AGREEMENT = 0.985
MAX_METRIC_DROP = 0.01
MIN_POSITIVES_F1 = 0.9
"""Whatever the share of equal decisions is; less where less agreement than this is asked for."""
_CALIBRATE = "Calibrate with more texts like those that the model will see"
_NARROW = (
    "The model's values on these texts hardly vary, so that the smallest difference is large beside them: see whether "
    "it has learnt anything, and give texts with other values. "
)
_ROUNDING = 5e-5
"""Comparisons are rounded to four digits."""


class GateRefused(BundleError):
    """INT8 is too far from FP32, whatever was tried.

    Attributes:
        comparison: what came closest.
    """

    def __init__(self, message: str, comparison: Comparison) -> None:
        super().__init__(message)
        self.comparison = comparison


@dataclass(frozen=True)
class Bounds:
    """Least agreement, and by how much the metric may be worse."""

    min_agreement: float = MIN_AGREEMENT
    max_metric_drop: float = MAX_METRIC_DROP

    def passes(self, found: Comparison) -> bool:
        """Whether it is served at all; a NaN passes nothing."""
        return bool(
            found.agreement.same_label >= self.min_agreement
            and found.drop <= self.max_metric_drop
            and not self._loses_positives(found)
        )

    def _loses_positives(self, found: Comparison) -> bool:
        return found.positives_f1 is not None and found.positives_f1 < min(MIN_POSITIVES_F1, self.min_agreement)

    def passes_surely(self, found: Comparison) -> bool:
        """Whether other texts can be expected to pass, too: better than the bounds by one standard error.

        A single decision is never too much, however few there are.
        """
        count = max(found.decisions, 1)
        bound = min(max(self.min_agreement, 0.0), 1.0)
        surely = min(bound + sqrt(bound * (1 - bound) / count), 1 - 1 / count)
        # Where INT8 decides otherwise, it is right as often as wrong by chance.
        chance = sqrt(max(1 - found.agreement.same_label, 0.0) / count)
        drop = max(self.max_metric_drop - chance, min(self.max_metric_drop, 1 / count))
        return bool(
            self.passes(found) and found.agreement.same_label >= surely - _ROUNDING and found.drop <= drop + _ROUNDING
        )

    def check(self, found: Comparison, fp32_parts: int = 0, most: int = 0, mend: str = _CALIBRATE) -> None:
        """Raises GateRefused where `found` does not pass.

        Args:
            found: how the graph does.
            fp32_parts: how many of its parts are FP32.
            most: how many of them were tried as FP32 at once, in vain.
            mend: what may help.
        """
        if self.passes(found):
            return
        kept = _kept(fp32_parts, most)
        if not found.agreement.same_label >= self.min_agreement:
            what = f"agrees with FP32 in {found.agreement.same_label:.4f} of its decisions{kept}"
            bound = f"less than --min-agreement {self.min_agreement:g}"
        elif self._loses_positives(found):
            what = f"finds what FP32 finds with an F1 of {found.positives_f1:.4f}{kept}"
            least = min(MIN_POSITIVES_F1, self.min_agreement)
            bound = f"less than {least:g} (decisions to give nothing do not count here)"
        else:
            what = f"loses {found.drop:.4f} of {found.metric}{kept}"
            bound = f"more than --max-metric-drop {self.max_metric_drop:g}"
        raise GateRefused(
            f"INT8 {what} on {counted(found.agreement.texts, 'text')}, {bound}: nothing was written. "
            f"{_NARROW if found.narrow else ''}{mend}, or change the bound.",
            found,
        )


def _kept(fp32_parts: int, most: int) -> str:
    if not most:
        return f", even with {counted(fp32_parts, 'part')} in FP32" if fp32_parts else ""
    if not fp32_parts:
        return f", and no more with up to {counted(most, 'part')} in FP32"
    if fp32_parts == most:
        return f", even with {counted(most, 'part')} in FP32, the most that were tried"
    return f", even with {counted(fp32_parts, 'part')} in FP32, the best of up to {most} that were tried"
