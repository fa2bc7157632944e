"""Settings: sources and their order, what is refused and how it is said, secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from worker.config import (
    ALSO_CALLED,
    MASK,
    OWNED_PROPERTIES,
    Settings,
    environment_name,
    load,
    masked,
    reference,
)
from worker.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("WINNOW_"):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "winnow.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def refused(*assignments: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, assignments)
    return str(caught.value)


def test_without_anything_the_defaults_hold():
    """No file, no environment, no flags: every setting has its default."""
    assert load().model_dump() == Settings().model_dump()


def test_flags_beat_the_environment_and_the_environment_beats_the_file(toml, monkeypatch):
    """The later source is the stronger, setting by setting."""
    path = toml('[kafka]\ngroup_id = "file"\nclient_id = "file"\noutput_topic = "file"\n')
    monkeypatch.setenv("WINNOW_KAFKA__GROUP_ID", "environment")
    monkeypatch.setenv("WINNOW_KAFKA__CLIENT_ID", "environment")
    kafka = load(path, ["kafka.group_id=flag"]).kafka
    assert (kafka.group_id, kafka.client_id, kafka.output_topic) == ("flag", "environment", "file")


def test_every_setting_can_be_set_by_its_environment_variable(monkeypatch):
    """The name in the reference is the name that is read: a wrong value is refused, naming the setting."""
    for setting, field in reference():
        if field.annotation in (str, str | None, tuple[str, ...]):
            continue  # any string will do
        monkeypatch.setenv(environment_name(setting), "{")
        with pytest.raises(ConfigError):
            load()
        monkeypatch.delenv(environment_name(setting))
    monkeypatch.setenv("WINNOW_BATCHING__MAX_MESSAGES", "7")
    monkeypatch.setenv("WINNOW_OUTPUT__ALL_SCORES", "true")
    assert (load().batching.max_messages, load().output.all_scores) == (7, True)


def test_lists_are_separated_by_commas_in_environment_and_flags(toml, monkeypatch):
    """Topics and headers need no JSON on the command line; in TOML they are lists."""
    monkeypatch.setenv("WINNOW_KAFKA__INPUT_TOPICS", "a, b")
    assert load().kafka.input_topics == ("a", "b")
    assert load(None, ["kafka.input_topics=c,d"]).kafka.input_topics == ("c", "d")
    monkeypatch.delenv("WINNOW_KAFKA__INPUT_TOPICS")
    assert load(toml('[kafka]\ninput_topics = ["e", "f"]\n')).kafka.input_topics == ("e", "f")


def test_properties_come_from_each_source(toml, monkeypatch):
    """Properties are a table in TOML, JSON in the environment, dotted names in flags."""
    path = toml('[kafka.properties]\n"security.protocol" = "SSL"\n')
    assert load(path).kafka.properties == {"security.protocol": "SSL"}
    assert load(None, ["kafka.properties.sasl.username=me"]).kafka.properties == {"sasl.username": "me"}
    monkeypatch.setenv("WINNOW_KAFKA__PROPERTIES", '{"client.rack": "r1"}')
    assert load().kafka.properties == {"client.rack": "r1"}


def test_the_value_of_an_assignment_may_hold_equal_signs():
    """Only the first `=` separates."""
    assert load(None, ["kafka.group_id=a=b"]).kafka.group_id == "a=b"


@pytest.mark.parametrize("assignment", ["kafka.group_id", "group_id=x", "=", "", "kafka=x"])
def test_what_is_no_assignment_is_refused(assignment: str):
    """A flag without section, name or value says how it is written."""
    assert "section.name=value" in refused(assignment)


@pytest.mark.parametrize(
    ("assignments", "named"),
    [
        (["kafka.gruop_id=x"], "Did you mean 'kafka.group_id'?"),
        (["kafka.brokers=x"], "Did you mean 'kafka.bootstrap_servers'?"),
        (["kafka.dlq_topic=x"], "Did you mean 'kafka.dead_letter_topic'?"),
        (["kafak.group_id=x"], "'kafak'"),
        (["model.bundle.deep=x"], "model.bundle"),
        (["kafka.properties=x", "kafka.properties.a=1"], "kafka.properties"),
        (["kafka.properties.a=1", "kafka.properties=x"], "kafka.properties"),
        (["kafka.group_id="], "kafka.group_id"),
        (["kafka.group_protocol=new"], "'classic' or 'consumer'"),
        (["kafka.delivery=exactly-once", "kafka.commit_interval_ms=6000"], "half of transaction.timeout.ms"),
        (
            ["kafka.delivery=exactly-once", "kafka.producer_properties.transaction.timeout.ms=long"],
            "transaction.timeout.ms is no number",
        ),
        (["kafka.delivery=exactly-once", "kafka.properties.isolation.level=read_uncommitted"], "read_committed"),
        (["batching.max_messages=many"], "batching.max_messages"),
        (["batching.max_messages=0"], "greater than or equal to 1"),
        (["kafka.input_topics="], "kafka.input_topics"),
        (["kafka.input_topics=a b"], "kafka.input_topics"),
        (["kafka.input_topics=^("], "no regular expression"),
        (["kafka.input_topics=^messages.*"], "a circle"),
        (["kafka.input_topics=messages.labelled"], "read again"),
        (["kafka.input_topics=messages.dead"], "read again"),
        (["kafka.dead_letter_topic=messages.labelled"], "two names"),
        (["input.text_pointer=text"], "input.text_pointer"),
        (["input.text_pointer=/a~2"], "input.text_pointer"),
        (["input.id_pointer=id"], "input.id_pointer"),
        (["output.max_bytes=1024"], "output.max_bytes"),
    ],
)
def test_a_wrong_setting_is_named_in_a_sentence(assignments: list[str], named: str):
    """Each mistake is one sentence that names the setting and what is wrong; never another kind of error."""
    said = refused(*assignments)
    assert named in said
    assert "\n" not in said
    assert said.endswith((".", "?"))


def test_all_mistakes_are_told_at_once():
    """Who made three mistakes hears of three."""
    said = refused("kafka.nope=1", "batching.max_messages=0", "serving.port=70000")
    assert all(name in said for name in ("kafka.nope", "batching.max_messages", "serving.port"))


def test_all_that_does_not_fit_together_is_told_at_once():
    """Of several sections as well."""
    said = refused("shutdown.drain_ms=300000", "routing.topics.spam=messages", "output.format=avro", "output.field=x")
    assert said.count("The settings do not fit together") == 1
    assert all(name in said for name in ("shutdown.drain_ms", "a circle", "registry.url", "output.field"))


@pytest.mark.parametrize("name", ["WINNOW_KAFAK__GROUP_ID", "WINNOW_KAFKA__GROPU_ID", "WINNOW_X__Y"])
def test_a_misspelt_environment_variable_is_refused(monkeypatch, name: str):
    """A variable that names no setting does not go unnoticed."""
    monkeypatch.setenv(name, "x")
    said = refused()
    assert name in said or name.partition("__")[2].lower() in said


def test_other_variables_are_nobodys_business(monkeypatch):
    """Variables with our prefix but no section separator belong to somebody else."""
    monkeypatch.setenv("WINNOW_TEST_KAFKA", "apache")
    monkeypatch.setenv("WINNOW_HOME", "x")
    load()


@pytest.mark.parametrize("name", sorted(OWNED_PROPERTIES))
@pytest.mark.parametrize("table", ["properties", "consumer_properties", "producer_properties"])
def test_properties_on_which_the_promises_rest_cannot_be_set(table: str, name: str):
    """At least once would be void if a file could switch acknowledgements or commits."""
    assert name in refused(f"kafka.{table}.{name}=x")


@pytest.mark.parametrize("name", ["request.required.acks", "delivery.report.only.error", "metadata.broker.list"])
def test_nor_can_they_under_another_name(name: str):
    """librdkafka's aliases of them, and what would keep back acknowledgements, are refused as well."""
    assert name in refused(f"kafka.properties.{name}=1")


@pytest.mark.parametrize("name", ["error_cb", "stats_cb", "rebalance_cb"])
def test_callbacks_are_no_properties(name: str):
    """A function of the client cannot be given as text; the reason is told."""
    assert f"{name!r} cannot be set here: it is a function" in refused(f"kafka.consumer_properties.{name}=x")


@pytest.mark.parametrize("setting", ["drain_ms", "revoke_ms"])
@pytest.mark.parametrize("table", ["properties", "consumer_properties"])
def test_budgets_stay_below_the_poll_interval(table: str, setting: str):
    """A drain or a revoke that may last as long as the group waits is refused; one that ends before is not."""
    interval = f"kafka.{table}.max.poll.interval.ms=60000"
    assert refused(interval, f"shutdown.{setting}=60000") == (
        f"The settings do not fit together: shutdown.{setting} must be below max.poll.interval.ms, which is 60000."
    )
    load(None, [interval, f"shutdown.{setting}=59999"])


def test_the_poll_interval_has_a_default_to_stay_below():
    """Without a property of one's own, librdkafka's five minutes bound the drain."""
    assert "300000" in refused("shutdown.drain_ms=300000")
    load(None, ["shutdown.drain_ms=299999"])


def test_a_poll_interval_that_is_no_number_is_named():
    """The property is named in a sentence."""
    assert "max.poll.interval.ms is no whole number" in refused("kafka.properties.max.poll.interval.ms=soon")


def test_a_variable_with_one_underscore_too_few_is_refused_with_the_right_name(monkeypatch):
    """What is meant for a setting and would not be read is named with the name that is."""
    monkeypatch.setenv("WINNOW_KAFKA_GROUP_ID", "x")
    said = refused()
    assert "WINNOW_KAFKA_GROUP_ID is not read" in said
    assert "WINNOW_KAFKA__GROUP_ID" in said


@pytest.mark.parametrize(
    ("assignments", "names"),
    [
        (["kafka.delivery=exactly-once", "kafka.commit_interval_ms=6000"], ["kafka.commit_interval_ms", "10000"]),
        (["kafka.dead_letter_topic=messages.labelled"], ["kafka.output_topic", "kafka.dead_letter_topic"]),
        (["kafka.output_topic=messages"], ["kafka.output_topic"]),
        (["routing.topics.spam=messages"], ["routing.topics", "'spam'", "kafka.input_topics", "a circle"]),
        (["routing.topics.spam=mess2", "kafka.input_topics=^mess[0-9]"], ["'mess2'", "'^mess[0-9]'", "a circle"]),
        (["routing.topics.spam=messages.dead"], ["routing.topics", "kafka.dead_letter_topic"]),
        (["routing.by=action"], ["routing.by", "routing.topics"]),
        (["routing.by=action", "routing.topics.spam=x"], ["'spam'", "accept, review, reject"]),
        (["routing.by=action", "routing.topics.reject=x"], ["routing.by", "decision.accept_score"]),
        (
            ["routing.by=action", "routing.topics.review=x", "decision.accept_score=0.5"],
            ["routing.topics", "decision.review_score"],
        ),
        (["output.content=enriched", "input.format=text"], ["output.content", 'input.format = "json"', '"text"']),
        (["output.content=enriched", "input.envelope=cloudevents"], ["output.content", "input.envelope"]),
        (["output.content=enriched", "output.envelope=cloudevents-binary"], ["output.content", "output.envelope"]),
        (["output.content=enriched", "output.format=avro", "registry.url=http://r"], ["output.format"]),
        (["output.field=x"], ["output.field", "output.content"]),
        (["output.cloudevents_source=x"], ["output.cloudevents_source", "output.envelope"]),
        (["registry.url=http://r"], ["registry.url", "input.format", "output.format", '"json-schema"']),
        (["registry.auto_register=true"], ["registry.auto_register", "output.format"]),
        (["registry.subjects=record"], ["registry.subjects", "output.format"]),
        (["registry.properties.basic.auth.user.info=me:it"], ["registry.properties", "output.format"]),
        (["registry.timeout_ms=500"], ["registry.timeout_ms", "output.format"]),
        (
            ["input.format=avro", "registry.url=http://r", "registry.auto_register=true"],
            ["registry.auto_register", "the schema of results", 'output.format = "json"'],
        ),
        (
            ["input.format=avro", "registry.url=http://r", "registry.subjects=record"],
            ["registry.subjects", "the schema of results", 'output.format = "json"'],
        ),
        (["input.format=text", "input.text_pointer=/body"], ["input.text_pointer", "input.format"]),
        (["input.format=text", "input.id_pointer=/key"], ["input.id_pointer", "input.format"]),
        (["input.envelope=cloudevents", "input.id_pointer=/id"], ["input.id_pointer", "input.envelope"]),
        (
            ["output.envelope=cloudevents-structured", "output.format=avro", "registry.url=http://r"],
            ["output.envelope", "output.format", "cloudevents-binary"],
        ),
        (["input.format=avro"], ["input.format", "registry.url"]),
        (["output.format=json-schema"], ["output.format", "registry.url"]),
        (
            ["input.format=avro", "registry.url=http://r", "registry.timeout_ms=100000"],
            ["registry.timeout_ms", "max.poll.interval.ms", "300000"],
        ),
        (
            ["input.format=avro", "registry.url=http://a,http://b", "registry.timeout_ms=50000"],
            ["registry.timeout_ms", " ms between two polls", "max.poll.interval.ms"],
        ),
        (
            [
                "kafka.properties.max.poll.interval.ms=30000",
                "shutdown.drain_ms=9",
                "shutdown.revoke_ms=9",
                "batching.max_delay_ms=30000",
            ],
            ["batching.max_delay_ms", "max.poll.interval.ms", "30000"],
        ),
    ],
)
def test_what_does_not_fit_together_is_named_as_it_is_set(assignments: list[str], names: list[str]):
    """The settings' whole names stand in the sentence, not that of their section."""
    said = refused(*assignments)
    assert said.startswith("The settings do not fit together: ")
    assert all(name in said for name in names)


@pytest.mark.parametrize("name", ["WINNOW_KAFKA__PROPERTIES", "WINNOW_KAFKA__PRODUCER_PROPERTIES", "WINNOW_KAFKA"])
def test_a_variable_that_is_no_json_is_named(monkeypatch, name: str):
    """And how a table is written there; what it holds is not shown."""
    monkeypatch.setenv("WINNOW_KAFKA__CONSUMER_PROPERTIES", "{}")
    monkeypatch.setenv(name, "hunter2")
    said = f'The environment variable {name} is not JSON; a table is written like \'{{"name": "value"}}\'.'
    assert refused() == said


def test_a_property_that_is_no_single_value_is_one_sentence(toml):
    """Of a list or a table one hears once, not for each type that it is not."""
    said = "The setting kafka.properties.sasl.password is wrong: a property is a text, a number, true or false."
    assert refused(path=toml('[kafka.properties]\n"sasl.password" = ["hunter2"]\n')) == said
    assert refused("kafka.properties=x") == "The setting kafka.properties is wrong: it is no table."


@pytest.mark.parametrize("setting", ["input.text_pointer", "input.id_pointer"])
@pytest.mark.parametrize("value", ["text", "/a~2"])
def test_a_wrong_pointer_is_told_what_a_pointer_is(setting: str, value: str):
    """The sentence names the setting, the rule and the value, and nothing of the library's."""
    rule = f"a JSON Pointer starts with '/' and has '~' only in '~0' and '~1', {value!r} does not"
    assert refused(f"{setting}={value}") == f"The setting {setting} is wrong: {rule}."


def test_a_file_that_is_missing_or_no_toml_is_named(toml, tmp_path: Path):
    """The path and the reason, in one sentence."""
    assert "winnow.toml" in refused(path=tmp_path / "winnow.toml")
    assert "is not TOML" in refused(path=toml("[kafka"))
    (tmp_path / "winnow.toml").write_bytes(b"\xff\xfe")
    assert "is not TOML" in refused(path=tmp_path / "winnow.toml")
    assert "cannot be read" in refused(path=tmp_path)


def test_a_section_that_is_no_table_is_refused(toml):
    """`kafka = 3` is a mistake that is named."""
    assert "kafka" in refused(path=toml("kafka = 3\n"))


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.config", "ssl_key", "SASL.PASSWORD",
        "basic.auth.user.info",
    ],
)  # fmt: skip
def test_secrets_are_masked(name: str):
    """What `config show` prints holds no secret of librdkafka, in none of the three tables."""
    for table in ("properties", "consumer_properties", "producer_properties"):
        shown = masked(load(None, [f"kafka.{table}.{name}=hunter2", f"kafka.{table}.client.rack=r1"]))
        assert shown["kafka"][table] == {name: MASK, "client.rack": "r1"}
        assert "hunter2" not in json.dumps(shown)


@pytest.mark.parametrize("reference", ["${env:P}", "${directory:/run/secrets:p}", "${file:/a.properties:p}"])
def test_a_reference_to_a_secret_is_shown(reference: str):
    """Where a secret stands is none: what `config show` prints is the reference, not what it stands for."""
    shown = masked(load(None, [f"kafka.properties.sasl.password={reference}"]))
    assert shown["kafka"]["properties"] == {"sasl.password": reference}


@pytest.mark.parametrize("value", ["hunter2${env:P}", "${env:P}hunter2", "${vault:hunter2}", "${env:hunter2"])
def test_a_reference_with_anything_else_is_masked(value: str):
    """Text around a reference, or what only looks like one, may be a secret."""
    assert "hunter2" not in json.dumps(masked(load(None, [f"kafka.properties.sasl.password={value}"])))


@pytest.mark.parametrize("url", ["http://me:hunter2@proxy:3128", "https://hunter2@login.example.com/token"])
def test_a_login_in_an_address_is_masked(url: str):
    """Whatever the property is called; an address without one is shown."""
    name = "sasl.oauthbearer.jwks.url"
    assert masked(load(None, [f"kafka.properties.{name}={url}"]))["kafka"]["properties"] == {name: MASK}
    plain = "https://example.com/token?user=a@b"
    assert masked(load(None, [f"kafka.properties.{name}={plain}"]))["kafka"]["properties"] == {name: plain}


def test_names_of_files_and_public_certificates_are_shown():
    """What helps to find a mistake and is no secret stays readable."""
    public = {
        "ssl.ca.location": "/ca.pem", "ssl.key.location": "/key.pem", "sasl.username": "me",
        "sasl.oauthbearer.client.id": "winnow", "sasl.oauthbearer.assertion.private.key.file": "/key.pem",
    }  # fmt: skip
    settings = load(None, [f"kafka.properties.{name}={value}" for name, value in public.items()])
    assert masked(settings)["kafka"]["properties"] == public


@pytest.mark.parametrize(
    "assignments",
    [
        ["kafka.properties.sasl.password=hunter2", "kafka.properties.acks=1", "kafka.nope=hunter2"],
        ["kafka.properties.sasl.password hunter2"],
        ["kafka.properties.sasl.password:hunter2"],
        ['kafka.properties={"sasl.password": "hunter2"}', "kafka.properties.sasl.password=hunter2"],
        ["kafka.properties=hunter2"],
    ],
)
def test_refusing_never_shows_a_secret(assignments: list[str]):
    """An error message names settings, not the values of properties."""
    assert "hunter2" not in refused(*assignments)


def test_refusing_a_file_or_the_environment_never_shows_a_secret(toml, monkeypatch):
    """Nor do the messages of the parsers that are passed on."""
    for text in ('[kafka.properties]\n"sasl.password" = "hunter2\n', '[kafka.properties]\n"sasl.password" = hunter2\n'):
        assert "hunter2" not in refused(path=toml(text))
    assert "hunter2" not in refused(path=toml('[kafka.properties]\n"sasl.password" = ["hunter2"]\n'))
    monkeypatch.setenv("WINNOW_KAFKA__PROPERTIES", '{"sasl.password": "hunter2"')
    assert "hunter2" not in refused()
    monkeypatch.setenv("WINNOW_KAFKA__PROPERTIES", '{"sasl.password": {"value": "hunter2"}}')
    assert "hunter2" not in refused()


def test_what_other_tools_call_a_setting_leads_to_one_that_there_is():
    """Nobody is asked whether they meant what would be refused again."""
    assert set(ALSO_CALLED.values()) <= {name for name, _ in reference()}
    assert ALSO_CALLED.keys().isdisjoint(name for name, _ in reference())


def test_settings_are_frozen():
    """Nothing changes a setting once it is loaded."""
    with pytest.raises(ValueError, match="frozen"):
        load().kafka.group_id = "x"  # type: ignore[misc]


def test_every_setting_is_documented():
    """The reference has a sentence for each setting, and no two settings share an environment variable."""
    settings = dict(reference())
    assert all((field.description or "").strip().endswith((".", '"')) for field in settings.values())
    assert not any("\n" in (field.description or "") for field in settings.values())
    assert len({environment_name(name) for name in settings}) == len(settings)


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        (["dead_letters.max_share=1"], "dead_letters.max_share is wrong: input should be less than 1"),
        (
            ["dead_letters.max_share=0.5", "dead_letters.window=50"],
            "dead_letters.min_messages 100 is above dead_letters.window 50",
        ),
        (["dead_letters.headers=kafka"], "'connect' or 'spring'"),
        (["decision.min_score=0.5"], "decision.min_score needs a decision.fallback_label"),
        (["decision.fallback_label="], "decision.fallback_label is empty"),
        (["decision.review_score=0.5"], "need a decision.accept_score"),
        (["decision.unwanted_labels=spam"], "need a decision.accept_score"),
        (
            ["decision.accept_score=0.5", "decision.review_score=0.6"],
            "decision.review_score 0.6 is above decision.accept_score 0.5",
        ),
        (["cache.max_bytes=16"], "16 bytes hold next to nothing: give 1,048,576 or more, or 0 for no cache"),
        (["decision.accept_score=inf"], "decision.accept_score is wrong"),
        (["entities.aggregation=last"], "entities.aggregation is wrong"),
        (["entities.min_score=1.1"], "entities.min_score is wrong"),
        (["model.long_texts=cut"], "model.long_texts is wrong"),
        (["model.window_stride=-1"], "model.window_stride is wrong"),
        (["model.window_stride=5"], "model.window_combine have no meaning without model.long_texts"),
        (["model.window_combine=max"], "model.window_stride and model.window_combine have no meaning"),
        (
            ["model.long_texts=windows", "model.window_combine=first", "model.window_stride=5"],
            "model.window_stride has no meaning with model.window_combine",
        ),
    ],
)
def test_decisions_that_contradict_themselves_are_refused(assignments: list[str], why: str):
    """Thresholds out of order, or without what they are for, are named."""
    assert why in refused(*assignments)


def test_routes_may_have_any_label_and_are_shown(toml, monkeypatch):
    """A label with a dot, or one that sounds like a secret, is a label; tables are JSON in the environment."""
    loaded = load(None, ["routing.topics.a.b=x", "routing.topics.token=y"])
    assert loaded.routing.topics == {"a.b": "x", "token": "y"}
    assert masked(loaded)["routing"]["topics"] == {"a.b": "x", "token": "y"}
    assert load(toml('[routing.topics]\nspam = "q"\n')).routing.topics == {"spam": "q"}
    monkeypatch.setenv("WINNOW_ROUTING__TOPICS", '{"spam": "e"}')
    assert load().routing.topics == {"spam": "e"}
    monkeypatch.setenv("WINNOW_ROUTING__TOPICS", "spam")
    assert "WINNOW_ROUTING__TOPICS is not JSON" in refused()


def test_written_topics_are_each_named_once():
    """The output first, routes that share a topic or lead to the output itself, the dead letters last."""
    loaded = load(None, ["routing.topics.a=x", "routing.topics.b=messages.labelled", "routing.topics.c=x"])
    assert loaded.result_topics == ("messages.labelled", "x")
    assert loaded.written_topics == ("messages.labelled", "x", "messages.dead")


@pytest.mark.parametrize("source", ["", "a b", "ä", "%zz", "http://x/#a#b"])
def test_the_source_of_events_is_a_uri_reference(source: str):
    """What CloudEvents does not take as a source is refused, and what would do is said."""
    said = refused("output.envelope=cloudevents-binary", f"output.cloudevents_source={source}")
    assert said.startswith("The setting output.cloudevents_source is wrong: ")
    assert "no URI reference (RFC 3986)" in said
    taken = ("output.envelope=cloudevents-binary", "output.cloudevents_source=urn:spam:1")
    assert load(None, taken).output.cloudevents_source == "urn:spam:1"


def test_metadata_headers_are_named_once():
    """A name that stands there twice is a mistake; that of the id may be among them."""
    said = refused("input.metadata_headers=a,b,a")
    assert said.startswith("The setting input.metadata_headers is wrong: it has 'a' 2 times")
    assert load(None, ["input.metadata_headers=a,b", "input.id_header=a"]).input.metadata_headers == ("a", "b")


def test_text_may_have_the_pointers_that_are_there_by_default():
    """And none at all: only what would have to mean something is refused."""
    assert load(None, ["input.format=text", "input.text_pointer=/text", "input.id_pointer=/id"]).input.format == "text"
    assert Settings(input={"format": "text", "id_pointer": None}).input.id_pointer is None  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["registry:8081", "http://me:hunter2@registry", "http://a,ftp://b", ""])
def test_the_address_of_a_registry_has_no_login(url: str):
    """It is shown in sentences; a login belongs into the properties, which are masked."""
    said = refused(f"registry.url={url}")
    assert said.startswith("The setting registry.url is wrong: ")
    assert "hunter2" not in said
    assert ("must begin with http:// or https://" in said) != ("a login" in said)
    several = "http://a:8081,https://b/path"
    assert load(None, [f"registry.url={several}", "input.format=avro"]).registry.url == several


def test_secrets_of_a_registry_are_masked():
    """As those of the brokers; its address and its timeout are settings of their own."""
    used = ("registry.url=http://r", "output.format=avro")
    shown = masked(load(None, [*used, "registry.properties.basic.auth.user.info=me:hunter2"]))
    assert shown["registry"]["properties"] == {"basic.auth.user.info": MASK}
    assert "registry.url" in refused("registry.properties.url=x")
    for name in ("timeout", "max.retries", "retries.wait.ms"):
        assert "registry.timeout_ms" in refused(f"registry.properties.{name}=3")
