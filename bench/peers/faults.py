"""What a peer does with a bad record, with a text that is too long, and after kill -9: tried, and told in a phrase."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bench.peers.flow import Line, line
from bench.peers.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.peers.peer import Peer

GOOD = 20
BAD_KEY = b"bad"
TEXT = "Lunch at noon, as always?"
NOT_JSON = b'{"id": "bad", "text": "no end'
TOO_LONG = "far too long a text to read " * 200
QUIET_SECONDS = 15.0
AFTER_KILL_SECONDS = 75.0
"""Longer than the session timeout of a consumer that nobody saw leave."""
KILLED_SECONDS = 12.0
"""Work for the peer at its measured rate, of which it may do a third before it is killed."""
LEAST, MOST = 64, 3000
"""Messages of that work."""


def tried(peer: Peer, broker: Any, models: Path, rate: float) -> dict[str, str]:
    """What was seen, by fault; `rate` are the messages a second that the peer has done."""
    trials: dict[str, Callable[[], str]] = {
        "bad_json": lambda: one_record(peer, broker, models, NOT_JSON),
        "too_long": lambda: one_record(peer, broker, models, peer.message("bad", TOO_LONG)),
        "kill_9": lambda: killed(peer, broker, models, rate),
    }
    said = {}
    for name, trial in trials.items():
        try:
            said[name] = trial()
        except Exception as reason:  # noqa: BLE001 - whatever a peer does, the others are tried
            said[name] = f"could not be tried: {reason}"
        print(f"  {peer.name}, {name}: {said[name]}", flush=True)
    return said


def one_record(peer: Peer, broker: Any, models: Path, value: bytes) -> str:
    """Good messages with one record between them, in one partition; started once more if it ends."""
    with line(peer, broker, models, partitions=1) as way:
        with Running(peer, way.stage) as running:
            way.until_it_works(running, TEXT)
            _feed_around(way, value)
            # Not for so many outcomes: what is replayed comes again.
            way.outcomes.wait(sys.maxsize, running, AFTER_KILL_SECONDS, QUIET_SECONDS)
            ended = not running.alive
            running.stop()
        after = f"; the process ended, {_after_a_new_start(way)}" if ended else ""
        return _outcome(way) + after


def _feed_around(way: Line, value: bytes) -> None:
    for number in range(GOOD):
        if number == GOOD // 2:
            way.send(BAD_KEY, value)
        way.send(str(number).encode(), way.peer.message(str(number), TEXT))
    way.feeder.flush()


def _after_a_new_start(way: Line) -> str:
    with Running(way.peer, way.stage) as running:
        way.outcomes.wait(sys.maxsize, running, way.peer.start_seconds + AFTER_KILL_SECONDS)
        again = not running.alive
        running.stop()
    return "and again after a new start" if again else "and went on after a new start"


def _outcome(way: Line) -> str:
    """What became of the record, and of how many of its neighbours."""
    results = way.results()
    answer = next((record.value for record in results if record.key == BAD_KEY), None)
    if answer is not None:
        said = "answered and marked as cut" if b'"truncated":true' in answer else "answered"
    elif way.everything(way.stage.dead_letter_topic):
        said = "a dead letter"
    elif any(record.key == BAD_KEY for record in way.everything()):
        said = "written out unclassified"
    else:
        said = "no result"
    good = len({record.key for record in results} - {BAD_KEY})
    return f"{said}; {good} of {GOOD} neighbours answered"


def killed(peer: Peer, broker: Any, models: Path, rate: float) -> str:
    """kill -9 amid a backlog, then a new start."""
    count = max(LEAST, min(MOST, int(KILLED_SECONDS * rate)))
    with line(peer, broker, models) as way:
        with Running(peer, way.stage) as running:
            way.until_it_works(running, TEXT)
            before = way.ends.count()
            way.feed([TEXT] * count)
            way.ends.wait(before + count // 3, running, 2 * KILLED_SECONDS)
            running.kill()
        there = way.ends.count()
        with Running(peer, way.stage) as running:
            if way.ends.wait(there + 1, running, peer.start_seconds + AFTER_KILL_SECONDS) > there:
                way.ends.wait(sys.maxsize, running, AFTER_KILL_SECONDS, QUIET_SECONDS)
            running.stop()
        keys = [record.key for record in way.results()]
    lost, doubled = count - len(set(keys)), len(keys) - len(set(keys))
    return f"of {count} messages {lost} lost, {doubled} answered twice"
