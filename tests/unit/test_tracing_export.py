"""Where spans go: OpenTelemetry's own variables, a collector that is there, away or silent, and the end of a worker."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from importlib import util
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.kit import MODEL, bench
from tests.unit import toys
from tests.unit.loops import P0, message
from worker import doctor
from worker import tracing as module
from worker.app import Worker
from worker.config import load
from worker.doctor.findings import Finding, Status
from worker.errors import ConfigError
from worker.memory import MemoryLog, MemorySink, MemorySource

pytest.importorskip("opentelemetry.sdk", reason="tracing needs the extra [otel]")

from tests.otlp import Collector, attributes
from worker.tracing import About, Tracing, context_of, open_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER",
        "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SPAN_LINK_COUNT_LIMIT")  # fmt: skip
SECRET = "a text that nobody shall see"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    yield
    for thread in threading.enumerate():  # what they say is not to be said in another test
        if thread.name == "tracing" or thread.name.startswith("OtelBatch"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.address)
    yield made
    made.end()


def opened(most_messages: int = 32) -> Tracing:
    return open_tracing(About(MODEL, "group", "client"), of_the_batch=True, most_messages=most_messages, member="pod-0")


def one_batch(tracing: Tracing, messages: int = 3) -> None:
    on = bench(inline=True, tracing=tracing)
    for number in range(messages):
        context = f"00-{number + 1:032x}-{7:016x}-01".encode()
        on.log.append("in", 0, message(SECRET), headers=[("traceparent", context)])
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: messages})


def test_spans_reach_a_collector_as_otlp(collector: Collector):
    """Over HTTP as protobuf, with resource, scope, links and attributes, and no text."""
    tracing = opened()
    one_batch(tracing)
    tracing.close()
    assert collector.paths == ["/v1/traces"]
    (received,) = collector.received()
    said = attributes(received.resource)
    assert (said["service.name"], said["service.instance.id"]) == ("winnow", "pod-0")
    (scope,) = received.scope_spans
    (span,) = scope.spans
    assert (scope.scope.name, span.name, span.kind) == ("winnow", "process in", span.SPAN_KIND_CONSUMER)
    assert [int.from_bytes(link.trace_id) for link in span.links] == [1, 2, 3]
    assert attributes(span)["messaging.consumer.group.name"] == "group"
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_name_and_resource_are_the_environments(collector: Collector, monkeypatch: pytest.MonkeyPatch):
    """OpenTelemetry's variables are stronger than what the worker says of itself."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "spam-filter")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=seven")
    tracing = opened()
    one_batch(tracing)
    tracing.close()
    said = attributes(collector.received()[0].resource)
    assert (said["service.name"], said["service.instance.id"]) == ("spam-filter", "seven")
    assert said["deployment.environment.name"] == "test"


def test_the_sampler_is_the_environments(collector: Collector, monkeypatch: pytest.MonkeyPatch):
    """As it names them."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = opened()
    one_batch(tracing)
    tracing.close()
    assert collector.bodies == []


@pytest.mark.parametrize(("limit", "links"), [(None, 200), ("5", 5)])
def test_a_batch_has_room_for_the_links_of_all_its_messages(monkeypatch: pytest.MonkeyPatch, limit, links):
    """By default; a limit in the environment holds."""
    if limit is not None:
        monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", limit)
    assert module._limits(200).max_links == links
    assert module._limits(10).max_links == (128 if limit is None else links)


def test_no_exporter_is_wanted(monkeypatch: pytest.MonkeyPatch):
    """Contexts go out all the same: somebody else may trace."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert list(module._exporters()) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "ask for the exporter zipkin, which is not installed"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "ask for the exporter carrier-pigeon, which is not"),
    ],
)
def test_an_exporter_that_cannot_be_had_is_a_sentence(monkeypatch: pytest.MonkeyPatch, name, value, said):
    """It names the variable's value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        opened()


def test_an_exporter_that_refuses_its_variables_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    """In its own words."""

    class Refusing:
        def load(self):
            raise ValueError("the certificate is not there")

    monkeypatch.setattr(module, "entry_points", lambda **_: [Refusing()])
    with pytest.raises(ConfigError, match=r"otlp_proto_http cannot be made .* the certificate is not there"):
        opened()


def test_what_the_library_says_of_each_failure_is_not_logged(collector: Collector, caplog: pytest.LogCaptureFixture):
    """Neither that an export failed, each time, nor what a broken header holds."""
    collector.status = 400
    tracing = opened()
    context_of([("traceparent", f"00-{1:032x}-{7:016x}-01".encode()), ("tracestate", SECRET.encode())])
    one_batch(tracing)
    tracing.close()
    assert collector.bodies
    assert [record.name for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert SECRET not in caplog.text


def test_a_collector_that_is_away_is_said_once_and_costs_spans_alone():
    """Messages go on; the log says when spans are lost, and when they are not any more."""
    failing = Collector(status=400)
    exporter = module._Watched(next(iter(exporters_to(failing))))
    try:
        with structlog.testing.capture_logs() as logged:
            assert [exporter.export([]).name for _ in range(3)] == ["FAILURE"] * 3
            failing.status = 200
            assert exporter.export([]).name == "SUCCESS"
    finally:
        exporter.shutdown()
        failing.end()
    assert [line["event"] for line in logged] == [
        "spans cannot be exported and are lost; messages are not affected",
        "spans are exported again",
    ]


def exporters_to(collector: Collector):
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    yield OTLPSpanExporter(endpoint=f"{collector.address}/v1/traces")


def test_an_exporter_that_raises_is_a_failure():
    """Its thread goes on."""

    class Raising(module.SpanExporter):
        def export(self, spans):
            raise RuntimeError(SECRET)

    with structlog.testing.capture_logs() as logged:
        assert module._Watched(Raising()).export([]).name == "FAILURE"
    assert SECRET not in str(logged)


def test_a_collector_that_never_answers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch):
    """What is not exported in time is lost, and told."""
    silent = Collector(silent=True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.05)
    tracing = opened()
    one_batch(tracing)
    with structlog.testing.capture_logs() as logged:
        began = time.monotonic()
        tracing.close()
        took = time.monotonic() - began
    silent.end()
    assert took < 5
    assert [line["event"] for line in logged if "last spans" in line["event"]] == [
        "the last spans could not be exported in time"
    ]


def test_a_worker_traces_as_its_settings_say(tmp_path, collector: Collector):
    """From the setting to the collector: what the worker knows of itself is in the span, and flushed when it ends."""
    made = toys.write(tmp_path / "toy", "single-label", {"good": (2, -2)}, ("pro", "con"))
    settings = load(
        None,
        [f"model.bundle={made.path}", "serving.enabled=false", "model.lanes=1", "kafka.commit_interval_ms=1",
         "tracing.enabled=true", "kafka.group_id=mine", "kafka.client_id=me"],
    )  # fmt: skip
    log, sink = MemoryLog(), MemorySink()
    log.append("in", 0, message("good"))
    source = MemorySource(log)
    worker = Worker(settings, source, sink)
    source.assign(P0)
    worker.run(lambda: log.committed == {P0: 1})
    (span,) = collector.received()[0].scope_spans[0].spans
    said = attributes(span)
    assert (said["messaging.consumer.group.name"], said["messaging.client.id"]) == ("mine", "me")
    assert (said["winnow.model.name"], said["winnow.model.digest"]) == ("toy", made.digest)
    assert dict(sink.sent[0].headers)["traceparent"].split(b"-")[1] == span.trace_id.hex().encode()


def test_without_the_extra_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """With the command that mends it, before anything is built."""
    find = util.find_spec
    monkeypatch.setattr(
        "worker.distribution.find_spec", lambda name: None if name.startswith("opentelemetry.sdk") else find(name)
    )
    with pytest.raises(
        ConfigError, match=r"needs the extra \[otel\], of which opentelemetry\.sdk is missing: pip install"
    ):
        Worker(
            load(None, ["tracing.enabled=true", f"model.bundle={tmp_path}"]), MemorySource(MemoryLog()), MemorySink()
        )


def test_a_setting_without_tracing_is_refused():
    """It would have no effect."""
    with pytest.raises(ConfigError, match=r"tracing.propagate = \"message\" has no meaning without tracing.enabled"):
        load(None, ["tracing.propagate=message"])


def test_a_worker_that_does_not_trace_loads_nothing_of_it():
    """Zero cost when off."""
    code = (
        "import sys, worker.app, worker.commands.run; print([n for n in sys.modules if n.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stderr


def found(*assignments: str) -> list[Finding]:
    """What `winnow doctor` says of it."""
    return list(doctor.tracing.exporting(load(None, list(assignments))))


def test_the_doctor_sees_whether_spans_get_through(collector: Collector):
    """By handing over none; where they do not, messages are not affected, and it is no problem."""
    assert found() == []
    assert [one.status for one in found("tracing.enabled=true")] == [Status.OK]
    collector.status = 400
    (one,) = found("tracing.enabled=true")
    assert (one.check, one.status) == ("tracing", Status.WARNING)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in one.mend


def test_the_doctor_does_not_wait_for_a_silent_collector(monkeypatch: pytest.MonkeyPatch):
    """What has not got through in time does not."""
    silent = Collector(silent=True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    assert not module.gets_through(0.05)
    silent.end()


def test_the_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    """An exporter that cannot be had ends a worker at its start."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    (one,) = found("tracing.enabled=true")
    assert (
        one.status,
        one.found.endswith(
            "which is not installed: install the package that has it, or correct "
            "OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_PROTOCOL."
        ),
    ) == (Status.PROBLEM, True)
