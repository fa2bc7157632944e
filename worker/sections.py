"""The sections of the settings: name, type, default, docs. `worker.config` says where their values come from."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator
from pydantic_settings import NoDecode

from worker.pipeline.decision import ACTIONS
from worker.sections_kafka import KafkaSettings
from worker.setting_types import Pointer, Properties, Section, Split, Topic, UriReference

__all__ = [
    "DEFAULT_COMBINE",
    "LEAST_CACHE_BYTES",
    "BatchingSettings",
    "CacheSettings",
    "DeadLetterSettings",
    "DecisionSettings",
    "EntitySettings",
    "InputSettings",
    "KafkaSettings",
    "LoggingSettings",
    "ModelSettings",
    "OutputSettings",
    "RegistrySettings",
    "RoutingSettings",
    "Section",
    "ServingSettings",
    "ShutdownSettings",
    "TracingSettings",
]

DEFAULT_COMBINE: Final = "mean"
LEAST_CACHE_BYTES = 1_048_576


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
    topics: dict[str, Topic] = {}  # noqa: RUF012 - pydantic copies it
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
    properties: Properties = {}  # noqa: RUF012 - pydantic copies it
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
    pin_lanes: Literal["auto", "always", "never"] = "auto"
    """Keep each lane on a core. `auto`: with a lane for every core of a cpuset, which no other worker is to share."""
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
    allocation: Literal["patterns", "arena", "system"] = "patterns"
    """Memory of runs: ONNX Runtime's arena with a plan for each shape, the arena alone, or the system's malloc."""
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
    """Texts and results kept at most, in bytes; 0 keeps none, and classifies a text that is in work again."""

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
    page: bool = True
    """Serve the worker's own page at `/`, and `/status` and `/model` behind it."""
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


class TracingSettings(Section):
    """Traces by OpenTelemetry, see docs/tracing.md: exporter, sampler and service name are set by its own variables."""

    enabled: bool = False
    """A span for each batch, with links to its messages. Needs the extra `otel`."""
    propagate: Literal["batch", "message"] = "batch"
    """Whose context results and dead letters carry: that of their batch's span, or their message's own."""
