"""librdkafka's in-process cluster, for machines where Apache Kafka cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from worker.broker import admin, mock_child
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

_GRACE_SECONDS = 5.0
_METADATA_SECONDS = 10.0


class MockCluster:
    """A stand-in for Kafka in a child process: start it with `start()` or `with`, end it with `stop()`.

    It dies with the program that started it. `limits` says what it cannot do; its speed says nothing about Kafka's.
    """

    kind: str = "librdkafka mock cluster"
    limits: tuple[str, ...] = (
        "Transactions are not real: read_committed readers get aborted records too, and offsets sent to a transaction "
        "are not stored, so exactly-once delivery cannot be tried on it.",
        "Nothing is fenced: neither an older producer with the same transactional.id nor a second group.instance.id.",
        "Every topic has 4 partitions and appears when it is first asked for, so a misspelt name is no error.",
        "It keeps about the latest 5 MiB of a partition, in memory only, and drops older messages without a word.",
        "No message is too large for it.",
        "There is no TLS and no SASL.",
        "The first member of a classic group waits 3 s for others; with group.protocol=consumer it does not.",
        "Readers of an empty topic wait out fetch.wait.max.ms: set it to 10.",
        "A group whose members name different assignors ends it.",
        "Its speed and latency are not Kafka's: do not quote them.",
    )

    def __init__(self, *, topics: Mapping[str, int] | None = None) -> None:
        self._topics = dict(topics or {})
        self._process: subprocess.Popen[str] | None = None
        self.bootstrap_servers = ""

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Bring it up; return when its address is known. A started one is left as it is.

        Raises:
            BrokerError: its process ended instead.
        """
        if self._process is not None:
            return self
        self._process = subprocess.Popen(
            [sys.executable, "-P", mock_child.__file__, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            with self._process.stdout as announced:
                self.bootstrap_servers = announced.readline().strip()
            if not self.bootstrap_servers:
                raise BrokerError("librdkafka's mock cluster ended while it started: is confluent-kafka sound?")
            self.create_topics(self._topics)
        except BaseException:  # Ctrl-C included: nothing stays behind
            self.stop()
            raise
        return self

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make the topics appear; the number of partitions is the cluster's own, see `limits`."""
        client = admin.connect(self.bootstrap_servers, {"allow.auto.create.topics": "true"})
        for name in topics:
            try:
                client.list_topics(name, timeout=_METADATA_SECONDS)
            except KafkaException as failed:
                raise BrokerError(f"The mock cluster did not answer about topic {name!r}.") from failed

    def stop(self) -> None:
        """End it; what it held is gone. May be called again."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
