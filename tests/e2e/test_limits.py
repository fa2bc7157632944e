"""What a worker does where topics take less than its settings allow, and where too much is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.process import WorkerProcess
from worker.kafka.tools import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.conftest import Route

pytestmark = [pytest.mark.kafka, pytest.mark.faults]


def test_a_topic_that_takes_less_than_the_settings(route: Route, start, topics: Callable[..., str]):
    """A dead letter is cut to what the topic takes, and the worker goes on."""
    small = topics("small", max_message_bytes=5_000)
    worker = start(kafka__dead_letter_topic=small)
    feeder = route.feeder()
    for _ in range(20):
        feeder.send(b"{" + b"x" * 50_000)
    feeder.send(b'{"id": "good", "text": "hello"}')
    feeder.flush()
    assert list(route.collect(["good"], worker)) == ["good"]
    reader = Reader(route.broker.bootstrap_servers, [small])
    letters: list = []
    worker.until(lambda: letters.extend(reader.poll()) or len(letters) == 20)
    reader.close()
    assert {dict(letter.headers)["winnow.errors.original.bytes"] for letter in letters} == {b"50001"}
    assert worker.terminate() == 0


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_too_many_dead_letters_halt_a_worker(route: Route, tmp_path: Path, delivery: str):
    """It ends with exit code 5 and a sentence that names the share and the reason."""
    feeder = route.feeder()
    for _ in range(5_000):
        feeder.send(b"{")
    feeder.flush()
    more = {"dead_letters__max_share": 0.5, "kafka__delivery": delivery, "kafka__instance_id": route.input}
    with WorkerProcess(tmp_path, wait=False, **(route.settings | more)) as worker:
        assert worker.wait() == 5
    assert "messages became dead letters" in worker.said
    assert "'invalid-json': more than dead_letters.max_share = 0.5" in worker.said
    assert "Traceback" not in worker.said
