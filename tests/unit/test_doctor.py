"""What `winnow doctor` makes of what it finds; no brokers: what they would say is given."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from typing import TYPE_CHECKING

import pytest

import worker.kafka.inspecting as inspecting
from worker import cli, doctor
from worker.capacity.machine import Cpu
from worker.config import ServingSettings, Settings, load
from worker.doctor import Finding, Status, machine, members, topics
from worker.doctor.findings import not_checked, ok, problem, refused, warning, worst
from worker.doctor.registry import registered
from worker.errors import BrokerError, SetupError
from worker.kafka.inspecting import Cluster, Group, Progress, Topic
from worker.kafka.reading import Extent
from worker.kafka.registry import NotRegistered
from worker.opening import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ALL = frozenset({"read", "write", "describe"})
CONFIG = {
    "max.message.bytes": "1048588", "cleanup.policy": "delete", "retention.ms": "604800000", "min.insync.replicas": "1",
}  # fmt: skip
TOPIC = Topic(3, 0, 1, 1, CONFIG, ALL)
APIS = {"Produce": 12, "EndTxn": 5, "TxnOffsetCommit": 5, "ConsumerGroupHeartbeat": 1}
CLUSTER = Cluster("id", 3, {"messages": 3, "messages.labelled": 3, "messages.dead": 1}, APIS)
WRITTEN = ("messages.labelled", "messages.dead")
GROUP = Group("empty", "classic", 0, frozenset(), ALL)
NOW = 1_700_000_000_000.0


def settings(*assignments: str) -> Settings:
    return load(None, assignments)


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def only(findings: Iterable[Finding]) -> Finding:
    (found,) = findings
    return found


# Findings


def test_the_worst_finding_is_the_reports():
    """What was not checked is no problem, and not well either."""
    assert worst([]) is Status.OK
    assert worst([ok("a", "")]) is Status.OK
    assert worst([ok("a", ""), not_checked("b", "")]) is Status.WARNING
    assert worst([warning("a", "", ""), problem("b", "", ""), ok("c", "")]) is Status.PROBLEM


def test_an_error_is_split_into_what_was_found_and_its_mend():
    """Errors are sentences that name the thing, then the mend."""
    found = refused("brokers", BrokerError("No broker answered at 10.0.0.1:9092. Check this. And that."), "else")
    assert found == Finding("brokers", Status.PROBLEM, "No broker answered at 10.0.0.1:9092.", "Check this. And that.")
    assert refused("a", BrokerError("One sentence."), "else").mend == "else"
    assert refused("a", BrokerError("Did you mean 'b'?"), "else").found == "Did you mean 'b'?"


# This machine


def test_a_cpu_without_vnni_is_slow():
    """With VNNI all is well; where the kernel names nothing, nothing is said."""
    assert machine.instruction_set(Cpu("new", ("avx2", "avx_vnni"))).status is Status.OK
    old = machine.instruction_set(Cpu("old", ("avx2",)))
    assert (old.status, "no VNNI" in old.found, "--reduce-range" in old.mend) == (Status.WARNING, True, True)
    assert machine.instruction_set(Cpu("arm", ())).status is Status.NOT_CHECKED


@pytest.mark.parametrize(
    ("lanes", "affinity", "quota", "status", "mend"),
    [
        (0, 4, None, Status.OK, ""),
        (4, 4, 4.0, Status.OK, ""),
        (8, 4, None, Status.WARNING, "Set model.lanes to 4"),
        (4, 8, 2.0, Status.WARNING, "Set model.lanes to 2"),
        (0, 8, 0.5, Status.WARNING, "at least one whole CPU"),
        (0, 8, 2.5, Status.WARNING, "2 or 3 whole CPUs"),
    ],
)
def test_lanes_are_held_against_affinity_and_quota(
    lanes: int, affinity: int, quota: float | None, status: Status, mend: str
):
    """The smaller of the two counts."""
    found = machine.cores(lanes, affinity, quota)
    assert found.status is status
    assert mend in found.mend


def test_a_port_in_use_is_named():
    """A worker may have it already; an address of another machine is nobody's here."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        found = machine.port(ServingSettings(host="127.0.0.1", port=number))
    assert found.status is Status.WARNING
    assert f"127.0.0.1:{number} is in use" in found.found
    assert "serving.port" in found.mend
    assert machine.port(ServingSettings(host="127.0.0.1", port=0)).status is Status.OK
    assert machine.port(ServingSettings(enabled=False)).status is Status.OK
    assert machine.port(ServingSettings(host="192.0.2.1", port=0)).status is Status.PROBLEM


def test_the_default_bundle_is_whole_and_computed_here():
    """Digests, and probes."""
    assert [(one.check, one.status) for one in machine.model(settings())] == [
        ("bundle", Status.OK), ("probes", Status.OK),
    ]  # fmt: skip


def test_a_bundle_that_is_not_there_or_damaged(tmp_path: Path):
    """The probes are not run then."""
    missing = machine.model(settings(f"model.bundle={tmp_path}/none"))
    assert [(one.check, one.status) for one in missing] == [
        ("bundle", Status.PROBLEM), ("probes", Status.NOT_CHECKED),
    ]  # fmt: skip
    damaged = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "damaged")
    with (damaged / "tokenizer.json").open("a") as file:
        file.write(" ")
    found = machine.model(settings(f"model.bundle={damaged}"))[0]
    assert found.status is Status.PROBLEM
    assert "does not match its digest" in found.found


def test_a_bundle_of_which_this_machine_computes_something_else(tmp_path: Path):
    """Its digests are right; its probes are not met."""
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "other")
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    manifest["probes"][0]["logits"][0] += 5
    (folder / "bundle.json").write_text(json.dumps(manifest), "utf-8")
    bundle, probes = machine.model(settings(f"model.bundle={folder}"))
    assert (bundle.status, probes.status) == (Status.OK, Status.PROBLEM)
    assert "computes something else on this machine" in probes.found
    assert probes.mend


def test_settings_that_do_not_fit_the_bundle():
    """They are named with what to change."""
    found = machine.model(settings("model.max_length=9999"))[1]
    assert found.status is Status.PROBLEM
    assert "model.max_length" in found.found


# Topics


def test_missing_topics_are_named_with_the_command_that_makes_them():
    """Unless they will be created, or are a pattern."""
    existing = {"messages": 3}
    found = by_check(topics.existence(settings(), existing))
    assert found["topic messages"].status is Status.OK
    dead = found["topic messages.dead"]
    assert dead.status is Status.PROBLEM
    assert "--create --topic messages.dead --partitions 6" in dead.mend
    assert dead.mend.endswith("or set kafka.create_topics = true, or give `winnow broker` --topic messages.dead:6")
    created = by_check(topics.existence(settings("kafka.create_topics=true"), existing))
    assert {one.status for one in created.values()} == {Status.OK}
    patterns = by_check(topics.existence(settings("kafka.input_topics=^mess.*s$,^other"), existing))
    assert patterns["topic ^mess.*s$"] == ok("topic ^mess.*s$", "1 topic matches: messages.")
    assert patterns["topic ^other"].status is Status.WARNING


def test_partitions_are_held_against_replicas():
    """Who has no partition has nothing to do."""
    given = settings()
    assert only(topics.partitions(given, CLUSTER.partitions, 3)).status is Status.OK
    found = only(topics.partitions(given, CLUSTER.partitions, 5))
    assert found.status is Status.WARNING
    assert "2 of them will have nothing to do" in found.found
    assert "--alter --topic messages --partitions 5" in found.mend
    assert only(topics.partitions(given, {}, 1)).status is Status.NOT_CHECKED


def test_the_output_needs_a_partition_for_each_of_the_source():
    """With output_partition = source."""
    given = settings("kafka.output_partition=source")
    assert by_check(topics.partitions(given, CLUSTER.partitions, 1))["output partitions"].status is Status.OK
    found = by_check(topics.partitions(given, CLUSTER.partitions | {"messages.labelled": 2}, 1))["output partitions"]
    assert found.status is Status.PROBLEM
    assert "messages has 3 partitions and messages.labelled only 2" in found.found


def served(
    *assignments: str, messages: Topic = TOPIC, labelled: Topic = TOPIC, dead: Topic = TOPIC
) -> dict[str, Finding]:
    there = {"messages": messages, "messages.labelled": labelled, "messages.dead": dead}
    return by_check(topics.serving(settings(*assignments), there))


def with_config(**changes: str) -> Topic:
    return TOPIC._replace(settings=CONFIG | {name.replace("_", "."): value for name, value in changes.items()})


def test_what_serves_is_well():
    """With Kafka's own defaults and ours."""
    assert {one.status for one in served().values()} == {Status.OK}


@pytest.mark.parametrize(
    ("which", "topic", "check", "status", "found", "mend"),
    [
        ("labelled", with_config(max_message_bytes="500000"), "size limit messages.labelled", Status.WARNING,
         "max.message.bytes is 500,000", "output.max_bytes to 500000"),
        ("labelled", with_config(max_message_bytes="2000"), "size limit messages.labelled", Status.PROBLEM,
         "may need 4,096", "max.message.bytes=1000000"),
        ("messages", with_config(max_message_bytes="9000000"), "dead letters", Status.WARNING,
         "larger ones are cut", "output.max_bytes"),
        ("dead", with_config(cleanup_policy="compact"), "cleanup messages.dead", Status.PROBLEM,
         "only the last letter stays", "cleanup.policy=delete"),
        ("labelled", with_config(cleanup_policy="compact,delete"), "cleanup messages.labelled", Status.WARNING,
         "without a key are refused", "cleanup.policy=delete"),
        ("messages", with_config(retention_ms="60000"), "retention messages", Status.WARNING,
         "kept 60 s", "retention.ms"),
        ("labelled", with_config(min_insync_replicas="2"), "replication messages.labelled", Status.PROBLEM,
         "min.insync.replicas is 2", "min.insync.replicas=1"),
        ("dead", with_config(min_insync_replicas="2")._replace(replicas=3, in_sync=1), "replication messages.dead",
         Status.PROBLEM, "Only 1 of 3 replicas", "Bring the brokers back"),
        ("messages", TOPIC._replace(leaderless=2), "replication messages", Status.PROBLEM,
         "2 of 3 partitions have no leader", "Bring the brokers back"),
        ("labelled", TOPIC._replace(settings=None), "size limit messages.labelled", Status.NOT_CHECKED,
         "do not tell this user", "DESCRIBE_CONFIGS"),
        ("messages", TOPIC._replace(settings=None), "retention messages", Status.NOT_CHECKED,
         "do not tell this user", "DESCRIBE_CONFIGS"),
    ],
)  # fmt: skip
def test_a_topic_that_serves_badly(which: str, topic: Topic, check: str, status: Status, found: str, mend: str):
    """Each fault by its name, with its mend."""
    said = served(**{which: topic})[check]  # type: ignore[arg-type]
    assert said.status is status
    assert found in said.found
    assert mend in said.mend


def test_a_size_limit_has_the_reason_of_its_topic():
    """Dead letters go into the dead-letter topic; the output's limit matters because the least one holds for all."""
    small = with_config(max_message_bytes="2000")
    assert " A dead letter with its headers may need 4,096." in served(dead=small)["size limit messages.dead"].found
    output = served(labelled=small)["size limit messages.labelled"]
    assert output.status is Status.PROBLEM
    assert "The least limit of the topics that are written bounds dead letters, too" in output.found


def test_what_is_never_deleted_has_no_retention():
    """Compacted inputs, and those without a limit; a limit in bytes is told."""
    small = served(messages=with_config(retention_ms="-1", retention_bytes="1000"))["retention messages"]
    assert (small.status, small.found) == (
        Status.OK, "Messages are kept up to 1,000 bytes a partition, read or not.",
    )  # fmt: skip
    assert served(messages=with_config(retention_ms="-1"))["retention messages"].status is Status.OK
    assert served(messages=with_config(cleanup_policy="compact"))["retention messages"].status is Status.OK


# Rights, groups, transactions


def test_brokers_that_cannot():
    """What the settings ask for and the brokers do not know is a problem; what nobody asks for is none."""
    old = CLUSTER._replace(apis={"Produce": 7, "EndTxn": 1, "TxnOffsetCommit": 2})
    asking = settings("kafka.delivery=exactly-once", "kafka.group_protocol=consumer").kafka
    found = by_check(members.protocols(asking, old))
    assert found["exactly once"].status is found["group protocol"].status is Status.PROBLEM
    assert "2.5 or later" in found["exactly once"].mend
    assert "4.0 or later" in found["group protocol"].mend
    assert only(members.protocols(settings().kafka, old)).status is Status.OK
    assert only(members.protocols(asking, CLUSTER)).status is Status.OK
    assert only(members.protocols(asking, CLUSTER._replace(apis={}))).status is Status.NOT_CHECKED


def test_topics_of_routes_are_looked_at_like_the_output():
    """Existence, rights, partitions, limits and replicas; a topic of two routes once, and by the name of the first."""
    routed = settings(
        "routing.topics.spam=quarantine", "routing.topics.junk=quarantine", "routing.topics.ham=messages.labelled",
        "kafka.output_partition=source",
    )  # fmt: skip
    missing = by_check(topics.existence(routed, CLUSTER.partitions))["topic quarantine"]
    assert (missing.status, missing.found.split(",")[0]) == (Status.PROBLEM, "The output of 'spam' is missing")
    assert "--create --topic quarantine" in missing.mend
    there = CLUSTER.partitions | {"quarantine": 2}
    found = [*topics.existence(routed, there), *topics.partitions(routed, there, 1)]
    assert len(found) == len({one.check for one in found})
    assert by_check(found)["topic messages.labelled"].found == "The output has 3 partitions."
    few = by_check(found)["output partitions quarantine"]
    assert few.status is Status.PROBLEM
    assert "--alter --topic quarantine --partitions 3" in few.mend
    small = TOPIC._replace(
        settings=CONFIG | {"max.message.bytes": "100", "min.insync.replicas": "2"}, rights=frozenset({"read"})
    )
    poor = by_check(topics.serving(routed, {"messages": TOPIC, "quarantine": small}))
    assert {poor[f"{check} quarantine"].status for check in ("size limit", "replication")} == {Status.PROBLEM}
    assert "retention quarantine" not in poor
    right = by_check(members.rights(routed.kafka, {"quarantine": small}, GROUP, routed.written_topics))
    assert right["right quarantine"].mend == "Grant WRITE on the topic quarantine."


class StubRegistry:
    """Has the schema of results for the output alone."""

    def __init__(self, url: str, properties: dict[str, object], *, auto_register: bool, **_: object) -> None:
        assert not auto_register, "the doctor changes nothing"
        self.url = url

    def deserializer(self, format: str) -> object:
        if "away" in self.url:
            raise BrokerError(f"The schema registry at {self.url} does not answer.")
        return str

    def serializer(self, format: str, topic: str) -> object:
        if topic != "messages.labelled":
            raise NotRegistered(f"{topic}-value", format, "register it")
        return str

    def check_compatible(self, format: str, topic: str) -> bool:
        return True

    def close(self) -> None: ...


def test_the_registry_is_asked_where_formats_need_one(monkeypatch: pytest.MonkeyPatch):
    """Whether it answers, and has the schema for every topic of results; without such formats nobody is asked."""
    monkeypatch.setattr("worker.forms.Registry", StubRegistry)
    assert list(registered(settings())) == []
    away = only(registered(settings("registry.url=http://away", "input.format=avro", "output.format=avro")))
    assert (away.check, away.status) == ("registry", Status.PROBLEM)
    assert away.found == "The schema registry at http://away does not answer."
    formats = ("registry.url=http://here", "input.format=avro", "output.format=protobuf", "routing.topics.spam=q")
    found = by_check(registered(settings(*formats)))
    assert [one.status for one in found.values()] == [Status.OK, Status.OK, Status.PROBLEM]
    assert found["schema q"].mend == "Register it, or set registry.auto_register = true."
    made = by_check(registered(settings(*formats, "registry.auto_register=true")))["schema q"]
    assert made.found == "The subject q-value does not have the protobuf schema of results; a start registers it."
    assert made.status is Status.OK


def test_routes_are_held_against_the_bundle():
    """Its labels, or its actions; without routes nothing is said of them."""
    assert "routes" not in by_check(machine.model(settings()))
    found = by_check(machine.model(settings("routing.topics.spam=q")))["routes"]
    assert (found.status, found.found) == (Status.OK, "By label: spam to q; all else to messages.labelled.")
    wrong = by_check(machine.model(settings("routing.topics.junk=q")))["routes"]
    assert wrong.status is Status.PROBLEM
    assert "no label of the bundle winnow-spam; it has ham, spam." in wrong.found
    assert wrong.mend == "Correct routing.topics."


def test_rights_that_are_missing():
    """READ on what is read and on the group, WRITE on what is written; what the brokers do not say is not guessed."""
    kafka, describing = settings().kafka, frozenset({"describe"})
    there = {"messages": TOPIC, **dict.fromkeys(WRITTEN, TOPIC)}
    assert {one.status for one in members.rights(kafka, there, GROUP, WRITTEN)} == {Status.OK}
    there = {name: topic._replace(rights=describing) for name, topic in there.items()}
    found = by_check(members.rights(kafka, there, GROUP._replace(rights=describing), WRITTEN))
    assert {one.status for one in found.values()} == {Status.PROBLEM}
    assert found["right messages"].mend == "Grant READ on the topic messages."
    assert found["right messages.dead"].mend == "Grant WRITE on the topic messages.dead."
    assert found["right winnow"].mend == "Grant READ on the group winnow."
    unknown = members.rights(kafka, {"messages": TOPIC._replace(rights=None)}, None, WRITTEN)
    assert {one.status for one in unknown} == {Status.NOT_CHECKED}


def test_transactional_ids_are_for_one_worker_each():
    """A name in the settings serves one replica; whether it may be used is left to the first transaction."""
    kafka = settings("kafka.delivery=exactly-once", "kafka.instance_id=one").kafka
    found = by_check(members.transactions(kafka, 3, "winnow-one"))
    assert found["transactional id"].status is Status.WARNING
    assert "kafka.instance_id" in found["transactional id"].mend
    assert found["right to transactions"].status is Status.NOT_CHECKED
    assert by_check(members.transactions(kafka, 1, "winnow-one"))["transactional id"].status is Status.OK
    assert list(members.transactions(settings().kafka, 3, "winnow-one")) == []


def test_a_group_with_members_of_the_other_protocol():
    """They and a new worker would not meet as one thinks."""
    stable = GROUP._replace(state="stable", members=2)
    assert only(members.group(settings().kafka, stable, 1)).status is Status.OK
    found = only(members.group(settings("kafka.group_protocol=consumer").kafka, stable, 1))
    assert found.status is Status.WARNING
    assert "2 members of the protocol 'classic'" in found.found
    assert only(members.group(settings().kafka, None, 1)).status is Status.NOT_CHECKED


@pytest.mark.parametrize(("instances", "replicas"), [({"a"}, 1), (set(), 2)])
def test_a_static_name_for_more_than_one(instances: set[str], replicas: int):
    """A member has it, or several will."""
    kafka = settings("kafka.group_instance_id=a").kafka
    found = by_check(members.group(kafka, GROUP._replace(instances=frozenset(instances)), replicas))
    assert found["static membership"].status is Status.WARNING


def progress(committed: dict[int, int], newest: dict[int, int] | None = None) -> Progress:
    extents = {("messages", number): Extent(10, 100) for number in range(3)}
    return Progress(
        extents,
        {("messages", number): offset for number, offset in committed.items()},
        {("messages", number): when for number, when in (newest or {}).items()},
    )


def test_lag_is_what_waits():
    """From the committed offset, or from where a new group begins."""
    said = only(members.lag(settings().kafka, progress({0: 40, 1: 100})))
    assert (said.status, said.found.startswith("150 messages wait; in 1 partitions")) == (Status.OK, True)
    latest = settings("kafka.consumer_properties.auto.offset.reset=latest").kafka
    assert only(members.lag(latest, progress({0: 40, 1: 100}))).found.startswith("60 messages wait")


def test_what_was_deleted_unread_is_a_problem():
    """And offsets that are no longer there a warning: two words for two ways to lose."""
    found = list(members.lag(settings().kafka, progress({0: 4, 1: 101})))
    assert [one.status for one in found] == [Status.PROBLEM, Status.WARNING]
    assert "6 offsets that the group had not read are deleted, in messages/0" in found[0].found
    assert "messages/1" in found[1].found


def test_a_clock_behind_the_messages():
    """A message from the future; older ones say nothing of the clock."""
    assert members.clock(progress({}, {0: int(NOW) - 5000, 1: int(NOW) + 1000}), NOW).status is Status.OK
    found = members.clock(progress({}, {0: int(NOW) + 90_000}), NOW)
    assert (found.status, "messages/0 is 90 s ahead" in found.found) == (Status.WARNING, True)
    assert members.clock(progress({}), NOW).status is Status.NOT_CHECKED


# All of it


class Answering:
    """In the place of the client."""

    def __init__(self, kafka: object) -> None:
        pass

    def cluster(self) -> Cluster:
        return CLUSTER

    def topics(self, names: list[str]) -> dict[str, Topic]:
        return dict.fromkeys(names, TOPIC)

    def group(self) -> Group:
        return GROUP

    def progress(self, partitions: list[tuple[str, int]]) -> Progress:
        assert partitions == [("messages", 0), ("messages", 1), ("messages", 2)]
        return progress({0: 10, 1: 10, 2: 10}, {0: int(NOW)})


class Silent(Answering):
    def cluster(self) -> Cluster:
        raise BrokerError("No broker answered at here:9092. Check kafka.bootstrap_servers.")


class Denying(Answering):
    def progress(self, partitions: list[tuple[str, int]]) -> Progress:
        raise BrokerError("Access to the consumer group is denied. Grant READ.")


def test_a_kafka_that_answers_is_asked_everything(monkeypatch: pytest.MonkeyPatch):
    """Every check that depends on brokers has its line."""
    monkeypatch.setattr(inspecting, "Inspector", Answering)
    found = by_check(doctor.remote(settings(), 1, NOW))
    assert {one.status for one in found.values()} == {Status.OK}
    assert found.keys() >= {"brokers", "requests", "partitions", "dead letters", "right winnow", "lag", "clock"}


def test_without_a_broker_the_rest_is_not_checked(monkeypatch: pytest.MonkeyPatch):
    """One problem, and a line for each thing that is not known."""
    monkeypatch.setattr(inspecting, "Inspector", Silent)
    first, *others = doctor.remote(settings(), 1, NOW)
    assert first == Finding(
        "brokers", Status.PROBLEM, "No broker answered at here:9092.", "Check kafka.bootstrap_servers."
    )
    assert [one.check for one in others] == list(doctor.DEPENDING)
    assert {one.status for one in others} == {Status.NOT_CHECKED}


def test_what_is_denied_on_the_way_is_not_checked(monkeypatch: pytest.MonkeyPatch):
    """The reason is told, and the other checks stand."""
    monkeypatch.setattr(inspecting, "Inspector", Denying)
    found = by_check(doctor.remote(settings(), 1, NOW))
    assert found["lag"] == Finding("lag", Status.NOT_CHECKED, "Access to the consumer group is denied. Grant READ.")
    assert found["partitions"].status is Status.OK


def test_a_property_that_leads_nowhere_is_a_problem():
    """The client cannot be made: said before anything is asked."""
    found = next(iter(doctor.remote(settings("kafka.properties.ssl.ca.location=/not/there"), 1, NOW)))
    assert (found.check, found.status) == ("brokers", Status.PROBLEM)
    assert "/not/there" in found.found


# The command


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["winnow", "doctor", *arguments, "--set", "serving.enabled=false"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_all_is_well_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A line a finding and a count of them."""
    monkeypatch.setattr(inspecting, "Inspector", Answering)
    monkeypatch.setattr(machine, "instruction_set", lambda cpu: ok("instruction set", "fast"))
    monkeypatch.setattr(machine, "cores", lambda *_: ok("cores", "enough"))
    code, out, err = run(monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert "ok           brokers: 3 brokers answer at localhost:9092 (cluster id)." in out
    assert out.rstrip().endswith(" ok.")


def test_a_problem_is_exit_code_9(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Its mend is below it; no traceback."""
    monkeypatch.setattr(inspecting, "Inspector", Silent)
    code, out, err = run(monkeypatch, capsys, "--set", "model.bundle=/not/there")
    assert code == SetupError.exit_code == 9
    assert "problem      brokers: No broker answered at here:9092." in out
    assert "-> Check kafka.bootstrap_servers." in out
    assert "2 problems, 8 not checked." in out
    assert err == "winnow: There are 2 problems: bundle, brokers. Each is named above with its mend.\n"


def test_json_is_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The verdict, the counts, and each finding."""
    monkeypatch.setattr(inspecting, "Inspector", Silent)
    code, out, _ = run(monkeypatch, capsys, "--json")
    document = json.loads(out)
    assert (code, document["status"], document["counts"]["problem"]) == (9, "problem", 1)
    assert document["findings"][-1] == {
        "check": "clock", "status": "not checked", "found": "No broker answered.", "mend": "",
    }  # fmt: skip
