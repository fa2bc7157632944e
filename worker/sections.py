"""The sections of the settings: name, type, default, docs. `worker.config` says where their values come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator
from pydantic_settings import NoDecode

from worker.pipeline.decision import ACTIONS
from worker.setting_types import OWNED_PROPERTIES, InputTopic, Pointer, Properties, Split, Topic, UriReference

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_COMBINE: Final = "mean"
LEAST_CACHE_BYTES = 1_048_576
AT_LEAST_ONCE_INTERVAL_MS = 1_000
EXACTLY_ONCE_INTERVAL_MS = 100
EXACTLY_ONCE_BEHIND_MS = 500
"""Where messages wait in a backlog, the end of a transaction is not what a reader waits for, and each has its price."""
TRANSACTION_TIMEOUT_MS = 10_000
"""After which the coordinator aborts a transaction, so that a dead worker does not hold up its successor for long."""


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
    input_topics: Annotated[tuple[InputTopic, ...], Split, NoDecode, Field(min_length=1)] = ("messages",)
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
    pass_headers: Annotated[tuple[str, ...], Split, NoDecode] = ("traceparent", "tracestate")
    """Headers that results take over; `*` for all but those that describe the value. Dead letters take over all."""
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    """`exactly-once`: results, dead letters and offsets in one transaction; readers need `read_committed`."""
    transactional_id_prefix: Annotated[str, Field(min_length=1)] = "winnow"
    """Exactly once: what the `transactional.id` starts with; the instance's id follows."""
    instance_id: str | None = None
    """Exactly once: a name of this worker that no other one has; None takes `group_instance_id`, or the host's name."""
    commit_interval_ms: Annotated[int | None, Field(ge=1, le=600_000)] = None
    """Between commits: a crash repeats so much. None: 1,000; exactly once 100, and 500 while there is a backlog."""
    connect_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 15_000
    """How long to wait for the brokers at start before giving up."""
    properties: Properties = {}
    """Any property of librdkafka, for all clients; secrets as `${env:NAME}` or from files: see docs/security.md."""
    consumer_properties: Properties = {}
    """Any property of librdkafka, for the consumer alone; `auto.offset.reset` is `earliest` by default."""
    producer_properties: Properties = {}
    """Any property of librdkafka, for the producer alone."""

    @property
    def exactly_once(self) -> bool:
        return self.delivery == "exactly-once"

    @property
    def commit_interval(self) -> float:
        """Seconds."""
        default = EXACTLY_ONCE_INTERVAL_MS if self.exactly_once else AT_LEAST_ONCE_INTERVAL_MS
        return (self.commit_interval_ms or default) / 1000

    @property
    def commit_interval_behind(self) -> float:
        """Seconds, while there is a backlog."""
        if self.exactly_once and self.commit_interval_ms is None:
            return EXACTLY_ONCE_BEHIND_MS / 1000
        return self.commit_interval

    @property
    def transaction_timeout(self) -> float:
        """Seconds."""
        value = (self.properties | self.producer_properties).get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        return float(value) / 1000

    @model_validator(mode="after")
    def _can_be_exact(self) -> KafkaSettings:
        if not self.exactly_once:
            return self
        try:
            timeout = self.transaction_timeout
        except ValueError:
            raise ValueError("the property transaction.timeout.ms is no number") from None
        if 2 * self.commit_interval_behind > timeout:
            raise ValueError(
                f"kafka.commit_interval_ms may be half of transaction.timeout.ms at most, which is {1000 * timeout:.0f}"
            )
        if "isolation.level" in self.properties | self.consumer_properties:
            exactly = 'kafka.delivery = "exactly-once"'
            raise ValueError(f"'isolation.level' cannot be set with {exactly}: it is read_committed")
        return self

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
            both = f"kafka.output_topic and kafka.dead_letter_topic are both {self.output_topic!r}"
            raise ValueError(f"{both}; give them two names")
        for name in ("output_topic", "dead_letter_topic"):
            if getattr(self, name) in self.input_topics:
                topic = getattr(self, name)
                raise ValueError(f"kafka.{name} {topic!r} is also an input topic: results would be read again")
        return self


class InputSettings(Section):
    format: Literal["json", "text", "avro", "protobuf", "json-schema"] = "json"
    """`json`: a document of 1,024 levels at most; `text`: the value is the text, in UTF-8; others: see `registry`."""
    envelope: Literal["none", "cloudevents"] = "none"
    """`cloudevents`: messages are CloudEvents 1.0, structured or binary: the text is in their data."""
    text_pointer: Pointer = "/text"
    """JSON Pointer (RFC 6901) to the text."""
    id_pointer: Pointer | None = "/id"
    """JSON Pointer to the id. Without one it is `topic-partition-offset`; ids over 512 characters are refused."""
    id_header: Annotated[str | None, Field(min_length=1)] = None
    """Header with the id, in UTF-8; it goes before `id_pointer` and an event's id. One that is empty is none."""
    metadata_headers: Annotated[tuple[str, ...], Split, NoDecode] = ()
    """Headers whose values, in UTF-8, are in the result's `metadata`; of equal names the last one counts."""
    max_bytes: Annotated[int, Field(ge=1)] = 262_144
    """Larger messages become dead letters, unparsed."""
    max_characters: Annotated[int, Field(ge=16)] = 20_000
    """Longer texts are cut here before they are tokenized, and marked as truncated; 20 pages are about 50,000."""
    tombstones: Literal["skip", "forward", "dead-letter"] = "skip"
    """What happens to messages without a value (null)."""

    @field_validator("metadata_headers")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"it has {name!r} {names.count(name)} times; of equal headers the last one counts")
        return names


class OutputSettings(Section):
    format: Literal["json", "avro", "protobuf", "json-schema"] = "json"
    """Of results; all but `json` by a schema registry, see `registry`."""
    content: Literal["result", "enriched"] = "result"
    """`enriched`: the message's own JSON object, byte for byte, with the result as its last member."""
    field: Annotated[str, Field(min_length=1)] = "winnow"
    """Enriched: the name of that member; messages that have one already become dead letters."""
    envelope: Literal["none", "cloudevents-structured", "cloudevents-binary"] = "none"
    """Results as CloudEvents 1.0: all in the value, or the attributes in headers."""
    cloudevents_source: UriReference = "winnow"
    """The attribute `source` of such events, a URI reference."""
    all_scores: bool = False
    """Results carry the score of every label, not of the chosen one alone."""
    max_bytes: Annotated[int, Field(ge=4_096, le=1_000_000_000)] = 1_000_000
    """Bound on a written record; a lower `max.message.bytes` of a topic that is written holds where it is known."""


class RoutingSettings(Section):
    """Results to topics of their own; all others, and tombstones, go to `kafka.output_topic`."""

    by: Literal["label", "action"] = "label"
    """What decides: the result's label (of several the best), or its action."""
    topics: dict[str, Topic] = {}
    """Topic by label, or by action: `{ spam = "quarantine" }`."""

    @model_validator(mode="after")
    def _known(self) -> RoutingSettings:
        unknown = sorted(self.topics.keys() - set(ACTIONS)) if self.by == "action" else []
        if unknown:
            raise ValueError(f"routing.topics has {unknown[0]!r}, which is no action; there are {', '.join(ACTIONS)}")
        if self.by == "action" and not self.topics:
            raise ValueError('routing.by = "action" has no meaning without routing.topics')
        return self


class RegistrySettings(Section):
    """A schema registry, for the formats `avro`, `protobuf` and `json-schema`. Needs the extra `registry`."""

    url: str | None = None
    """Its address, as Confluent's clients take it; several are separated by commas."""
    properties: Properties = {}
    """More of confluent-kafka's SchemaRegistryClient: `basic.auth.user.info`, `ssl.ca.location`, …."""
    auto_register: bool = False
    """Register the schema of results at start where it is missing, instead of refusing."""
    subjects: Literal["topic", "record", "topic-record"] = "topic"
    """How subjects are named: `TOPIC-value`, by the record's name, or by both."""
    timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """How long to wait for an answer of the registry."""

    @field_validator("url")
    @classmethod
    def _addresses(cls, url: str | None) -> str | None:
        for one in [] if url is None else url.split(","):
            if not re.match(r"\s*https?://[^\s/]", one):
                raise ValueError("each address must begin with http:// or https://, and a host must follow")
            if "@" in one:
                raise ValueError("a login in it would be shown: it has its place in registry.properties")
        return url

    @field_validator("properties")
    @classmethod
    def _not_owned(cls, properties: Properties) -> Properties:
        retries = dict.fromkeys(("max.retries", "retries.wait.ms", "retries.max.wait.ms"), "timeout_ms")
        owned = {"url": "url", "timeout": "timeout_ms"} | retries
        for name in properties.keys() & owned:
            raise ValueError(f"{name!r} cannot be set here: set registry.{owned[name]}")
        return properties


class DeadLetterSettings(Section):
    headers: Literal["connect", "spring"] = "connect"
    """Names of the headers that say why: Kafka Connect's (`__connect.errors.…`), or Spring Kafka's (`kafka_dlt-…`)."""
    max_share: Annotated[float | None, Field(ge=0, lt=1)] = None
    """A larger share of dead letters than this, 0 to below 1, halts the worker with exit code 5; None never does."""
    window: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """The share is that of the last so many messages that were classified or refused."""
    min_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """With fewer than these, after a start, no share is judged."""

    @model_validator(mode="after")
    def _reachable(self) -> DeadLetterSettings:
        if self.max_share is not None and self.min_messages > self.window:
            least = f"dead_letters.min_messages {self.min_messages}"
            raise ValueError(f"{least} is above dead_letters.window {self.window}: none would be judged")
        return self


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
    """The same in bytes of message values, and of the token ids (4 bytes each) of long texts whose windows wait."""


class ModelSettings(Section):
    bundle: str = "default"
    """Folder of the model bundle; `default` is the spam filter that comes with Winnow."""
    lanes: Annotated[int, Field(ge=0, le=256)] = 0
    """Batches run at the same time, one core each; 0: as many as the CPU quota and affinity give."""
    max_length: Annotated[int | None, Field(ge=8)] = None
    """Tokens a text is truncated to; None takes what the bundle says."""
    long_texts: Literal["truncate", "windows"] = "truncate"
    """Texts longer than that: `truncate` reads the beginning; `windows` reads all up to `input.max_characters`."""
    window_stride: Annotated[int | None, Field(ge=0)] = None
    """Tokens that neighbours share: Hugging Face's stride, an overlap; at most half a window, None takes an eighth."""
    window_combine: Literal["max", "mean", "first"] = DEFAULT_COMBINE
    """How the windows' scores become one, by label. `first` alone decides: others are not run. Not for entities."""
    early_exit: Literal["auto", "off"] = "auto"
    """`auto`: with bundles that can, a text that is clear after a few layers takes no more; `off`: all take all."""
    run_timeout_ms: Annotated[int, Field(ge=100)] = 30_000
    """A run of the model that takes longer is stopped."""

    @model_validator(mode="after")
    def _meant(self) -> ModelSettings:
        if self.long_texts == "truncate":
            if self.window_stride is not None or self.window_combine != DEFAULT_COMBINE:
                given = "model.window_stride and model.window_combine"
                raise ValueError(f'{given} have no meaning without model.long_texts = "windows"')
        elif self.window_combine == "first" and self.window_stride is not None:
            first = 'model.window_combine = "first"'
            raise ValueError(f"model.window_stride has no meaning with {first}, which reads one window")
        return self


class EntitySettings(Section):
    """Of bundles that find entities in texts."""

    aggregation: Literal["none", "simple", "first", "average", "max"] = "simple"
    """How tokens become entities, as transformers' pipeline names it. `none` gives each token with its tag."""
    types: Annotated[tuple[str, ...], Split, NoDecode] = ()
    """Types to give, e.g. `["PER", "LOC"]`; empty for all."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Entities with a lower score are left out."""
    whole_characters: bool = False
    """Let entities end after combining marks that the tokenizer drops; transformers' pipeline ends before them."""


class DecisionSettings(Section):
    """What is made of the scores of texts. Thresholds of labels are the bundle's."""

    min_score: Annotated[float | None, Field(gt=0, le=1)] = None
    """Single-label: below this score the label is `fallback_label`. Multi-label bundles have a threshold a label."""
    fallback_label: str | None = None
    """The label where no score is high enough, be it one of the bundle's or not."""
    accept_score: FiniteFloat | None = None
    """Adds `action` to results: `accept` from this score on, below it `review` or `reject`."""
    review_score: FiniteFloat | None = None
    """`review` from this score on, at most `accept_score`; None: what is not accepted is rejected."""
    unwanted_labels: Annotated[tuple[str, ...], Split, NoDecode] = ()
    """The action goes by the result's `score`, or, with these labels, by 1 minus the highest score of one of them."""

    @model_validator(mode="after")
    def _complete(self) -> DecisionSettings:
        if self.min_score is not None and self.fallback_label is None:
            raise ValueError("decision.min_score needs a decision.fallback_label, the label of what is below it")
        if self.fallback_label == "":
            raise ValueError("decision.fallback_label is empty")
        if self.accept_score is None and (self.review_score is not None or self.unwanted_labels):
            raise ValueError(
                "decision.review_score and decision.unwanted_labels need a decision.accept_score, without which there "
                "is no action"
            )
        if None not in (self.accept_score, self.review_score) and self.review_score > self.accept_score:  # type: ignore[operator]
            review = f"decision.review_score {self.review_score}"
            raise ValueError(f"{review} is above decision.accept_score {self.accept_score}")
        return self


class CacheSettings(Section):
    """Of results, by text: a message whose text was classified lately has the same result without the model."""

    max_bytes: Annotated[int, Field(ge=0, le=68_719_476_736)] = 16_777_216
    """Texts and results kept at most, in bytes; 0 keeps none. Repeats that are in work at the same time are no hits."""

    @field_validator("max_bytes")
    @classmethod
    def _of_use(cls, value: int) -> int:
        if 0 < value < LEAST_CACHE_BYTES:
            raise ValueError(
                f"{value} bytes hold next to nothing: give {LEAST_CACHE_BYTES:,} or more, or 0 for no cache"
            )
        return value


class ServingSettings(Section):
    enabled: bool = True
    """Serve `/metrics`, `/healthz` and `/readyz`."""
    host: str = "0.0.0.0"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """Port to listen on; 0 takes a free one."""


class ShutdownSettings(Section):
    drain_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 20_000
    """For what is in flight at SIGTERM. A shutdown takes up to drain_ms + 8 s: keep that below the grace period."""
    revoke_ms: Annotated[int, Field(ge=0, le=300_000)] = 5_000
    """Budget for finishing what is in flight of partitions that are revoked."""


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: colours in a terminal, JSON lines elsewhere."""


def _check_pattern(pattern: str, written: Iterable[str]) -> None:
    try:
        found = [topic for topic in written if re.match(pattern, topic)]
    except re.error as error:
        raise ValueError(f"the input topic pattern {pattern!r} is no regular expression: {error}") from None
    if found:
        raise ValueError(f"the input topic pattern {pattern!r} matches {found[0]!r}, which is written: a circle")
