"""A worker whose messages and results have their schemas in a real registry."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.unit import toys
from tests.unit.test_forms import OPINIONS, P0
from worker import audit
from worker.app import Worker
from worker.audit import answers
from worker.config import load
from worker.doctor import Status
from worker.doctor.registry import registered
from worker.errors import BrokerError, ConfigError
from worker.forms import Forms
from worker.kafka.registry import FORMATS
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.opening import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registry_fixture import Apicurio
    from worker.config import Settings
    from worker.pipeline.messages import Headers, Outgoing

pytestmark = pytest.mark.registry
TEXTS = ["good", "bad good bad", "dull"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write(tmp_path_factory.mktemp("bundle") / "toy", "multi-label", OPINIONS, ("pro", "con")).path


class Site:
    """Settings that share a registry, and a topic of one's own."""

    def __init__(self, bundle: Path, url: str) -> None:
        self.topic = f"out-{uuid4().hex[:8]}"
        self._fixed = (
            f"model.bundle={bundle}", "model.lanes=1", "serving.enabled=false", "kafka.commit_interval_ms=1",
            f"kafka.output_topic={self.topic}",
        )  # fmt: skip
        self._url = f"registry.url={url}"

    def settings(self, *assignments: str) -> Settings:
        registry = [self._url] if any(form in one for one in assignments for form in FORMATS) else []
        return load(None, [*self._fixed, *registry, *assignments])

    def written(self, messages: list[tuple[bytes | None, Headers]], *assignments: str) -> list[Outgoing]:
        log = MemoryLog()
        for value, headers in messages:
            log.append(*P0, value, key=b"k", headers=headers, timestamp=1_700_000_000_000)
        source, sink = MemorySource(log), MemorySink()
        worker = Worker(self.settings(*assignments), source, sink)
        source.assign(P0)
        worker.run(lambda: log.committed.get(P0) == len(messages))
        return sink.sent


@pytest.fixture
def site(bundle: Path, apicurio: Apicurio) -> Site:
    return Site(bundle, apicurio.url)


def messages() -> list[tuple[bytes | None, Headers]]:
    return [(json.dumps({"text": text, "id": text}).encode(), [("tenant", b"a")]) for text in TEXTS]


@pytest.mark.parametrize("form", FORMATS)
def test_results_come_back_equal_and_may_be_messages(site: Site, form: str):
    """Written and read in each format, to a topic of a route as well; an audit finds their messages; twice the same."""
    wanted = ("input.metadata_headers=tenant", "output.all_scores=true", f"routing.topics.con={site.topic}-con")
    plain = [json.loads(one.value or b"") for one in site.written(messages(), *wanted)]
    framed = (*wanted, f"output.format={form}", "registry.auto_register=true")
    sent = site.written(messages(), *framed)
    assert [one.topic.removeprefix(site.topic) for one in sent] == ["", "-con", ""]
    assert [one.value for one in site.written(messages(), *framed)] == [one.value for one in sent]
    forms = Forms(site.settings(*framed))
    read = forms.result_reader()
    for one, document in zip(sent, plain, strict=True):
        assert read(one.value or b"") == document
        assert b"tenant" in (one.value or b"")
        answer = answers.of_result(audit_record(one), read)
        assert answer is not None
        assert answer[0] == (*P0, document["source"]["offset"])
        assert answer[1].name == document["model"]["digest"]
    forms.close()
    again = site.written(
        [(one.value, []) for one in sent],
        f"input.format={form}",
        "input.text_pointer=/id",
        "input.id_pointer=/result_id",
    )
    said = [json.loads(one.value or b"") for one in again]
    assert [(one["id"], one["label"]) for one in said] == [(one["result_id"], one["label"]) for one in plain]


def audit_record(outgoing: Outgoing):
    from tests.kit import record

    return record(0, outgoing.value, topic=outgoing.topic, key=outgoing.key)


def test_events_may_have_such_data(site: Site):
    """In binary mode, in and out; what is not framed is a dead letter, never the end."""
    form = ("output.format=avro", "output.envelope=cloudevents-binary", "registry.auto_register=true")
    sent = site.written(messages(), *form)
    assert dict(sent[0].headers)["content-type"] == b"application/vnd.confluent.avro"
    back = ("input.format=avro", "input.envelope=cloudevents", "input.text_pointer=/id")
    found = site.written([(one.value, one.headers) for one in sent] + [(b"{}", sent[0].headers)], *back)
    assert [json.loads(one.value or b"")["id"] for one in found[:-1]] == [
        dict(one.headers)["ce_id"].decode() for one in sent
    ]
    assert dict(found[-1].headers)["winnow.errors.reason"] == b"invalid-framing"


def test_only_a_worker_registers(site: Site):
    """The doctor, a dry run and an audit change nothing: they say what a start does, or what is to be done."""
    framed = ("output.format=avro",)
    (missing,) = registered(site.settings(*framed))
    assert (missing.check, missing.status) == (f"schema {site.topic}", Status.PROBLEM)
    (made,) = registered(site.settings(*framed, "registry.auto_register=true"))
    assert (made.status, made.found.rpartition("; ")[2]) == (Status.OK, "a start registers it.")
    model = open_model(site.settings().model)
    with (
        closing(Forms(site.settings(*framed, "registry.auto_register=true"))) as forms,
        pytest.raises(ConfigError, match="a worker registers it when it starts, and this changes nothing"),
    ):
        forms.encoder(model, 100_000)
    with pytest.raises(ConfigError, match=r"register it .* or set registry\.auto_register"):
        site.written(messages(), *framed)
    site.written(messages(), *framed, "registry.auto_register=true")
    found = list(registered(site.settings(*framed, "input.format=protobuf")))
    assert [one.status for one in found] == [Status.OK, Status.OK]


def test_a_registry_that_is_not_there_ends_the_worker_and_is_found_before(site: Site):
    """With its address; no message is refused for it."""
    away = ("input.format=avro", "registry.url=http://127.0.0.1:1", "registry.timeout_ms=500")
    with pytest.raises(BrokerError, match=r"http://127\.0\.0\.1:1"):
        site.written(messages(), *away)
    (finding,) = registered(site.settings(*away))
    assert (finding.check, finding.status) == ("registry", Status.PROBLEM)
    assert "http://127.0.0.1:1" in finding.found
    with pytest.raises(BrokerError):
        audit.audit(site.settings("output.format=avro", *away[1:]))
