"""`winnow dlq peek` and `winnow dlq replay`: what is in the dead-letter topic, and sending it again."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from worker import letters
from worker.commands import showing_letters as showing
from worker.commands.moments import moment
from worker.commands.run import AT_ONCE, Stop
from worker.config import load
from worker.errors import ConfigError, DeliveryError, TopicError
from worker.kafka.reading import Extent, Reading
from worker.kafka.replay import Replaying
from worker.letters import Letter, Refusal, Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from worker.config import Settings
    from worker.pipeline.messages import Partition

OPEN = 1 << 63
"""Ends a range of offsets that has no end of its own; no offset is as large."""


class Stretch(NamedTuple):
    """What has to be read of a partition."""

    partition: Partition
    first: int
    end: int
    """The offset after the last one."""


@dataclass(frozen=True)
class Chosen:
    """Which letters the command line means."""

    config: Path | None
    assign: Sequence[str]
    topic: str | None
    """None for the dead-letter topic of the settings."""
    reasons: Sequence[str]
    since: str | None
    until: str | None
    partition: int | None = None
    offsets: Sequence[str] = ()
    """Each one offset, or two with a dash between them, both meant; without the second to the partition's end."""


@dataclass
class Found:
    """What a replay did, or would do."""

    topic: str
    dry_run: bool
    chosen: int = 0
    sent: list[tuple[Letter, str, int | None]] = field(default_factory=list)
    """With the topic they go to, and its partition; None: by the key. Of a dry run alone."""
    topics: Counter[str] = field(default_factory=Counter)
    """Letters by the topic they went to."""
    refused: Counter[Refusal] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    """Letters, by reason, that only their reason left out."""
    unacknowledged: list[str] = field(default_factory=list)
    """Letters, as `partition/offset`, of which nobody said that they are written."""
    last: Letter | None = None
    """The last one that was looked at."""
    newest: int | None = None
    """Milliseconds since the epoch: when the youngest of the letters that were looked at was written."""
    left: int = 0
    """Letters that were not looked at, at most: a limit, a signal or a failure ended it before."""

    @property
    def complete(self) -> bool:
        """Every chosen letter was looked at."""
        return not self.left


def peek(chosen: Chosen, limit: int, values: bool, as_json: bool) -> None:
    """List the newest letters, and count all by reason.

    Raises:
        Fatal: the topic cannot be read.
    """
    settings = load(chosen.config, chosen.assign)
    topic, selection = chosen.topic or settings.kafka.dead_letter_topic, _selection(chosen)
    counted: dict[str, showing.Counted] = {}
    others: Counter[str] = Counter()
    newest: list[Letter] = []
    with closing(Reading(settings.kafka, isolation="read_committed")) as reading:
        of_any_reason = selection._replace(reasons=frozenset())
        for letter in _letters(reading, _stretches(reading, topic, selection), of_any_reason):
            if not selection(letter):
                others[letter.named_reason] += 1
                continue
            counted.setdefault(letter.named_reason, showing.Counted()).add(letter)
            newest.append(letter if values else letters.without_value(letter))
            if len(newest) >= 2 * limit + 100:
                newest = _newest(newest, limit)
    write = showing.json_list if as_json else showing.table
    write(topic, _newest(newest, limit), counted, others, values)


def _newest(found: list[Letter], limit: int) -> list[Letter]:
    """Sorted by time; a topic's partitions come one after the other."""
    return sorted(found, key=lambda letter: letter.record.timestamp or 0)[-limit:] if limit else []


@dataclass(frozen=True)
class How:
    """How letters are sent again."""

    to: str | None
    rate: float | None
    limit: int | None
    max_replays: int
    dry_run: bool


def replay(chosen: Chosen, how: How, as_json: bool) -> None:
    """Send the chosen letters again, each once, by partition in their order, and wait for the acknowledgements.

    Raises:
        DeliveryError: a letter was not acknowledged.
        Fatal: the topics cannot be read or written.
        SystemExit: a signal stopped it.
    """
    settings, selection, stop = load(chosen.config, chosen.assign), _selection(chosen), Stop()
    topic = chosen.topic or settings.kafka.dead_letter_topic
    _check_target(how.to, topic, settings)
    with closing(Reading(settings.kafka, isolation="read_committed")) as reading:
        replaying = None if how.dry_run else Replaying(settings.kafka, settings.output.max_bytes, how.rate)
        go = _Replay(reading, replaying, how, stop, Found(topic, how.dry_run))
        if replaying is not None:
            stop.install()  # from here on a signal ends it between two letters
        found = go(selection)
    (showing.json_replay if as_json else showing.replay)(found)
    if replaying is not None and found.unacknowledged:
        first, count = found.unacknowledged[0], len(found.unacknowledged)
        raise DeliveryError(
            f"{count} of the letters that were sent are not acknowledged, {first} and what went with it: "
            f"{replaying.failure}. All others are written; send these again with --partition and --offset."
        )
    if stop():
        raise SystemExit(AT_ONCE)


class _Replay:
    def __init__(self, reading: Reading, replaying: Replaying | None, how: How, stop: Stop, found: Found) -> None:
        self._reading, self._replaying, self._how, self._stop, self._found = reading, replaying, how, stop, found
        self._existing = reading.topics()
        if how.to is not None and how.to not in self._existing:
            raise TopicError(
                f"There is no topic {how.to!r}, or this user may not describe it: create it, or check --to."
            )

    def __call__(self, selection: Selection) -> Found:
        found = self._found
        stretches = _stretches(self._reading, found.topic, selection)
        for letter in _letters(self._reading, stretches, selection._replace(reasons=frozenset())):
            if not selection(letter):
                found.others[letter.named_reason] += 1
                continue
            if self._ended():
                found.left = _left(stretches, letter)
                break
            found.chosen += 1
            found.last = letter
            found.newest = max(found.newest or 0, letter.record.timestamp or 0)
            why = self._refusal(letter)
            if why is not None:
                found.refused[why] += 1
            else:
                self._send(letter, *self._target(letter))
        if self._replaying is not None:
            self._replaying.finish()
            found.unacknowledged = list(self._replaying.unacknowledged)
        return found

    def _ended(self) -> bool:
        full = self._how.limit is not None and self._found.topics.total() >= self._how.limit
        return full or self._stop() or (self._replaying is not None and self._replaying.broken)

    def _refusal(self, letter: Letter) -> Refusal | None:
        why = letters.refusal(letter, self._how.to, self._how.max_replays)
        if why is not None or self._how.to is not None or letter.source is None:
            return why
        if letter.source.topic == self._found.topic:
            return letters.CIRCLE
        return None if letter.source.topic in self._existing else letters.NO_TOPIC

    def _target(self, letter: Letter) -> Partition | tuple[str, None]:
        """Back to its own topic it goes where it was, however that partition was chosen; elsewhere by the key."""
        if letter.source is None or (self._how.to is not None and self._how.to != letter.source.topic):
            return self._how.to or "", None
        topic, partition, _ = letter.source
        return (topic, partition) if partition < self._existing.get(topic, 0) else (topic, None)

    def _send(self, letter: Letter, topic: str, partition: int | None) -> None:
        self._found.topics[topic] += 1
        if self._replaying is None:
            self._found.sent.append((letters.without_value(letter), topic, partition))
        else:
            record = letter.record
            name = f"{record.partition}/{record.offset}"
            self._replaying.send(name, topic, partition, record, letters.restored(letter))


def _letters(reading: Reading, stretches: Sequence[Stretch], selection: Selection) -> Iterator[Letter]:
    """The letters that are meant, partition by partition."""
    for stretch in stretches:
        for record in reading.read(*stretch):
            letter = letters.read(record)
            if selection(letter):
                yield letter


def _left(stretches: Sequence[Stretch], letter: Letter) -> int:
    """Offsets from a letter on; not each holds a letter that is meant."""
    here = (letter.record.topic, letter.record.partition)
    at = next(number for number, stretch in enumerate(stretches) if stretch.partition == here)
    later = sum(max(0, stretch.end - stretch.first) for stretch in stretches[at + 1 :])
    return stretches[at].end - letter.record.offset + later


def _stretches(reading: Reading, topic: str, selection: Selection) -> list[Stretch]:
    """What is there now and has to be read."""
    extents = reading.extents(reading.partitions([topic]))
    if selection.offsets and selection.partition is None and len(extents) > 1:
        raise ConfigError(f"--offset needs a --partition: {topic!r} has {len(extents)} of them.")
    if selection.partition is not None and (topic, selection.partition) not in extents:
        raise ConfigError(f"{topic!r} has no partition {selection.partition}; it has {len(extents)}, counted from 0.")
    return [
        _stretch(partition, extent, selection.offsets)
        for partition, extent in extents.items()
        if selection.partition in (None, partition[1])
    ]


def _stretch(partition: Partition, extent: Extent, offsets: Sequence[range]) -> Stretch:
    for some in offsets:
        last = some.start if some.stop == OPEN else some.stop - 1
        if some.start < extent.first or last >= extent.end:
            raise ConfigError(
                f"Partition {partition[1]} of {partition[0]!r} holds the offsets from {extent.first} to before "
                f"{extent.end}; --offset asks for {some.start if some.start < extent.first else last}."
            )
    first = min((some.start for some in offsets), default=extent.first)
    end = max((some.stop for some in offsets), default=extent.end)
    return Stretch(partition, first, min(end, extent.end))


def _selection(chosen: Chosen) -> Selection:
    now = time.time()
    since, until = moment("--since", chosen.since, now), moment("--until", chosen.until, now)
    if since is not None and until is not None and since > until:
        raise ConfigError(f"--since {chosen.since} is later than --until {chosen.until}: nothing lies between them.")
    offsets = tuple(_offsets(text) for text in chosen.offsets)
    return Selection(frozenset(chosen.reasons), since, until, chosen.partition, offsets)


def _offsets(text: str) -> range:
    first, dash, last = text.strip().partition("-")
    numbers = [first, last] if last else [first]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise ConfigError(
            f"--offset: {text!r} is no offset; write 17, 17-20 for all of these, or 17- for all from it on."
        )
    if dash and not last:
        return range(int(first), OPEN)
    if int(numbers[0]) > int(numbers[-1]):
        raise ConfigError(f"--offset: {text!r} goes backwards; write the smaller offset first.")
    return range(int(numbers[0]), int(numbers[-1]) + 1)


def _check_target(to: str | None, topic: str, settings: Settings) -> None:
    if to == topic:
        raise ConfigError(f"--to {to!r} is the dead-letter topic itself. Name the topic that is to have the messages.")
    if to in settings.result_topics:
        raise ConfigError(f"--to {to!r} is where results are written. Name a topic that a worker reads.")
