"""A bundle served as the worker serves it, by its own parts, with scores to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import orjson

from worker.errors import ConfigError
from worker.offline import Offline
from worker.opening import open_model
from worker.pipeline.messages import Classification, Rejection, Request
from worker.pipeline.windows import JoinTexts, JoinTokens
from worker.sections import BatchingSettings, DecisionSettings, EntitySettings, InputSettings, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from worker.classifier import OnnxClassifier
    from worker.model.bundle import Bundle
    from worker.model.data import Example
    from worker.opening import Model
    from worker.pipeline.batches import Item
    from worker.pipeline.entities import TokenSpans
    from worker.pipeline.interpret import Entities, OfTexts
    from worker.pipeline.messages import Result

# What of these sections changes what is said of a text; of the others every setting does.
_OF_MODEL = {"max_length", "long_texts", "window_stride", "window_combine", "early_exit"}
_OF_INPUT = {"max_characters"}


class Serving(NamedTuple):
    """The sections of the settings that decide what the worker says of a text."""

    model: ModelSettings = ModelSettings()
    """Which bundle it names does not matter here."""
    entities: EntitySettings = EntitySettings()
    decision: DecisionSettings = DecisionSettings()
    batching: BatchingSettings = BatchingSettings()
    input: InputSettings = InputSettings()

    def reading(self) -> Serving:
        """What decides how much is read of a text, without what is made of its scores."""
        return Serving(model=self.model, batching=self.batching, input=self.input)

    def all_layers(self) -> Serving:
        """The same without early exit."""
        return self._replace(model=self.model.model_copy(update={"early_exit": "off"}))

    def changed(self) -> dict[str, Any]:
        """The settings by their dotted names that have a say in the figures and are not the defaults."""
        sections = {"input": _OF_INPUT, "model": _OF_MODEL, "entities": None, "decision": None}
        return {
            f"{section}.{name}": value
            for section, names in sections.items()
            for name, value in getattr(self, section).model_dump(mode="json", exclude_defaults=True).items()
            if names is None or name in names
        }


def in_words(changed: Mapping[str, Any]) -> str:
    """Settings as `--set` takes them, parted by commas."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else orjson.dumps(value).decode()}" for name, value in changed.items()
    )


class Told(NamedTuple):
    """What the worker says of one text.

    Attributes:
        said: the result's content.
        scores: of all labels, or of the tags of each token, before they are rounded.
        spans: for the task `token` where the tokens are.
        truncated: whether the text was cut.
    """

    said: Classification
    scores: NDArray[np.float64]
    spans: TokenSpans | None
    truncated: bool


class ServedBundle:
    """A bundle, opened with settings.

    Raises:
        BundleError: it cannot be served on this machine.
        ConfigError: the settings do not fit it.
    """

    def __init__(self, bundle: Bundle, serving: Serving) -> None:
        named = serving.model.model_copy(update={"bundle": str(bundle.path.resolve())})
        self._model = _exact(open_model(named, serving.entities, serving.decision), named)
        self._serving = serving

    def __call__(self, examples: Sequence[Example], told: Callable[[int], None] = lambda _: None) -> list[Told]:
        """What the worker says of each text; `told` is called with the number of those done since.

        Raises:
            ConfigError: it would make a dead letter of one.
        """
        offline = Offline(self._model, self._serving.batching)
        requests = (self._request(example) for example in examples)
        try:
            return list(_outcomes(examples, offline(requests), told))
        finally:
            offline.close()

    def _request(self, example: Example) -> Request:
        longest = self._serving.input.max_characters
        return Request(example.id, example.text[:longest], len(example.text) > longest)


def _outcomes(
    examples: Sequence[Example], outcomes: Iterator[Result | Rejection], told: Callable[[int], None]
) -> Iterator[Told]:
    for example, outcome in zip(examples, outcomes, strict=True):
        if isinstance(outcome, Rejection):
            raise ConfigError(
                f"The text {example.id} cannot be classified, and the worker would make a dead letter of it: "
                f"{outcome.message} Leave it out."
            )
        said = cast("_Exact", outcome.classification)
        yield Told(said, said.exact, said.spans, outcome.truncated)
        told(1)


class _Exact(Classification):
    """With what it was made of."""

    exact: NDArray[np.float64]
    spans: TokenSpans | None


class _Keeping:
    """The worker's interpretation, whose classifications keep the scores that they were made of.

    As `worker.pipeline.interpret` has them, of texts (`OfTexts`) or of tokens (`Entities`).
    """

    def __init__(self, interpret: OfTexts | Entities) -> None:
        self._interpret = interpret
        self.scores = interpret.scores

    def each(self, scores: NDArray[np.float64], items: Sequence[Item]) -> list[Classification]:
        said = self._interpret.each(scores, items)
        return [
            _kept(one, row[: len(item.ids)] if row.ndim == 2 else row, item.spans)
            for one, row, item in zip(said, scores, items, strict=True)
        ]

    def of_text(self, scores: Sequence[float]) -> Classification:
        return _kept(cast("OfTexts", self._interpret).classify(scores), np.array(scores), None)

    def classify(self, scores: NDArray[np.float64], spans: TokenSpans | None, text: str) -> Classification:
        return _kept(cast("Entities", self._interpret).classify(scores, spans, text), scores, spans)


def _kept(said: Classification, scores: NDArray[np.float64], spans: TokenSpans | None) -> _Exact:
    kept = _Exact(*said)
    # A row is a view of its whole batch, padding included.
    kept.exact, kept.spans = scores.copy(), spans
    return kept


def _exact(model: Model, settings: ModelSettings) -> Model:
    """The model with interpretations that keep the scores, of whole texts and of joined windows."""
    opened = cast("OnnxClassifier", model.classifier).interpreted(
        lambda interpret: _Keeping(cast("OfTexts | Entities", interpret))
    )
    keeping = cast("_Keeping", opened.interpret)
    join: JoinTexts | JoinTokens | None = None
    if isinstance(model.join, JoinTexts):
        join = JoinTexts("max" if settings.window_combine == "max" else "mean", keeping.of_text)
    elif isinstance(model.join, JoinTokens) and model.cutter is not None:
        join = JoinTokens(model.cutter, model.tokenizer, cast("Entities", keeping))
    return model._replace(classifier=opened, join=join)
