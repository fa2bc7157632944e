"""`winnow model reference`: what labels and scores a stream may be expected to get."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from worker.app import DEFAULT_BUNDLE, bundle_folder
from worker.commands import consoles
from worker.commands.evaluate import serving_of
from worker.errors import ConfigError
from worker.model import bundle as bundles
from worker.model.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from worker.model.bundle import Bundle
    from worker.model.data import Fields
    from worker.model.manifest import Reference


class Options(NamedTuple):
    """What `winnow model reference` is asked for."""

    bundle: str
    data: Path
    write: bool
    as_json: bool
    fields: Fields
    config: Path | None
    assign: list[str]


def run(options: Options) -> None:
    """Show how a bundle labels and scores texts; with `write`, store it in the bundle."""
    from worker.model.data import read
    from worker.model.evaluation.reference import reference

    bundle = bundles.load(bundle_folder(options.bundle))
    if options.write and bundle.path.resolve() == DEFAULT_BUNDLE.resolve():
        raise ConfigError(f"The default bundle belongs to the installation: copy {bundle.path}, and name the copy.")
    examples, serving = read(options.data, options.fields, None), serving_of(options.config, options.assign)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(bundle.manifest.name, total=len(examples))
        found = reference(bundle, examples, serving, lambda done: progress.advance(bar, done))
    if options.write:
        bundles.amend(bundle, {"reference": found.model_dump(mode="json")})
    if options.as_json:
        typer.echo(orjson.dumps(found.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
    else:
        _show(consoles.console(highlight=True), bundle, found, options.write)


def _show(console: Console, bundle: Bundle, found: Reference, written: bool) -> None:
    table = Table("label", title=Text(counted(found.texts, "text")), title_justify="left")
    table.add_column("share", justify="right")
    for bound in found.bounds:
        table.add_column(f"≤ {bound:g}", justify="right")
    for label, share in found.labels.items():
        shares = found.scores.get(label, ())
        table.add_row(Text(label), f"{share:.4f}", *(f"{each:.4f}" for each in shares))
    console.print(table)
    if written:
        console.print(Text(f"{bundle.path}: written; the digest stays {bundle.digest}."))
    else:
        console.print("Not written; --write stores it in the bundle.")
