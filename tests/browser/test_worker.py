"""The page of a real `winnow run` that classifies real messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.browser.conftest import until
from tests.e2e.process import WorkerProcess
from worker.kafka.tools import Feeder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Visitor
    from worker.broker import MockCluster

pytestmark = pytest.mark.browser
MESSAGES = 400


@pytest.mark.timeout(180)
def test_a_worker_shows_what_it_does(visitor: Visitor, mock_cluster: MockCluster, tmp_path: Path):
    """Messages in Kafka, their labels on the page, the bundle's card; and when the worker is killed, it says so."""
    mock_cluster.create_topics({"page-in": 4, "page-out": 4, "page-dead": 4})
    settings = {
        "kafka__bootstrap_servers": mock_cluster.bootstrap_servers,
        "kafka__input_topics": "page-in",
        "kafka__output_topic": "page-out",
        "kafka__dead_letter_topic": "page-dead",
        "kafka__group_id": "page",
        "kafka__consumer_properties.fetch.wait.max.ms": 10,
        "logging__format": "json",
    }
    worker = WorkerProcess(tmp_path, **settings)
    try:
        feeder = Feeder(mock_cluster.bootstrap_servers, "page-in")
        for number in range(MESSAGES):
            text = "WINNER! Call now to claim your prize" if number % 4 == 0 else "See you at lunch?"
            feeder.send(orjson.dumps({"text": f"{text} {number}"}) if number % 100 else b"{", b"%d" % number)
        feeder.flush()
        worker.until(lambda: worker.metric("winnow_delivered_total") == MESSAGES)
        page = visitor.open(f"http://127.0.0.1:{worker.port}")
        counts = "[...document.querySelectorAll('#counts dt')].find(e => e.textContent === 'Acknowledged')?.nextSibling"
        until(page, f"{counts}?.textContent === '{MESSAGES}'", 20.0)
        until(page, "document.getElementById('title').textContent === 'Well.'", 20.0)
        assert page.locator("#reasons tbody tr").inner_text().split() == ["invalid-json", "decode", "4", "4"]
        page.wait_for_selector("#model", state="visible")
        assert page.locator("#model-name").inner_text() == "winnow-spam"
        assert page.locator("#model-digest").inner_text() in worker.get("/metrics")
        assert "group page" in page.locator("#who").inner_text()
        assert visitor.complaints == []
        assert "lunch" not in worker.get("/status").lower()
        worker.kill()
        until(page, "/^No answer since/.test(document.getElementById('title').textContent)", 20.0)
    finally:
        worker.__exit__()
