"""`winnow evaluate`: figures of a bundle on labelled texts, or of two side by side."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from worker.app import bundle_folder
from worker.commands import consoles
from worker.commands.classify import settings_for
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
    from worker.model.evaluation.serving import Serving
    from worker.pipeline.entities import Strategy

_SHOWN = 20


class Options(NamedTuple):
    """What `winnow evaluate` is asked for."""

    bundle: str
    data: Path
    compare: str | None
    report: Path | None
    aggregation: Strategy | None
    as_json: bool
    fields: Fields
    config: Path | None
    assign: list[str]


class Labelled(NamedTuple):
    """The examples of a file, by the names of a bundle's labels."""

    examples: Sequence[Example]
    name: str
    """What messages call the file."""
    note: str | None
    """How its labels were understood, where they are no names."""


class Measured(NamedTuple):
    """A bundle, and what it says with some settings."""

    bundle: Bundle
    answers: Answers
    changed: dict[str, Any]
    """The settings that have a say and are not the defaults."""
    whole: Answers | None = None
    """What it says where every text goes through all layers, of a bundle with early exit."""

    @property
    def title(self) -> str:
        return f"{self.bundle.manifest.name} ({self.bundle.digest})"

    def document(self) -> dict[str, Any]:
        """All figures as JSON has them."""
        from worker.model.evaluation.measure import measure

        named = {"name": self.bundle.manifest.name, "digest": self.bundle.digest}
        said = {"settings": self.changed, "notes": list(self.answers.notes)}
        whole = {} if self.whole is None else {"all_layers": measure(self.whole), "same_label": self.same_label}
        return {"bundle": named, **said, **measure(self.answers), **whole}

    @property
    def same_label(self) -> float | None:
        """How many texts get the same label as from all layers."""
        return None if self.whole is None else round(float((self.answers.decided == self.whole.decided).mean()), 4)


def evaluate(options: Options) -> None:
    """Show the figures of a bundle; with `compare` of both, and where they disagree."""
    need("evaluate", "evaluate")
    if options.report is not None:
        _check_report(options.report)
    serving = _serving(options)
    bundle = bundles.load(bundle_folder(options.bundle))
    other = None if options.compare is None else _comparable(bundle, options.compare)
    texts = labelled(bundle, options.data, options.fields)
    if other is not None:
        _check_truth(bundle, other, texts)
    one = _measured(bundle, texts, serving)
    if options.report is not None:
        _write_report(options.report, one, options.data)
    if other is not None:
        _compare(one, _measured(other, texts, serving), options.as_json)
    elif options.as_json:
        typer.echo(orjson.dumps(one.document(), option=orjson.OPT_INDENT_2))
    else:
        console = consoles.console(highlight=True)
        show_figures(console, one.answers, f"{one.title} on {options.data.name}", one.whole)
        if one.same_label is not None:
            console.print(f"{one.same_label:.2%} of the texts get the same label as from all layers.")
        show_notes(console, one.answers)
        show_settings(console, one.changed)


def serving_of(config: Path | None, assign: list[str]) -> Serving:
    """The worker's settings, as `winnow classify` takes them."""
    from worker.model.evaluation.serving import Serving

    return Serving(**settings_for("default", None, config, assign)._asdict())


def _serving(options: Options) -> Serving:
    """`--aggregation` is stronger than the settings."""
    serving = serving_of(options.config, options.assign)
    if options.aggregation is None:
        return serving
    return serving._replace(entities=serving.entities.model_copy(update={"aggregation": options.aggregation}))


def _measured(bundle: Bundle, texts: Labelled, serving: Serving) -> Measured:
    found = answered(bundle, texts, serving)
    whole = None if found.left is None else answered(bundle, texts, serving.all_layers())
    return Measured(bundle, found, serving.changed(), whole)


def labelled(bundle: Bundle, data: Path, fields: Fields) -> Labelled:
    """The examples in a file, which the bundle can be held against."""
    from worker.model.data import read_labelled
    from worker.model.evaluation import answers as judging

    task, model = bundle.manifest.task, f"the bundle {bundle.manifest.name}"
    examples, note = judging.by_name(task, bundle.labels, read_labelled(data, fields, task), str(data), model)
    texts = Labelled(examples, str(data), note)
    _check(bundle, texts)
    return texts


def _check(bundle: Bundle, texts: Labelled) -> None:
    from worker.model.evaluation.answers import check

    check(bundle.manifest.task, bundle.labels, texts.examples, texts.name, f"the bundle {bundle.manifest.name}")


def answered(bundle: Bundle, texts: Labelled, serving: Serving | None = None) -> Answers:
    """What a bundle says of examples, with the default settings or others."""
    from worker.model.evaluation.predict import Predictor
    from worker.model.evaluation.serving import Serving

    predictor = Predictor(bundle, serving or Serving())
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(bundle.manifest.name, total=len(texts.examples))
        found = predictor(texts.examples, lambda done: progress.advance(bar, done))
    return replace(found, notes=() if texts.note is None else (texts.note,))


def show_figures(console: Console, answers: Answers, title: str, whole: Answers | None = None) -> None:
    """Tables of the figures as a whole, by label, and of entities by type; beside them those of all layers, `whole`."""
    from worker.model.evaluation.measure import entity_kinds, measure

    found = measure(answers)
    more = [] if whole is None else [measure(whole)]
    console.print(_overall([found, *more], [title, "all layers"][: 1 + len(more)]))
    for kind, words in entity_kinds(found).items():
        console.print(_by_label({**found[kind]["types"], "all": found[kind]}, words))
    if "labels" in found and answers.task != "token":
        console.print(_by_label(found["labels"], "label"))
    if "actions" in found:
        console.print(_by_action(found["actions"]))
    if answers.truncated:
        console.print(f"{answers.truncated} of {len(answers.ids)} texts are longer than what is read of them.")


def show_notes(console: Console, answers: Answers) -> None:
    """What is to be known of the figures, in the form of an import's notes."""
    for note in answers.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)


def show_settings(console: Console, changed: dict[str, Any]) -> None:
    """Which settings the figures are of, where they are not the defaults."""
    from worker.model.evaluation.serving import in_words

    if changed:
        console.print(Text(f"As the worker decides with {in_words(changed)}."))


def _overall(found: list[dict[str, Any]], titles: list[str]) -> Table:
    from worker.model.evaluation.measure import AVERAGES, entity_kinds

    table = Table("", *(Column(Text(title)) for title in titles))
    for name, value in found[0].items():
        if isinstance(value, float) or value is None:
            table.add_row(name.replace("_", " "), *(_number(each.get(name)) for each in found))
    rows = {kind: f"F1, {kind}" for kind in AVERAGES if kind in found[0]} | entity_kinds(found[0], "F1 of ")
    for kind, words in rows.items():
        table.add_row(words, *(_number(each[kind]["f1"]) for each in found))
    return table


def _by_action(actions: dict[str, dict[str, Any]]) -> Table:
    table = Table("action")
    for name in ("texts", "accuracy"):
        table.add_column(name, justify="right")
    for action, each in actions.items():
        table.add_row(action, *map(_number, each.values()))
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
        table.add_row(Text(label), *(_number(each[name]) for name in names))
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


def _write_report(path: Path, measured: Measured, data: Path) -> None:
    from worker.model.evaluation.report import report

    page = report(measured.bundle, measured.answers, data.name, settings=measured.changed)
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


def _check_truth(bundle: Bundle, other: Bundle, texts: Labelled) -> None:
    """Ids are those of the first bundle; in one with other labels the file's author may have meant others by them."""
    if texts.note is not None and set(bundle.labels) != set(other.labels):
        raise ConfigError(
            f"{texts.name} has ids of labels, and the bundles {bundle.manifest.name} and {other.manifest.name} know "
            "different labels: write the names instead."
        )
    _check(other, texts)


def _compare(one: Measured, two: Measured, as_json: bool) -> None:
    from worker.model.evaluation.compare import compare

    found = compare(one.answers, two.answers)
    if as_json:
        both = {"first": one.document(), "second": two.document(), "comparison": found.document()}
        typer.echo(orjson.dumps(both, option=orjson.OPT_INDENT_2))
        return
    _show_comparison(consoles.console(highlight=True), one, two, found)


def _show_comparison(console: Console, one: Measured, two: Measured, found: Comparison) -> None:
    from worker.model.evaluation.measure import measure

    console.print(_overall([measure(one.answers), measure(two.answers)], [one.title, two.title]))
    show_notes(console, one.answers)
    show_settings(console, one.changed)
    console.print(
        f"{found.texts} texts: both right {found.both_right}, only the first {found.only_first}, only the second "
        f"{found.only_second}, neither {found.both_wrong}. McNemar's exact test: p = {found.p_value:.4g}."
    )
    if not found.disagreements:
        console.print("They decide every text alike.")
        return
    table = Table("id", "true", "first", "second", title=f"They disagree on {len(found.disagreements)} texts")
    for each in found.disagreements[:_SHOWN]:
        table.add_row(*map(Text, each))
    console.print(table)
    if len(found.disagreements) > _SHOWN:
        console.print(f"… and {len(found.disagreements) - _SHOWN} more; --json names all.")
