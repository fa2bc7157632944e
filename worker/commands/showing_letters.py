"""Dead letters on a terminal and as JSON."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from worker.commands.consoles import console
from worker.commands.moments import precise, shown
from worker.letters import CONNECT, OWN, SPRING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from worker.commands.dlq import Found
    from worker.letters import Letter

MOST_CHARACTERS = 2_000
"""Of a value that are shown."""
MOST_LINES = 20
"""Letters of a dry run that are shown."""


@dataclass
class Counted:
    """Letters of one reason."""

    letters: int = 0
    first: int | None = None
    """Milliseconds since the epoch."""
    last: int | None = None

    def add(self, letter: Letter) -> None:
        self.letters += 1
        when = letter.record.timestamp
        if when is not None:
            self.first = when if self.first is None else min(self.first, when)
            self.last = when if self.last is None else max(self.last, when)


# Listing


def table(
    topic: str, newest: Sequence[Letter], counted: Mapping[str, Counted], others: Mapping[str, int], values: bool
) -> None:
    """For people; `others` counts, by reason, the letters that only their reason leaves out."""
    to, total = console(), sum(one.letters for one in counted.values())
    if not total:
        to.print(Text(f"{_none(topic, others)}."))
        return
    some = "" if len(newest) == total else f", the {len(newest):,} newest of them here"
    to.print(Text(f"{topic}: {_count(total, 'dead letter')}{some}\n"))
    if values:
        for letter in newest:
            _block(to, letter)
    elif newest:
        to.print(_rows(newest))
    to.print()
    to.print(_reasons(counted))


def _none(topic: str, others: Mapping[str, int]) -> str:
    named = ", ".join(f"{count:,} {printable(reason)}" for reason, count in others.items())
    return f"{topic} holds no such dead letters{named and f'; of other reasons there are {named}'}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _rows(newest: Sequence[Letter]) -> Table:
    rows = _plain("letter", "time", "reason", "stage", "from", "bytes")
    rows.add_column("message", overflow="fold", ratio=1)
    for letter in newest:
        rows.add_row(*(Text(cell) for cell in _cells(letter)))
    return rows


def _cells(letter: Letter) -> tuple[str, ...]:
    record = letter.record
    message = "The headers cannot be read." if record.headers_unreadable else letter.message or ""
    return (
        f"{record.partition}/{record.offset}",
        shown(record.timestamp),
        printable(letter.named_reason),
        printable(letter.stage or "-"),
        printable(_from(letter)),
        _size(letter),
        printable(message + (f" (replay {letter.replays})" if letter.replays else "")),
    )


def _block(to: Console, letter: Letter) -> None:
    place, when, reason, stage, source, size, message = _cells(letter)
    to.print(Text.assemble((place, "bold"), f"  {when}  ", (reason, "red"), f"  {stage}  from {source}  {size} bytes"))
    record = letter.record
    parts = [("", message), ("key", _payload(record.key)), ("value", _payload(record.value))]
    parts += [("header", f"{name}: {_payload(value)}") for name, value in record.headers if not _is_ours(name)]
    for name, said in parts:
        to.print(Text.assemble(("  ", ""), (f"{name} " if name else "", "dim"), printable(said)), soft_wrap=True)


def _reasons(counted: Mapping[str, Counted]) -> Table:
    rows = _plain("reason", "letters", "first", "last")
    for reason, one in sorted(counted.items(), key=lambda entry: -entry[1].letters):
        rows.add_row(Text(printable(reason)), f"{one.letters:,}", shown(one.first), shown(one.last))
    return rows


def _plain(*names: str) -> Table:
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        rows.add_column(name, no_wrap=True, justify="right" if name in ("bytes", "letters") else "left")
    return rows


def _from(letter: Letter) -> str:
    return "-" if letter.source is None else "/".join(map(str, letter.source))


def _size(letter: Letter) -> str:
    size = f"{letter.size:,}"
    return size if letter.cut_from is None else f"{size} of {letter.cut_from:,}"


def _payload(value: bytes | None) -> str:
    if value is None:
        return "null"
    text = value[: 4 * MOST_CHARACTERS].decode("utf-8", "backslashreplace")
    return text if len(text) <= MOST_CHARACTERS and len(value) <= 4 * MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"


def _is_ours(name: str) -> bool:
    return name.startswith((CONNECT, SPRING, OWN))


def printable(text: str) -> str:
    """Without anything that a terminal would obey: letters hold what anybody wrote."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii", "replace") for c in text)


def json_list(
    topic: str, newest: Sequence[Letter], counted: Mapping[str, Counted], others: Mapping[str, int], values: bool
) -> None:
    """For programs."""
    document = {
        "topic": topic,
        "total": sum(one.letters for one in counted.values()),
        "reasons": {reason: vars(one) for reason, one in counted.items()},
        "other_reasons": dict(others),
        "letters": [_document(letter, values) for letter in newest],
    }
    _write(document)


def _document(letter: Letter, values: bool) -> dict[str, Any]:
    record = letter.record
    document: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "reason": letter.reason,
        "stage": letter.stage,
        "error": letter.error,
        "message": letter.message,
        "source": None if letter.source is None else letter.source._asdict(),
        "bytes": letter.size,
        "original_bytes": letter.cut_from,
        "replays": letter.replays,
        "headers_unreadable": record.headers_unreadable,
    }
    if values:
        document["record"] = {
            "key": _base64(record.key),
            "value": _base64(record.value),
            "headers": {n: None if v is None else v.decode("utf-8", "replace") for n, v in record.headers},
        }
    return document


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _write(document: object) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


# Replaying


def replay(found: Found) -> None:
    """For people."""
    to, count = console(), found.topics.total() - len(found.unacknowledged)
    if not found.chosen and found.complete:
        to.print(Text(f"{_none(found.topic, found.others)}; there is nothing to send."))
        return
    said = "would be sent again" if found.dry_run else "sent again and acknowledged"
    where = ", ".join(f"{number:,} to {name}" for name, number in sorted(found.topics.items()))
    chosen = _count(found.chosen + found.left, "chosen dead letter")
    most = "" if found.complete else "at most "
    to.print(Text(f"{found.topic}: {count:,} of {most}{chosen} {said}{where and f' ({where})'}."))
    for letter, topic, partition in found.sent[:MOST_LINES]:
        place, when, reason, *_ = _cells(letter)
        aim = "by its key" if partition is None else f"partition {partition}"
        to.print(Text(f"  {place}  {when}  {reason} -> {printable(topic)}, {aim}, replay {letter.replays + 1}"))
    if len(found.sent) > MOST_LINES:
        to.print(Text(f"  … and {len(found.sent) - MOST_LINES:,} more"))
    for refusal, number in found.refused.most_common():
        to.print(Text(f"Refused {number:,} ({refusal.word}): {refusal.why}"))
    if found.unacknowledged:
        to.print(Text(f"Not acknowledged: {', '.join(found.unacknowledged[:MOST_LINES])}."))
    if not found.complete:
        last = found.last and found.last.record
        where = f"after {last.partition}/{last.offset}" if last else "before the first one"
        to.print(Text(f"Ended {where}: what follows, {found.left:,} at most, was not looked at."))
    if found.topics and found.complete and not found.dry_run and found.newest is not None:
        to.print(
            Text(f"They stay in {found.topic}. For those alone that come later: --since {precise(found.newest + 1)}")
        )


def json_replay(found: Found) -> None:
    """For programs."""
    document: dict[str, Any] = {
        "topic": found.topic,
        "dry_run": found.dry_run,
        "chosen": found.chosen,
        "replayed": 0 if found.dry_run else found.topics.total() - len(found.unacknowledged),
        "unacknowledged": found.unacknowledged,
        "topics": dict(found.topics),
        "refused": {refusal.word: number for refusal, number in found.refused.items()},
        "other_reasons": dict(found.others),
        "newest": found.newest,
        "complete": found.complete,
        "left": found.left,
    }
    if found.dry_run:
        document["would_replay"] = [
            {**_document(letter, values=False), "to": topic, "to_partition": partition}
            for letter, topic, partition in found.sent
        ]
    _write(document)
