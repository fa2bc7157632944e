"""Why a text gets its score: each word in turn is hidden, and what the score loses without it the word carries.

Occlusion asks nothing of the model but its answers, so it says of any bundle what its worker would say. Words are those
of the tokenizer, before it splits them into tokens. What they carry does not add up to the score: two words that say
the same are each worth little.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson

from worker.errors import ConfigError, InvalidMessage
from worker.model import bundle as bundles
from worker.offline import Offline
from worker.opening import bundle_folder, open_model
from worker.pipeline.interpret import DEFAULT_THRESHOLD, SCORE_DIGITS
from worker.pipeline.messages import Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.config import BatchingSettings, DecisionSettings, InputSettings, ModelSettings
    from worker.model.bundle import Bundle
    from worker.opening import Model
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.messages import Classification

Method: TypeAlias = Literal["auto", "mask", "leave-out"]
Place: TypeAlias = "tuple[int, int]"
"""Of a word: start and end in characters."""
_MASKS = ("[MASK]", "<mask>")


class Token(NamedTuple):
    """A token that the model reads."""

    token: str
    """As the vocabulary has it."""
    start: int
    """In characters (code points) of the text, as `end`; of a special token both are 0."""
    end: int
    special: bool


class Piece(NamedTuple):
    """A word, or neighbours that were hidden together."""

    text: str
    start: int
    end: int
    effect: float
    """What the explained score loses without it; negative where it speaks against the label."""


class Explanation(NamedTuple):
    """What a bundle says of a text, and why."""

    model: ModelIdentity
    said: Classification
    truncated: bool
    characters: int
    """Of the text."""
    read: int
    """Characters up to the last that the model read."""
    tokens: tuple[Token, ...]
    windows: int
    max_length: int
    thresholds: Mapping[str, float]
    label: str
    """Whose score is explained."""
    method: str
    """`mask` or `leave-out`."""
    base: float
    """The score that the pieces' effects are differences from: that of all layers, and of the words read."""
    pieces: tuple[Piece, ...]
    """In the order of the text."""
    words: int
    """Of which they are made; more than there are pieces where neighbours were hidden together."""


class Explainer:
    """Explains the texts of one bundle, with the settings of a worker.

    Raises:
        BundleError: the bundle is missing, damaged or does not fit this machine.
        ConfigError: the settings do not fit the bundle, or it finds entities, which have no score to be carried.
    """

    def __init__(
        self, model: ModelSettings, decision: DecisionSettings, batching: BatchingSettings, limits: InputSettings
    ) -> None:
        self._bundle = bundles.load(bundle_folder(model.bundle))
        if self._bundle.manifest.task == "token":
            raise ConfigError(
                f"The bundle {self._bundle.manifest.name} finds entities, which have a score each and no text's score "
                "that words could carry. `winnow classify` shows the entities."
            )
        self._model = open_model(model, decision=decision)
        # An answer after the first layers and one after all are not on one scale.
        whole = model.model_copy(update={"early_exit": "off"})
        self._whole = open_model(whole, decision=decision) if self._model.exits else self._model
        self._batching = batching
        self._characters = limits.max_characters
        self._mask = _mask(self._bundle)

    def __call__(self, text: str, label: str | None = None, method: Method = "auto", most: int = 256) -> Explanation:
        """Explain one text; the same text gives the same explanation.

        Args:
            text: what a message would hold.
            label: whose score; None for the best one.
            method: how a word is hidden; `auto` masks it where the tokenizer has a mask token.
            most: runs of the model, about: where there are more words, neighbours are hidden together.

        Raises:
            ConfigError: there is no such label, or no mask token.
            InvalidMessage: the text cannot be classified.
        """
        if not text.strip():
            raise InvalidMessage("empty-text", "The text is empty.")
        cut = text[: self._characters]
        result = self._results(self._model, [cut])[0]
        said = result.classification
        explained, mask = self._label(label, said), self._hidden(method)
        tokens, words = _read(self._model, cut)
        read = cut[: words[-1][1]] if words else ""
        places = _grouped(words, max(1, most // result.windows - 1))
        hidden = [read[:start] + mask + read[end:] for start, end in places]
        whole = self._results(self._whole, [read, *hidden]) if words else [result]
        base, *scores = [one.classification.scores[explained] for one in whole]
        return Explanation(
            self._model.identity,
            said,
            result.truncated or len(cut) < len(text),
            len(text),
            len(read),
            tokens,
            result.windows,
            self._model.max_length,
            self._thresholds(),
            explained,
            "mask" if mask else "leave-out",
            base,
            tuple(_piece(read, place, base - score) for place, score in zip(places, scores, strict=True)),
            len(words),
        )

    def _results(self, model: Model, texts: Sequence[str]) -> list[Result]:
        """Of all texts, run together on all lanes."""
        with closing(Offline(model, self._batching)) as offline:
            outcomes = list(offline(Request(str(number), text, False) for number, text in enumerate(texts)))
        return [_result(outcome) for outcome in outcomes]

    def _label(self, label: str | None, said: Classification) -> str:
        if label is None:
            return said.label if said.label in said.scores else max(said.scores, key=said.scores.__getitem__)
        if label not in said.scores:
            known = ", ".join(said.scores)
            raise ConfigError(f"--label: the bundle {self._model.identity.name} has no {label!r}; it has {known}.")
        return label

    def _hidden(self, method: Method) -> str:
        """What stands in the text for what is hidden."""
        if method == "mask" and not self._mask:
            raise ConfigError(
                f"--method mask: the tokenizer of {self._model.identity.name} has no mask token. Use leave-out."
            )
        return "" if method == "leave-out" else self._mask

    def _thresholds(self) -> dict[str, float]:
        """The least score of each label that has one."""
        manifest = self._bundle.manifest
        default = dict.fromkeys(self._bundle.labels, DEFAULT_THRESHOLD) if manifest.task == "multi-label" else {}
        return default | manifest.thresholds


def _mask(bundle: Bundle) -> str:
    """The mask token, where the tokenizer takes it from a text; else nothing."""
    added = orjson.loads(bundle.tokenizer_json).get("added_tokens") or []
    return next((token["content"] for token in added if token["content"] in _MASKS), "")


def _result(outcome: Result | Rejection) -> Result:
    if isinstance(outcome, Rejection):
        raise InvalidMessage(outcome.reason, outcome.message)
    return outcome


def _read(model: Model, text: str) -> tuple[tuple[Token, ...], list[Place]]:
    """The tokens that the model reads, and the places of the words that they belong to."""
    spans = model.tokenizer.spans(text)
    tokens = tuple(
        Token(token, start, end, bool(special))
        for token, (start, end), special in zip(spans.tokens, spans.offsets, spans.special, strict=True)
    )
    words: dict[int, Place] = {}
    for position, (token, word) in enumerate(zip(tokens, spans.word_ids, strict=True)):
        if not token.special and token.end > token.start:
            # Without words every token is one.
            key = position if word is None else word
            start, _ = words.get(key, (token.start, token.end))
            words[key] = (start, token.end)
    return tokens, [place for place in (_stripped(text, *word) for word in words.values()) if place[0] < place[1]]


def _stripped(text: str, start: int, end: int) -> Place:
    """Some tokenizers count the blank before a word as part of it."""
    word = text[start:end]
    return start + len(word) - len(word.lstrip()), start + len(word.rstrip())


def _grouped(words: Sequence[Place], most: int) -> list[Place]:
    """As many neighbours together as it takes to have `most` groups at most."""
    size = max(1, math.ceil(len(words) / most))
    groups = [words[i : i + size] for i in range(0, len(words), size)]
    return [(group[0][0], group[-1][1]) for group in groups]


def _piece(text: str, place: Place, effect: float) -> Piece:
    return Piece(text[slice(*place)], *place, round(effect, SCORE_DIGITS))
