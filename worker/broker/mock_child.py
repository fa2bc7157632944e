"""The process that holds librdkafka's in-process cluster: `mock_child.py PARENT`.

A process of its own, because some client mistakes (groups whose members name different assignors) abort the cluster's.
Contract: prints the cluster's address, then serves until its parent is gone or it is told to end.
Started by path, so that it imports nothing but the Kafka client.
"""

from __future__ import annotations

import os
import sys
import time

from confluent_kafka import Producer

_WATCH_SECONDS = 0.1


def main(parent: int) -> None:
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(cluster.list_topics(timeout=10).brokers.values()))
    os.write(1, f"{broker.host}:{broker.port}\n".encode())
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(0)  # the cluster lives in C threads that have nothing to put in order


if __name__ == "__main__":
    main(int(sys.argv[1]))
