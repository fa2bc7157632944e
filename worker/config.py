"""All settings, defined once: name, type, default, docs, environment variable.

TOML file < environment (`WINNOW_KAFKA__GROUP_ID`) < flags (`--set kafka.group_id=…`). Everything else derives
from these classes: validation, `winnow config schema`, the reference in `docs/configuration.md`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from worker.combinations import faults_of_forms, faults_of_routes, faults_of_tracing
from worker.config_providers import is_reference
from worker.errors import ConfigError
from worker.kafka.registry import FORMATS, longest_wait
from worker.sections import (
    BatchingSettings,
    CacheSettings,
    DeadLetterSettings,
    DecisionSettings,
    EntitySettings,
    InputSettings,
    KafkaSettings,
    LoggingSettings,
    ModelSettings,
    OutputSettings,
    RegistrySettings,
    RoutingSettings,
    Section,
    ServingSettings,
    ShutdownSettings,
    TracingSettings,
)
from worker.setting_types import OWNED_PROPERTIES, Properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo

__all__ = [
    "ALSO_CALLED",
    "MASK",
    "OWNED_PROPERTIES",
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
    "Settings",
    "ShutdownSettings",
    "TracingSettings",
    "environment",
    "environment_name",
    "load",
    "masked",
    "reference",
]

SECRET_WORDS = (
    "password",
    "passphrase",
    "secret",
    "token",
    "key.pem",
    "ssl_key",
    "credential",
    "userinfo",
    "user.info",
    "jaas.config",
    "oauthbearer.config",
)
_URL_WITH_LOGIN = re.compile(r"://[^/\s]*@")
MASK = "********"
ALSO_CALLED = {
    "kafka.broker": "kafka.bootstrap_servers",
    "kafka.brokers": "kafka.bootstrap_servers",
    "kafka.bootstrap": "kafka.bootstrap_servers",
    "kafka.servers": "kafka.bootstrap_servers",
    "kafka.consumer_group": "kafka.group_id",
    "kafka.group": "kafka.group_id",
    "kafka.topic": "kafka.input_topics",
    "kafka.topics": "kafka.input_topics",
    "kafka.dlq_topic": "kafka.dead_letter_topic",
}
"""Settings by the names that other tools have for them."""
DEFAULT_POLL_INTERVAL_MS = 300_000


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
    routing: RoutingSettings = RoutingSettings()
    registry: RegistrySettings = RegistrySettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    batching: BatchingSettings = BatchingSettings()
    model: ModelSettings = ModelSettings()
    entities: EntitySettings = EntitySettings()
    decision: DecisionSettings = DecisionSettings()
    cache: CacheSettings = CacheSettings()
    serving: ServingSettings = ServingSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    logging: LoggingSettings = LoggingSettings()
    tracing: TracingSettings = TracingSettings()

    def _faults_of_the_poll_interval(self) -> Iterator[str]:
        """Drains, revokes and waits for a registry do not poll: too long a one would lose the partitions."""
        name = "max.poll.interval.ms"
        properties = self.kafka.properties | self.kafka.consumer_properties
        try:
            interval = int(properties.get(name, DEFAULT_POLL_INTERVAL_MS))
        except ValueError:
            yield f"the property {name} is no whole number"
            return
        for setting in ("drain_ms", "revoke_ms"):
            if getattr(self.shutdown, setting) >= interval:
                yield f"shutdown.{setting} must be below {name}, which is {interval}"
        if self.batching.max_delay_ms >= interval:
            yield f"batching.max_delay_ms must be below {name}, which is {interval}"
        wait = 1000 * longest_wait(self.registry.url or "", self.registry.timeout_ms / 1000)
        if self.input.format in FORMATS and wait >= interval:
            lookups = (
                f"lookups may take {wait:.0f} ms between two polls (each address of registry.url is asked three times)"
            )
            yield f"registry.timeout_ms is too long: {lookups}; {name} is {interval}"

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        faults = [
            *self._faults_of_the_poll_interval(),
            *faults_of_routes(self.kafka, self.decision, self.routing),
            *faults_of_forms(self.input, self.output, self.registry),
            *faults_of_tracing(self.tracing),
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def result_topics(self) -> tuple[str, ...]:
        """Where results go: `kafka.output_topic` first, then those of routes, each once."""
        return tuple(dict.fromkeys([self.kafka.output_topic, *self.routing.topics.values()]))

    @property
    def written_topics(self) -> tuple[str, ...]:
        """The same, and the dead-letter topic."""
        return (*self.result_topics, self.kafka.dead_letter_topic)


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
        variable = _not_json()
        raise ConfigError(
            f'The environment variable {variable} is not JSON; a table is written like \'{{"name": "value"}}\'.'
            if variable
            else f"The environment cannot be read: {error}."
        ) from None


def _not_json() -> str | None:
    """The first variable that should hold a table and does not: the library names the section alone."""
    tables = [name for name, field in reference() if get_origin(field.annotation) is dict]
    for variable in map(environment_name, [*Settings.model_fields, *tables]):
        try:
            json.loads(os.environ.get(variable, "{}"))
        except ValueError:
            return variable
    return None


def reference() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name with its definition."""
    for section, outer in Settings.model_fields.items():
        for name, field in _section(outer).model_fields.items():
            yield f"{section}.{name}", field


def environment_name(setting: str) -> str:
    """The environment variable of a setting: `kafka.group_id` is `WINNOW_KAFKA__GROUP_ID`."""
    return "WINNOW_" + setting.replace(".", "__").upper()


def environment() -> Mapping[str, str]:
    """This process's variables, for references to them."""
    return os.environ


def masked(settings: Settings) -> dict[str, Any]:
    """All values as JSON can hold them; secrets in tables of properties replaced, references to them not."""
    values = settings.model_dump(mode="json")
    for setting, field in reference():
        section, _, name = setting.partition(".")
        if field.annotation == Properties:
            values[section][name] = _mask(values[section][name])
    return values


def _mask(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: MASK if _is_secret(name, value) else value for name, value in properties.items()}


def _is_secret(name: str, value: Any) -> bool:
    secret = any(word in name.lower() for word in SECRET_WORDS) or _URL_WITH_LOGIN.search(str(value)) is not None
    return secret and bool(value) and not is_reference(value)


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
            raise ConfigError(f"{_name(assignment)!r} is no assignment; write --set section.name=value.")
        target = values.setdefault(section, {})
        table, dot, prop = key.partition(".")
        if not dot:
            target[key] = value
        elif isinstance(target.setdefault(table, {}), dict):
            target[table][prop] = value
        else:
            raise ConfigError(
                f"{_name(assignment)!r} is an entry of {section}.{table}, which was set as a whole before."
            )
    return values


def _name(assignment: str) -> str:
    """What an assignment begins with: what follows may be a secret."""
    return re.split(r"[^A-Za-z0-9_.-]", assignment.strip(), maxsplit=1)[0]


def _sentence(error: Any) -> str:
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "tuple["))]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"There is no setting {name!r}.{_suggestion(name)}"
    if error["type"] == "dict_type":
        return f"The setting {name} is wrong: it is no table."
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
        # Of a section, or of all: what is wrong are several settings, which the sentence names itself.
        together = len(location) < 2
        return f"The settings do not fit together: {said}." if together else f"The setting {name} is wrong: {said}."
    return f"The setting {name} is wrong: {error['msg'][0].lower()}{error['msg'][1:]}."


def _suggestion(name: str) -> str:
    known = [setting for setting, _ in reference()] + list(Settings.model_fields)
    close = [ALSO_CALLED[name]] if name in ALSO_CALLED else difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else " `winnow config schema` lists all."
