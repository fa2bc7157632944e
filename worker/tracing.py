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
from contextlib import suppress
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

import structlog
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

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
_TALKATIVE = ("opentelemetry.exporter", "opentelemetry.trace")
"""Loggers that say of each export that it failed, which `_Watched` says once, and quote headers that are broken."""
# https://www.w3.org/TR/trace-context/: later versions may have more fields, the first one has not.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_TRACEPARENT, _MOST_TRACESTATE = 512, 512


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
        _mark(span, done)
        span.end(end)
        if self._of_the_batch and (headers := _headers_of(span.get_span_context())):
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
        return outgoing._replace(headers=outgoing.headers + [header for header in own.items() if header[1]])

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
        ConfigError: an exporter is not installed, or its settings cannot be used.
    """
    provider = TracerProvider(resource=_resource(member), span_limits=_limits(most_messages), shutdown_on_exit=False)
    for exporter in _exporters():
        provider.add_span_processor(BatchSpanProcessor(_Watched(exporter)))
    _silence()
    return Tracing(provider, about, of_the_batch=of_the_batch)


def gets_through(seconds: float = CLOSING_SECONDS) -> bool:
    """Whether each exporter could hand over a batch of no spans just now, in so many seconds.

    Raises:
        ConfigError: as `open_tracing`.
    """
    exporters, through = list(_exporters()), list[SpanExportResult]()
    _silence()

    def ask() -> None:
        with suppress(Exception):  # whatever an exporter raises, it does not get through
            through.extend(exporter.export(()) for exporter in exporters)

    asking = threading.Thread(target=ask, name="tracing", daemon=True)
    asking.start()
    asking.join(seconds)
    return through == [SpanExportResult.SUCCESS] * len(exporters)


def context_of(headers: Headers) -> SpanContext | None:
    """The context that a message's headers carry (W3C Trace Context); None where there is none, or a broken one."""
    parent = _last(headers, TRACEPARENT)
    if parent is None or len(parent) > _MOST_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or (found[4] and parent.startswith(b"00")):
        return None
    context = SpanContext(
        int(found[1], 16), int(found[2], 16), True, TraceFlags(int(found[3], 16)), _state(_last(headers, TRACESTATE))
    )
    return context if context.is_valid else None


def _state(value: bytes | None) -> TraceState | None:
    if value is None or len(value) > _MOST_TRACESTATE or not value.isascii():
        return None
    return TraceState.from_header([value.decode("ascii")])


def _last(headers: Headers, name: str) -> bytes | None:
    return next((value for found, value in reversed(headers) if found == name), None)


def _headers_of(context: SpanContext) -> Headers:
    """Empty where nobody will see the span: then the message's own context is worth more."""
    if not (context.is_valid and context.trace_flags.sampled):
        return []
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    state = context.trace_state.to_header().encode()
    return [(TRACEPARENT, parent), *([(TRACESTATE, state)] if state else [])]


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


def _mark(span: Span, done: Completed) -> None:
    """Say what failed, if anything did."""
    refused = [outcome for outcome in done.outcomes if isinstance(outcome, Rejection)]
    if not (refused or done.failed_runs):
        return
    span.set_attributes({"winnow.batch.failed_runs": done.failed_runs, "winnow.batch.failed_messages": len(refused)})
    if refused:
        span.set_attribute("error.type", refused[0].error)
        span.set_status(Status(StatusCode.ERROR, f"{len(refused)} of {len(done.outcomes)} failed alone"))
    else:
        span.set_attribute("error.type", "_OTHER")
        span.set_status(Status(StatusCode.ERROR, "a run failed, and each message came through in another one"))


class _Watched(SpanExporter):
    """An exporter that says once that it does not get through, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever an exporter raises, its thread must go on
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if failed != self._failing:
            self._failing = failed
            log.warning(
                "spans cannot be exported and are lost; messages are not affected"
                if failed
                else "spans are exported again"
            )
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _silence() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


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
        if name != "none":
            yield _exporter(name)


def _exporter(name: str) -> SpanExporter:
    protocol = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL) or os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL)
    wanted = _PROTOCOLS.get((protocol or "http/protobuf").strip(), protocol) if name == "otlp" else name
    found = next(iter(entry_points(group=_EXPORTERS, name=wanted or "")), None)
    if found is None:
        raise ConfigError(
            f"OpenTelemetry's environment variables ask for the exporter {wanted}, which is not installed: install the "
            f"package that has it, or correct {OTEL_TRACES_EXPORTER} or {OTEL_EXPORTER_OTLP_PROTOCOL}."
        )
    try:
        exporter: SpanExporter = found.load()()
    except Exception as error:  # noqa: BLE001 - exporters check their variables in ways of their own
        raise ConfigError(
            f"The exporter {wanted} cannot be made of OpenTelemetry's environment variables: {error}"
        ) from None
    return exporter
