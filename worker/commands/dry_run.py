"""`winnow dry-run`: what a worker would write of real messages, without writing it."""

from __future__ import annotations

import time
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.text import Text

from worker import rehearsal
from worker.commands.classify import readable
from worker.commands.consoles import console
from worker.commands.moments import moment
from worker.commands.showing_letters import printable
from worker.config import load
from worker.errors import ConfigError
from worker.forms import Forms
from worker.model.words import counted
from worker.pipeline.error_headers import without_own
from worker.pipeline.messages import Destination

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from worker.pipeline.decode import Read
    from worker.pipeline.messages import Headers, Outgoing
    from worker.rehearsal import Rehearsed, Start

PLACES = ("committed", "beginning", "end")
MOST_CHARACTERS = 2_000
"""Of a key, a value or a header that are shown to people."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    config: Path | None
    assign: Sequence[str]
    messages: int
    start: str
    values: bool
    as_json: bool


def dry_run(asked: Asked) -> None:
    """Read, and show what would be written.

    Raises:
        Fatal: the topics cannot be read, the bundle cannot be opened, or the settings are wrong.
    """
    settings = load(asked.config, asked.assign)
    found = rehearsal.rehearse(settings, asked.messages, start_of(asked.start, time.time()))
    if asked.as_json:
        with closing(Forms(settings)) as forms:
            read = forms.result_reader()
            for one in found:
                typer.echo(orjson.dumps(document(one, read)))
        return
    to = console()
    shown = list(_shown(to, found, asked.values))
    to.print(Text(_summary(shown, settings.kafka.group_id, asked.start)))


def start_of(text: str, now: float) -> Start:
    """What `--from` means; `now` in seconds since the epoch.

    Raises:
        ConfigError: nothing that is known.
    """
    if text in PLACES:
        return text
    if text.isascii() and text.isdigit() and len(text) < 19:
        return rehearsal.Offset(int(text))
    try:
        found = moment("--from", text, now)
    except ConfigError:
        raise ConfigError(
            f"--from: {text!r} is neither {', '.join(PLACES)}, an offset, nor a time (2026-11-21T13:00:00Z, or so long "
            "ago: 90s, 15m, 2h, 3d)."
        ) from None
    assert found is not None
    return rehearsal.Moment(found)


def document(one: Rehearsed, read: Read = orjson.loads) -> dict[str, Any]:
    """A line for programs: where the message is, what becomes of it, and the record that would be written.

    The record is as `schemas/dead-letter.schema.json` writes one down: key and value in base64, headers by name.

    Args:
        one: a message.
        read: the value of a result to the result, see `Forms.result_reader`.
    """
    message, outgoing = one.record, one.outgoing
    document: dict[str, Any] = {
        "source": {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "timestamp": message.timestamp,
        },
        "outcome": "nothing" if outgoing is None else _outcome(one, outgoing),
        "topic": None if outgoing is None else outgoing.topic,
        "partition": one.partition,
    }
    if one.rejection is not None:
        document |= {"reason": one.rejection.reason, "stage": one.rejection.stage, "message": one.rejection.message}
    if outgoing is not None:
        document["record"] = {
            "key": _base64(outgoing.key),
            "value": _base64(outgoing.value),
            "headers": {name: None if v is None else v.decode("utf-8", "replace") for name, v in outgoing.headers},
        }
        if one.said is not None:
            document["result"] = read(outgoing.value or b"null")
    return document


def _outcome(one: Rehearsed, outgoing: Outgoing) -> str:
    if outgoing.destination is Destination.DEAD_LETTER:
        return "dead-letter"
    return "tombstone" if one.said is None else "result"


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


# For people


def _shown(to: Console, found: Iterator[Rehearsed], values: bool) -> Iterator[Rehearsed]:
    for one in found:
        to.print(Text.assemble(*_line(one)), soft_wrap=True)
        if one.outgoing is not None:
            _print_record(to, one, one.outgoing, values)
        yield one


def _line(one: Rehearsed) -> list[tuple[str, str]]:
    message = one.record
    place = (f"{message.topic}/{message.partition}/{message.offset}  ", "dim")
    if one.outgoing is None:
        return [place, ("nothing", "bold"), ("  a tombstone, by input.tombstones", "dim")]
    partition = "" if one.partition is None else f"/{one.partition}"
    aim = (f"-> {one.outgoing.topic}{partition}  ", "cyan")
    if one.rejection is not None:
        return [place, aim, (one.rejection.reason, "bold red"), (f"  {printable(one.rejection.message)}", "")]
    if one.said is None:
        return [place, aim, ("a tombstone", "bold")]
    return [place, aim, *((printable(piece), style) for piece, style in readable(one.text, one.said))]


def _print_record(to: Console, one: Rehearsed, outgoing: Outgoing, values: bool) -> None:
    """The headers that a dead letter gets; with `values` all of the record."""
    headers = outgoing.headers if values else _why(one, outgoing) if one.rejection else []
    parts = [("key", outgoing.key), ("value", outgoing.value)] if values else []
    for name, payload in (*parts, *_named(headers)):
        to.print(Text.assemble("    ", (f"{name} ", "dim"), _payload(payload)), soft_wrap=True)


def _why(one: Rehearsed, outgoing: Outgoing) -> Headers:
    """The headers of a dead letter that are not the message's, which come first; one that is cut may lack those."""
    own = without_own(one.record.headers)
    return outgoing.headers[len(own) :] if outgoing.headers[: len(own)] == own else outgoing.headers


def _named(headers: Headers) -> list[tuple[str, bytes | None]]:
    return [(f"header {printable(name)}:", value) for name, value in headers]


def _payload(value: bytes | None) -> str:
    if value is None:
        return "null"
    text = printable(value[: 4 * MOST_CHARACTERS].decode("utf-8", "backslashreplace"))
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"


def _summary(found: Sequence[Rehearsed], group: str, start: str) -> str:
    if not found:
        where = f"where the group {group!r} would go on" if start == "committed" else f"--from {start}"
        return f"There is no message to read {where}; --from end takes the newest that are stored."
    letters = sum(one.rejection is not None for one in found)
    results = sum(one.said is not None for one in found)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in rehearsal.counted(found).most_common())
    return (
        f"\nRead {counted(len(found), 'message')}: {counted(results, 'result')} and {counted(letters, 'dead letter')} "
        f"would be written ({kinds}).\n"
        "Nothing was written, and nothing committed."
    )
