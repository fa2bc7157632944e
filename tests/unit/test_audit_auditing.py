"""An audit over topics in memory, and what of a record it takes for an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from tests.kit import MODEL, record, says
from worker.audit import Options, answers, check
from worker.audit.accounts import Answer, Today
from worker.audit.auditing import Audit, Scope
from worker.errors import AuditError, InvalidMessage, TopicError
from worker.letters import Source
from worker.pipeline.encode import Encoder, ModelIdentity
from worker.pipeline.encode import Topics as Written
from worker.pipeline.error_headers import spring_headers
from worker.pipeline.messages import Record, Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from worker.audit.report import Report
    from worker.pipeline.messages import Outcome, Partition

INVALID = Rejection("decode", "invalid-json", "The value is not JSON at character 3.", "InvalidMessage")
SCOPE = Scope(("in",), ("out",), "dead", group="group", passing=frozenset({"model-error"}))
headers = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=20)), max_size=6)


@dataclass
class Extent:
    first: int
    end: int


@dataclass
class Topics:
    """A `Log` in memory."""

    records: dict[Partition, list[Record]] = field(default_factory=dict)
    group: dict[Partition, int] = field(default_factory=dict)
    held_back: dict[Partition, int] = field(default_factory=dict)
    stored_from: int = 0
    """Of the input."""
    begins: dict[Partition, int] = field(default_factory=dict)
    """Of other partitions."""
    asked: list[str] = field(default_factory=list)

    def add(self, topic: str, partition: int, **fields: object) -> Record:
        stored = self.records.setdefault((topic, partition), [])
        made = Record(topic, partition, len(stored), None, None, [], 17)._replace(**fields)
        stored.append(made)
        return made

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        names = [name for topic in topics for name in sorted(self.records) if name[0] == topic]
        self.asked.append("partitions")
        return names

    def extents(self, partitions: Collection[Partition]) -> dict[Partition, Extent]:
        self.asked.append(f"ends of {', '.join(sorted({topic for topic, _ in partitions}))}")
        firsts = {one: self.stored_from if one[0] == "in" else self.begins.get(one, 0) for one in partitions}
        return {one: Extent(first, len(self.records[one])) for one, first in firsts.items()}

    def since(self, partitions: Collection[Partition], milliseconds: int) -> dict[Partition, int]:
        found = {
            one: next((r.offset for r in self.records[one] if (r.timestamp or 0) >= milliseconds), None)
            for one in partitions
        }
        return {one: offset for one, offset in found.items() if offset is not None}

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        self.asked.append("committed")
        return {one: offset for one, offset in self.group.items() if one in partitions}

    def compacted(self, topic: str) -> bool:
        return False

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        return iter([one for one in self.records[partition] if first <= one.offset < end])


class StubAgain:
    """Gives a result for a value that is text, and a dead letter for any other."""

    identity = MODEL

    def __call__(self, records: Sequence[Record]) -> Iterator[tuple[Record, Today]]:
        for one in records:
            outgoing, rejection = ENCODE(one, outcome(one))
            reason = None if rejection is None else rejection.reason
            digest = (
                answers.result_digest(outgoing.topic, one.key, outgoing.value or b"")
                if outgoing and reason is None
                else None
            )
            yield one, Today(digest, reason)


ENCODE = Encoder(MODEL, False, (), 100_000, topics=Written("out", "dead"))


def outcome(one: Record) -> Outcome:
    text = (one.value or b"").decode()
    return INVALID if text.startswith("{") else Result(Request(str(one.offset), text, False), says(text), False, 3)


def answer(topics: Topics, one: Record, encode: Encoder = ENCODE, place: int = 0, outcome_: Outcome | None = None):
    """What a worker writes for a message."""
    outgoing, _ = encode(one, outcome_ or outcome(one))
    assert outgoing is not None
    topics.add(outgoing.topic, place, key=outgoing.key, value=outgoing.value, headers=outgoing.headers)


@pytest.fixture
def topics() -> Topics:
    made = Topics({("out", 0): [], ("dead", 0): [], ("in", 0): [], ("in", 1): []})
    for number in range(10):
        made.add("in", number % 2, value=b"{broken" if number == 3 else b"text %d" % number, key=b"k")
    return made


def audited(topics: Topics, scope: Scope = SCOPE, again: StubAgain | None = None) -> Report:
    return Audit(scope, topics, topics, again, lambda _: None)()


def all_answered(topics: Topics) -> None:
    for partition in (0, 1):
        for one in topics.records["in", partition]:
            answer(topics, one)


def test_all_is_well(topics: Topics):
    """Each message has its one answer, and it is the one of today."""
    all_answered(topics)
    report = audited(topics, again=StubAgain())
    assert report.ok
    total = report.total
    assert (total.messages, total.results, total.dead_letters, total.checked) == (10, 9, 1, 10)
    assert (report.reasons, report.bundles) == ({"invalid-json": 1}, {MODEL.digest: 9})
    check(report)


def test_what_is_committed_is_asked_first_and_the_input_last(topics: Topics):
    """Else a worker that goes on meanwhile would be accused of what it did in between."""
    audited(topics)
    asked = [what for what in topics.asked if what != "partitions"]
    assert asked[:3] == ["committed", "ends of dead, out", "ends of in"]


def test_what_the_group_has_not_committed_waits(topics: Topics):
    """It is not missing; without a group, or with one that has committed nothing, it is."""
    answer(topics, topics.records["in", 0][0])
    topics.group = {("in", 0): 2}
    report = audited(topics)
    assert (report.total.missing, report.total.waiting, report.committed) == (1, 8, True)
    assert report.examples["missing"] == ["in/0/1"]
    no_group = Scope(("in",), ("out",), "dead", group=None)
    assert audited(topics, no_group).total.missing == 9
    topics.group = {}
    report = audited(topics)
    assert (report.total.missing, report.committed, report.group) == (9, False, "group")


def test_a_wrong_answer_is_found(topics: Topics):
    """A score in the last place is enough; a result of another bundle is none of this one's."""
    all_answered(topics)
    first = topics.records["out", 0][0]
    document = orjson.loads(first.value or b"")
    document["score"] += 1e-12
    topics.records["out", 0][0] = first._replace(value=orjson.dumps(document))
    report = audited(topics, again=StubAgain())
    assert report.faults == {"wrong": 1}
    assert report.examples["wrong"] == ["in/0/0"]
    with pytest.raises(AuditError, match="1 answered as settings and bundle do not answer today") as failed:
        check(report)
    assert failed.value.exit_code == 8
    other = StubAgain()
    other.identity = ModelIdentity("other", "ffffffffffff")
    assert audited(topics, again=other).total.other_bundle == 9


def test_doubles_are_a_fault_where_they_were_promised_not_to_be(topics: Topics):
    """At least once allows equal answers; exactly once none."""
    all_answered(topics)
    answer(topics, topics.records["in", 0][4])
    assert audited(topics).ok
    strict = Scope(("in",), ("out",), "dead", doubles_allowed=False)
    assert audited(topics, strict).faults == {"doubled": 1}


def routed(topics: Topics, one: Record, topic: str, place: int = 0) -> None:
    """Its answer in a topic of a route."""
    topics.records.setdefault((topic, place), [])
    answer(topics, one, Encoder(MODEL, False, (), 100_000, topics=Written(topic, "dead")), place)


def test_answers_are_counted_over_all_topics_of_results(topics: Topics):
    """What is in one of them is not missing, and in two of them doubled; each has an order of its own."""
    routes = Scope(("in",), ("out", "quarantine"), "dead", group=None, doubles_allowed=False)
    messages = topics.records["in", 0]
    for number, one in enumerate(messages):
        routed(topics, one, "quarantine" if number % 2 else "out")
    for one in topics.records["in", 1]:
        answer(topics, one)
    assert audited(topics, routes).faults == {}
    only_output = Scope(("in",), ("out",), "dead", group=None)
    assert audited(topics, only_output).faults == {"missing": len(messages) // 2}
    routed(topics, messages[0], "quarantine")
    report = audited(topics, routes)
    assert report.faults == {"doubled": 1, "differing": 1}
    assert report.examples["doubled"] == ["in/0/0"]


def test_disorder_is_seen_within_each_topic_of_results(topics: Topics):
    """A first copy behind one of a later message in the same partition of the same topic."""
    routes = Scope(("in",), ("out", "quarantine"), "dead", group=None)
    first, second, *others = topics.records["in", 0]
    routed(topics, second, "quarantine")
    routed(topics, first, "quarantine")
    for one in (*others, *topics.records["in", 1]):
        answer(topics, one)
    assert audited(topics, routes).faults == {"out_of_order": 1}


def test_a_result_in_another_topic_than_todays_is_wrong(topics: Topics):
    """Settings and bundle say where it belongs."""
    all_answered(topics)
    moved = topics.records["out", 0].pop()
    topics.records["quarantine", 0] = []
    topics.add("quarantine", 0, key=moved.key, value=moved.value, headers=moved.headers)
    routes = Scope(("in",), ("out", "quarantine"), "dead")
    assert audited(topics, routes, StubAgain()).faults == {"wrong": 1}
    assert audited(topics, routes).faults == {}


def test_tombstones_of_the_output_alone_were_forwarded(topics: Topics):
    """In a topic of a route there are none of a worker's."""
    all_answered(topics)
    topics.add("in", 0, key=b"k")
    topics.records["quarantine", 0] = []
    topics.add("quarantine", 0, key=b"k")
    report = audited(topics, Scope(("in",), ("out", "quarantine"), "dead", "forward"))
    assert (report.forwarded, report.foreign) == (0, 1)


def test_results_are_read_as_they_are_written(topics: Topics):
    """Within the message, or within an event; what cannot be read is none of Winnow's."""
    (one,) = topics.records["in", 0][:1]
    outgoing, _ = ENCODE(one, outcome(one))
    assert outgoing is not None
    inside = record(0, b'{"own": 1, "winnow": %b}' % (outgoing.value or b""), topic="out")
    found = answers.of_result(inside, lambda value: orjson.loads(value)["winnow"])
    assert found is not None
    assert found[0] == ("in", 0, 0)
    assert answers.of_result(inside) is None

    def refusing(_: bytes) -> object:
        raise InvalidMessage("invalid-avro", "It is none.")

    assert answers.of_result(inside, refusing) is None


def test_tombstones_are_as_the_settings_say(topics: Topics):
    """Skipped ones leave nothing, forwarded ones are counted on both sides, others need a dead letter."""
    all_answered(topics)
    topics.add("in", 0, key=b"k")
    assert audited(topics).total.skipped == 1
    assert audited(topics, Scope(("in",), ("out",), "dead", "dead-letter")).total.missing == 1
    forward = Scope(("in",), ("out",), "dead", "forward")
    report = audited(topics, forward)
    assert report.faults == {"lost_tombstones": 1}
    topics.add("out", 0, key=b"k")
    report = audited(topics, forward)
    assert (report.ok, report.forwarded_due, report.forwarded) == (True, 1, 1)


def test_a_tombstone_with_unreadable_headers_needs_a_dead_letter(topics: Topics):
    """The worker refuses it before it asks for the value."""
    all_answered(topics)
    topics.add("in", 0, headers_unreadable=True)
    assert audited(topics).total.missing == 1


def test_the_newest_alone(topics: Topics):
    """`last` and `since` leave out what is older, and what was answered of it."""
    all_answered(topics)
    part = Scope(("in",), ("out",), "dead", last=2)
    assert (audited(topics, part).ok, audited(topics, part).total.messages) == (True, 4)
    topics.records["in", 0][3] = topics.records["in", 0][3]._replace(timestamp=99)
    since = audited(topics, Scope(("in",), ("out",), "dead", since=50))
    assert (since.ok, since.total.messages, since.total.expired) == (True, 2, 0)


def test_answers_to_what_has_been_deleted_are_expired(topics: Topics):
    """Retention took the messages and left the results."""
    all_answered(topics)
    topics.stored_from = 2
    report = audited(topics)
    assert (report.ok, report.total.expired, report.total.messages) == (True, 4, 6)


def test_an_output_that_has_lost_its_beginning_is_named(topics: Topics):
    """Retention took results and left their messages: they are missing as before, and it is said why that may be."""
    all_answered(topics)
    assert audited(topics).document()["begins"] == {}
    topics.begins = {("out", 0): 5}
    report = audited(topics)
    assert (report.total.missing, report.begins) == (5, {"out/0": 5})
    assert report.document()["begins"] == {"out/0": 5}


def test_records_of_others_are_counted_and_no_fault(topics: Topics):
    """Another worker writes there too, or somebody who is no worker."""
    all_answered(topics)
    answer(topics, record(5, b"text", topic="elsewhere"))
    for value in (
        b"",
        b"\xff",
        b"[]",
        b'{"source": 3}',
        b'{"source": {"topic": "in", "partition": true, "offset": 1}}',
    ):
        topics.add("out", 0, value=value)
    topics.add("dead", 0, value=b"x")
    report = audited(topics)
    assert (report.ok, report.elsewhere, report.foreign) == (True, 1, 6)


def test_an_unknown_answer_is_a_fault(topics: Topics):
    """A result of an offset that the input never had."""
    all_answered(topics)
    answer(topics, record(77, b"text"))
    report = audited(topics)
    assert (report.faults, report.examples["unknown"]) == ({"unknown": 1}, ["in/0/77"])


def test_the_document_is_json_with_everything(topics: Topics):
    """For programs: totals, partitions, faults."""
    all_answered(topics)
    document = orjson.loads(orjson.dumps(audited(topics, again=StubAgain()).document()))
    assert document["ok"] is True
    assert document["total"]["messages"] == 10
    assert [(one["topic"], one["partition"], one["messages"]) for one in document["partitions"]] == [
        ("in", 0, 5), ("in", 1, 5),
    ]  # fmt: skip
    assert document["bundle"] == {"name": MODEL.name, "digest": MODEL.digest}


def test_there_is_nothing_to_set_by_default():
    """A caller names only what differs from the settings."""
    assert Options() == Options(inputs=(), output=None, scores=True)


# What is taken for an answer


@given(headers, st.sampled_from(["connect", "spring"]), st.integers(0, 2**31 - 1), st.integers(0, 2**62))
def test_a_dead_letter_names_its_message_whatever_headers_the_message_had(own, kind: str, partition: int, offset: int):
    """Both kinds of headers, and messages that bring headers of the same names."""
    fake = [("__connect.errors.offset", b"1"), ("kafka_dlt-original-offset", b"\0" * 8), ("winnow.errors.reason", b"x")]
    source = record(offset, b"{,", topic="where", partition=partition, headers=[*own, *fake])
    made = [spring_headers("group")] if kind == "spring" else []
    letter, _ = Encoder(MODEL, False, (), 1_000_000, *made)(source, INVALID)
    assert letter is not None
    found = answers.of_letter(record(0, letter.value, headers=letter.headers))
    assert found is not None
    assert found[0] == Source("where", partition, offset)
    assert (found[1].is_letter, found[1].name) == (True, "invalid-json")


json = st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))


@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(["source", "model"]), json).map(orjson.dumps))
def test_whatever_is_on_the_output_is_no_error(value: bytes):
    """Somebody may write anything there."""
    assert answers.of_result(record(0, value)) is None


@given(headers)
def test_whatever_is_on_the_dead_letter_topic_is_no_error(own):
    """Headers without a place, or with a strange one, are nobody's."""
    found = answers.of_letter(record(0, b"x", headers=own))
    assert found is None or isinstance(found[1], Answer)


def test_key_and_value_make_a_result_and_headers_do_not():
    """Tracing writes new headers each time; another key would be another record."""
    value = b'{"source":{"topic":"in","partition":0,"offset":4},"model":{"digest":"d"}}'
    plain = answers.of_result(record(0, value))
    assert plain is not None
    assert plain == answers.of_result(record(9, value, headers=[("traceparent", b"1")]))
    assert plain != answers.of_result(record(0, value, key=b""))


def progress_of(topics: Topics) -> list[str]:
    said: list[str] = []
    tell: Callable[[str], None] = said.append
    Audit(SCOPE, topics, topics, None, tell)()
    return said


def test_it_says_what_it_reads(topics: Topics):
    """Partition by partition: output, dead letters, input."""
    assert progress_of(topics) == ["out, partition 0", "dead, partition 0", "in, partition 0", "in, partition 1"]


def test_a_missing_topic_is_not_an_empty_one():
    """What the log raises comes through."""

    class Missing(Topics):
        def partitions(self, topics: Iterable[str]) -> list[Partition]:
            raise TopicError("There is no topic 'in'.")

    with pytest.raises(TopicError):
        audited(Missing())
