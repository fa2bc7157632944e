"""The place of one fault: topics of its own, what is fed, the workers, the readers, and the account at the end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults import reading
from tests.faults.accounts import Account, account, recovery
from tests.faults.feeding import Feeder
from tests.faults.fleet import FaultyWorker
from tests.faults.reading import ConcurrentReader
from worker.audit import Options, audit
from worker.config import load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from tests.faults.accounts import Place
    from tests.faults.report import Row
    from worker.broker import Broker

SESSION_SECONDS = {"classic": 4.0, "consumer": 6.0}
"""After which a group misses a member: of the first the member says it, of the second the tests' broker."""
EXACTLY_ONCE = "exactly-once"
TRANSACTION_SECONDS = 3.0
"""A dead worker's transaction is to end before the group misses the worker, as by the defaults (10 s and 45 s)."""


class Stage:
    """Three topics, a group, and everything around them."""

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        row: Row,
        *,
        partitions: int = 4,
        address: str | None = None,
        **settings: object,
    ) -> None:
        """Create the topics.

        Args:
            broker: which has them.
            folder: for the logs of the workers.
            row: says delivery and protocol, and takes the figures.
            partitions: of input and output.
            address: of the broker, as the workers are to see it.
            settings: of every worker, `section__name`.
        """
        self.broker, self.folder, self.row, self.partitions = broker, folder, row, partitions
        name = uuid4().hex[:8]
        self.input, self.output, self.dead = f"in-{name}", f"out-{name}", f"dead-{name}"
        self.group = f"group-{name}"
        broker.create_topics({self.input: partitions, self.output: partitions, self.dead: 1})
        self._settings = self._defaults(address or broker.bootstrap_servers) | settings
        self.workers: list[FaultyWorker] = []
        self.feeder = Feeder(broker.bootstrap_servers, self.input, partitions)
        self.reader = ConcurrentReader(broker.bootstrap_servers, self.written)

    def _defaults(self, address: str) -> dict[str, object]:
        settings: dict[str, object] = {
            "kafka__bootstrap_servers": address,
            "kafka__input_topics": self.input,
            "kafka__output_topic": self.output,
            "kafka__dead_letter_topic": self.dead,
            "kafka__group_id": self.group,
            "kafka__group_protocol": self.row.protocol,
            "kafka__delivery": self.row.delivery,
            # The order of a partition is kept for equal keys; with the source's numbers for all.
            "kafka__output_partition": "source",
            "kafka__commit_interval_ms": 100,
            "kafka__properties.reconnect.backoff.max.ms": 500,
            "batching__max_in_flight": 256,
            "logging__format": "json",
            "serving__host": "127.0.0.1",
            "serving__port": 0,
        }
        if self.row.protocol == "classic":
            settings["kafka__consumer_properties.session.timeout.ms"] = int(1000 * SESSION_SECONDS["classic"])
            settings["kafka__consumer_properties.heartbeat.interval.ms"] = 500
        if self.row.delivery == EXACTLY_ONCE:
            settings["kafka__transactional_id_prefix"] = self.group
            settings["kafka__producer_properties.transaction.timeout.ms"] = int(1000 * TRANSACTION_SECONDS)
        return settings

    @property
    def written(self) -> dict[str, int]:
        """The topics that workers write, with their partitions."""
        return {self.output: self.partitions, self.dead: 1}

    @property
    def session(self) -> float:
        return SESSION_SECONDS[self.row.protocol]

    def worker(
        self,
        *flags: str,
        wait: bool = True,
        instance: str | None = None,
        env: dict[str, str] | None = None,
        **settings: object,
    ) -> FaultyWorker:
        """Start one; ready when this returns, unless told not to wait.

        Args:
            flags: of `stub_worker`.
            wait: until it is ready.
            instance: its name in transactions, its own by default.
            env: variables beyond this process's.
            settings: over those of the stage.
        """
        own: dict[str, object] = {"kafka__instance_id": instance or f"worker-{len(self.workers)}"}
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
        worker = FaultyWorker(self.folder, list(flags), self._settings | own | settings, environment)
        self.workers.append(worker)
        if wait:
            worker.wait_ready()
        return worker

    def all_seen(self, quiet: float = reading.QUIET_SECONDS) -> None:
        """Wait until the concurrent reader has seen something of each message that was fed."""
        try:
            self.reader.until(lambda: len(self.reader.sources) >= self.feeder.written, quiet)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._explained()}") from None

    def _explained(self) -> str:
        said = "\n".join(worker.explained() for worker in self.workers[-3:])
        return f"{self.feeder.written} were fed, {len(self.reader.records)} read\n{said}"

    def inputs(self) -> dict[Place, str | None]:
        """What is stored in the input, and the ids of what has one."""
        found = {}
        for message in reading.messages(self.broker.bootstrap_servers, {self.input: self.partitions}):
            found[message.partition(), message.offset()] = _id(message)
        return found

    def settle(self, skipped: Collection[Place] = (), *, aborted_shows: bool = False) -> Account:
        """The account of all that went in, by a reader that comes now; into the row, and nothing may be lost.

        In exactly-once mode nobody may see anything twice, the concurrent reader included; where the broker shows what
        was aborted, doubles and order say nothing.
        """
        inputs = self.inputs()
        final = account(inputs, reading.read_whole(self.broker.bootstrap_servers, self.written), skipped)
        meanwhile = account(inputs, list(self.reader.records), skipped)
        if aborted_shows:
            final = final._replace(doubled=0, out_of_order=0)
        self.row.add(final, len(inputs))
        assert len(inputs) == self.feeder.written, "the feeder itself lost messages, or wrote them twice"
        assert final.lost == 0, final
        assert final.strange == 0, final
        assert final.differing == 0, final
        assert final.out_of_order == 0, final
        if self.row.delivery == EXACTLY_ONCE and not aborted_shows:
            assert final.doubled == 0, final
            assert meanwhile.doubled == 0, meanwhile
        if not aborted_shows:
            self._audited(final)
        return final

    def _audited(self, counted: Account) -> None:
        """`winnow audit`, which counts in another way, comes to the same."""
        asked = self._settings | {"kafka__bootstrap_servers": self.broker.bootstrap_servers}
        settings = load(None, [f"{name.replace('__', '.', 1)}={value}" for name, value in asked.items()])
        report = audit(settings, Options(scores=False, all_processed=True))
        assert report.ok, report.document()
        assert report.total.copies == counted.doubled, report.document()

    def recovered(
        self,
        since: float,
        partitions: Collection[int] | None = None,
        seconds: float = 120.0,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> float:
        """Wait until something new came of those partitions after a moment (of `time.time`); note how long it took."""
        wanted = range(self.partitions) if partitions is None else partitions
        deadline = time.monotonic() + seconds
        while (took := recovery(self._since(since), wanted, since)) is None:
            assert time.monotonic() < deadline, f"no recovery within {seconds:g} s; {self._explained()}"
            if self.reader.failed is not None:
                raise self.reader.failed
            meanwhile()
            time.sleep(reading.TICK)
        self.row.recovered(took)
        return took

    def _since(self, moment: float) -> list[Any]:
        """What the concurrent reader got since; the newest are at the end."""
        found = []
        for record in reversed(self.reader.records):
            if record.at < moment:
                break
            found.append(record)
        return found

    def committed(self) -> dict[int, int]:
        """The offsets of the group, by partition."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers, "log_level": 0})
        asked = ConsumerGroupTopicPartitions(
            self.group, [TopicPartition(self.input, partition) for partition in range(self.partitions)]
        )
        try:
            answer = admin.list_consumer_group_offsets([asked], require_stable=True)[self.group].result(30)
        except KafkaException:
            return {}
        return {p.partition: p.offset for p in answer.topic_partitions if p.offset >= 0}

    def close(self) -> None:
        for worker in self.workers:
            worker.__exit__()
        self.reader.close()


def _id(message: Any) -> str | None:
    try:
        document = orjson.loads(message.value() or b"")
        id_ = document.get("id") if isinstance(document, dict) else None
    except orjson.JSONDecodeError:
        return None
    return f"{message.topic()}-{message.partition()}-{message.offset()}" if id_ is None else str(id_)
