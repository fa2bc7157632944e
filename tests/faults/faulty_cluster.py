"""librdkafka's in-process cluster with errors to order, in a process of its own.

As a program it holds the cluster: one command a line comes in, one line goes back. See `FaultyCluster` for what it can.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRODUCE, OFFSET_COMMIT, INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT = (
    0, 8, 22, 24, 25, 26, 28,
)  # fmt: skip
FEW = 1
SESSION_MS, HEARTBEAT_MS = 6_000, 1_000


class FaultyCluster:
    """A broker of librdkafka's mock cluster that answers with errors when asked to.

    No transactions, no fencing: see the limits of `worker.broker.MockCluster`.
    """

    kind = "librdkafka mock cluster"
    limits: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.faulty_cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.bootstrap_servers = self._ask("address")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def create_topics(self, topics: Mapping[str, int]) -> None:
        for name, partitions in topics.items():
            self._ask("topic", name, partitions)

    def fail(self, api: int, codes: Sequence[int]) -> None:
        """Answer the next requests of that API with these errors, in turn."""
        self._ask("fail", api, *codes)

    def forgive(self, api: int) -> None:
        """Answer requests of that API as they should be again."""
        self._ask("forgive", api)

    def asked(self, api: int) -> int:
        """How many requests of that API came so far."""
        return int(self._ask("asked", api))

    def stop(self) -> None:
        """End it; what it held is gone."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, "the cluster is gone"
        return answer


def library() -> ctypes.CDLL | None:
    """The client's own library; None where it is no file of its own."""
    import confluent_kafka

    found = list(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"))
    return ctypes.CDLL(str(found[0])) if found else None


class _Cluster:
    """The cluster by the functions of rdkafka_mock.h."""

    def __init__(self) -> None:
        lib = library()
        assert lib is not None
        self._lib = lib
        for name in ("conf_new", "new", "handle_mock_cluster", "mock_get_requests"):
            getattr(lib, f"rd_kafka_{name}").restype = ctypes.c_void_p
        lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        lib.rd_kafka_mock_request_api_key.restype = ctypes.c_int16
        why, pointer = ctypes.create_string_buffer(512), ctypes.c_void_p
        conf = pointer(lib.rd_kafka_conf_new())
        lib.rd_kafka_conf_set(conf, b"test.mock.num.brokers", b"1", why, ctypes.c_size_t(512))
        self._client = pointer(lib.rd_kafka_new(0, conf, why, ctypes.c_size_t(512)))
        self._cluster = pointer(lib.rd_kafka_handle_mock_cluster(self._client))
        lib.rd_kafka_mock_start_request_tracking(self._cluster)
        # As the tests' Apache Kafka has them: a group of KIP-848 misses a member as soon.
        lib.rd_kafka_mock_set_group_consumer_session_timeout_ms(self._cluster, SESSION_MS)
        lib.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self._cluster, HEARTBEAT_MS)
        self._asked: dict[int, int] = {}

    def address(self) -> str:
        return str(self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def topic(self, name: str, partitions: str) -> str:
        return str(self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), int(partitions), FEW))

    def fail(self, api: str, *codes: str) -> str:
        errors = (ctypes.c_int * len(codes))(*map(int, codes))
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(int(api)), ctypes.c_size_t(len(codes)), errors
        )
        return "done"

    def forgive(self, api: str) -> str:
        self._lib.rd_kafka_mock_clear_request_errors(self._cluster, ctypes.c_int16(int(api)))
        return "done"

    def asked(self, api: str) -> str:
        lib, count = self._lib, ctypes.c_size_t()
        found = ctypes.c_void_p(lib.rd_kafka_mock_get_requests(self._cluster, ctypes.byref(count)))
        requests = ctypes.cast(found, ctypes.POINTER(ctypes.c_void_p))
        for index in range(count.value):
            key = lib.rd_kafka_mock_request_api_key(ctypes.c_void_p(requests[index]))
            self._asked[key] = self._asked.get(key, 0) + 1
        lib.rd_kafka_mock_request_destroy_array(found, count)
        lib.rd_kafka_mock_clear_requests(self._cluster)
        return str(self._asked.get(int(api), 0))


def main() -> None:
    cluster = _Cluster()
    for line in sys.stdin:  # it ends with the pipe, so it does not outlive who started it
        command, *arguments = line.split()
        print(getattr(cluster, command)(*arguments), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
