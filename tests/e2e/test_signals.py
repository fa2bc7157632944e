"""Signals to `winnow run`, whatever it is waiting for."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.e2e.process import WorkerProcess
from tests.kafka_fixtures import apache_or_skip
from worker.commands.run import AT_ONCE, CLOSING_GRACE, SAME
from worker.errors import StageError

DRAIN_SECONDS = 1.0
MARGIN = 5.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(tmp_path, number):
    """While the worker waits for a broker that does not answer, the second signal ends it with 130 and says so.

    One that comes right behind the first is the same one sent twice, and ends nothing.
    """
    settings = {"kafka__bootstrap_servers": "127.0.0.1:1", "kafka__connect_timeout_ms": 60_000}
    with WorkerProcess(tmp_path, wait=False, serving__enabled=False, **settings) as worker:
        worker.until(lambda: worker.catches(signal.SIGTERM) and worker.is_in("rdk:main"))
        worker.signal(number)
        worker.signal(number)
        worker.until(lambda: '"stopping"' in worker.said)
        time.sleep(SAME)
        began = time.monotonic()
        worker.process.send_signal(number)
        assert worker.wait() == AT_ONCE
        assert time.monotonic() - began < 2.0
        assert worker.said.endswith(
            "winnow: second signal: ended at once; what is in flight will be delivered again.\n"
        )


@pytest.mark.kafka
@pytest.mark.faults
def test_a_first_signal_ends_it_though_the_broker_stands_still(tmp_path):
    """With a broker that has stopped answering, a SIGTERM ends the worker within its drain budget and the grace."""
    with apache_or_skip(topics={"messages": 1, "messages.labelled": 1, "messages.dead": 1}) as kafka:
        settings = {
            "kafka__bootstrap_servers": kafka.bootstrap_servers,
            "shutdown__drain_ms": int(1000 * DRAIN_SECONDS),
        }
        with WorkerProcess(tmp_path, **settings) as worker:
            worker.until(lambda: worker.metric("winnow_partitions_assigned"))
            os.kill(kafka.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                assert worker.terminate() in (0, StageError.exit_code), worker.said
                assert time.monotonic() - began < DRAIN_SECONDS + CLOSING_GRACE + MARGIN
            finally:
                os.kill(kafka.pid, signal.SIGCONT)
