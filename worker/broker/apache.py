"""A real Apache Kafka, one KRaft node on loopback, without Docker and without a Java on the machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from worker.broker import admin, artifacts, kraft, warden
from worker.broker.ports import LOOPBACK, free_port, is_free
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from confluent_kafka.admin import AdminClient

_ATTEMPTS = 3
_START_SECONDS = 60.0
_GRACE_SECONDS = 15.0
_LOG_TAIL_CHARACTERS = 2_000


class ApacheKafka:
    """A broker of one's own: start it with `start()` or `with`, end it with `stop()`.

    It listens on loopback only, keeps its data in a temporary folder that `stop()` removes, and dies with the program
    that started it, however that one ends. Several can run side by side.

    Args:
        topics: topics to create at the first start, with their partitions.
        properties: server properties that go over the defaults.
        heap_mb: the most Java may take for objects; the process takes some 150 MB more.
        port: where to listen; by default a free port, kept over `restart()`.
        long_running: compile with both of Java's compilers (C1 and C2), as Kafka does in production: half a second more
            to start, some 50 MB more, and half the CPU a message after 130,000 in small requests, but more before that.
        client_properties: what this object's own client needs when `properties` ask for TLS or SASL.
        cache: the folder for Kafka's jars instead of the user's cache folder.
        on_progress: is told, in a sentence, what takes a while.
    """

    limits: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        topics: Mapping[str, int] | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        port: int | None = None,
        long_running: bool = False,
        client_properties: Mapping[str, str] | None = None,
        cache: Path | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._topics = dict(topics or {})
        self._properties = dict(properties or {})
        self._heap_mb = heap_mb
        self._wanted_port = port
        self._long_running = long_running
        self._port = port or 0
        self._controller_port = 0
        self._client_properties = dict(client_properties or {})
        self._cache = cache
        self._on_progress = on_progress
        self._folder: Path | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def kind(self) -> str:
        return f"apache-kafka {artifacts.kafka_version()}"

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether the process runs; it may still be starting."""
        return self._warden is not None and self._warden.poll() is None

    @property
    def pid(self) -> int:
        """The Java process, for tests that stop, continue or kill it."""
        if self._pid is None or not self.alive:
            raise BrokerError("Apache Kafka is not running.")
        return self._pid

    @property
    def folder(self) -> Path | None:
        """Where its data and its log are; None before the start and after `stop()`."""
        return self._folder

    def start(self) -> Self:
        """Bring it up with empty topics; return when a client is served. A started one is left as it is.

        Raises:
            BrokerError: it cannot be had, or does not come up; holds the end of its log.
        """
        if self._folder is not None:
            return self
        kafka = artifacts.obtain(self._on_progress, self._cache)
        self._on_progress(f"Starting Apache Kafka {kafka.version}.")
        if self._wanted_port is not None and not is_free(self._wanted_port):
            raise BrokerError(f"Port {self._wanted_port} is in use: choose another, or none to have a free one picked.")
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                self._lay_out(kafka)
                if self._launch(kafka):
                    break
                # Someone took a picked port between the look and the start: pick again.
                if attempt == _ATTEMPTS or self._wanted_port is not None or "in use" not in self._log_tail():
                    raise self._failure()
                self.stop()
            client = self._client()
            admin.warm_groups(client)
            admin.create_topics(client, self._topics)
        except BaseException:  # Ctrl-C included: nothing stays behind
            self.stop()
            raise
        return self

    def create_topics(self, topics: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
        """Create the topics that are missing, each with its partitions; they are ready when this returns."""
        admin.create_topics(self._client(), topics, config)

    def halt(self) -> None:
        """Stop the process in good order, but keep its data and its port for `restart()`."""
        if self._warden is None:
            return
        self._warden.terminate()
        try:
            self._warden.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._warden = None

    def kill(self) -> None:
        """Kill the process with -9, as a crash would; data and port stay for `restart()`."""
        if self._warden is None:
            return
        # The warden reaps the process only as it ends itself, so that while it runs the number is not anyone else's.
        if self._warden.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid or self._warden.pid, signal.SIGKILL)
        self._warden.wait()
        self._warden = None

    def restart(self) -> None:
        """Start again with the same data on the same port, after `halt()`, `kill()` or a crash; halts it if it runs.

        Raises:
            BrokerError: it does not come up, or was never started.
        """
        if self._folder is None:
            raise BrokerError("Apache Kafka was not started, or is stopped: there is nothing to restart.")
        self.halt()
        if not self._launch(artifacts.obtain(self._on_progress, self._cache)):
            raise self._failure()

    def stop(self) -> None:
        """End it and remove its data; may be called again."""
        self.halt()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _client(self) -> AdminClient:
        return admin.connect(self.bootstrap_servers, self._client_properties)

    def _lay_out(self, kafka: artifacts.Kafka) -> None:
        """A fresh folder as Kafka's storage tool would leave it, which takes a second for a JVM to do."""
        self._folder = Path(tempfile.mkdtemp(prefix="winnow-kafka-"))
        self._port = self._wanted_port or free_port()
        self._controller_port = free_port()
        kraft.lay_out(self._folder, kafka, self._port, self._controller_port, self._properties)

    def _launch(self, kafka: artifacts.Kafka) -> bool:
        """Start the process in the folder; whether it serves clients in the end."""
        assert self._folder is not None
        command = [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), str(self._folder), str(self._log)]
        self._warden = subprocess.Popen(
            [*command, *kraft.java_command(kafka, self._folder, self._heap_mb, self._long_running)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=kraft.environment(),
            # Ctrl-C in a terminal reaches its whole process group: the broker must outlive the worker's own end.
            start_new_session=True,
        )
        assert self._warden.stdout is not None
        with self._warden.stdout as announced:
            self._pid = int(announced.readline() or 0) or None
        return admin.wait_until_ready(self._client(), lambda: self.alive, _START_SECONDS)

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return self._folder / "kafka.log"

    def _log_tail(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace").strip()[-_LOG_TAIL_CHARACTERS:]
        except OSError:
            return ""

    def _failure(self) -> BrokerError:
        what = f"did not answer within {_START_SECONDS:.0f} s" if self.alive else "ended while it started"
        return BrokerError(f"Apache Kafka {what}. The end of its log:\n{self._log_tail() or '(empty)'}")
