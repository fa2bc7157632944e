"""The stream of messages through a release, on brokers that may be somebody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs_session import until
from tests.kube.release import Stream
from tests.kube.report import Step
from worker.broker import admin

if TYPE_CHECKING:
    from pathlib import Path

    from worker.broker import Broker


@pytest.mark.kafka
def test_its_topics_go_with_it(kafka: Broker, tmp_path: Path):
    """Nothing of a run is left at the brokers."""
    stream = Stream(kafka, tmp_path, Step(0, "", "at-least-once"), kafka.bootstrap_servers)
    own = {stream.input, stream.output, stream.dead}
    client = admin.connect(kafka.bootstrap_servers)
    # The controller has done it; the broker that is asked learns of it a moment later.
    until(lambda: own <= client.list_topics(timeout=10).topics.keys())
    stream.close()
    until(lambda: own.isdisjoint(client.list_topics(timeout=10).topics))
