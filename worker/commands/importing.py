"""`winnow model import`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.distribution import install
from worker.errors import ConfigError, InvalidMessage
from worker.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.data import Example
    from worker.model.importing.gate import Comparison
    from worker.model.importing.importer import Imported
    from worker.pipeline.decode import Decoder
    from worker.pipeline.messages import Record

KAFKA = "kafka:"


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    source: str
    out: Path
    calibrate: str | None
    config: Path | None
    assign: list[str]
    texts: int
    name: str | None
    labels: str | None
    task: str | None
    max_length: int | None
    min_agreement: float
    max_metric_drop: float
    reduce_range: bool
    exact_gelu: bool
    lowercase: bool | None
    onnx_file: str | None
    rebuild: bool
    licence: str | None
    as_json: bool


class Calibration(NamedTuple):
    """The texts of an import.

    Attributes:
        examples: none of them takes Winnow's own.
        source: what the manifest says of them: where they are from, never what is in them.
        notes: what the user should know of them.
    """

    examples: list[Example]
    source: str
    notes: tuple[str, ...] = ()


def run(options: Options) -> None:
    """Import a model, show what INT8 changed, and write the bundle.

    Raises:
        Fatal: it cannot be imported; what was measured is shown nevertheless.
    """
    importing = _importing()
    from worker.model.graph.quantize import REDUCED_WEIGHT_LIMIT, WEIGHT_LIMIT
    from worker.model.importing import bounds, place, sources

    console = Console(stderr=True, highlight=False)
    place.check(options.out)
    folder, onnx_file = sources.locate(options.source, options.onnx_file, rebuild=options.rebuild)
    given = _calibration(options)
    settings = importing.ImportOptions(
        name=options.name or (None if Path(options.source).exists() else options.source.rpartition("/")[2]),
        calibration=given.examples,
        calibration_source=given.source,
        min_agreement=options.min_agreement,
        max_metric_drop=options.max_metric_drop,
        max_length=options.max_length,
        weight_limit=REDUCED_WEIGHT_LIMIT if options.reduce_range else WEIGHT_LIMIT,
        exact_gelu=options.exact_gelu,
        licence=options.licence,
        labels=tuple(label.strip() for label in options.labels.split(",")) if options.labels else (),
        task=options.task,
        lowercase=options.lowercase,
        onnx_file=onnx_file,
        rebuild=options.rebuild,
    )
    try:
        with console.status("") as status:
            importer = importing.Importer(folder, settings, lambda what: status.update(Text(f"{what} …")))
            imported = importer.run(options.out)
    except bounds.GateRefused as refused:
        _show(given.notes, refused.comparison, console)
        raise
    _report(imported._replace(notes=(*given.notes, *imported.notes)), console, options.as_json)


def _importing() -> Any:
    try:
        from worker.model.importing import importer as importing
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "safetensors"):
            raise
        raise ConfigError(
            f"`winnow model import` needs the package {error.name}: install it with `{install('import')}`."
        ) from None
    return importing


def _calibration(options: Options) -> Calibration:
    from worker.model import data

    if options.calibrate is None:
        return Calibration([], "")
    if options.calibrate.startswith(KAFKA):
        return _recent(options.calibrate.removeprefix(KAFKA), options)
    examples = data.read(Path(options.calibrate), task=options.task)
    return Calibration(examples, f"texts of {Path(options.calibrate).name}")


def _recent(topic: str, options: Options) -> Calibration:
    """The newest messages of a topic, decoded as the worker decodes them; those that it would refuse are left out."""
    from worker.config import load
    from worker.forms import Forms
    from worker.kafka.tools import recent

    if not topic:
        raise ConfigError(f"--calibrate {KAFKA} names no topic: give {KAFKA}TOPIC.")
    settings = load(options.config, options.assign)
    records = recent(settings.kafka, topic, options.texts)
    with closing(Forms(settings)) as forms:
        texts = _decoded(records, forms.decoder())
    if not records:
        raise ConfigError(
            f"The topic {topic} is empty, or its brokers were too slow, so there is no message that can be decoded: "
            "name a topic that has messages, or a file of texts."
        )
    if not texts:
        raise ConfigError(
            f"The topic {topic} has no message that can be decoded among its newest {len(records)}: name another, or "
            "set input.text_pointer and input.format as for the worker."
        )
    return Calibration(texts, f"recent messages of the topic {topic}", _fewer(topic, options.texts, records, texts))


def _decoded(records: Sequence[Record], decode: Decoder) -> list[Example]:
    from worker.model.data import Example

    texts = []
    for record in records:
        try:
            request = decode(record)
        except InvalidMessage:
            continue
        texts.append(Example(request.id, request.text))
    return texts


def _fewer(topic: str, asked: int, records: Sequence[Record], texts: Sequence[Example]) -> tuple[str, ...]:
    if len(texts) >= asked:
        return ()
    refused = len(records) - len(texts)
    without = f"; {refused} more cannot be decoded" if refused else ""
    found = counted(len(texts), "text")
    return (f"the topic {topic} gave {found} of the {asked} that were asked for (--texts){without}",)


def _report(imported: Imported, console: Console, as_json: bool) -> None:
    made = imported.bundle
    _show(imported.notes, imported.comparison, console)
    if as_json:
        document = {
            "bundle": str(made.path),
            "name": made.manifest.name,
            "digest": made.digest,
            "task": made.manifest.task,
            "labels": list(made.labels),
            "quantization": made.manifest.quantization.model_dump(mode="json"),
            "notes": list(imported.notes),
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    said = f"{made.manifest.name} ({made.digest}), {made.manifest.task}, {counted(len(made.labels), 'label')}"
    typer.echo(f"{made.path}: {said}, {made.graph_bytes / 1e6:.1f} MB")


def _show(notes: Sequence[str], comparison: Comparison | None, console: Console) -> None:
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if comparison is not None:
        console.print(_table(comparison))


def _table(found: Comparison) -> Table:
    """INT8 beside FP32."""
    table = Table(title=f"INT8 against FP32 on {counted(found.agreement.texts, 'text')}", title_justify="left")
    for column in ("", "FP32", "INT8", "difference"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("same decision", "", "", f"{found.agreement.same_label:.4f}")
    if found.positives_f1 is not None:
        table.add_row("F1 of what FP32 finds", "", "", f"{found.positives_f1:.4f}")
    table.add_row("logits, mean", "", "", f"{found.agreement.mean_logit_difference:.4f}")
    table.add_row("logits, largest", "", "", f"{found.agreement.largest_logit_difference:.4f}")
    if found.fp32 is None or found.int8 is None:
        return table
    if found.fp32.accuracy is not None and found.int8.accuracy is not None:
        _row(table, "accuracy", found.fp32.accuracy, found.int8.accuracy)
    for name, value in found.fp32.metrics.items():
        _row(table, name.replace("_", " "), value, found.int8.metrics[name])
    for label in sorted(found.fp32.f1 | found.int8.f1):
        _row(table, f"F1 of {label}", found.fp32.f1.get(label, 0.0), found.int8.f1.get(label, 0.0))
    return table


def _row(table: Table, name: str, fp32: float, int8: float) -> None:
    table.add_row(Text(name), f"{fp32:.4f}", f"{int8:.4f}", f"{int8 - fp32:+.4f}")
