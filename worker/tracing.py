"""Traces by OpenTelemetry: a span for each batch with links to its messages, and contexts from message to result.

The only module that imports opentelemetry, and loaded only where tracing is on. Exporter, endpoint, sampler, service
name and resource are set by OpenTelemetry's own environment variables. See `docs/tracing.md`.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

import structlog
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_HEADERS,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_HEADERS,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_RESOURCE_ATTRIBUTES,
)
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.re import parse_env_headers

import worker
from worker.errors import ConfigError
from worker.pipeline.messages import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

    from worker.lanes import Completed
    from worker.pipeline.encode import ModelIdentity
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Headers, Outgoing

log = structlog.get_logger("tracing")
CLOSING_SECONDS = 2.0
"""For what has not been exported when the worker ends."""
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_SERVICE = "winnow"
_EXPORTERS = "opentelemetry_traces_exporter"
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_USUAL_LINKS = 128
_EXPORTING = "opentelemetry.exporter"
"""The logger of exporters: it says of each export that it failed, which `_Watched` says once."""
_GATHERING = "opentelemetry.sdk._shared_internal"
"""The logger of what gathers spans: it says again and again that they are more than can be sent."""
_QUOTING = ("opentelemetry.trace", "opentelemetry.util", "opentelemetry.sdk.resources")
"""Loggers that quote what they cannot read: headers of messages, and variables that may hold secrets."""
_MEND = "see OTEL_EXPORTER_OTLP_ENDPOINT and its like; `winnow doctor` tries them"
# https://www.w3.org/TR/trace-context/: later versions may have more fields, the first one has not.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_BYTES = 512
"""Of each header: `worker.forms.CONTEXT_BYTES` has room for both."""


class About(NamedTuple):
    """What all spans say of the worker."""

    model: ModelIdentity
    group: str
    client_id: str


class Tracing:
    """Spans of batches, and the contexts that go out. See `worker.ports.Tracing`.

    Args:
        provider: of the spans.
        about: what all of them say.
        of_the_batch: whether what is written carries its batch's context, else the message's own.
        now: nanoseconds since the epoch.
    """

    def __init__(
        self, provider: TracerProvider, about: About, *, of_the_batch: bool, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("winnow", worker.__version__)
        self._of_the_batch = of_the_batch
        self._now = now
        self._same: dict[str, str] = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.consumer.group.name": about.group,
            "messaging.client.id": about.client_id,
            "winnow.model.name": about.model.name,
            "winnow.model.digest": about.model.digest,
        }

    def ran(self, done: Completed) -> None:
        """A batch went through a lane: its span, and for its messages the context that goes out with them."""
        slots = list(dict.fromkeys(item.slot for item in done.batch.items))
        topics = {slot.record.topic for slot in slots}
        topic = {"messaging.destination.name": next(iter(topics))} if len(topics) == 1 else {}
        end = self._now()
        span = self._tracer.start_span(
            " ".join(("process", *topic.values())),
            Context(),
            SpanKind.CONSUMER,
            {**self._same, **topic, **_of_batch(done, len(slots))},
            [Link(context) for slot in slots if (context := context_of(slot.record.headers)) is not None],
            end - int((done.queued + done.seconds) * 1e9),
        )
        _mark(span, done, len(slots))
        span.end(end)
        if self._of_the_batch:
            headers = _headers_of(span.get_span_context())
            for slot in slots:
                slot.trace = headers

    def outgoing(self, slot: Slot, outgoing: Outgoing) -> Outgoing:
        """What is written, with the context of its batch or of its message."""
        if slot.trace is not None:
            others = [header for header in outgoing.headers if header[0] not in (TRACEPARENT, TRACESTATE)]
            return outgoing._replace(headers=others + slot.trace)
        if context_of(slot.record.headers) is None:
            return outgoing
        there = {name for name, _ in outgoing.headers}
        own = {name: _last(slot.record.headers, name) for name in (TRACEPARENT, TRACESTATE) if name not in there}
        added: Headers = [(name, value) for name, value in own.items() if value and len(value) <= _MOST_BYTES]
        return outgoing._replace(headers=outgoing.headers + added)

    def close(self) -> None:
        """Export what there is, within `CLOSING_SECONDS`."""
        # The provider waits for an export that is under way, however long that takes.
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)
        if closing.is_alive():
            log.warning("the last spans could not be exported in time", seconds=CLOSING_SECONDS)


def open_tracing(about: About, *, of_the_batch: bool, most_messages: int, member: str) -> Tracing:
    """Tracing as OpenTelemetry's environment variables say.

    Args:
        about: what all spans say.
        of_the_batch: as `Tracing`.
        most_messages: of a batch: each has its link.
        member: the name of this worker, for the resource.

    Raises:
        ConfigError: an exporter is not installed, or the variables cannot be used.
    """
    provider, exporters = _provider(member, most_messages)
    return Tracing(provider, about, of_the_batch=of_the_batch and bool(exporters))


class Reach(NamedTuple):
    """Whether spans get anywhere."""

    exporters: int
    """That the environment wants."""
    failure: str
    """Why one of them does not get through; empty where all do."""


def gets_through(seconds: float = CLOSING_SECONDS) -> Reach:
    """Whether each exporter could hand over a batch of no spans just now, in so many seconds.

    Raises:
        ConfigError: as `open_tracing`.
    """
    provider, exporters = _provider("", _USUAL_LINKS)
    failures: list[str] = []

    def ask() -> None:
        failures.extend(_failure(exporter.exporter, ()) for exporter in exporters)
        provider.shutdown()

    asking = threading.Thread(target=ask, name="tracing", daemon=True)
    asking.start()
    asking.join(seconds)
    if len(failures) < len(exporters):
        failures.append(f"no answer in {seconds:g} s")
    return Reach(len(exporters), next(filter(None, failures), ""))


def context_of(headers: Headers) -> SpanContext | None:
    """The context that a message's headers carry (W3C Trace Context); None where there is none, or a broken one.

    Without its state: that goes on as it came, and to read it would take as long as all the rest.
    """
    parent = _last(headers, TRACEPARENT)
    if parent is None or len(parent) > _MOST_BYTES:
        return None
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or (found[4] and parent.startswith(b"00")):
        return None
    context = SpanContext(int(found[1], 16), int(found[2], 16), True, TraceFlags(int(found[3], 16)))
    return context if context.is_valid else None


def _last(headers: Headers, name: str) -> bytes | None:
    return next((value for found, value in reversed(headers) if found == name), None)


def _headers_of(context: SpanContext) -> Headers | None:
    """None where nobody will see the span: then the message's own context is worth more."""
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    state = context.trace_state.to_header().encode()
    return [(TRACEPARENT, parent), *([(TRACESTATE, state)] if 0 < len(state) <= _MOST_BYTES else [])]


def _of_batch(done: Completed, messages: int) -> dict[str, int | str | float]:
    batch = done.batch
    return {
        "messaging.batch.message_count": messages,
        "winnow.batch.tokens": batch.tokens,
        "winnow.batch.padded_tokens": batch.padded_tokens,
        "winnow.batch.close_reason": batch.reason.value,
        "winnow.batch.stage": "infer_rest" if batch.rest else "infer",
        "winnow.batch.queued_seconds": done.queued,
    }


def _mark(span: Span, done: Completed, messages: int) -> None:
    """Say what failed, if anything did; a message counts once, however many of its windows did."""
    pairs = zip(done.items, done.outcomes, strict=True)
    refused = {item.slot: outcome for item, outcome in pairs if isinstance(outcome, Rejection)}
    if not (refused or done.failed_runs):
        return
    span.set_attributes({"winnow.batch.failed_runs": done.failed_runs, "winnow.batch.failed_messages": len(refused)})
    if refused:
        span.set_attribute("error.type", next(iter(refused.values())).error)
        span.set_status(Status(StatusCode.ERROR, f"{len(refused)} of {messages} messages failed alone"))
    else:
        span.set_attribute("error.type", "_OTHER")
        span.set_status(Status(StatusCode.ERROR, "a run failed, and each message came through in another one"))


class _Watched(SpanExporter):
    """An exporter that says once that it does not get through, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        failure = _failure(self.exporter, spans)
        if failure and not self._failing:
            log.warning("spans cannot be exported and are lost; messages are not affected", cause=failure, mend=_MEND)
        elif self._failing and not failure:
            log.warning("spans are exported again")
        self._failing = bool(failure)
        return SpanExportResult.FAILURE if failure else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        try:
            self.exporter.shutdown()
        except Exception as error:  # noqa: BLE001 - the worker ends, and has done its work
            log.warning("an exporter of spans failed as it was shut down", cause=type(error).__name__)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.exporter.force_flush(timeout_millis)


class _Causes(logging.Handler):
    """Keeps why an export failed: the status or the class of the error, of what its exporter would have logged."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = threading.local()

    def forget(self) -> None:
        self._kept.cause = ""

    @property
    def cause(self) -> str:
        """Of the last failure in this thread; empty where the exporter did not say."""
        cause: str = self._kept.cause
        return cause

    def emit(self, record: logging.LogRecord) -> None:
        for said in record.args if isinstance(record.args, tuple) else ():
            if isinstance(said, (int, Exception)):
                self._kept.cause = type(said).__name__ if isinstance(said, Exception) else f"status {said}"


class _Dropped(logging.Handler):
    """Says once that spans are more than can be sent."""

    told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.told and record.levelno >= logging.WARNING:
            self.told = True
            log.warning("spans come faster than they are exported, and some are lost; messages are not affected")


_causes = _Causes()


def _failure(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> str:
    """Why spans could not be exported; empty where they were."""
    _causes.forget()
    try:
        result = exporter.export(spans)
    except Exception as error:  # noqa: BLE001 - whatever an exporter raises, its thread must go on
        return type(error).__name__
    return "" if result is SpanExportResult.SUCCESS else _causes.cause or "its exporter does not say why"


def _silence() -> None:
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name, handler in ((_EXPORTING, _causes), (_GATHERING, _Dropped())):
        logger = logging.getLogger(name)
        logger.propagate, logger.handlers[:] = False, [handler]


def _provider(member: str, most_messages: int) -> tuple[TracerProvider, list[_Watched]]:
    """What makes spans, and what they leave by, as the environment says. Raises ConfigError."""
    _silence()
    _check_pairs()
    exporters = [_Watched(exporter) for exporter in _exporters()]
    try:
        provider = TracerProvider(
            resource=_resource(member), span_limits=_limits(most_messages), shutdown_on_exit=False
        )
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
    except ValueError as error:
        raise ConfigError(
            f"OpenTelemetry's environment variables cannot be used: {error}. Mend or unset them."
        ) from None
    return provider, exporters


def _check_pairs() -> None:
    """Raise ConfigError for what OpenTelemetry would leave out of a list, without its value: that may be a secret."""
    for name in (OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TRACES_HEADERS, OTEL_RESOURCE_ATTRIBUTES):
        entries = [entry.strip() for entry in os.environ.get(name, "").split(",")]
        of_headers = name != OTEL_RESOURCE_ATTRIBUTES
        if any(e and ("=" not in e or (of_headers and not parse_env_headers(e, liberal=True))) for e in entries):
            raise ConfigError(f"{name} has an entry that is not name=value: write name=value,name=value.")


def _resource(member: str) -> Resource:
    """What the environment says, and what it leaves open."""
    ours = {SERVICE_NAME: _SERVICE, SERVICE_VERSION: worker.__version__, SERVICE_INSTANCE_ID: member}
    return Resource.create(Resource(ours).merge(OTELResourceDetector().detect()).attributes)


def _limits(most_messages: int) -> SpanLimits:
    """As the environment says; by default enough links for a whole batch."""
    said = SpanLimits()
    return SpanLimits(max_links=max(_USUAL_LINKS, most_messages)) if said.max_links == _USUAL_LINKS else said


def _exporters() -> Iterator[SpanExporter]:
    names = os.environ.get(OTEL_TRACES_EXPORTER) or "otlp"
    for name in dict.fromkeys(each.strip().lower() for each in names.split(",")):
        if name not in ("", "none"):
            yield _exporter(name)


def _exporter(name: str) -> SpanExporter:
    protocol = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL) or os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL)
    wanted = _PROTOCOLS.get((protocol or "http/protobuf").strip(), protocol) if name == "otlp" else name
    found = next(iter(entry_points(group=_EXPORTERS, name=wanted or "")), None)
    if found is None:
        raise ConfigError(
            f"OpenTelemetry's environment variables ask for the exporter {wanted}, which is not installed. Install the "
            f"package that has it, or correct {OTEL_TRACES_EXPORTER} or {OTEL_EXPORTER_OTLP_PROTOCOL}."
        )
    try:
        exporter: SpanExporter = found.load()()
    except Exception as error:  # noqa: BLE001 - exporters check their variables in ways of their own
        raise ConfigError(
            f"The exporter {wanted} cannot be made of OpenTelemetry's environment variables: {error}. Mend them."
        ) from None
    return exporter
