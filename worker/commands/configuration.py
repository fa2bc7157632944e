"""`winnow config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import typer

from worker.config import Settings, environment_name, load, masked
from worker.distribution import check_tracing
from worker.kafka.registry import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def show(config: Path | None, assignments: list[str], as_json: bool) -> None:
    loaded = load(config, assignments)
    values = masked(loaded)
    if as_json:
        typer.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2))
        return
    for section, settings in values.items():
        typer.echo(f"[{section}]")
        for name, value in settings.items():
            typer.echo(_line(f"{section}.{name}", value, loaded))
        typer.echo("")


def _line(setting: str, value: Any, loaded: Settings) -> str:
    name = setting.partition(".")[2]
    if value is None:
        holds = f", {1000 * loaded.kafka.commit_interval:g} holds" if name == "commit_interval_ms" else ""
        return f"# {name} is not set{holds} ({environment_name(setting)})"
    return f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    return orjson.dumps(value).decode()


def schema() -> None:
    named = {"$schema": DIALECT, "$id": "urn:winnow:config", "title": "winnow.toml"}
    typer.echo(orjson.dumps(named | Settings.model_json_schema() | named, option=orjson.OPT_INDENT_2))


def lint(config: Path | None, assignments: list[str]) -> None:
    from worker.forms import check_registry
    from worker.kafka.checking import check

    settings = load(config, assignments)
    check(settings)
    check_tracing(settings.tracing.enabled)
    unchecked = ["the brokers", "the login"]
    if not {settings.input.format, settings.output.format}.isdisjoint(FORMATS):
        check_registry(settings)
        unchecked.append("the schema registry")
    served, left = _bundle(settings)
    read = ", ".join(settings.kafka.input_topics)
    written = ", ".join(settings.result_topics)
    typer.echo(f"The configuration is valid: {read} -> {written} as {settings.kafka.group_id!r}{served}.")
    typer.echo(f"Not checked: {', '.join(unchecked)} and {left}; `winnow doctor` looks at those.")


def _bundle(settings: Settings) -> tuple[str, str]:
    """What is served, and what of the bundle was not looked at.

    Raises:
        BundleError: the bundle's folder is there, and no worker could serve what its manifest says.
        ConfigError: the settings do not fit the bundle.
    """
    from worker.forms import topics
    from worker.model import bundle as bundles
    from worker.opening import bundle_folder, fit

    folder = bundle_folder(settings.model.bundle)
    if not folder.is_dir():
        return "", f"the bundle, because there is no folder {folder} here"
    fitting = fit(bundles.load(folder, digests=False), settings.model, settings.entities, settings.decision)
    topics(settings, fitting)
    return f", with the bundle {fitting.identity.name}", "the bundle's digests and graph"
