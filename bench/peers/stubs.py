"""A classifier that costs nothing through a bare loop and two frameworks, one process each: for `bench overhead`.

with kit.kafka() as broker:
    for stub in STUBS:
        measured = measure(stub, broker, texts)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bench.peers import flow
from bench.peers.adapters import arroyo, quix
from bench.peers.peer import HOME, PROGRAMS, Peer, UnavailableError
from bench.peers.programs.classifier import STUB
from bench.peers.running import Running
from bench.stream import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.peers.peer import Stage


class BareLoop(Peer):
    name = "bare confluent-kafka loop"
    what = "consume 1,000, json, produce, flush, commit without waiting"

    def set_up(self) -> None:
        """The packages are Winnow's own."""

    def commands(self, stage: Stage) -> list[list[str]]:
        topics = [stage.bootstrap_servers, stage.group, stage.input_topic, stage.output_topic]
        return [[sys.executable, str(PROGRAMS / "loop.py"), *topics, STUB]]


class StubQuixStreams(quix.QuixStreams):
    what = "3.28.1, at least once, one process"

    def commands(self, stage: Stage) -> list[list[str]]:
        return [quix.command(stage, STUB)]


class StubArroyo(arroyo.Arroyo):
    what = "2.48.0, RunTask and Produce, one process"

    def commands(self, stage: Stage) -> list[list[str]]:
        return [arroyo.command(stage, STUB, 1)]


STUBS: tuple[Peer, ...] = (BareLoop(), StubQuixStreams(), StubArroyo())


def measure(stub: Peer, broker: Any, texts: Sequence[str], seconds: float = 120.0) -> flow.Measured:
    """The rate on a backlog that is there before the process is, between its first 10 % of results and the last.

    The broker is that of `flow.kafka`. CPU is counted from the first results on.

    Raises:
        UnavailableError: it cannot be set up, does not start, or does not answer.
    """
    stub.set_up()
    with flow.line(stub, broker, HOME) as way:
        way.feed(texts)
        with Running(stub, way.stage) as running:
            first, before = way.ends.wait(1, running, stub.start_seconds), running.cpu_seconds()
            last, after = way.ends.wait(len(texts), running, seconds), running.cpu_seconds()
            running.stop()
            times = way.times()
            if last == first or len(times) < len(texts):
                raise UnavailableError(f"only {len(times)} of {len(texts)} results came: {running.why()}")
    skipped = int(len(times) * WARM_UP)
    rate = (len(times) - skipped - 1) / ((times[-1] - times[skipped]) / 1000)
    return flow.Measured(rate, 1000 * (after - before) / (last - first), len(times))
