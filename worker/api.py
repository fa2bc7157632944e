"""Winnow from Python, without Kafka: `from worker import Classifier`."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import AsyncIterable
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, overload

from pydantic import ValidationError

from worker.config import BatchingSettings, InputSettings, ModelSettings
from worker.errors import ConfigError, InvalidMessage
from worker.offline import Offline
from worker.opening import open_model
from worker.pipeline.decode import requested, text_decoder
from worker.pipeline.messages import Record, Rejection, Request
from worker.streams import as_they_come, parts, to_its_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from worker.config import Settings
    from worker.opening import Model
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.entities import Entity
    from worker.pipeline.messages import Result
    from worker.pipeline.tokenization import Encoded, TextTokenizer

S = TypeVar("S")


class Classified(NamedTuple):
    """What a bundle says of a text; as the worker's results, without what is the message's."""

    label: str | None
    """The chosen label, or the fallback; None where there is neither, and for entities."""
    score: float | None
    """Of the best label, chosen or not; for a regression the value; None for entities."""
    scores: dict[str, float]
    """Every label's score, in the order of the label ids; empty for entities."""
    labels: tuple[tuple[str, float], ...] | None
    """Multi-label bundles: labels that reached their thresholds, best first."""
    entities: tuple[Entity, ...] | None
    """Bundles that find entities: what was found, in the order of the text."""
    action: str | None
    """`accept`, `review` or `reject`, where the settings ask for it."""
    truncated: bool
    """Whether the model read only the beginning of the text."""
    tokens: int
    """That it read, special ones included."""
    windows: int
    """Runs of the model that the text took."""
    layer: int | None
    """After how many layers it was decided, of models with an early exit."""


class Classifier:
    """A bundle, ready to classify: `with Classifier() as classify: classify("text")`.

    May be shared between threads: each call has a lane of its own, so calls in several threads use several cores, and
    `many` uses all lanes by itself. It does not outlive a `fork`, and cannot be pickled: make one in each process.

    Attributes:
        model: name and digest of the bundle.
        labels: of the bundle, in the order of their ids.
    """

    model: ModelIdentity
    labels: tuple[str, ...]

    def __init__(
        self,
        bundle: str | Path = "default",
        *,
        lanes: int = 0,
        max_length: int | None = None,
        long_texts: Literal["truncate", "windows"] = "truncate",
        settings: Settings | None = None,
    ) -> None:
        """Open a bundle, check its digests, and prove with its probes that this machine computes what it should.

        Args:
            bundle: its folder; `default` is the spam filter that comes with Winnow.
            lanes: cores that `many` uses; 0 for as many as the CPU quota and affinity give.
            max_length: tokens that a text is truncated to; None takes what the bundle says.
            long_texts: what happens to longer ones: see `model.long_texts`.
            settings: of a worker, in place of all the others: what is said is then what that worker would say.

        Raises:
            BundleError: the bundle is missing, damaged or does not fit this machine.
            ConfigError: the settings do not fit the bundle, or `settings` is not given alone.
        """
        if settings is None:
            opened = open_model(
                _model_settings(bundle=str(bundle), lanes=lanes, max_length=max_length, long_texts=long_texts)
            )
            self._batching, limits = BatchingSettings(), InputSettings()
        else:
            if (str(bundle), lanes, max_length, long_texts) != ("default", 0, None, "truncate"):
                raise ConfigError("Classifier: give settings alone, and set the bundle and its options in them.")
            opened = open_model(settings.model, settings.entities, settings.decision)
            self._batching, limits = settings.batching, settings.input
        tokenizer = cast("TextTokenizer", _OneAtATime(opened.tokenizer))
        self._opened: Model = opened._replace(tokenizer=tokenizer)
        self._decode = text_decoder(sys.maxsize, limits.max_characters)
        self._idle: deque[Offline] = deque()
        self._closed = False
        self.model, self.labels = opened.identity, opened.labels

    def __call__(self, text: str) -> Classified:
        """Classify one text.

        Raises:
            InvalidMessage: this text cannot be classified; `reason` says why in a word.
            StageError: the model hangs.
        """
        with self._lane() as offline:
            (said,) = self._said(offline, [text])
        if isinstance(said, InvalidMessage):
            raise said
        return said

    @overload
    def many(self, texts: Iterable[str], *, errors: Literal["raise"] = "raise") -> Iterator[Classified]: ...

    @overload
    def many(self, texts: Iterable[str], *, errors: Literal["return"]) -> Iterator[Classified | InvalidMessage]: ...

    def many(
        self, texts: Iterable[str], *, errors: Literal["raise", "return"] = "raise"
    ) -> Iterator[Classified | InvalidMessage]:
        """Classify a stream of texts, one answer a text, in order, in batches that fit their lengths, on all lanes.

        A few thousand texts are held at a time, so a stream may be endless.

        Args:
            texts: read as answers are taken.
            errors: a text that cannot be classified ends the stream, or has its error in the place of an answer.

        Raises:
            InvalidMessage: a text cannot be classified, and `errors` is `raise`.
            StageError: the model hangs.
        """
        self._check(errors)
        return self._many(iter(_texts(texts)), errors)

    def _many(self, texts: Iterator[str], errors: str) -> Iterator[Classified | InvalidMessage]:
        with closing(Offline(self._opened, self._batching)) as offline:
            for outcome in offline(self._request(text, number) for number, text in enumerate(texts)):
                yield _checked(_classified(outcome), errors)

    async def aclassify(self, text: str) -> Classified:
        """Classify one text, in a thread; calls that wait at the same time use several cores. Raises as a call does."""
        return await to_its_end(self, text)

    @overload
    def amany(
        self, texts: AsyncIterable[str] | Iterable[str], *, errors: Literal["raise"] = "raise"
    ) -> AsyncGenerator[Classified]: ...

    @overload
    def amany(
        self, texts: AsyncIterable[str] | Iterable[str], *, errors: Literal["return"]
    ) -> AsyncGenerator[Classified | InvalidMessage]: ...

    def amany(
        self, texts: AsyncIterable[str] | Iterable[str], *, errors: Literal["raise", "return"] = "raise"
    ) -> AsyncGenerator[Classified | InvalidMessage]:
        """The same as `many` for `async for`: the model runs in threads, and the event loop goes on meanwhile.

        Texts of an asynchronous source are classified as they come: those that are there together, together.
        """
        self._check(errors)
        return self._amany(_texts(texts), errors)

    async def _amany(
        self, texts: AsyncIterable[str] | Iterable[str], errors: str
    ) -> AsyncGenerator[Classified | InvalidMessage]:
        with closing(Offline(self._opened, self._batching)) as offline:
            async with aclosing(as_they_come(texts) if isinstance(texts, AsyncIterable) else parts(texts)) as chunks:
                async for chunk in chunks:
                    for said in await to_its_end(self._said, offline, chunk):
                        yield _checked(said, errors)

    def close(self) -> None:
        """End the lanes; may be called again. Streams that are being read go on to their end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, errors: str) -> None:
        self._check_open()
        if errors not in ("raise", "return"):
            raise ValueError(f"errors is 'raise' or 'return', not {errors!r}.")

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("This classifier is closed.")

    @contextmanager
    def _lane(self) -> Iterator[Offline]:
        """One lane that nobody else uses meanwhile."""
        self._check_open()
        try:
            offline = self._idle.pop()
        except IndexError:
            offline = Offline(self._opened._replace(lanes=1), self._batching)
        try:
            yield offline
        except BaseException:
            # Something of that call may still be in it.
            offline.close()
            raise
        self._idle.append(offline)
        if self._closed:
            self.close()

    def _said(self, offline: Offline, texts: Sequence[str]) -> list[Classified | InvalidMessage]:
        return [_classified(one) for one in offline(self._request(text, number) for number, text in enumerate(texts))]

    def _request(self, text: str, number: int) -> Request | Rejection:
        # A lone surrogate is nothing that a message could hold: the decoder refuses it as it does other bytes.
        value = _text(text).encode("utf-8", "surrogatepass")
        if not value:
            return Rejection("decode", "empty-text", "The text is empty.", InvalidMessage.__name__)
        return requested(Record("", 0, number, None, value, [], None), self._decode)


class _OneAtATime:
    """A tokenizer that several threads may call: what it remembers of words, it remembers for one at a time."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        with self._lock:
            return self._tokenizer(texts)


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"A text is a str, not {type(given).__name__}.")
    return given


def _texts(given: S) -> S:
    """What can be iterated over but is not meant to be: the characters of one text."""
    if isinstance(given, str | bytes):
        raise TypeError("A stream of texts is an iterable of str; call the classifier itself for one text.")
    return given


def _model_settings(**values: Any) -> ModelSettings:
    try:
        return ModelSettings(**values)
    except ValidationError as error:
        wrong = "; ".join(f"{one['loc'][0] if one['loc'] else 'model'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"Classifier: {wrong}.") from None


def _classified(outcome: Result | Rejection) -> Classified | InvalidMessage:
    if isinstance(outcome, Rejection):
        return InvalidMessage(outcome.reason, outcome.message)
    said = outcome.classification
    return Classified(
        said.label, said.score, said.scores, said.labels, said.entities, said.action, outcome.truncated, outcome.tokens,
        outcome.windows, said.layer,
    )  # fmt: skip


def _checked(said: Classified | InvalidMessage, errors: str) -> Classified | InvalidMessage:
    if isinstance(said, InvalidMessage) and errors == "raise":
        raise said
    return said
