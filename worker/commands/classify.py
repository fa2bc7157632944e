"""`winnow classify`: texts in, labels out, no broker."""

from __future__ import annotations

import os
import re
import select
import sys
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

import orjson
import typer
from rich.console import Console
from rich.text import Text

from worker.app import open_model
from worker.config import BatchingSettings, DecisionSettings, EntitySettings, InputSettings, ModelSettings, load
from worker.errors import ConfigError
from worker.offline import Offline
from worker.pipeline.decode import json_decoder, requested, text_decoder
from worker.pipeline.encode import described
from worker.pipeline.messages import Record, Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from worker.app import Model
    from worker.pipeline.decode import Decoder
    from worker.pipeline.entities import Entity
    from worker.pipeline.messages import Classification

WIDTH = 100
STDIN = "-"
"""Stands for the standard input in place of a text."""
CHUNK = 65_536
"""Bytes that are read of the standard input at once."""
Line: TypeAlias = tuple[bytes, bool]
Write: TypeAlias = "Callable[[Request, Result | Rejection], None]"


class ClassifySettings(NamedTuple):
    """The sections that classifying without a broker needs."""

    model: ModelSettings
    entities: EntitySettings
    decision: DecisionSettings
    batching: BatchingSettings
    input: InputSettings


def settings_for(
    bundle: str, text_pointer: str | None, config: Path | None, assignments: list[str]
) -> ClassifySettings:
    """Settings of a file and assignments, or the defaults where there are neither; the flags are stronger."""
    if config is None and not assignments:
        chosen = ClassifySettings(
            ModelSettings(), EntitySettings(), DecisionSettings(), BatchingSettings(), InputSettings()
        )
    else:
        loaded = load(config, assignments)
        chosen = ClassifySettings(loaded.model, loaded.entities, loaded.decision, loaded.batching, loaded.input)
    if bundle != "default":
        chosen = chosen._replace(model=chosen.model.model_copy(update={"bundle": bundle}))
    if text_pointer is not None:
        chosen = chosen._replace(input=chosen.input.model_copy(update={"text_pointer": text_pointer}))
    return chosen


def classify(texts: list[str], files: list[Path], settings: ClassifySettings, as_json: bool) -> None:
    """Write one line a text: what the model says of it and the text, or a JSON document."""
    model = open_model(settings.model, settings.entities, settings.decision)
    write = _json_writer(model) if as_json else _readable_writer()
    for name in filter(_is_file, texts):
        typer.echo(f"{name} is classified as a text; to read the file of that name, write `-f {name}`.", err=True)
    wrong = 0
    # However it ends, the interpreter must not do so while a lane still runs the model.
    with closing(Offline(model, settings.batching)) as offline:
        for given, outcome in _outcomes(offline, _lines(texts, files), settings.input):
            wrong += isinstance(outcome, Rejection)
            write(given, outcome)
    if wrong:
        raise ConfigError(f"{wrong} of the lines could not be classified; each says why.")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no name that a file could have
        return False


def _outcomes(
    offline: Offline, lines: Iterable[Line | None], settings: InputSettings
) -> Iterator[tuple[Request, Result | Rejection]]:
    """Each line with its outcome, in order; as many are held as are in flight."""
    bounds = (settings.max_bytes, settings.max_characters)
    try:
        decoders = json_decoder(settings.text_pointer, settings.id_pointer, *bounds), text_decoder(*bounds)
    except ValueError as error:
        raise ConfigError(f"--text-pointer: {error}.") from None
    asked: deque[Request] = deque()

    def decoded() -> Iterator[Request | Rejection | None]:
        number = 0
        for given in lines:
            if given is None:
                yield None
                continue
            line, is_text = given
            is_json = not is_text and line.lstrip()[:1] == b"{"
            request, refused = _decode(decoders[0] if is_json else decoders[1], line, number)
            asked.append(request)
            number += 1
            yield refused or request

    for outcome in offline(decoded()):
        yield asked.popleft(), outcome


def _decode(decode: Decoder, line: bytes, number: int) -> tuple[Request, Rejection | None]:
    found = requested(Record("", 0, number, None, line, [], None), decode)
    if isinstance(found, Rejection):
        return Request(str(number), "", False), found
    return found if found.id != f"-0-{number}" else found._replace(id=str(number)), None


def _lines(texts: list[str], files: list[Path]) -> Iterator[Line | None]:
    """Lines without their ends, and whether a line is a text whatever it looks like; None where none is there yet."""
    for text in texts:
        if text == STDIN:
            yield from _read(_as_they_come(standard_input("classify", asked=True)))
        else:
            yield text.encode("utf-8", "surrogateescape"), True
    for path in files:
        try:
            with path.open("rb") as file:
                yield from _read(file)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if not texts and not files:
        yield from _read(_as_they_come(standard_input("classify", asked=False)))


def _read(lines: Iterable[bytes | None]) -> Iterator[Line | None]:
    for line in lines:
        if line is None:
            yield None
        elif line.strip():
            yield line.rstrip(b"\r\n"), False


def _as_they_come(source: BinaryIO) -> Iterator[bytes | None]:
    """Lines of a stream, and None before one is waited for: whoever writes them slowly sees each answer at once."""
    try:
        number = source.fileno()
        select.select([number], [], [], 0)
    except (OSError, ValueError):  # no file of the system's, or one that cannot be asked
        yield from source
        return
    begun: list[bytes] = []
    while True:
        if not select.select([number], [], [], 0)[0]:
            yield None
            # Whoever gave this stream may have made it non-blocking.
            select.select([number], [], [])
        chunk = os.read(number, CHUNK)
        *lines, rest = chunk.split(b"\n")
        if lines or not chunk:
            yield b"".join([*begun, *lines[:1]])
            yield from lines[1:]
            begun.clear()
        if not chunk:
            return
        begun.append(rest)


def standard_input(command: str, *, asked: bool) -> BinaryIO:
    """Where a command's texts come from that are not on its command line; `asked` for by `-`.

    Raises:
        ConfigError: there is none, or it is a keyboard that nobody asked for: nobody would know that it is waited for.
    """
    if sys.stdin is None or (sys.stdin.isatty() and not asked):
        raise ConfigError(
            f"There is no text: write it behind `winnow {command}`, or pipe it in; `-` reads the keyboard until Ctrl-D."
        )
    return sys.stdin.buffer


def _json_writer(model: Model) -> Write:
    identity = {"name": model.identity.name, "digest": model.identity.digest}

    def write(request: Request, outcome: Result | Rejection) -> None:
        if isinstance(outcome, Rejection):
            document: dict[str, object] = {"id": request.id, "error": outcome.reason, "message": outcome.message}
        else:
            document = {
                "id": request.id,
                **described(outcome.classification),
                "truncated": outcome.truncated,
                "tokens": outcome.tokens,
                "model": identity,
            }
            if outcome.windows > 1:
                document["windows"] = outcome.windows
        typer.echo(orjson.dumps(document))

    return write


def _readable_writer() -> Write:
    console = Console(soft_wrap=True, highlight=False)

    def write(request: Request, outcome: Result | Rejection) -> None:
        if isinstance(outcome, Rejection):
            console.print(Text.assemble((f"{'error':>10}  ", "bold red"), f"id {request.id}: {outcome.message}"))
            return
        console.print(Text.assemble(*readable(request.text, outcome.classification)))

    return write


def readable(text: str, said: Classification) -> list[tuple[str, str]]:
    """Pieces of a line with their styles: what the model says, and the text."""
    if said.entities is not None:
        return [(f"{len(said.entities):>10}  ", "bold"), (_action(said), "dim"), *_marked(text, said.entities)]
    if said.labels:
        first = [(", ".join(f"{label} {score:.3f}" for label, score in said.labels) + "  ", "bold")]
    else:
        label = "none" if said.label is None else said.label
        first = [(f"{label:>10}  ", "bold"), (f"{said.score:.3f}  ", "dim")]
    shown = " ".join(text.split())
    shown = shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…"
    return [*first, (_action(said), "dim"), (shown, "")]


def _action(said: Classification) -> str:
    return "" if said.action is None else f"{said.action:<6}  "


def _marked(text: str, entities: Sequence[Entity]) -> Iterator[tuple[str, str]]:
    """The text on one line with its entities as `[Paris]LOC`; long stretches without any are cut out."""
    at = 0
    for entity in entities:
        if entity.start < at:
            continue
        yield _stretch(text[at : entity.start]), ""
        yield f"[{_one_line(text[entity.start : entity.end])}]", "bold"
        yield entity.entity_group, "cyan"
        at = entity.end
    yield _stretch(text[at:]), ""


def _stretch(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 2]} … {line[-WIDTH // 2 :]}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
