"""A bundle opened for classifying: its tokenizer, its graph, and what its logits mean for its task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from worker import tasks
from worker.classifier import EarlyExitClassifier, OnnxClassifier
from worker.cpu import usable_cores
from worker.errors import BundleError, ConfigError
from worker.model import bundle as bundles
from worker.pipeline.batcher import Batcher, StagedBatcher, bucket_edges
from worker.pipeline.decision import Decision
from worker.pipeline.encode import ModelIdentity
from worker.pipeline.entities import OUTSIDE, read_tags
from worker.pipeline.infer import OnnxModel, StagedModel, session_options
from worker.pipeline.interpret import Entities
from worker.pipeline.tokenization import TextTokenizer
from worker.pipeline.windows import Cutter, JoinTexts, JoinTokens, Windows
from worker.sections import DEFAULT_COMBINE, DecisionSettings, EntitySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.classifier import EarlyHead
    from worker.model.bundle import Bundle
    from worker.model.manifest import Manifest
    from worker.pipeline.infer import Allocation
    from worker.pipeline.interpret import Interpreter, OfTexts
    from worker.pipeline.windows import Join
    from worker.ports import Classifier
    from worker.sections import BatchingSettings, ModelSettings

DEFAULT_BUNDLE = Path(bundles.__file__).parent / "default"
WINDOW_BATCHES = 2
"""Batches of windows that are out for each lane: one that runs and one that waits behind it."""


class Model(NamedTuple):
    """A bundle, ready to classify."""

    identity: ModelIdentity
    labels: tuple[str, ...]
    """In the order of their ids; the tags, where the bundle finds entities."""
    tokenizer: TextTokenizer
    classifier: Classifier
    max_length: int
    lanes: int
    answers: tuple[str, ...] = ()
    """What the label of a result may be."""
    types: tuple[str, ...] = ()
    """What the group of an entity may be."""
    cutter: Cutter | None = None
    join: Join | None = None
    exits: tuple[int, ...] = ()
    """After how many layers a text may have its result, where that is not the same for all."""
    repeatable: bool = True
    """Whether a text has the same scores whatever stands beside it, so that they may be kept."""
    bundle: Bundle | None = None
    """Where all this comes from."""

    def batcher(self, batching: BatchingSettings, max_delay: float) -> Batcher:
        """What gathers texts for the lanes; `max_delay` in seconds."""
        kind = StagedBatcher if self.exits else Batcher
        return kind(batching.max_messages, batching.max_tokens, max_delay, bucket_edges(self.max_length))

    def windows(self, batching: BatchingSettings) -> Windows:
        """For the long texts of one loop."""
        if self.cutter is None:
            return Windows()
        in_a_batch = max(1, min(batching.max_messages, batching.max_tokens // self.max_length))
        return Windows(self.cutter, self.join, WINDOW_BATCHES * self.lanes * in_a_batch)


def bundle_folder(name: str) -> Path:
    """The folder of a bundle as settings name it."""
    return DEFAULT_BUNDLE if name == "default" else Path(name)


class Fitting(NamedTuple):
    """What the settings make of a bundle, before its graph is loaded."""

    bundle: Bundle
    identity: ModelIdentity
    answers: tuple[str, ...]
    """What the label of a result may be; none where the bundle finds entities."""
    max_length: int
    tokenizer: TextTokenizer
    interpret: OfTexts | Entities
    early: EarlyHead | None
    """Where texts may have their result before the last layer."""
    cutter: Cutter | None
    """Where long texts are read in windows."""


def fit(
    bundle: Bundle,
    settings: ModelSettings,
    entities: EntitySettings = EntitySettings(),  # noqa: B008 - settings are frozen
    decision: DecisionSettings = DecisionSettings(),  # noqa: B008
) -> Fitting:
    """See what the settings ask of a bundle.

    Raises:
        BundleError: the bundle is for something that cannot be served, or its tokenizer cannot be loaded.
        ConfigError: the settings do not fit the bundle.
    """
    manifest = bundle.manifest
    max_length = _max_length(settings, manifest)
    interpretation = tasks.interpretation(bundle)
    finds_entities = manifest.task == "token"
    in_windows = settings.long_texts == "windows" and (finds_entities or settings.window_combine != "first")
    _check_entities(entities, bundle)
    _check_combine(settings, bundle)
    decided = _decision(decision, bundle)
    try:
        tokenizer = TextTokenizer(bundle.tokenizer_json, max_length, whole=in_windows, spans=finds_entities)
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions
        raise BundleError(f"The tokenizer of {bundle.path} cannot be loaded: {error}.") from None
    early = manifest.early_exit if settings.early_exit == "auto" else None
    parts = tasks.Parts(bundle, tokenizer, entities, decided, early)
    return Fitting(
        bundle,
        ModelIdentity(manifest.name, bundle.digest),
        () if finds_entities else _answers(bundle.labels, decided.fallback),
        max_length,
        tokenizer,
        interpretation(parts),
        tasks.early_head(parts),
        _cutter(settings, tokenizer, max_length) if in_windows else None,
    )


def open_model(
    settings: ModelSettings,
    entities: EntitySettings = EntitySettings(),  # noqa: B008 - settings are frozen
    decision: DecisionSettings = DecisionSettings(),  # noqa: B008
) -> Model:
    """Load a bundle, check its digests, and prove with its probes that this machine computes what it should.

    Raises:
        BundleError: the bundle is missing, damaged or does not fit this machine.
        ConfigError: the settings do not fit the bundle.
    """
    bundle = bundles.load(bundle_folder(settings.bundle))
    found = fit(bundle, settings, entities, decision)
    manifest, tokenizer = bundle.manifest, found.tokenizer
    # The probes are texts of the bundle's whole length, whatever the settings cut.
    same = found.max_length == manifest.max_length and found.cutter is None
    reading = tokenizer if same else TextTokenizer(bundle.tokenizer_json, manifest.max_length)
    try:
        model = graphs(bundle, settings.allocation)
    except Exception as error:  # noqa: BLE001 - the runtime raises bare exceptions of its own kinds
        raise BundleError(f"The graph of {bundle.path} cannot be loaded: {error}.") from None

    _check_probes(bundle, model, reading)
    canary = reading(["a text that is known to work"])[0].ids
    _check_padding(bundle, model, canary)
    early = manifest.early_exit if found.early else None
    return Model(
        found.identity,
        tuple(bundle.labels),
        tokenizer,
        _classifier(model, found.interpret, canary, found.early),
        found.max_length,
        settings.lanes or usable_cores(),
        found.answers,
        _groups(bundle.labels, entities) if manifest.task == "token" else (),
        found.cutter,
        _join(found.cutter, settings, tokenizer, found.interpret) if found.cutter else None,
        (early.layer, early.layers) if early else (),
        not bundle.depends_on_the_batch,
        bundle,
    )


def graphs(bundle: Bundle, allocation: Allocation) -> OnnxModel | StagedModel:
    """What runs the bundle's graphs; nothing is checked.

    Raises:
        Exception: whatever ONNX Runtime raises for a file that it cannot load.
    """
    options = session_options(allocation)
    if bundle.manifest.early_exit is None:
        return OnnxModel(str(bundle.model_path), bundle.manifest.pad_id, options)
    return StagedModel(str(bundle.early_path), str(bundle.rest_path), bundle.manifest.pad_id, options)


def _classifier(
    model: OnnxModel | StagedModel, interpret: Interpreter, canary: Sequence[int], early: EarlyHead | None
) -> OnnxClassifier:
    if isinstance(model, StagedModel) and early is not None:
        return EarlyExitClassifier(model, interpret, canary, early)
    return OnnxClassifier(model, interpret, canary)


def _check_probes(bundle: Bundle, model: OnnxModel | StagedModel, reading: TextTokenizer) -> None:
    def rows(texts: Sequence[str]) -> list[list[int]]:
        return [encoded.ids for encoded in reading(texts)]

    def logits_of(texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Of each text: [labels], or [tokens, labels]."""
        ids = rows(texts)
        return [one[: len(row)] if one.ndim == 2 else one for one, row in zip(model(ids), ids, strict=True)]

    stages = model if isinstance(model, StagedModel) else None
    bundles.check_probes(bundle, logits_of, None if stages is None else lambda texts: stages.early(rows(texts))[0])


def _check_padding(bundle: Bundle, run: OnnxModel | StagedModel, ids: list[int]) -> None:
    """Run two texts of different lengths together: probes run alone, so none of them meets the padding."""
    try:
        run([ids, ids[:1]])
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises
        said = str(error).splitlines()[0][:200]
        raise BundleError(
            f"The bundle {bundle.path} cannot run two texts of different lengths together ({said}): correct pad_id = "
            f"{bundle.manifest.pad_id} in {bundles.MANIFEST}, which must be a token of its vocabulary."
        ) from None


def _max_length(settings: ModelSettings, manifest: Manifest) -> int:
    if settings.max_length is not None and settings.max_length > manifest.max_length:
        raise ConfigError(
            f"model.max_length = {settings.max_length} is more than the {manifest.max_length} tokens that the bundle "
            f"{manifest.name} reads. Lower it, or leave it out."
        )
    return settings.max_length or manifest.max_length


# What settings ask of a bundle


def _decision(settings: DecisionSettings, bundle: Bundle) -> Decision:
    task, name = bundle.manifest.task, bundle.manifest.name
    useless = {"token": settings.model_fields_set, "regression": {"min_score", "fallback_label", "unwanted_labels"}}
    useless["multi-label"] = {"min_score"}
    asked = {field for field in useless.get(task, ()) if getattr(settings, field) not in (None, ())}
    if asked:
        raise ConfigError(f"decision.{min(asked)} has no meaning for the bundle {name} ({task}). Leave it out.")
    if task == "single-label" and settings.fallback_label is not None and settings.min_score is None:
        raise ConfigError("decision.fallback_label needs decision.min_score: the score below which it is the label.")
    for field in ("accept_score", "review_score") if task != "regression" else ():
        value = getattr(settings, field)
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"decision.{field} is {value}, and scores of the bundle {name} ({task}) are from 0 to 1.")
    for label in settings.unwanted_labels:
        if label not in bundle.labels:
            known = ", ".join(bundle.labels)
            raise ConfigError(
                f"decision.unwanted_labels has {label!r}, which the bundle {name} does not; it has {known}."
            )
    return Decision(
        settings.min_score or 0.0,
        settings.fallback_label,
        settings.accept_score,
        settings.review_score,
        tuple(bundle.labels.index(label) for label in settings.unwanted_labels),
    )


def _check_entities(settings: EntitySettings, bundle: Bundle) -> None:
    name = bundle.manifest.name
    if bundle.manifest.task != "token":
        if settings != EntitySettings():
            raise ConfigError(f"The settings under entities have no meaning for the bundle {name}. Leave them out.")
        return
    known = sorted({tag.type for tag in read_tags(bundle.labels)} - {OUTSIDE})
    for kind in settings.types:
        if kind not in known:
            raise ConfigError(
                f"entities.types has {kind!r}, which the bundle {name} does not find; it finds {', '.join(known)}."
            )


def _check_combine(settings: ModelSettings, bundle: Bundle) -> None:
    if bundle.manifest.task == "token" and settings.window_combine != DEFAULT_COMBINE:
        raise ConfigError(
            f"model.window_combine has no meaning for the bundle {bundle.manifest.name} (token): entities of windows "
            "are joined, not their scores. Leave it out."
        )


def _answers(labels: Sequence[str], fallback: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*labels, *([fallback] if fallback is not None else [])]))


def _groups(labels: Sequence[str], settings: EntitySettings) -> tuple[str, ...]:
    """What groups entities may have, in the order of the labels."""
    tags = zip(labels, read_tags(labels), strict=True)
    wanted = [(label, tag.type) for label, tag in tags if tag.type != OUTSIDE]
    wanted = [(label, kind) for label, kind in wanted if not settings.types or kind in settings.types]
    return tuple(dict.fromkeys(label if settings.aggregation == "none" else kind for label, kind in wanted))


# Long texts


def _cutter(settings: ModelSettings, tokenizer: TextTokenizer, max_length: int) -> Cutter:
    before, after = tokenizer.special_tokens()
    room = max_length - before - after
    if room < 1:
        raise ConfigError(f"A window of {max_length} tokens has no room for a text. Set model.long_texts = truncate.")
    overlap = room // 8 if settings.window_stride is None else settings.window_stride
    if overlap > room // 2:
        # Every token would be read more than twice.
        raise ConfigError(
            f"model.window_stride = {overlap} is more than half of the {room} tokens of a text that a window holds: "
            f"each would be read over and over. Set it to {room // 2} or less."
        )
    return Cutter(max_length, overlap, before, after)


def _join(cutter: Cutter, settings: ModelSettings, tokenizer: TextTokenizer, interpret: OfTexts | Entities) -> Join:
    if isinstance(interpret, Entities):
        return JoinTokens(cutter, tokenizer, interpret)
    return JoinTexts("max" if settings.window_combine == "max" else "mean", interpret.classify)
