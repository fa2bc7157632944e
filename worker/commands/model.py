"""`winnow model show` and `winnow model verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from worker.app import bundle_folder, open_model
from worker.commands import consoles
from worker.config import ModelSettings
from worker.model import bundle as bundles
from worker.model.words import counted

if TYPE_CHECKING:
    from worker.model.bundle import Bundle
    from worker.model.manifest import EarlyExit, Evaluation, Figures, Manifest, Quantization, Reference


def show(name: str, as_json: bool) -> None:
    bundle = bundles.load(bundle_folder(name))
    if not as_json:
        consoles.console().print(_page(bundle))
        return
    document = {
        "digest": bundle.digest,
        "sha256": bundle.sha256,
        "labels": list(bundle.labels),
        **bundle.manifest.model_dump(mode="json", exclude={"probes"}),
    }
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def verify(name: str) -> None:
    model = open_model(ModelSettings(bundle=name))
    typer.echo(f"{model.identity.name} ({model.identity.digest}) is whole, and this machine computes what it should.")


def _page(bundle: Bundle) -> Group:
    manifest = bundle.manifest
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(bundle, manifest):
        if value:
            table.add_row(Text(name, style="bold"), Text(value))
    if not manifest.evaluation:
        table.add_row(Text("figures", style="bold"), Text("none; winnow evaluate measures them"))
    return Group(table, *(_figures(each) for each in manifest.evaluation))


def _facts(bundle: Bundle, manifest: Manifest) -> list[tuple[str, str]]:
    sources = [*((manifest.base_model,) if manifest.base_model else ()), *manifest.data]
    return [
        ("name", manifest.name),
        ("digest", bundle.sha256),
        ("task", f"{manifest.task}, {manifest.activation}"),
        ("labels", f"{len(bundle.labels)}: {', '.join(bundle.labels)}"),
        ("thresholds", ", ".join(f"{label} {least:g}" for label, least in manifest.thresholds.items())),
        ("temperature", f"{manifest.temperature:g}"),
        ("max_length", f"{manifest.max_length} tokens"),
        ("early exit", _early_exit(manifest.early_exit)),
        ("reference", _reference(manifest.reference)),
        ("size", f"{bundle.graph_bytes / 1e6:.1f} MB"),
        ("quantization", _quantization(manifest.quantization)),
        ("FP32 parts", ", ".join(manifest.quantization.fp32_parts)),
        ("calibration", _calibration(manifest.quantization)),
        ("against FP32", _agreement(manifest.quantization)),
        ("licence", manifest.licence),
        ("made from", "; ".join(f"{source.name} ({source.licence})" for source in sources)),
        *((name, f"SHA-256 {digest}") for name, digest in manifest.files.items()),
        ("probes", f"{len(manifest.probes)}, within {manifest.probe_tolerance:g}"),
    ]


def _early_exit(found: EarlyExit | None) -> str:
    if found is None:
        return ""
    of_labels = "".join(f", of {label} {least:.4f}" for label, least in found.thresholds.items())
    when = (
        f"after layer {found.layer} of {found.layers} from a probability of {found.threshold:.4f}{of_labels} on "
        f"(temperature {found.temperature:g}); "
    )
    if found.left is None or found.agreement is None:
        return f"{when}how often labels stay the same was not measured: winnow evaluate tells"
    texts = counted(found.texts, "validation text")
    return f"{when}of {texts} {found.left:.1%} left, and {found.agreement:.2%} had the same label"


def _reference(found: Reference | None) -> str:
    if found is None:
        return ""
    shares = ", ".join(f"{label} {share:.1%}" for label, share in found.labels.items())
    return f"{counted(found.texts, 'text')}: {shares}"


def _quantization(found: Quantization) -> str:
    if found.weights == "as imported":
        return found.weights
    gelu = "" if found.gelu == "as trained" else f", Gelu as {found.gelu}"
    return f"weights {found.weights}, activations {found.activations}, embeddings {found.embeddings}{gelu}"


def _calibration(found: Quantization) -> str:
    return f"{found.calibration} ({counted(found.calibration_texts, 'text')})" if found.calibration else ""


def _agreement(found: Quantization) -> str:
    against = found.against_fp32
    if against is None:
        return ""
    return (
        f"same decision {against.same_label:.4f} on {counted(against.texts, 'text')}; logits differ by "
        f"{against.mean_logit_difference:.4f}, at most {against.largest_logit_difference:.4f}"
    )


def _figures(evaluation: Evaluation) -> Table:
    title, caption = Text(f"{evaluation.channel}: {counted(evaluation.texts, 'text')}"), Text(evaluation.note)
    table = Table(title=title, title_justify="left", caption=caption if evaluation.note else None)
    found, exact = evaluation.quantized, evaluation.fp32
    early = evaluation.early_exit and evaluation.early_exit.figures
    more = ("F1 with early exit",) if early else ()
    for column in ("label", "texts", "precision", "recall", "F1", "F1 in FP32", *more):
        table.add_column(column, justify="left" if column == "label" else "right")
    for label in found.f1:
        table.add_row(
            Text(label),
            str(evaluation.per_label.get(label, 0)),
            *(f"{values.get(label, 0.0):.4f}" for values in (found.precision, found.recall, found.f1)),
            f"{exact.f1[label]:.4f}" if exact and label in exact.f1 else "",
            *([f"{early.f1[label]:.4f}"] if early else []),
        )
    for name, value in _overall(found).items():
        others = [f"{_overall(each)[name]:.4f}" if each else "" for each in ((exact, early) if early else (exact,))]
        table.add_row(Text(name), "", "", "", f"{value:.4f}", *others, style="bold")
    return table


def _overall(figures: Figures) -> dict[str, float]:
    """What is not by label."""
    named = {"accuracy": figures.accuracy, "calibration error": figures.calibration_error}
    metrics = {name.replace("_", " "): value for name, value in figures.metrics.items()}
    return {name: value for name, value in named.items() if value is not None} | metrics
