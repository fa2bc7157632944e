"""Forms and routes as the settings say, through the worker as it is composed, over memory."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.contract import confluent
from tests.contract.forms import message_validators
from tests.kit import record
from tests.unit import toys
from worker import letters
from worker.app import Worker
from worker.config import load
from worker.errors import ConfigError, InvalidMessage
from worker.forms import CONTEXT_BYTES, Forms, check_registry, topics
from worker.kafka.registry import FORMATS, NotRegistered
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.opening import Model, open_model
from worker.pipeline.encode import LEAST_BYTES, Topics

if TYPE_CHECKING:
    from pathlib import Path

    from worker.pipeline.messages import Headers, Outgoing

P0 = ("messages", 0)
OPINIONS = {"good": (2, -2), "bad": (-2, 2), "dull": (-4, -4)}
ATTRIBUTES = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the labels pro and con, of which a text may have both or none."""
    folder = tmp_path_factory.mktemp("bundle") / "toy"
    return toys.write(folder, "multi-label", OPINIONS, ("pro", "con")).path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Settings of a registry, which is the client's own mock; empty."""
    confluent.patch(monkeypatch)
    confluent.REGISTRY._store.clear()
    return (f"registry.url={confluent.URL}", "registry.auto_register=true")


def written(
    bundle: Path, messages: list[tuple[bytes | None, Headers]], *assignments: str, registers: bool = True
) -> list[Outgoing]:
    """What a worker makes of messages, in their order."""
    log = MemoryLog()
    for value, headers in messages:
        log.append(*P0, value, key=b"k", headers=headers, timestamp=1_700_000_000_000)
    source, sink = MemorySource(log), MemorySink()
    fixed = (f"model.bundle={bundle}", "model.lanes=1", "serving.enabled=false", "kafka.commit_interval_ms=1")
    worker = Worker(load(None, [*fixed, *assignments]), source, sink, registers=registers)
    source.assign(P0)
    worker.run(lambda: log.committed.get(P0) == len(messages))
    return sink.sent


def said(text: str, **more: Any) -> tuple[bytes, Headers]:
    return json.dumps({"text": text, **more}).encode(), []


def test_results_go_where_their_best_label_leads(bundle: Path):
    """Of several labels the best; without one, and of tombstones, to the output; dead letters to theirs."""
    messages = [said("good"), said("bad good bad"), said("dull"), (b"{", []), (None, [])]
    sent = written(bundle, messages, "routing.topics.con=complaints", "input.tombstones=forward")
    found = [one.topic for one in sent]
    assert found == ["messages.labelled", "complaints", "messages.labelled", "messages.dead", "messages.labelled"]
    assert json.loads(sent[1].value or b"")["label"] == "con"


def test_results_go_where_their_action_leads(bundle: Path):
    """By the action that the settings ask for."""
    actions = ("decision.accept_score=0.9", "routing.by=action", "routing.topics.reject=people")
    sent = written(bundle, [said("good good"), said("dull")], *actions)
    assert [json.loads(one.value or b"")["action"] for one in sent] == ["accept", "reject"]
    assert [one.topic for one in sent] == ["messages.labelled", "people"]


def test_with_tracing_there_must_be_room_for_contexts(bundle: Path):
    """Else dead letters could not be cut to what may be written."""
    least = LEAST_BYTES + CONTEXT_BYTES
    settings = load(None, ["tracing.enabled=true", f"model.bundle={bundle}"])
    model, forms = open_model(settings.model, settings.entities, settings.decision), Forms(settings)
    forms.encoder(model, least)
    with pytest.raises(ConfigError, match=f"With tracing.enabled, output.max_bytes .* at least {least:,}"):
        forms.encoder(model, least - 1)
    Forms(load(None, [])).encoder(model, LEAST_BYTES)


def test_a_fallback_label_may_have_a_route(bundle: Path):
    """It is no label of the bundle, and one of results."""
    sent = written(bundle, [said("dull")], "decision.fallback_label=none", "routing.topics.none=people")
    assert [one.topic for one in sent] == ["people"]


def test_a_route_that_no_result_can_take_is_refused(bundle: Path, tmp_path: Path):
    """At start, with the labels there are; a bundle that finds entities has none."""
    with pytest.raises(ConfigError) as refused:
        written(bundle, [], "routing.topics.spam=quarantine")
    assert str(refused.value) == (
        f"routing.topics has 'spam', which is no label of the bundle {named(bundle)}; it has pro, con."
    )
    tagging = toys.write(tmp_path / "tags", "token", {"ann": (0, 4)}, ("O", "B-PER")).path
    with pytest.raises(ConfigError, match="which finds entities: its results have no label"):
        written(tagging, [], "routing.topics.PER=people")


def named(bundle: Path) -> str:
    return str(json.loads((bundle / "bundle.json").read_text("utf-8"))["name"])


def test_without_routes_nothing_is_looked_up(bundle: Path):
    """Topics have no table then, and results no writer of their own."""
    settings = load(None, [f"model.bundle={bundle}", "model.lanes=1"])
    model: Model = open_model(settings.model)
    assert topics(settings, model) == Topics("messages.labelled", "messages.dead", None, False)


def test_enriched_messages_are_theirs_and_the_result(bundle: Path):
    """The result is what it is by itself; what has the field already is a dead letter as it came."""
    value = b'{ "text" : "good",\t"price": 1.50, "text2": "\\u0041" }\r\n'
    taken = b'{"text": "good", "\\u0077innow": 1}'
    (plain,) = written(bundle, [(value, [])])
    enriched, letter = written(bundle, [(value, []), (taken, [])], "output.content=enriched")
    end = value.rindex(b"}")
    assert enriched.value == value[:end] + b',"winnow":' + (plain.value or b"") + value[end:]
    assert (letter.topic, letter.value) == ("messages.dead", taken)
    assert dict(letter.headers)["winnow.errors.reason"] == b"field-exists"
    (other,) = written(bundle, [(taken, [])], "output.content=enriched", "output.field=verdict")
    assert list(json.loads(other.value or b"")) == ["text", "winnow", "verdict"]


def test_enriched_messages_have_a_bound(bundle: Path):
    """That of all records; what is larger is a dead letter, cut to it."""
    large = said("good", ballast="x" * 3_700)
    (letter,) = written(bundle, [large], "output.content=enriched", "output.max_bytes=4096")
    assert dict(letter.headers)["winnow.errors.reason"] == b"result-too-large"
    assert written(bundle, [large], "output.max_bytes=4096")[0].topic == "messages.labelled"


def test_headers_are_ids_and_metadata(bundle: Path):
    """Also where equal texts come from the cache of results, each with its own."""
    settings = ("input.id_header=message-id", "input.metadata_headers=tenant,trace")
    headers: list[Headers] = [[("tenant", b"a"), ("message-id", b"m-1")], [("tenant", b"b"), ("tenant", b"c")], []]
    sent = written(bundle, [(said("good", id=7)[0], one) for one in headers], *settings)
    documents = [json.loads(one.value or b"") for one in sent]
    assert [one["id"] for one in documents] == ["m-1", "7", "7"]
    assert [one.get("metadata") for one in documents] == [{"tenant": "a"}, {"tenant": "c"}, None]
    assert [one.headers for one in sent] == [[], [], []]
    (letter,) = written(bundle, [(said("good")[0], [("tenant", b"\xff")])], *settings)
    assert dict(letter.headers)["winnow.errors.reason"] == b"invalid-header-value"
    assert letter.headers[0] == ("tenant", b"\xff")


def test_a_replayed_message_has_the_id_and_the_metadata_it_had(bundle: Path):
    """A dead letter keeps the message's headers, and a replay sends them again."""
    settings = ("input.id_header=message-id", "input.metadata_headers=tenant")
    headers: Headers = [("tenant", b"a"), ("message-id", b"m-1"), ("tenant", b"b")]
    (letter,) = written(bundle, [(said("good")[0], headers)], *settings, "input.text_pointer=/body")
    again = letters.restored(letters.read(record(0, letter.value, headers=letter.headers)))
    (sent,) = written(bundle, [(letter.value, again)], *settings)
    found = json.loads(sent.value or b"")
    assert (found["id"], found["metadata"]) == ("m-1", {"tenant": "b"})


def test_events_in_and_out(bundle: Path):
    """The id is the event's; what comes out is an event in either mode, and never one with headers of another."""
    structured: Headers = [("content-type", b"application/cloudevents+json"), ("own", b"1")]
    event = json.dumps(ATTRIBUTES | {"data": {"text": "good"}}).encode()
    came = [(event, structured), said("good")]
    pass_all = "kafka.pass_headers=*"
    plain, refused = written(bundle, came, "input.envelope=cloudevents", pass_all)
    result = json.loads(plain.value or b"")
    assert (result["id"], plain.headers) == ("e-1", [("own", b"1")])
    assert dict(refused.headers)["winnow.errors.reason"] == b"invalid-cloudevent"

    whole, _ = written(
        bundle, came, "input.envelope=cloudevents", "output.envelope=cloudevents-structured", pass_all,
        "output.cloudevents_source=/spam",
    )  # fmt: skip
    found = json.loads(whole.value or b"")
    assert (found["data"], found["source"], found["subject"]) == (result, "/spam", "e-1")
    assert whole.headers == [("own", b"1"), ("content-type", b"application/cloudevents+json; charset=UTF-8")]

    apart, _ = written(bundle, came, "input.envelope=cloudevents", "output.envelope=cloudevents-binary", pass_all)
    assert json.loads(apart.value or b"") == result
    headers = dict(apart.headers)
    assert (headers["ce_id"], headers["content-type"]) == (result["result_id"].encode(), b"application/json")


def test_text_in_events(bundle: Path):
    """`input.format` says what their data is."""
    event = json.dumps(ATTRIBUTES | {"data_base64": base64.b64encode(b"good").decode()}).encode()
    headers: Headers = [("content-type", b"application/cloudevents+json")]
    (sent,) = written(bundle, [(event, headers)], "input.envelope=cloudevents", "input.format=text")
    assert json.loads(sent.value or b"")["label"] == "pro"


def test_headers_that_speak_of_the_message_do_not_mislead_readers_of_results(bundle: Path, registry: tuple[str, ...]):
    """Of a registry's formats: Confluent's deserializer goes by the header before the value. The key's stays true."""
    passed: Headers = [("__key_schema_id", b"\x00\x00\x00\x00\x07"), ("own", b"1")]
    untrue: Headers = [("__value_schema_id", b"\x00\x00\x00\x00\x63"), ("ce_id", b"2"), ("content-type", b"text/plain")]
    message = (said("good")[0], [*untrue, *passed])
    for form in FORMATS:
        settings = (*registry, f"output.format={form}", "kafka.pass_headers=*")
        (sent,) = written(bundle, [message], *settings)
        assert sent.headers == passed
        (plain,) = written(bundle, [message])
        assert confluent.result(form, sent) == json.loads(plain.value or b"")


@pytest.mark.parametrize("passing", ["*", "own,__value_schema_id"])
@pytest.mark.parametrize("content", ["result", "enriched"])
def test_the_schema_of_the_message_is_never_that_of_the_result(bundle: Path, passing: str, content: str):
    """In JSON as well, whose readers may validate by it; other headers are passed on as they are asked for."""
    headers: Headers = [("__value_schema_id", b"\x00\x00\x00\x00\x07"), ("own", b"1")]
    settings = (f"kafka.pass_headers={passing}", f"output.content={content}")
    (sent,) = written(bundle, [(said("good")[0], headers)], *settings)
    assert sent.headers == [("own", b"1")]


def test_only_who_may_registers(bundle: Path, registry: tuple[str, ...]):
    """A worker does, whatever it writes to, unless it is told not to."""
    avro = (*registry, "output.format=avro")
    with pytest.raises(NotRegistered, match="a worker registers it when it starts, and this changes nothing"):
        written(bundle, [], *avro, registers=False)
    assert confluent.REGISTRY.get_subjects() == []
    assert len(written(bundle, [said("good")], *avro)) == 1
    assert confluent.REGISTRY.get_subjects() == ["messages.labelled-value"]
    assert len(written(bundle, [said("good")], *avro, registers=False)) == 1


@pytest.mark.parametrize("flags", [[], ["-O"]])
def test_the_registrys_settings_are_checked_without_asking_it(flags: list[str]):
    """Wrong properties are named, also where assertions are left out."""
    code = (
        "from worker.config import load; from worker.forms import check_registry;"
        "check_registry(load(None, ['input.format=avro', 'registry.url=http://r', 'registry.properties.nope=1']))"
    )
    ran = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ConfigError: registry.properties: " in ran.stderr
    check_registry(load(None, ["input.format=avro", "registry.url=http://r"]))


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_registrys_format_holds_is_read_as_the_result(bundle: Path, registry: tuple[str, ...], form: str):
    """Field for field what JSON has; a value of another schema is no result."""
    settings = (*registry, f"output.format={form}", "input.metadata_headers=tenant", "output.all_scores=true")
    messages = [(said(text)[0], [("tenant", b"a")]) for text in ("good", "bad good bad", "dull")]
    sent = written(bundle, messages, *settings)
    plain = written(bundle, messages, *settings[3:])
    read = Forms(load(None, settings)).result_reader()
    assert [read(one.value or b"") for one in sent] == [json.loads(one.value or b"") for one in plain]


@pytest.mark.parametrize(
    ("form", "document"),
    [
        ("avro", 3),
        ("avro", {"source": "a"}),
        ("avro", {"labels": 1}),
        ("protobuf", {"source": "a"}),
        ("protobuf", {"result_id": "a"}),
        ("protobuf", []),
    ],
)
def test_a_value_of_another_schema_is_no_result(form: str, document: Any, monkeypatch: pytest.MonkeyPatch):
    """It is refused, whatever it has in the place of what a result has."""
    settings = load(None, [f"output.format={form}", "registry.url=http://r"])
    forms = Forms(settings)
    vars(forms)["registry"] = SimpleNamespace(deserializer=lambda format: lambda value: document)
    with pytest.raises(InvalidMessage, match="The value is no result"):
        forms.result_reader()(b"\0\0\0\0\1\0\x12\x01\xff")


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_tombstones_among_events_are_events(bundle: Path, mode: str):
    """Without data, in binary mode, as the AsyncAPI document has them; the result beside it is one in its own mode."""
    settings = ("input.tombstones=forward", f"output.envelope=cloudevents-{mode}", "kafka.pass_headers=*")
    sent, beside = written(bundle, [(None, [("ce_id", b"old"), ("own", b"1")]), said("good")], *settings)
    assert (sent.topic, sent.key, sent.value) == ("messages.labelled", b"k", None)
    headers = {name: (value or b"").decode() for name, value in sent.headers}
    assert headers == {
        "own": "1", "ce_specversion": "1.0", "ce_id": "messages-0-0", "ce_source": "winnow",
        "ce_type": "winnow.tombstone.v1", "ce_time": "2023-11-14T22:13:20.000Z",
    }  # fmt: skip
    payload, described = message_validators("tombstoneEvent")
    payload.validate(None)
    described.validate(headers)
    assert not described.is_valid({"own": "1"})
    assert beside.value is not None
    (plain,) = written(bundle, [(None, [("own", b"1")])], "input.tombstones=forward", "kafka.pass_headers=*")
    assert plain.headers == [("own", b"1")]


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("output.content=enriched",),
        ("output.envelope=cloudevents-structured",),
        ("output.envelope=cloudevents-binary",),
    ],
)
def test_what_is_written_can_be_read_again(bundle: Path, assignments: tuple[str, ...]):
    """As an audit reads it: the same result out of every form; anything else is none."""
    (plain,) = written(bundle, [said("good")])
    (sent,) = written(bundle, [said("good")], *assignments)
    read = Forms(load(None, assignments)).result_reader()
    assert read(sent.value or b"") == json.loads(plain.value or b"")
    assert read(b"[]") in ([], None)
    with pytest.raises(orjson.JSONDecodeError):
        read(b"{")
