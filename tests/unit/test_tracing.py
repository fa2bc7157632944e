"""Spans and contexts, by the SDK's own exporter in memory, through a loop over memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import (
    MODEL,
    Bench,
    FakeClock,
    StagedClassifier,
    StubClassifier,
    TickingClock,
    bench,
    in_windows,
    record,
)
from tests.unit.loops import P0, inline, message, reason, turns
from worker.forms import CONTEXT_BYTES
from worker.memory import MemoryLog, MemoryTransactions
from worker.pipeline.encode import _size
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Destination, Outgoing
from worker.pipeline.repeats import Repeats
from worker.ports import AbortNeeded

pytest.importorskip("opentelemetry.sdk", reason="tracing needs the extra [otel]")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.tracing import TRACEPARENT, TRACESTATE, About, Tracing, _headers_of, context_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from worker.pipeline.messages import Headers

SECRET = "a text that nobody shall see"
NOW = 1_700_000_000_000_000_000


def parent(trace: int, span: int = 7, flags: str = "01") -> Headers:
    return [(TRACEPARENT, f"00-{trace:032x}-{span:016x}-{flags}".encode())]


class Traced(NamedTuple):
    tracing: Tracing
    exporter: InMemorySpanExporter

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


def traced(*, of_the_batch: bool = True, sampler=ALWAYS_ON) -> Traced:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    about = About(MODEL, "group", "client")
    return Traced(Tracing(provider, about, of_the_batch=of_the_batch, now=lambda: NOW), exporter)


def work(on: Bench, *messages: tuple[bytes | None, Headers]) -> list[Outgoing]:
    """What is written of these messages, in order."""
    for value, headers in messages:
        on.log.append("in", 0, value, headers=headers)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: len(messages)})
    return on.sink.sent


def context_in(outgoing: Outgoing) -> bytes | None:
    """The one that goes out; at most one may."""
    found = [value for name, value in outgoing.headers if name == TRACEPARENT]
    assert len(found) <= 1
    return found[0] if found else None


def context_for(span: ReadableSpan) -> bytes:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}".encode()


def test_a_batch_is_one_span_with_a_link_for_each_message_that_has_a_context():
    """Of kind consumer, with what the conventions want of a batch; broken contexts and none are no links."""
    to = traced()
    contexts = [parent(11), [], parent(22, 8, "00"), [(TRACEPARENT, b"00-nonsense")], [("other", b"x")]]
    work(bench(inline=True, tracing=to.tracing), *((message(SECRET), headers) for headers in contexts))
    (span,) = to.spans
    assert (span.name, span.kind, span.parent) == ("process in", SpanKind.CONSUMER, None)
    assert span.status.status_code is StatusCode.UNSET
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(11, 7), (22, 8)]
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "in",
        "messaging.consumer.group.name": "group",
        "messaging.client.id": "client",
        "messaging.batch.message_count": 5,
        "winnow.model.name": "stub",
        "winnow.model.digest": MODEL.digest,
        "winnow.batch.tokens": 40,
        "winnow.batch.padded_tokens": 40,
        "winnow.batch.close_reason": "idle",
        "winnow.batch.stage": "infer",
        "winnow.batch.queued_seconds": 0.0,
    }


def test_nothing_of_a_message_is_in_a_span():
    """Neither its text nor its id nor its key, whatever becomes of it."""

    def fails(texts: list[str]) -> None:
        if any("poison" in text for text in texts):
            raise ValueError(SECRET)

    to = traced()
    on = bench(StubClassifier(fails), inline=True, tracing=to.tracing)
    named = json.dumps({"text": f"{SECRET} poison", "id": "id-of-a-message"}).encode()
    work(on, (named, parent(1)), (message(SECRET), parent(2)))
    said = "".join(span.to_json() for span in to.spans)
    assert "process in" in said
    assert not [word for word in (SECRET, "poison", "id-of-a-message", "shall") if word in said]


def test_the_span_lasts_from_the_queue_to_the_end_of_the_run():
    """It ends when the lane gives the batch back, and says how long that waited."""
    to = traced()
    work(bench(inline=True, clock=TickingClock(tick=0.25), tracing=to.tracing), (message("a"), []))
    (span,) = to.spans
    assert span.end_time == NOW
    queued = span.attributes["winnow.batch.queued_seconds"]
    assert NOW - span.start_time > queued * 10**9 > 0


def test_results_and_dead_letters_carry_the_context_of_their_batch():
    """In place of their message's, whose trace the span is linked with; tracestate was of that one."""
    to = traced()
    own = [*parent(11), (TRACESTATE, b"vendor=1"), ("kept", b"x")]
    sent = work(bench(inline=True, tracing=to.tracing), (message("a"), own), (message("b"), []))
    (span,) = to.spans
    assert [context_in(each) for each in sent] == [context_for(span)] * 2
    assert all(name != TRACESTATE for each in sent for name, _ in each.headers)


def test_a_culprit_marks_the_span_and_its_dead_letter_carries_it():
    """With the class of the error, the runs that failed and how many messages did."""

    def fails(texts: list[str]) -> None:
        if any("poison" in text for text in texts):
            raise ValueError(SECRET)

    to = traced()
    on = bench(StubClassifier(fails), inline=True, tracing=to.tracing)
    sent = work(on, (message("a"), []), (message("poison"), parent(1)), (message("b"), []))
    (span,) = to.spans
    assert [reason(each) for each in on.sink.dead_letters] == ["model-error"]
    assert {context_in(each) for each in sent} == {context_for(span)}
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "1 of 3 messages failed alone"
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["winnow.batch.failed_messages"] == 1
    assert span.attributes["winnow.batch.failed_runs"] >= 3


def test_a_run_that_fails_once_marks_the_span_too():
    """No message is to blame, and somebody should know."""
    failed: list[int] = []

    def fails(texts: list[str]) -> None:
        if not failed:
            failed.append(len(texts))
            raise TimeoutError

    to = traced()
    on = bench(StubClassifier(fails), inline=True, tracing=to.tracing)
    work(on, (message("a"), []), (message("b"), []))
    (span,) = to.spans
    assert on.sink.dead_letters == []
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes["winnow.batch.failed_runs"], span.attributes["winnow.batch.failed_messages"]) == (1, 0)


def test_what_never_comes_to_a_batch_keeps_its_own_context():
    """A known text, a dead letter of decoding, a tombstone that is passed on."""
    to = traced()
    on = bench(inline=True, tracing=to.tracing, repeats=Repeats(1 << 20))
    work(on, (message("known"), []))
    on.log.append("in", 0, message("known"), headers=[*parent(22), (TRACESTATE, b"vendor=1")])
    on.log.append("in", 0, b"{", headers=[("before", b"x"), *parent(33)])
    on.turn_until(lambda: on.log.committed == {P0: 3})
    hit, dead = on.sink.sent[1:]
    assert len(to.spans) == 1
    assert (context_in(hit), dict(hit.headers)[TRACESTATE]) == (parent(22)[0][1], b"vendor=1")
    assert context_in(dead) == parent(33)[0][1]
    assert dead.headers[:2] == [("before", b"x"), *parent(33)]


def test_their_own_context_goes_through_if_the_settings_pass_it_or_not(monkeypatch: pytest.MonkeyPatch):
    """`kafka.pass_headers` may leave it out; tracing does not."""
    to = traced(of_the_batch=False)
    on = bench(inline=True, tracing=to.tracing)
    own = [*parent(11), (TRACESTATE, b"vendor=1")]  # the loop of the tests passes traceparent alone
    (sent,) = work(on, (message("a"), own))
    assert context_in(sent) == own[0][1]
    monkeypatch.setattr(on.loop, "_encode", without_headers(on.loop._encode))
    on.log.append("in", 0, message("b"), headers=own)
    on.turn_until(lambda: on.log.committed == {P0: 2})
    assert on.sink.sent[-1].headers == own


def without_headers(encode):
    def encoded(record, outcome):
        outgoing, rejection = encode(record, outcome)
        return outgoing._replace(headers=[]), rejection

    return encoded


def test_messages_own_contexts_pass_where_that_is_wanted():
    """With `tracing.propagate = "message"` spans are made and linked all the same."""
    to = traced(of_the_batch=False)
    sent = work(bench(inline=True, tracing=to.tracing), (message("a"), parent(11)), (message("b"), []))
    assert [context_in(each) for each in sent] == [parent(11)[0][1], None]
    assert len(to.spans[0].links) == 1


def test_a_batch_that_is_not_sampled_leaves_the_messages_their_contexts():
    """Whoever reads the results would else be told that nobody wants to see the trace."""
    to = traced(sampler=ALWAYS_OFF)
    (sent,) = work(bench(inline=True, tracing=to.tracing), (message("a"), parent(11)))
    assert to.spans == ()
    assert context_in(sent) == parent(11)[0][1]


class _First(Sampler):
    """Takes the first batch alone, as one that goes by a share may."""

    def __init__(self) -> None:
        self.decisions = iter([Decision.RECORD_AND_SAMPLE])

    def should_sample(self, *_: object, **__: object) -> SamplingResult:
        return SamplingResult(next(self.decisions, Decision.DROP))

    def get_description(self) -> str:
        return "first"


def test_where_the_batch_that_gave_the_result_was_not_sampled_the_one_before_does_not_count():
    """A text that went on carries its own context then, not that of its first stage."""
    to = traced(sampler=_First())
    on = bench(StagedClassifier(lambda text: "unsure" in text), inline=True, tracing=to.tracing)
    (sent,) = work(on, (message("unsure"), parent(11)))
    assert len(to.spans) == 1
    assert context_in(sent) == parent(11)[0][1]


def test_each_stage_of_an_early_exit_is_a_span_of_its_own():
    """What goes on carries the context of the batch that it had its answer from."""
    to = traced()
    on = bench(StagedClassifier(lambda text: "unsure" in text), inline=True, tracing=to.tracing)
    sure, unsure = work(on, (message("sure"), parent(11)), (message("unsure"), parent(22)))
    early, rest = to.spans
    assert [span.attributes["winnow.batch.stage"] for span in to.spans] == ["infer", "infer_rest"]
    assert [span.attributes["messaging.batch.message_count"] for span in to.spans] == [2, 1]
    assert [link.context.trace_id for link in rest.links] == [22]
    assert [context_in(sure), context_in(unsure)] == [context_for(early), context_for(rest)]


def test_a_long_text_counts_once_in_each_batch_of_its_windows():
    """And is linked once in each; its result carries the last one's context."""
    to = traced()
    on = bench(inline=True, tracing=to.tracing, windows=in_windows(longest=10, overlap=2, limit=3))
    (sent,) = work(on, (message("word " * 40), parent(11)))
    assert len(to.spans) > 1
    assert max(span.attributes["winnow.batch.tokens"] for span in to.spans) > 10
    for span in to.spans:
        assert span.attributes["messaging.batch.message_count"] == len(span.links) == 1
    assert context_in(sent) == context_for(to.spans[-1])


def test_a_long_text_that_fails_is_one_message_that_fails():
    """However many of its windows were in the batch."""

    def fails(texts: list[str]) -> None:
        if any("word" in text for text in texts):
            raise ValueError(SECRET)

    to = traced()
    windows = in_windows(longest=10, overlap=2, limit=3)
    on = bench(StubClassifier(fails), inline=True, tracing=to.tracing, windows=windows)
    work(on, (message("word " * 40), []))
    span = to.spans[0]
    assert span.attributes["winnow.batch.failed_messages"] == 1
    assert span.status.description == "1 of 1 messages failed alone"


def test_what_tracing_adds_has_a_bound():
    """The encoder keeps room for it, by the same rule as it counts: what is longer is left out."""
    bare = Outgoing(Destination.OUTPUT, "out", b"k", b"v", [], P0)

    def added(headers: Headers, trace: Headers | None = None) -> int:
        slot = Ledger().open(record(0, b"x", headers=headers), 0.0)
        slot.trace = trace
        return _size(to.tracing.outgoing(slot, bare)) - _size(bare)

    to = traced(of_the_batch=False)
    long = [(TRACEPARENT, parent(1)[0][1].replace(b"00-", b"01-", 1) + b"-" + b"x" * 456), (TRACESTATE, b"x" * 512)]
    assert len(long[0][1] or b"") == 512
    assert 1_024 < added(long) <= CONTEXT_BYTES
    assert added([*parent(1), (TRACESTATE, b"x" * 513)]) == added(parent(1))
    assert added([(TRACEPARENT, long[0][1] + b"x")]) == 0
    wide = TraceState([("a", "x" * 250), ("b", "x" * 250), ("c", "x" * 250)])
    (only,) = _headers_of(SpanContext(1, 7, is_remote=False, trace_flags=TraceFlags(1), trace_state=wide)) or []
    assert only == parent(1)[0]


def test_what_is_written_again_after_an_abort_carries_the_same_context():
    """Nothing was classified again, so there is no other span."""
    log, to = MemoryLog(), traced()
    transactions = MemoryTransactions(log)
    transactions.failing["commit"] = [AbortNeeded]
    on = bench(inline=True, log=log, transactions=transactions, tracing=to.tracing, clock=FakeClock())
    log.append("in", 0, message("a"), headers=parent(11))
    on.source.assign(P0)
    turns(on, 8)
    (span,) = to.spans
    assert [context_in(each) for each in transactions.visible] == [context_for(span)]


def test_messages_of_several_topics_are_of_no_topic():
    """The name of the span has none then."""
    to = traced()
    on = bench(inline=True, tracing=to.tracing)
    for topic in ("in", "other"):
        on.log.append(topic, 0, message("a"))
    on.source.assign(P0, ("other", 0))
    on.turn_until(lambda: len(on.sink.sent) == 2)
    (span,) = to.spans
    assert span.name == "process"
    assert "messaging.destination.name" not in span.attributes


def test_what_has_gone_with_its_partition_does_no_harm():
    """The batch was in a lane meanwhile; its span is made, and nothing is written."""
    to = traced()
    on = bench(inline=True, tracing=to.tracing)
    inline(on).held = True
    on.log.append("in", 0, message("a"), headers=parent(11))
    on.source.assign(P0)
    turns(on, 2)
    on.source.lose(P0)
    inline(on).held = False
    turns(on, 3)
    assert (len(to.spans), on.sink.sent) == (1, [])


# What is read of a message's headers

HEX = "0123456789abcdef"
VALID = st.builds(
    "{}-{}-{}-{}{}".format,
    st.sampled_from(["00", "00", "01", "cc", "ff"]),
    st.text(HEX, min_size=32, max_size=32),
    st.text(HEX, min_size=16, max_size=16),
    st.text(HEX, min_size=2, max_size=2),
    st.sampled_from(["", "", "-", "-more", "more"]),
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([TRACEPARENT, TRACESTATE, "Traceparent", "x"]),
        st.none() | st.binary(max_size=80) | VALID.map(str.encode) | st.sampled_from([b"a=1,b=2", b"a==", b"=", b","]),
    ),
    max_size=5,
)


@given(HEADERS)
def test_whatever_the_headers_are_a_context_is_valid_or_none(headers: Headers):
    """Headers are anybody's bytes."""
    found = context_of(headers)
    assert found is None or (found.is_valid and found.is_remote)


@given(VALID, st.sampled_from(["", "a=1", "a=1,b=2", "broken", "a=1,a=2"]))
def test_contexts_are_read_as_opentelemetry_reads_them(traceparent: str, state: str):
    """The same ids and flags, and the same ones refused; the state is not read, for links alone would have it."""
    carrier = {TRACEPARENT: traceparent} | ({TRACESTATE: state} if state else {})
    wanted = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    found = context_of([(name, value.encode()) for name, value in carrier.items()])
    stateless = SpanContext(wanted.trace_id, wanted.span_id, wanted.is_remote, wanted.trace_flags)
    assert found == (stateless if wanted.is_valid else None)


def test_of_several_the_last_counts():
    """As other readers of Kafka's headers have it."""
    found = context_of([*parent(11), *parent(22)])
    assert found is not None
    assert found.trace_id == 22
