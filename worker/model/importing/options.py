"""What can be chosen of an import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.importing.bounds import MAX_METRIC_DROP, MIN_AGREEMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.data import Example
    from worker.model.manifest import Evaluation, Source


@dataclass(frozen=True)
class ImportOptions:
    """What an import depends on besides the model.

    Attributes:
        name: of the bundle; None makes one of the folder's.
        calibration: texts like those that the model will see, labelled or not; none takes Winnow's own sample.
        gate: more of them, on which INT8 is compared and never calibrated; none takes some of `calibration`.
        gate_source: what the manifest says of these.
        calibration_source: what the manifest says of `calibration`.
        min_agreement: least share of equal decisions, INT8 against FP32.
        max_metric_drop: by how much the metric may be worse in INT8, where the texts are labelled.
        max_length: tokens; None takes the model's own.
        weight_limit: `REDUCED_WEIGHT_LIMIT` for CPUs without VNNI.
        exact_gelu: keep Gelu, where the fitted Silu would be faster.
        licence: of the model; None takes what its card says.
        base_model: what it was trained from.
        data: what it was trained and calibrated with.
        evaluation: figures measured elsewhere.
        thresholds: by label.
        temperature: divides the logits.
        labels: names in the order of their ids; none takes the model's own.
        task: of the manifest; None takes what the model says.
        lowercase: None takes what the tokenizer says.
        onnx_file: the graph to import, by its path in the folder.
        rebuild: make our own graph of an FP32 graph's weights.
        exit_agreement: of a checkpoint with an early head, how many of the gate's texts are to get the same label from
            it as from all layers; None leaves the head out.
    """

    name: str | None = None
    calibration: Sequence[Example] = ()
    gate: Sequence[Example] = ()
    gate_source: str = "texts that calibration did not see"
    calibration_source: str = "texts given by the user"
    min_agreement: float = MIN_AGREEMENT
    max_metric_drop: float = MAX_METRIC_DROP
    max_length: int | None = None
    weight_limit: int = WEIGHT_LIMIT
    exact_gelu: bool = False
    licence: str | None = None
    base_model: Source | None = None
    data: tuple[Source, ...] = ()
    evaluation: tuple[Evaluation, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    labels: tuple[str, ...] = ()
    task: str | None = None
    lowercase: bool | None = None
    onnx_file: str | None = None
    rebuild: bool = False
    exit_agreement: float | None = None
