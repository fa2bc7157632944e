"""`winnow threshold`: from what score on a label is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import typer
from rich.table import Table
from rich.text import Text

from worker.app import DEFAULT_BUNDLE, bundle_folder
from worker.commands import consoles
from worker.commands.evaluate import answered, labelled, serving_of, show_notes, show_settings
from worker.commands.extras import need
from worker.errors import ConfigError
from worker.model import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from worker.model.bundle import Bundle
    from worker.model.data import Fields
    from worker.model.evaluation.answers import Answers
    from worker.model.evaluation.threshold import Curve, Point

_WIDTH, _HEIGHT = 61, 13
_STEPS = tuple(round(step / 20, 2) for step in range(1, 20))


class Goal(NamedTuple):
    """What a threshold is chosen by; exactly one of the three is given."""

    precision: float | None
    recall: float | None
    cost: str | None


class Options(NamedTuple):
    """What `winnow threshold` is asked for."""

    bundle: str
    data: Path
    goal: Goal
    labels: list[str]
    write: bool
    as_json: bool
    fields: Fields
    config: Path | None
    assign: list[str]


def threshold(options: Options) -> None:
    """Choose a threshold for each label, show its curve, and store it with `write`."""
    need("threshold", "evaluate")
    choose = _chooser(options.goal)
    serving = serving_of(options.config, options.assign).reading()
    bundle = bundles.load(bundle_folder(options.bundle))
    wanted = _labels(bundle, options.labels)
    answers = answered(bundle, labelled(bundle, options.data, options.fields), serving)
    chosen = {}
    for label in wanted:
        curve = _curve(answers, label)
        chosen[label] = (curve, choose(curve, label))
    replaced = _replaced(bundle, wanted)
    if options.write:
        bundle = _store(bundle, {label: point.threshold for label, (_, point) in chosen.items()}, replaced)
    if options.as_json:
        said = {"replaced": replaced, "settings": serving.changed(), "notes": list(answers.notes)}
        document = {**_document(bundle, chosen, options.write), **said}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        return
    console = consoles.console(highlight=True)
    _show(console, bundle, chosen, options.write)
    show_notes(console, answers)
    show_settings(console, serving.changed())
    _show_replaced(replaced, options.write)


def _show_replaced(replaced: dict[str, float], written: bool) -> None:
    if replaced:
        others = ", ".join(f"{label} ({least:g})" for label, least in replaced.items())
        typer.echo(
            f"These are the figures without the other thresholds of the bundle, which compete: {others}. "
            f"{'They are no longer in it' if written else '--write takes them out'}."
        )


def parse_cost(text: str) -> tuple[float, float]:
    """`fp=5,fn=1` as what a false positive and a false negative cost."""
    try:
        given = {key.strip(): float(value) for key, value in (part.split("=") for part in text.split(","))}
        if set(given) != {"fp", "fn"} or not all(0 <= each < float("inf") for each in given.values()):
            raise ValueError
    except ValueError:
        raise ConfigError(f"--cost {text} is not of the form fp=5,fn=1: what each kind of mistake costs.") from None
    if not any(given.values()):
        raise ConfigError(f"--cost {text}: where no mistake costs anything, every threshold is as good.")
    return given["fp"], given["fn"]


def _chooser(goal: Goal) -> Callable[[Curve, str], Point]:
    from worker.model.evaluation import threshold as choosing

    if sum(each is not None for each in goal) != 1:
        raise ConfigError("Give one of --precision, --recall and --cost: a threshold is chosen by one goal.")
    costs = parse_cost(goal.cost) if goal.cost is not None else None

    def choose(curve: Curve, label: str) -> Point:
        if costs is not None:
            return choosing.for_cost(curve, *costs)
        if goal.precision is not None:
            return choosing.for_precision(curve, goal.precision, label)
        return choosing.for_recall(curve, goal.recall or 0.0)

    return choose


def _labels(bundle: Bundle, wanted: list[str]) -> list[str]:
    """Those asked for; else all for `multi-label`, or of two labels the one that has a threshold, or the second."""
    task = bundle.manifest.task
    if task not in ("single-label", "multi-label"):
        raise ConfigError(f"The bundle {bundle.manifest.name} is for {task}, which knows no thresholds.")
    for label in wanted:
        if label not in bundle.labels:
            raise ConfigError(f"--label {label}: the bundle {bundle.manifest.name} knows {', '.join(bundle.labels)}.")
    if len(set(wanted)) > 1 and task == "single-label":
        raise ConfigError(
            f"The bundle {bundle.manifest.name} chooses one label a text, so thresholds of several compete: give one "
            "--label."
        )
    if wanted or task == "multi-label":
        return wanted or list(bundle.labels)
    if len(bundle.labels) == 2:
        return list(bundle.manifest.thresholds)[:1] or [bundle.labels[1]]
    raise ConfigError(
        f"The bundle {bundle.manifest.name} chooses one of {len(bundle.labels)} labels: say with --label whose "
        "threshold to choose."
    )


def _curve(answers: Answers, label: str) -> Curve:
    from worker.model.evaluation.measure import one_hot
    from worker.model.evaluation.threshold import Curve

    i = answers.labels.index(label)
    truth = one_hot(answers, answers.truth)[:, i]
    if not 0 < truth.sum() < len(truth):
        raise ConfigError(
            f"The texts are all {label}, or none is, so any threshold is as good: give texts of both kinds, or name "
            "other labels with --label."
        )
    return Curve(answers.scores[:, i], truth)


def _replaced(bundle: Bundle, wanted: list[str]) -> dict[str, float]:
    """The thresholds that a new one takes the place of: where one label is chosen, those of all other labels."""
    if bundle.manifest.task == "multi-label":
        return {}
    return {label: least for label, least in bundle.manifest.thresholds.items() if label not in wanted}


def _store(bundle: Bundle, thresholds: dict[str, float], replaced: dict[str, float]) -> Bundle:
    """The bundle with these thresholds and without those replaced.

    Figures of other thresholds go: the agreement with FP32, whose graph is not in the bundle to measure it anew, that
    of texts that leave early, which `winnow evaluate` tells, and the reference of scores (`winnow model reference`).
    """
    if bundle.path.resolve() == DEFAULT_BUNDLE.resolve():
        raise ConfigError(f"The default bundle belongs to the installation: copy {bundle.path}, and name the copy.")
    manifest = bundle.manifest
    chosen = {label: least for label, least in manifest.thresholds.items() if label not in replaced} | thresholds
    if chosen == manifest.thresholds:
        return bundle
    quantization = manifest.quantization.model_copy(update={"against_fp32": None})
    changes: dict[str, Any] = {"thresholds": chosen, "evaluation": [], "reference": None}
    changes["quantization"] = quantization.model_dump()
    if manifest.early_exit is not None:
        unknown = {"agreement": None, "left": None, "texts": 0}
        changes["early_exit"] = manifest.early_exit.model_copy(update=unknown).model_dump()
    return bundles.amend(bundle, changes)


def _document(bundle: Bundle, chosen: dict[str, tuple[Curve, Point]], written: bool) -> dict[str, Any]:
    return {
        "bundle": {"name": bundle.manifest.name, "digest": bundle.digest},
        "written": written,
        "labels": {
            label: {**point._asdict(), "f1": point.f1, "curve": [curve.at(step)._asdict() for step in _STEPS]}
            for label, (curve, point) in chosen.items()
        },
    }


def _show(console: Console, bundle: Bundle, chosen: dict[str, tuple[Curve, Point]], written: bool) -> None:
    table = Table("label", "threshold", "precision", "recall", "F1", "given", "wrongly", "missed")
    for label, (curve, point) in chosen.items():
        if len(chosen) == 1:
            console.print(_plot(curve, point, label))
            console.print(_steps(curve, point))
        table.add_row(Text(label), *_cells(point))
    console.print(table)
    if written:
        console.print(Text(f"{bundle.path}: written; the digest is {bundle.digest}."))
    else:
        console.print("Not written; --write stores it in the bundle.")


def _steps(curve: Curve, point: Point) -> Table:
    table = Table("threshold", "precision", "recall", "F1", "given", "wrongly", "missed")
    for each in sorted([*(curve.at(step) for step in _STEPS), point]):
        table.add_row(*_cells(each), style="bold" if each == point else "")
    return table


def _cells(point: Point) -> list[str]:
    shares = [f"{each:.4f}" for each in (point.threshold, point.precision, point.recall, point.f1)]
    return shares + [str(each) for each in (point.given, point.false_positives, point.false_negatives)]


def _plot(curve: Curve, point: Point, label: str) -> Text:
    """Precision (P) and recall (R) over the threshold, which a column of lines marks."""
    rows = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    marked = round(point.threshold * (_WIDTH - 1))
    for row in rows:
        row[marked] = "│"
    for column, at in enumerate(np.linspace(0, 1, _WIDTH)):
        here = curve.at(float(at))
        for letter, value in (("P", here.precision if here.given else None), ("R", here.recall)):
            if value is not None:
                rows[round((1 - value) * (_HEIGHT - 1))][column] = letter
    scale = ("1.0", *[""] * (_HEIGHT // 2 - 1), "0.5", *[""] * (_HEIGHT - _HEIGHT // 2 - 2), "0.0")
    lines = [f"{mark:>4} ┤{''.join(row)}" for mark, row in zip(scale, rows, strict=True)]
    axis = f"     └{'─' * _WIDTH}\n      0{'threshold of ' + label:^{_WIDTH - 2}}1"
    return Text("\n".join([*lines, axis]) + "\n", no_wrap=True)
