"""`winnow classify`: texts in, labels out, no broker."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

import orjson
import typer
from rich.console import Console
from rich.text import Text

from worker.app import open_model
from worker.config import BatchingSettings, InputSettings, ModelSettings
from worker.errors import ConfigError, InvalidMessage
from worker.offline import Offline
from worker.pipeline.decode import json_decoder, text_decoder
from worker.pipeline.messages import Record, Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from worker.app import Model
    from worker.pipeline.decode import Decoder

WIDTH = 100
Write: TypeAlias = "Callable[[Request, Result | Rejection], None]"


def classify(texts: list[str], files: list[Path], bundle: str, text_pointer: str, as_json: bool) -> None:
    """Write one line a text: label, score and the text, or a JSON document."""
    model = open_model(ModelSettings(bundle=bundle))
    offline = Offline(model, BatchingSettings())
    write = _json_writer(model) if as_json else _readable_writer()
    wrong = 0
    for given, outcome in _outcomes(offline, _lines(texts, files), text_pointer):
        wrong += isinstance(outcome, Rejection)
        write(given, outcome)
    offline.close()
    if wrong:
        raise ConfigError(f"{wrong} of the lines could not be classified; each says why.")


def _outcomes(
    offline: Offline, lines: Iterable[tuple[bytes, bool]], text_pointer: str
) -> Iterator[tuple[Request, Result | Rejection]]:
    """Each line with its outcome, in order. A few hundred lines at a time are held."""
    settings = InputSettings()
    bounds = (settings.max_bytes, settings.max_characters)
    try:
        decoders = json_decoder(text_pointer, settings.id_pointer, *bounds), text_decoder(*bounds)
    except ValueError as error:
        raise ConfigError(f"--text-pointer: {error}.") from None
    chunk: list[Request | tuple[Request, Rejection]] = []
    for number, (line, is_text) in enumerate(lines):
        is_json = not is_text and line.lstrip()[:1] == b"{"
        chunk.append(_decode(decoders[0] if is_json else decoders[1], line, number))
        if len(chunk) == 512:
            yield from _classified(offline, chunk)
            chunk = []
    yield from _classified(offline, chunk)


def _classified(
    offline: Offline, chunk: list[Request | tuple[Request, Rejection]]
) -> Iterator[tuple[Request, Result | Rejection]]:
    results = offline([entry for entry in chunk if isinstance(entry, Request)])
    for entry in chunk:
        yield (entry, next(results)) if isinstance(entry, Request) else entry


def _decode(decode: Decoder, line: bytes, number: int) -> Request | tuple[Request, Rejection]:
    try:
        request = decode(Record("", 0, number, None, line, [], None))
    except InvalidMessage as error:
        nothing = Request(str(number), "", False)
        return nothing, Rejection("decode", error.reason, str(error), type(error).__name__)
    return request if request.id != f"-0-{number}" else request._replace(id=str(number))


def _lines(texts: list[str], files: list[Path]) -> Iterator[tuple[bytes, bool]]:
    """Lines without their ends, and whether a line is a text whatever it looks like."""
    for text in texts:
        yield text.encode("utf-8", "surrogateescape"), True
    for path in files:
        try:
            with path.open("rb") as file:
                yield from ((line.rstrip(b"\r\n"), False) for line in file if line.strip())
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if not texts and not files:
        yield from ((line.rstrip(b"\r\n"), False) for line in sys.stdin.buffer if line.strip())


def _json_writer(model: Model) -> Write:
    identity = {"name": model.identity.name, "digest": model.identity.digest}

    def write(request: Request, outcome: Result | Rejection) -> None:
        if isinstance(outcome, Rejection):
            document: dict[str, object] = {"id": request.id, "error": outcome.reason, "message": outcome.message}
        else:
            said = outcome.classification
            document = {
                "id": request.id,
                "label": said.label,
                "score": said.score,
                "scores": said.scores,
                "truncated": outcome.truncated,
                "tokens": outcome.tokens,
                "model": identity,
            }
        typer.echo(orjson.dumps(document))

    return write


def _readable_writer() -> Write:
    console = Console(soft_wrap=True, highlight=False)

    def write(request: Request, outcome: Result | Rejection) -> None:
        if isinstance(outcome, Rejection):
            console.print(Text.assemble((f"{'error':>10}  ", "bold red"), outcome.message))
            return
        said = outcome.classification
        text = " ".join(request.text.split())
        shown = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
        console.print(Text.assemble((f"{said.label:>10}  ", "bold"), (f"{said.score:.3f}  ", "dim"), shown))

    return write
