"""`winnow model`."""

from __future__ import annotations

import orjson
import typer

from worker.app import bundle_folder, open_model
from worker.config import ModelSettings
from worker.model import bundle as bundles


def show(name: str, as_json: bool) -> None:
    bundle = bundles.load(bundle_folder(name))
    document = {"digest": bundle.digest, "labels": list(bundle.labels), **bundle.manifest.model_dump(mode="json")}
    document.pop("probes", None)
    if as_json:
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    for key, value in document.items():
        typer.echo(f"{key}: {orjson.dumps(value).decode() if isinstance(value, (dict, list)) else value}")


def verify(name: str) -> None:
    model = open_model(ModelSettings(bundle=name))
    typer.echo(f"{model.identity.name} ({model.identity.digest}) is whole, and this machine computes what it should.")
