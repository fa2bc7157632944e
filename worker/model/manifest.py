"""What `bundle.json` says: how a model is to be used, where it comes from, and how good it was measured to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from worker.pipeline.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Sequence

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Something the bundle was made from."""

    name: str
    licence: str
    credit: str = ""


class Agreement(_Frozen):
    """The quantized graph against the FP32 graph of the same weights, on texts that calibration did not see."""

    texts: PositiveInt
    same_label: Share
    mean_logit_difference: float
    largest_logit_difference: float


class Quantization(_Frozen):
    """How numbers are stored and multiplied.

    `fp32_parts` names what stayed FP32 because INT8 cost too much there; `as imported` is a graph somebody else made.
    `gelu`: whether a Silu fitted to it stands between the feed-forward products.
    """

    weights: Literal["float32", "int8 by column", "as imported"]
    activations: Literal["float32", "static uint8", "as imported"]
    embeddings: Literal["float32", "int8 by row", "as imported"]
    fp32_parts: tuple[str, ...] = ()
    gelu: Literal["as trained", "fitted silu"] = "as trained"
    calibration: str = ""
    calibration_texts: int = 0
    against_fp32: Agreement | None = None


class Figures(_Frozen):
    """How one graph did on one set of texts: precision, recall and F1 by label; `metrics`: what else there is."""

    accuracy: Share | None = None
    precision: dict[str, Share] = Field(default_factory=dict)
    recall: dict[str, Share] = Field(default_factory=dict)
    f1: dict[str, Share] = Field(default_factory=dict)
    calibration_error: Share | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class WithExits(_Frozen):
    """How the same quantized graph did where texts that are sure leave early.

    Attributes:
        figures: of what is served then.
        same_label: the share of texts that get the same label as from all layers.
        left: the share of texts that left.
    """

    figures: Figures
    same_label: Share
    left: Share


class Evaluation(_Frozen):
    """One held-out set of texts; `quantized` and `fp32` are figures of all layers."""

    channel: str
    texts: PositiveInt
    per_label: dict[str, int]
    quantized: Figures
    fp32: Figures | None = None
    same_label: Share | None = None
    early_exit: WithExits | None = None
    note: str = ""


class Probe(_Frozen):
    """A text and the logits it must give; for the task `token` those of all its tokens, one token after the other.

    `early_logits` are those of the early head, where there is one.
    """

    text: str
    logits: tuple[float, ...]
    early_logits: tuple[float, ...] = ()


class EarlyExit(_Frozen):
    """When a text needs no more layers, and what that was measured to cost.

    Attributes:
        layer: after how many layers the early head reads.
        layers: how many the network has.
        temperature: divides the early head's logits.
        threshold: least probability of the early head's likeliest label with which a text leaves.
        thresholds: the same of labels that have another.
        agreement: the share of the validation texts that get the same label as from all layers; None where that was not
            measured, as with thresholds that were chosen later.
        left: the share of them that left.
        texts: how many there were.
    """

    layer: PositiveInt
    layers: PositiveInt
    temperature: PositiveFloat
    threshold: Share
    thresholds: dict[str, Share] = {}
    agreement: Share | None = None
    left: Share | None = None
    texts: int = 0

    def least(self, labels: Sequence[str]) -> list[float]:
        """The threshold of each label."""
        return [self.thresholds.get(label, self.threshold) for label in labels]


class Reference(_Frozen):
    """How labels and scores are distributed over texts that nothing was learnt from; those of a stream are compared.

    Attributes:
        texts: how many there were.
        labels: the share of them that got a label; of several labels a text counts for each.
        scores: of the texts that got a label, the shares whose score is not above each of `bounds`.
        bounds: upper bounds of scores, ascending.
    """

    texts: PositiveInt
    labels: dict[str, Share]
    scores: dict[str, tuple[Share, ...]]
    bounds: tuple[Share, ...] = SCORES


class Manifest(_Frozen):
    """The content of bundle.json.

    Attributes:
        files: SHA-256 of each file that decides results, by name.
        temperature: divides the logits before the activation.
        thresholds: the least score of a label, by its name; labels without one need none.
        max_length: tokens, special tokens included.
        early_exit: where the graph comes in two stages.
        reference: what labels and scores a stream may be expected to get.
        probes: checked when the worker starts, each logit within `probe_tolerance`.
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
    licence: str
    files: dict[str, Sha256]
    task: Literal["single-label", "multi-label", "regression", "token"]
    activation: Literal["softmax", "sigmoid", "none"]
    temperature: PositiveFloat = 1.0
    thresholds: dict[str, Share] = Field(default_factory=dict)
    max_length: PositiveInt
    pad_id: int = 0
    early_exit: EarlyExit | None = None
    quantization: Quantization
    evaluation: tuple[Evaluation, ...] = ()
    reference: Reference | None = None
    base_model: Source | None = None
    data: tuple[Source, ...] = ()
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)]
    probe_tolerance: PositiveFloat
