"""Messages through a peer: topics of its own, warm-up, a backlog, and what came out by the broker's own clock."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench import kit
from bench.peers.peer import HOME, Stage, UnavailableError
from bench.peers.running import Running
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.peers.peer import Peer
    from worker.broker import ApacheKafka
    from worker.pipeline.messages import Record

PARTITIONS = 6
PROBE = b"probe-"
"""Begins the keys of messages that only show that a peer works; what follows spreads them over the partitions."""
STAMPS = {"log.message.timestamp.type": "LogAppendTime"}
"""Records bear the time at which the broker took them; some writers repeat that of the input."""
LOOK_SECONDS = 0.2
FEW = 48
"""Results that say too little of a rate where they come in batches: a peer gets `PATIENCE` times as long for more."""
PATIENCE = 4


@dataclass(frozen=True)
class Measured:
    """One round of one peer."""

    messages_per_s: float
    cpu_ms_per_message: float
    results: int


class Ends:
    """How many records there are in some topics, by their end offsets; reads none of them."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "bench-ends"})
        known = self._consumer.list_topics(timeout=15).topics
        self._partitions = [TopicPartition(topic, p) for topic in topics for p in known[topic].partitions]

    def count(self) -> int:
        return sum(map(self._end, self._partitions))

    def _end(self, partition: TopicPartition, attempts: int = 20) -> int:
        try:
            return int(self._consumer.get_watermark_offsets(partition, timeout=15, cached=False)[1])
        except KafkaException:  # a new topic may have no leader yet
            if attempts == 0:
                raise
        time.sleep(LOOK_SECONDS)
        return self._end(partition, attempts - 1)

    def wait(self, count: int, running: Running, seconds: float, quiet: float | None = None) -> int:
        """Wait until there are `count`, a process ends, or time is up: all of it, or `quiet` without a new record."""
        now = changed = time.monotonic()
        deadline, seen = now + seconds, -1
        while now < deadline and (quiet is None or now - changed < quiet):
            there = self.count()
            if there >= count or not running.alive:
                return there
            if there != seen:
                seen, changed = there, now
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
        return self.count()

    def close(self) -> None:
        self._consumer.close()


def kafka() -> AbstractContextManager[ApacheKafka]:
    """A real Apache Kafka for these measurements, on this machine's own cores; for a `with`."""
    return kit.kafka(STAMPS)


@contextmanager
def stage(broker: Any, models: Path, partitions: int = PARTITIONS) -> Iterator[Stage]:
    """Fresh topics, a fresh group and a fresh folder."""
    name = uuid4().hex[:8]
    broker.create_topics({f"in-{name}": partitions, f"out-{name}": partitions, f"dead-{name}": 1})
    (HOME / "runs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=HOME / "runs") as folder:
        yield Stage(
            broker.bootstrap_servers, f"in-{name}", f"out-{name}", f"dead-{name}", name, Path(folder), models
        )  # fmt: skip


class Line:
    """Into a peer and out of it again."""

    def __init__(self, peer: Peer, stage: Stage) -> None:
        self.peer, self.stage = peer, stage
        self.feeder = Feeder(stage.bootstrap_servers, stage.input_topic)
        self.ends = Ends(stage.bootstrap_servers, [stage.output_topic])
        self.outcomes = Ends(stage.bootstrap_servers, [stage.output_topic, stage.dead_letter_topic])

    def feed(self, texts: Sequence[str]) -> None:
        """Write texts with their numbers as keys."""
        for number, text in enumerate(texts):
            self.send(str(number).encode(), self.peer.message(str(number), text))
        self.feeder.flush()

    def send(self, key: bytes, value: bytes) -> None:
        self.feeder.send(value, key, self.peer.headers)

    def probe(self, texts: Sequence[str]) -> None:
        """Write texts whose answers do not count."""
        for number, text in enumerate(texts):
            self.send(b"%s%d" % (PROBE, number), self.peer.message("probe", text))
        self.feeder.flush()

    def until_it_works(self, running: Running, text: str) -> None:
        """Send a message a second until one is answered: some start at the end of the topic.

        Raises:
            UnavailableError: none is.
        """
        before = self.ends.count()
        deadline = time.monotonic() + self.peer.start_seconds
        while time.monotonic() < deadline and running.alive:
            self.probe([text])
            if self.ends.wait(before + 1, running, 1.0) > before and any(map(self.answers, self.everything())):
                self.ends.wait(sys.maxsize, running, 15.0, quiet=2.0)  # the answers to earlier ones
                return
        raise UnavailableError(f"no result within {self.peer.start_seconds:.0f} s: {running.why()}")

    def warm(self, running: Running, texts: Sequence[str]) -> int:
        """Have texts answered that do not count; how many records there are then."""
        before = self.ends.count()
        self.probe(texts)
        return self.ends.wait(before + len(texts), running, 30.0, quiet=10.0)

    def everything(self, topic: str | None = None) -> list[Record]:
        """All that is now in a topic, by default where results go."""
        topic = topic or self.stage.output_topic
        ends, reader = Ends(self.stage.bootstrap_servers, [topic]), Reader(self.stage.bootstrap_servers, [topic])
        records = kit.read_until(reader, ends.count())
        reader.close()
        ends.close()
        return records

    def answers(self, record: Record) -> bool:
        return self.peer.answered(record.value)

    def results(self) -> list[Record]:
        """Answers in the output topic, but for those to probes."""
        return [record for record in self.everything() if self.answers(record) and not self._probes(record)]

    def _probes(self, record: Record) -> bool:
        return (record.key or b"").startswith(PROBE)

    def times(self) -> list[int]:
        """When the broker took them: milliseconds since 1970, ascending."""
        return sorted(record.timestamp for record in self.results() if record.timestamp is not None)

    def close(self) -> None:
        self.ends.close()
        self.outcomes.close()


@contextmanager
def line(peer: Peer, broker: Any, models: Path, partitions: int = PARTITIONS) -> Iterator[Line]:
    """A stage with clients to it."""
    with stage(broker, models, partitions) as place:
        made = Line(peer, place)
        try:
            yield made
        finally:
            made.close()


def measure(peer: Peer, broker: Any, models: Path, texts: Sequence[str], seconds: float) -> Measured:
    """The rate on a backlog that comes all at once, when the peer is warm: from its coming to the last result.

    Ends when every text is answered, or after `seconds`; later for a peer that has only a `FEW` by then.

    Raises:
        UnavailableError: it does not start, or does not answer.
    """
    texts = texts[: peer.most_messages]
    with line(peer, broker, models) as way, Running(peer, way.stage) as running:
        way.until_it_works(running, texts[0])
        before = way.warm(running, texts[: peer.warm_messages])
        cpu, started = running.cpu_seconds(), time.time()
        way.feed(texts)
        way.ends.wait(before + len(texts), running, seconds)
        way.ends.wait(before + min(FEW, len(texts)), running, PATIENCE * seconds)
        cpu = running.cpu_seconds() - cpu
        if not running.alive:
            raise UnavailableError(f"it ended: {running.why()}")
        times = way.times()
        running.stop()
    if not times:
        raise UnavailableError(f"no result within {(1 + PATIENCE) * seconds:.0f} s")
    return Measured(len(times) / (times[-1] / 1000 - started), 1000 * cpu / len(times), len(times))
