"""Traces of a worker on a real Kafka: contexts through headers, spans to a collector, and once to a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from worker.app import Worker
from worker.broker.ports import free_port
from worker.config import Settings, load
from worker.kafka.reading import Reading

pytest.importorskip("opentelemetry.sdk", reason="tracing needs the extra [otel]")

from tests.otlp import Collector, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.broker import Broker
    from worker.pipeline.messages import Record

SECONDS = 30.0
SECRET = "win a free prize now, nobody else shall read this"
TRACES = [f"{number:032x}" for number in (11, 22, 33)]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(kafka: Broker, topics: Callable[..., str]) -> Settings:
    """Of a worker that traces; three messages wait for it, each of its own trace, the last one unreadable."""
    name, source = uuid4().hex[:8], topics("in")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number, trace in enumerate(TRACES):
        value = b"{" if number == 2 else json.dumps({"text": f"{SECRET} {number}"}).encode()
        headers = [("traceparent", f"00-{trace}-{7:016x}-01".encode()), ("tracestate", b"vendor=1")]
        producer.produce(source, value, headers=headers)
    assert producer.flush(SECONDS) == 0
    assignments = [
        f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"kafka.input_topics={source}",
        f"kafka.output_topic={topics('out')}", f"kafka.dead_letter_topic={topics('dead')}",
        f"kafka.group_id=group-{name}", f"kafka.instance_id={name}", "serving.enabled=false", "model.lanes=1",
        "tracing.enabled=true",
    ]  # fmt: skip
    return load(None, assignments)


def worked(settings: Settings) -> None:
    worker = Worker(settings)
    deadline = monotonic() + SECONDS

    def stopping() -> bool:
        delivered = worker.registry.get_sample_value("winnow_delivered_total") or 0
        return delivered >= len(TRACES) or monotonic() > deadline

    worker.run(stopping)


def written(settings: Settings, topic: str) -> list[Record]:
    reading = Reading(settings.kafka, isolation="read_committed")
    (partition,) = reading.partitions([topic])
    first, end = reading.extents([partition])[partition]
    found = list(reading.read(partition, first, end))
    reading.close()
    return found


def traces(records: list[Record]) -> list[str]:
    """The trace that each one's context is of."""
    return [dict(record.headers)["traceparent"].decode().split("-")[1] for record in records]


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_contexts_go_from_messages_through_batches_to_results(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, delivery: str
):
    """Spans are linked with the messages, results carry the spans' contexts, what was never in a batch its own."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    kafka = settings.kafka.model_copy(update={"delivery": delivery})
    worked(settings.model_copy(update={"kafka": kafka}))
    collector.end()
    spans = {span.trace_id.hex(): span for span in collector.spans}
    links = {trace: {link.trace_id.hex() for link in span.links} for trace, span in spans.items()}
    assert set().union(*links.values()) == set(TRACES[:2])
    assert {attributes(span)["messaging.destination.name"] for span in spans.values()} == set(kafka.input_topics)
    results, dead = written(settings, kafka.output_topic), written(settings, kafka.dead_letter_topic)
    assert len(results) == 2
    for trace, of_the_batch in zip(TRACES, traces(results), strict=False):  # a text may take two batches
        assert trace in links[of_the_batch]
    assert traces(dead) == TRACES[2:]
    assert SECRET.encode() not in b"".join(collector.bodies)


# A collector as it is deployed

CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:PORT}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A real OpenTelemetry collector: its address, and what it has said once it says something."""
    program = os.environ.get("WINNOW_OTELCOL") or shutil.which("otelcol")
    if not program:
        pytest.skip("there is no OpenTelemetry collector: build tests/otelcol, and name it with WINNOW_OTELCOL")
    port = free_port()
    (tmp_path / "collector.yaml").write_text(CONFIG.replace("PORT", str(port)), "utf-8")
    said = tmp_path / "said.txt"
    with said.open("wb") as output:
        running = subprocess.Popen(
            [program, "--config", str(tmp_path / "collector.yaml")], stdout=output, stderr=subprocess.STDOUT
        )

    def until(words: str) -> str:
        deadline = monotonic() + SECONDS
        while words not in (found := said.read_text("utf-8", "replace")):
            assert running.poll() is None, found
            assert monotonic() < deadline, found
            time.sleep(0.05)
        return found

    until("Everything is ready")
    yield f"http://127.0.0.1:{port}", until
    running.terminate()
    running.wait(10)


def test_a_real_collector_takes_what_is_sent(
    settings: Settings, deployed: tuple[str, Callable[[str], str]], monkeypatch: pytest.MonkeyPatch
):
    """Resource, span, attributes and links, as it reads them; and nothing of a message."""
    address, until = deployed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    worked(settings)
    said = until("winnow.batch.padded_tokens")
    assert "service.name: Str(winnow)" in said
    assert re.search(r"Name +: process ", said)
    assert re.search(r"Kind +: Consumer", said)
    assert {trace for trace in TRACES if f"Trace ID: {trace}" in said} == set(TRACES[:2])
    (results,) = [written(settings, settings.kafka.output_topic)]
    for trace in traces(results):
        assert re.search(rf"Trace ID +: {trace}", said)
    assert SECRET not in said
