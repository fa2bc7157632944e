"""All settings, defined once: name, type, default, docs, environment variable.

TOML file < environment (`WINNOW_KAFKA__GROUP_ID`) < flags (`--set kafka.group_id=…`). Everything else derives
from these classes: validation, `winnow config schema`, the reference in `docs/configuration.md`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from worker.errors import ConfigError
from worker.pipeline.decode import pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic.fields import FieldInfo

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
_Split = BeforeValidator(lambda value: [v.strip() for v in value.split(",")] if isinstance(value, str) else value)
InputTopic = Annotated[str, StringConstraints(pattern=r"^(\^.+|[A-Za-z0-9._-]{1,249})$")]
Pointer = Annotated[str, AfterValidator(lambda value: _checked_pointer(value))]
Properties = dict[str, str | int | float | bool]

SECRET_WORDS = ("password", "passphrase", "secret", "token", "key.pem", "credential", "userinfo", "sasl.jaas.config")
MASK = "********"
DEFAULT_POLL_INTERVAL_MS = 300_000
OWNED_PROPERTIES = {
    "enable.auto.commit": "kafka.commit_interval_ms says when offsets are committed",
    "enable.auto.offset.store": "offsets are stored once results are acknowledged",
    "enable.idempotence": "it keeps results free of doubles and in order",
    "acks": "an offset may only pass when all replicas have the result",
    "request.required.acks": "an offset may only pass when all replicas have the result",
    "delivery.report.only.error": "an offset passes with the acknowledgement",
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "group.id": "set kafka.group_id",
    "group.protocol": "set kafka.group_protocol",
    "group.instance.id": "set kafka.group_instance_id",
    "transactional.id": "this version delivers at least once",
    "message.max.bytes": "output.max_bytes bounds what is written",
    "message.copy.max.bytes": "output.max_bytes bounds what is written",
    "on_commit": "it is a function, not a property",
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KafkaSettings(Section):
    bootstrap_servers: Annotated[str, Field(min_length=1)] = "localhost:9092"
    """Brokers to start from, `host:port`, separated by commas."""
    client_id: str = "winnow"
    """Name in the brokers' logs and quotas."""
    group_id: Annotated[str, Field(min_length=1)] = "winnow"
    """Consumer group. All workers that share the input must have the same."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`consumer` is the protocol of KIP-848, for brokers from 4.0 on; `classic` works with all."""
    group_instance_id: str | None = None
    """Static membership: a name of this worker that outlives restarts. Each worker needs its own."""
    input_topics: Annotated[tuple[InputTopic, ...], _Split, NoDecode, Field(min_length=1)] = ("messages",)
    """Topics to read; an entry that starts with `^` is a regular expression over topic names."""
    output_topic: Topic = "messages.labelled"
    """Topic of the results."""
    dead_letter_topic: Topic = "messages.dead"
    """Topic of the messages that could not be classified."""
    create_topics: bool = False
    """Create topics that are missing at start, instead of refusing."""
    create_partitions: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Partitions of topics that are created."""
    create_replication: Annotated[int, Field(ge=-1, le=100)] = -1
    """Replicas of topics that are created; -1 is the brokers' default."""
    output_partition: Literal["key", "source"] = "key"
    """Of results. `key`: by the key, as the Java clients do (murmur2). `source`: the source partition's number."""
    pass_headers: Annotated[tuple[str, ...], _Split, NoDecode] = ("traceparent", "tracestate")
    """Headers that results take over from their messages; `*` for all. Dead letters take over all."""
    commit_interval_ms: Annotated[int, Field(ge=1, le=600_000)] = 1_000
    """Time between commits. What was delivered since the last one comes again after a crash."""
    connect_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 15_000
    """How long to wait for the brokers at start before giving up."""
    properties: Properties = {}
    """Any property of librdkafka, for all clients, e.g. `"security.protocol" = "SASL_SSL"`."""
    consumer_properties: Properties = {}
    """Any property of librdkafka, for the consumer alone."""
    producer_properties: Properties = {}
    """Any property of librdkafka, for the producer alone."""

    @field_validator("properties", "consumer_properties", "producer_properties")
    @classmethod
    def _not_owned(cls, properties: Properties) -> Properties:
        for name in properties:
            if name.endswith("_cb"):
                raise ValueError(f"{name!r} cannot be set here: it is a function, not a property")
            if name in OWNED_PROPERTIES:
                raise ValueError(f"{name!r} cannot be set here: {OWNED_PROPERTIES[name]}")
        return properties

    @model_validator(mode="after")
    def _no_circle(self) -> KafkaSettings:
        for topic in self.input_topics:
            if topic.startswith("^"):
                _check_pattern(topic, (self.output_topic, self.dead_letter_topic))
        if self.output_topic == self.dead_letter_topic:
            raise ValueError(f"output_topic and dead_letter_topic are both {self.output_topic!r}; give them two names")
        for name in ("output_topic", "dead_letter_topic"):
            if getattr(self, name) in self.input_topics:
                raise ValueError(f"{name} {getattr(self, name)!r} is also an input topic: results would be read again")
        return self


class InputSettings(Section):
    format: Literal["json", "text"] = "json"
    """`json`: the text is a field of a JSON document. `text`: the whole value is the text, in UTF-8."""
    text_pointer: Pointer = "/text"
    """JSON Pointer (RFC 6901) to the text."""
    id_pointer: Pointer | None = "/id"
    """JSON Pointer to the id; messages without one get `topic-partition-offset`."""
    max_bytes: Annotated[int, Field(ge=1)] = 262_144
    """Larger messages become dead letters, unparsed."""
    max_characters: Annotated[int, Field(ge=16)] = 20_000
    """Longer texts are cut here before they are tokenized, and marked as truncated."""
    tombstones: Literal["skip", "forward", "dead-letter"] = "skip"
    """What happens to messages without a value (null)."""


class OutputSettings(Section):
    all_scores: bool = False
    """Results carry the score of every label, not of the chosen one alone."""
    max_bytes: Annotated[int, Field(ge=4_096, le=1_000_000_000)] = 1_000_000
    """Bound on a written record. Keep it below `max.message.bytes` of the output and dead-letter topics."""


class BatchingSettings(Section):
    max_messages: Annotated[int, Field(ge=1, le=1_024)] = 32
    """Messages of a batch."""
    max_tokens: Annotated[int, Field(ge=16, le=65_536)] = 512
    """Padded tokens of a batch. Beyond 256 to 512 a run only gets slower, on the machines measured."""
    max_delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 20
    """How long the oldest message of a batch waits for company while all lanes are busy."""
    max_in_flight: Annotated[int, Field(ge=128, le=1_000_000)] = 2_048
    """Messages taken in and not yet acknowledged on the output; then polling waits."""
    max_in_flight_bytes: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """The same in bytes of message values."""


class ModelSettings(Section):
    bundle: str = "default"
    """Folder of the model bundle; `default` is the spam filter that comes with Winnow."""
    lanes: Annotated[int, Field(ge=0, le=256)] = 0
    """Batches run at the same time, one core each; 0: as many as the CPU quota and affinity give."""
    max_length: Annotated[int | None, Field(ge=8)] = None
    """Tokens a text is truncated to; None takes what the bundle says."""
    run_timeout_ms: Annotated[int, Field(ge=100)] = 30_000
    """A run of the model that takes longer is stopped."""


class ServingSettings(Section):
    enabled: bool = True
    """Serve `/metrics`, `/healthz` and `/readyz`."""
    host: str = "0.0.0.0"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """Port to listen on; 0 takes a free one."""


class ShutdownSettings(Section):
    drain_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 20_000
    """Budget for finishing what is in flight after SIGTERM. Keep it below the grace period of the platform."""
    revoke_ms: Annotated[int, Field(ge=0, le=300_000)] = 5_000
    """Budget for finishing what is in flight of partitions that are revoked."""


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: colours in a terminal, JSON lines elsewhere."""


class Settings(BaseSettings):
    """All settings of a worker."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="WINNOW_",
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
        title="winnow.toml",
    )
    kafka: KafkaSettings = KafkaSettings()
    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()
    batching: BatchingSettings = BatchingSettings()
    model: ModelSettings = ModelSettings()
    serving: ServingSettings = ServingSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="after")
    def _within_the_poll_interval(self) -> Settings:
        """Neither a drain nor a revoke polls: one that lasts longer than the group waits would lose the partitions."""
        name = "max.poll.interval.ms"
        properties = self.kafka.properties | self.kafka.consumer_properties
        try:
            interval = int(properties.get(name, DEFAULT_POLL_INTERVAL_MS))
        except ValueError:
            raise ValueError(f"the property {name} is no whole number") from None
        for setting in ("drain_ms", "revoke_ms"):
            if getattr(self.shutdown, setting) >= interval:
                raise ValueError(f"shutdown.{setting} must be below {name}, which is {interval}")
        return self


def _checked_pointer(path: str) -> str:
    pointer(path)
    return path


def _check_pattern(pattern: str, written: Iterable[str]) -> None:
    try:
        found = [topic for topic in written if re.match(pattern, topic)]
    except re.error as error:
        raise ValueError(f"the input topic pattern {pattern!r} is no regular expression: {error}") from None
    if found:
        raise ValueError(f"the input topic pattern {pattern!r} matches {found[0]!r}, which is written: a circle")


def load(path: Path | None = None, assignments: Iterable[str] = ()) -> Settings:
    """Settings from a TOML file, the environment and `section.name=value` assignments, the later the stronger.

    Raises:
        ConfigError: naming every setting that is wrong.
    """
    file_values = _read(path) if path is not None else {}

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file_values)

    _check_environment()
    try:
        return Loaded(**_nested(assignments))
    except ValidationError as error:
        raise ConfigError(" ".join(_sentence(e) for e in error.errors())) from None
    except SettingsError as error:
        raise ConfigError(f"The environment cannot be read: {error}.") from None


def reference() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name with its definition."""
    for section, outer in Settings.model_fields.items():
        for name, field in _section(outer).model_fields.items():
            yield f"{section}.{name}", field


def environment_name(setting: str) -> str:
    """The environment variable of a setting: `kafka.group_id` is `WINNOW_KAFKA__GROUP_ID`."""
    return "WINNOW_" + setting.replace(".", "__").upper()


def masked(settings: Settings) -> dict[str, Any]:
    """All values as JSON can hold them, secrets replaced."""
    return _mask(settings.model_dump(mode="json"))


def _mask(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _mask(value) if isinstance(value, dict) else MASK if _is_secret(name) and value else value
        for name, value in values.items()
    }


def _is_secret(name: str) -> bool:
    return "." in name and any(word in name for word in SECRET_WORDS)


def _section(field: FieldInfo) -> type[Section]:
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, Section)):
        raise TypeError("every top-level setting is a section")
    return section


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} is not TOML: {error}.") from None


def _check_environment() -> None:
    sections = tuple(f"WINNOW_{name.upper()}__" for name in Settings.model_fields)
    for name in os.environ:
        if name.startswith("WINNOW_") and "__" in name and not name.startswith(sections):
            known = ", ".join(sorted(Settings.model_fields))
            raise ConfigError(f"The environment variable {name} names no section; there are {known}.")
    for setting, _ in reference():
        single = environment_name(setting).replace("__", "_")
        if single in os.environ:
            raise ConfigError(f"The environment variable {single} is not read; write {environment_name(setting)}.")


def _nested(assignments: Iterable[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot):
            raise ConfigError(f"{assignment!r} is no assignment; write --set section.name=value.")
        target = values.setdefault(section, {})
        table, dot, prop = key.partition(".")
        if not dot:
            target[key] = value
        elif isinstance(target.setdefault(table, {}), dict):
            target[table][prop] = value
        else:
            raise ConfigError(f"{assignment!r} sets an entry of {section}.{table}, which was set as a whole before.")
    return values


def _sentence(error: Any) -> str:
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "tuple["))]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"There is no setting {name!r}.{_suggestion(name)}"
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
        return f"The setting {name} is wrong: {said}." if name else f"The settings do not fit together: {said}."
    return f"The setting {name} is wrong: {error['msg'][0].lower()}{error['msg'][1:]}."


def _suggestion(name: str) -> str:
    known = [setting for setting, _ in reference()] + list(Settings.model_fields)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else " `winnow config schema` lists all."
