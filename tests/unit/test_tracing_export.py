"""Where spans go: OpenTelemetry's own variables, a collector that is there, away or silent, and the end of a worker."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from importlib import util
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.kit import MODEL, bench
from tests.unit import toys
from tests.unit.loops import P0, message, reason
from worker import app, doctor
from worker import tracing as module
from worker.app import Worker
from worker.config import load
from worker.doctor.findings import Finding, Status
from worker.errors import ConfigError
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.encode import _size
from worker.pipeline.scores import SCORES

pytest.importorskip("opentelemetry.sdk", reason="tracing needs the extra [otel]")

from tests.otlp import Collector, attributes
from worker.tracing import About, Tracing, context_of, open_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.pipeline.messages import Outgoing

OURS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER",
        "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SPAN_LINK_COUNT_LIMIT",
        "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")  # fmt: skip
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


def one_batch(tracing: Tracing, messages: int = 3) -> list[Outgoing]:
    on = bench(inline=True, tracing=tracing)
    for number in range(messages):
        context = f"00-{number + 1:032x}-{7:016x}-01".encode()
        on.log.append("in", 0, message(SECRET), headers=[("traceparent", context)])
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: messages})
    return on.sink.sent


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


def test_without_an_exporter_messages_keep_their_contexts(monkeypatch: pytest.MonkeyPatch):
    """Those of spans that nobody gets would end the traces here; the doctor says that none is wanted."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    (sent,) = one_batch(opened(), 1)
    assert dict(sent.headers)["traceparent"] == f"00-{1:032x}-{7:016x}-01".encode()
    (one,) = found("tracing.enabled=true")
    assert (one.status, one.found.startswith("No exporter is wanted")) == (Status.OK, True)


def test_names_of_exporters_may_be_empty(monkeypatch: pytest.MonkeyPatch):
    """As of a list that ends in a comma."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console,")
    assert [type(each).__name__ for each in module._exporters()] == ["ConsoleSpanExporter"]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", ",")
    assert list(module._exporters()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "256"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "many"),
    ],
)
def test_variables_that_opentelemetry_refuses_are_a_sentence(monkeypatch: pytest.MonkeyPatch, name, value):
    """Not a traceback, and the doctor finds them, too."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="OpenTelemetry's environment variables cannot be used: "):
        opened()
    (one,) = found("tracing.enabled=true")
    assert one.status is Status.PROBLEM


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer s3cret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", 'a="s3cret"'),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,s3cret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,s3cret"),
    ],
)
def test_a_secret_in_a_variable_is_in_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
):
    """What is no pair is refused by the name of its variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} has an entry that is not name=value") as refused:
        opened()
    with pytest.raises(ConfigError):
        module.gets_through()
    assert "s3cret" not in caplog.text + str(refused.value)


def test_pairs_are_taken_as_opentelemetry_takes_them(monkeypatch: pytest.MonkeyPatch, collector: Collector):
    """Empty entries, spaces within a value, escapes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer s3cret, x=%41,")
    assert module.gets_through(5.0) == (1, "")
    assert collector.paths == ["/v1/traces"]


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
    module._silence()
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
    assert logged[0]["cause"] == "status 400"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in logged[0]["mend"]


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
    assert logged[0]["cause"] == "RuntimeError"


def test_an_exporter_that_raises_as_it_is_shut_down_ends_no_worker(monkeypatch: pytest.MonkeyPatch):
    """Everything is committed then; a thread that dies would make the exit code that of a bug."""

    class Raising(module.SpanExporter):
        def export(self, spans):
            return module.SpanExportResult.SUCCESS

        def shutdown(self):
            raise RuntimeError(SECRET)

    monkeypatch.setattr(module, "_exporters", lambda: iter([Raising()]))
    tracing = opened()
    with structlog.testing.capture_logs() as logged:
        tracing.close()  # an exception in its thread would be a warning, and so an error of this test
    assert [(line["event"], line["cause"]) for line in logged] == [
        ("an exporter of spans failed as it was shut down", "RuntimeError")
    ]


def test_spans_that_come_too_fast_are_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """By the worker alone: the library would go on saying it, from the thread that polls."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    taking = threading.Event()

    class Slow(module.SpanExporter):
        def export(self, spans):
            taking.wait(10)
            return module.SpanExportResult.SUCCESS

    monkeypatch.setattr(module, "_exporters", lambda: iter([Slow()]))
    tracing = opened()
    # The library's own filter lets a line pass once in some seconds: it is the worker that says it once.
    monkeypatch.setattr(logging.getLogger(module._GATHERING), "filters", [])
    with structlog.testing.capture_logs() as logged:
        for _ in range(8):
            one_batch(tracing, 1)
    taking.set()
    tracing.close()
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == [
        "spans come faster than they are exported, and some are lost; messages are not affected"
    ]
    assert "Queue full" not in caplog.text


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
        ConfigError, match=r"needs the extra \[otel\], of which opentelemetry\.sdk is missing\. Install it: pip install"
    ):
        Worker(
            load(None, ["tracing.enabled=true", f"model.bundle={tmp_path}"]), MemorySource(MemoryLog()), MemorySink()
        )


def test_what_is_written_has_room_for_its_context(tmp_path, collector: Collector):
    """Whatever a result's size, with its context it is within the bound, or its message a dead letter that is."""
    made = toys.write(tmp_path / "toy", "single-label", {"good": (2, -2)}, ("pro", "con"))
    bound, sizes = 8_000, range(6_000, 9_000, 100)
    settings = load(
        None,
        [f"model.bundle={made.path}", "serving.enabled=false", "model.lanes=1", "kafka.commit_interval_ms=1",
         "tracing.enabled=true", "tracing.propagate=message", f"output.max_bytes={bound}", "kafka.pass_headers="],
    )  # fmt: skip
    log, sink = MemoryLog(), MemorySink()
    own = [("traceparent", f"00-{1:032x}-{7:016x}-01".encode()), ("tracestate", b"vendor=" + b"x" * 500)]
    for size in sizes:
        log.append("in", 0, message("good"), key=b"k" * size, headers=own)
    source = MemorySource(log)
    worker = Worker(settings, source, sink)
    source.assign(P0)
    worker.run(lambda: log.committed == {P0: len(sizes)})
    assert max(_size(each) for each in sink.sent) <= bound
    assert sink.results
    assert all(each.headers == own for each in sink.results)
    assert {reason(each) for each in sink.dead_letters} == {"result-too-large"}


def test_a_reference_of_other_buckets_is_told():
    """It is not used, and the bundle has one: somebody would look for it."""
    reference = SimpleNamespace(bounds=(0.5,), scores={"pro": [1.0]})
    model = SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(reference=reference)))
    with structlog.testing.capture_logs() as logged:
        assert app._expected_scores(model) is None
    assert ["winnow model reference" in line["event"] for line in logged] == [True]
    reference.bounds = SCORES
    assert app._expected_scores(model) == reference.scores


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
    assert "(status 400)" in one.found
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in one.mend


def test_the_doctor_names_an_address_without_a_scheme(monkeypatch: pytest.MonkeyPatch):
    """An exporter takes it, and nothing ever gets through."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")
    (one,) = found("tracing.enabled=true")
    assert one.status is Status.WARNING
    assert "does not get through (" in one.found
    assert "does not say why" not in one.found
    assert "no answer" not in one.found


def test_the_doctor_does_not_wait_for_a_silent_collector(monkeypatch: pytest.MonkeyPatch):
    """What has not got through in time does not."""
    silent = Collector(silent=True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    assert module.gets_through(0.05) == (1, "no answer in 0.05 s")
    silent.end()


def test_the_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    """An exporter that cannot be had ends a worker at its start."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    (one,) = found("tracing.enabled=true")
    assert one.status is Status.PROBLEM
    assert one.found.endswith("ask for the exporter zipkin, which is not installed.")
    assert one.mend.startswith("Install the package that has it, or correct OTEL_TRACES_EXPORTER")
