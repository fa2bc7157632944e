"""`winnow evaluate`: figures of a bundle on labelled texts, or of two side by side."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from worker.app import bundle_folder
from worker.commands.extras import need
from worker.errors import ConfigError
from worker.model import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.bundle import Bundle
    from worker.model.data import Example, Fields
    from worker.model.evaluation.answers import Answers
    from worker.model.evaluation.compare import Comparison
    from worker.pipeline.entities import Strategy

_SHOWN = 20


class Options(NamedTuple):
    """What `winnow evaluate` is asked for."""

    bundle: str
    data: Path
    compare: str | None
    report: Path | None
    aggregation: Strategy
    as_json: bool
    text_field: str
    label_field: str


def evaluate(options: Options) -> None:
    """Show the figures of a bundle; with `compare` of both, and where they disagree."""
    need("evaluate", "evaluate")
    from worker.model.data import Fields

    data, as_json = options.data, options.as_json
    fields = Fields(text=options.text_field, label=options.label_field)
    if options.report is not None:
        _check_report(options.report)
    bundle = bundles.load(bundle_folder(options.bundle))
    other = None if options.compare is None else _comparable(bundle, options.compare)
    answers = answered(bundle, data, fields, options.aggregation)
    if options.report is not None:
        _write_report(options.report, bundle, answers, data)
    if other is not None:
        _compare((bundle, answers), (other, answered(other, data, fields, options.aggregation)), as_json)
    elif as_json:
        typer.echo(orjson.dumps(document(bundle, answers), option=orjson.OPT_INDENT_2))
    else:
        show_figures(Console(), answers, f"{bundle.manifest.name} ({bundle.digest}) on {data.name}")


def answered(bundle: Bundle, data: Path, fields: Fields, aggregation: Strategy = "simple") -> Answers:
    """What a bundle says of the examples in a file."""
    from worker.model.data import read_labelled
    from worker.model.evaluation import answers as judging
    from worker.model.evaluation.predict import Predictor

    examples: Sequence[Example] = read_labelled(data, fields)
    judging.check(bundle.manifest.task, bundle.labels, examples, str(data), f"the bundle {bundle.manifest.name}")
    predictor = Predictor(bundle, aggregation)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(bundle.manifest.name, total=len(examples))
        return predictor(examples, lambda done: progress.advance(task, done))


def document(bundle: Bundle, answers: Answers) -> dict[str, Any]:
    """All figures as JSON has them."""
    from worker.model.evaluation.measure import measure

    return {"bundle": {"name": bundle.manifest.name, "digest": bundle.digest}, **measure(answers)}


def show_figures(console: Console, answers: Answers, title: str) -> None:
    """Tables of the figures as a whole, by label, and of entities by type."""
    from worker.model.evaluation.measure import entity_kinds, measure

    found = measure(answers)
    console.print(_overall([found], [title]))
    for kind, words in entity_kinds(found).items():
        console.print(_by_label({**found[kind]["types"], "all": found[kind]}, words))
    if "labels" in found and answers.task != "token":
        console.print(_by_label(found["labels"], "label"))
    if answers.truncated:
        console.print(f"{answers.truncated} of {len(answers.ids)} texts are longer than the model reads.")


def _overall(found: list[dict[str, Any]], titles: list[str]) -> Table:
    from worker.model.evaluation.measure import AVERAGES, entity_kinds

    table = Table("", *titles)
    for name, value in found[0].items():
        if isinstance(value, float) or value is None:
            table.add_row(name.replace("_", " "), *(_number(each[name]) for each in found))
    rows = {kind: f"F1, {kind}" for kind in AVERAGES if kind in found[0]} | entity_kinds(found[0], "F1 of ")
    for kind, words in rows.items():
        table.add_row(words, *(_number(each[kind]["f1"]) for each in found))
    return table


def _by_label(rows: dict[str, dict[str, Any]], what: str) -> Table:
    names = [
        name for name in ("precision", "recall", "f1", "support", "roc_auc", "pr_auc") if name in rows[next(iter(rows))]
    ]
    table = Table(what)
    for name in names:
        table.add_column(
            {"support": "texts" if what == "label" else "true"}.get(name, name.replace("_", " ")), justify="right"
        )
    for label, each in rows.items():
        table.add_row(label, *(_number(each[name]) for name in names))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _check_report(path: Path) -> None:
    """Before the work: a place that cannot be written to is found out at once."""
    try:
        existed = os.path.lexists(path)
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--report {path} cannot be written ({error.strerror}): name a file in a folder that exists and is yours."
    )


def _write_report(path: Path, bundle: Bundle, answers: Answers, data: Path) -> None:
    from worker.model.evaluation.report import report

    page = report(bundle, answers, data.name)
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _comparable(bundle: Bundle, name: str) -> Bundle:
    """The bundle of that name, before the work is done for nothing."""
    from worker.model.evaluation.compare import check_tasks

    other = bundles.load(bundle_folder(name))
    check_tasks(bundle.manifest.task, other.manifest.task)
    return other


def _compare(one: tuple[Bundle, Answers], two: tuple[Bundle, Answers], as_json: bool) -> None:
    from worker.model.evaluation.compare import compare

    found = compare(one[1], two[1])
    if as_json:
        both = {"first": document(*one), "second": document(*two), "comparison": found.document()}
        typer.echo(orjson.dumps(both, option=orjson.OPT_INDENT_2))
        return
    _show_comparison(Console(), one, two, found)


def _show_comparison(
    console: Console, one: tuple[Bundle, Answers], two: tuple[Bundle, Answers], found: Comparison
) -> None:
    from worker.model.evaluation.measure import measure

    titles = [f"{bundle.manifest.name} ({bundle.digest})" for bundle, _ in (one, two)]
    console.print(_overall([measure(one[1]), measure(two[1])], titles))
    console.print(
        f"{found.texts} texts: both right {found.both_right}, only the first {found.only_first}, only the second "
        f"{found.only_second}, neither {found.both_wrong}. McNemar's exact test: p = {found.p_value:.4g}."
    )
    if not found.disagreements:
        console.print("They decide every text alike.")
        return
    table = Table("id", "true", "first", "second", title=f"They disagree on {len(found.disagreements)} texts")
    for each in found.disagreements[:_SHOWN]:
        table.add_row(*each)
    console.print(table)
    if len(found.disagreements) > _SHOWN:
        console.print(f"… and {len(found.disagreements) - _SHOWN} more; --json names all.")
