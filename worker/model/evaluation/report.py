"""The HTML report: one file that holds its pictures and asks no other for anything; no message text in it."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.model.evaluation import charts, measure
from worker.model.evaluation.measure import entity_kinds
from worker.model.evaluation.serving import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.model.bundle import Bundle
    from worker.model.evaluation.answers import Answers

MISTAKES = 40
CONFUSIONS = 20
_LARGE = 400.0
_NAMES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "r2": "R²"}
_STYLE = """
:root { color-scheme: light dark; --line: #ccd3da; --soft: #f4f6f8; --quiet: #5f6a74; --card: #fff }
@media (prefers-color-scheme: dark) {
  :root { --line: #48525c; --soft: #242a30; --quiet: #a3adb7; --card: #fff }
  body { background: #171b1f; color: #dfe4e9 }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
.note { color: var(--quiet) } .table { overflow-x: auto }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap }
.words th, .words td { text-align: left } .words td:last-child, .words th:last-child { text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid var(--line) }
tbody tr:nth-child(even) td { background: var(--soft) }
.pictures { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem; margin: 1rem 0 }
figure { margin: 0; padding: .5rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  max-width: 100%; box-sizing: border-box }
svg { display: block; max-width: 100%; height: auto }
.large { overflow-x: auto } .large svg { min-width: 44rem }
"""


def report(
    bundle: Bundle,
    answers: Answers,
    measured_on: str,
    history: Sequence[dict[str, Any]] = (),
    fp32: Answers | None = None,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """The whole page.

    Args:
        bundle: what was measured.
        answers: of the bundle.
        measured_on: what to call the texts.
        history: a training's epochs.
        fp32: answers of the same network in FP32.
        settings: of the worker, those that are not the defaults.
    """
    found = measure.measure(answers)
    name = f"{bundle.manifest.name} ({bundle.digest})"
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="note">Task {escape(answers.task)}, measured on {escape(measured_on)}: {len(answers.ids)} texts'
        f"{_cut(answers)}.{_with(settings or {})}{_noted(answers)}</p>",
        _summary(found, measure.measure(fp32) if fp32 else None),
        f'<div class="pictures">{"".join(_pictures(answers, history))}</div>',
    ]
    if answers.task in ("single-label", "token") and len(answers.labels) > charts.CELLS:
        parts += ["<h2>Most frequent confusions</h2>", _confusions(answers)]
    if answers.task != "regression":
        parts += ["<h2>By label</h2>", _labels(found, bundle)]
    for kind, words in entity_kinds(found).items():
        parts += [f"<h2>{escape(words).capitalize()}</h2>", _spans(found[kind])]
    if "actions" in found:
        parts += ["<h2>By action</h2>", _actions(found["actions"])]
    parts += [f"<h2>Hardest mistakes</h2>{_mistakes(answers)}"]
    body = "\n".join(parts)
    phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{phone}<title>{escape(name)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def mistakes(answers: Answers, limit: int = MISTAKES) -> list[tuple[str, str, str, float]]:
    """Id, truth, decision, and the score of what is true, of the worst mistakes; an example counts once."""
    if answers.task == "regression":
        off = np.abs(answers.decided - answers.truth)
        worst = np.argsort(-off, kind="stable")[:limit]
        return [(answers.ids[i], f"{answers.truth[i]:g}", f"{answers.decided[i]:.4g}", float(off[i])) for i in worst]
    given = _given_to_truth(answers)
    out: dict[str, tuple[str, str, str, float]] = {}
    for row in np.argsort(given, kind="stable"):
        if len(out) == limit:
            break
        example = answers.ids[answers.owner[row]]
        if answers.wrong[row] and example not in out:
            truth, decided = answers.named(answers.truth[row]), answers.named(answers.decided[row])
            out[example] = (example, truth, decided, float(given[row]))
    return list(out.values())


def _given_to_truth(answers: Answers) -> np.ndarray:
    """The score of what is true of each row; for `multi-label` of the label that is furthest off."""
    if answers.task == "multi-label":
        return np.asarray(np.where(answers.truth == 1, answers.scores, 1 - answers.scores).min(axis=1))
    return np.asarray(answers.scores[np.arange(len(answers.truth)), answers.truth])


def _cut(answers: Answers) -> str:
    return f", {answers.truncated} of them longer than what is read of them" if answers.truncated else ""


def _noted(answers: Answers) -> str:
    return "".join(f" Note: {escape(note)}." for note in answers.notes)


def _with(settings: Mapping[str, Any]) -> str:
    return f" As the worker decides with {escape(in_words(settings))}." if settings else ""


def _summary(found: dict[str, Any], fp32: dict[str, Any] | None) -> str:
    names = {name: _NAMES.get(name, name.replace("_", " ")) for name in found if isinstance(found[name], float)}
    rows = {words: [found[name], *([fp32.get(name)] if fp32 else [])] for name, words in names.items()}
    kinds = {kind: f"F1, {kind}" for kind in measure.AVERAGES if kind in found} | entity_kinds(found, "F1 of ")
    for kind, words in kinds.items():
        rows[words] = [each[kind]["f1"] if kind in each else None for each in (found, fp32) if each]
    header = ["", "this bundle", *(["FP32"] if fp32 else [])]
    return _table(header, ([words, *map(_number, values)] for words, values in rows.items()))


def _pictures(answers: Answers, history: Sequence[dict[str, Any]]) -> Iterable[str]:
    pictures = [charts.history(history)] if history else []
    if answers.task == "regression":
        pictures.append(charts.scatter(answers))
    else:
        pictures += [charts.precision_recall(answers), charts.reliability(answers)]
    if answers.task in ("single-label", "token"):
        pictures.append(charts.confusion(answers))
    return (f"<figure{_size(picture)}>{picture}</figure>" for picture in pictures)


def _size(picture: str) -> str:
    """A picture that is wide is not made so small on a phone that its words cannot be read."""
    found = re.search(r'width="([\d.]+)pt"', picture)
    return ' class="large"' if found and float(found[1]) > _LARGE else ""


def _labels(found: dict[str, Any], bundle: Bundle) -> str:
    thresholds = bundle.manifest.thresholds
    header = ["label", "precision", "recall", "F1", "true", "decided", "ROC-AUC", "PR-AUC", "threshold"]
    names = ("precision", "recall", "f1", "support", "decided", "roc_auc", "pr_auc")
    return _table(
        header,
        (
            [label, *(_number(each[name]) for name in names), _number(thresholds.get(label))]
            for label, each in found["labels"].items()
        ),
    )


def _spans(found: dict[str, Any]) -> str:
    rows = {**found["types"], "all": found}
    names = ("precision", "recall", "f1", "support")
    return _table(
        ["type", "precision", "recall", "F1", "true"],
        ([kind, *(_number(each[name]) for name in names)] for kind, each in rows.items()),
    )


def _actions(found: Mapping[str, dict[str, Any]]) -> str:
    rows = ([action, *map(_number, each.values())] for action, each in found.items())
    return _table(["action", "texts", "accuracy"], rows)


def _mistakes(answers: Answers) -> str:
    found = mistakes(answers)
    if not found:
        return "<p>None.</p>"
    last = "off by" if answers.task == "regression" else "score of the truth"
    rows = ([name, truth, decided, f"{given:.4f}"] for name, truth, decided, given in found)
    return _table(["id", "true", "decided", last], rows, "words")


def _confusions(answers: Answers) -> str:
    counts = measure.confusion(answers)
    totals = np.bincount(answers.truth, minlength=len(counts))
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [np.unravel_index(i, counts.shape) for i in order if counts.flat[i]]
    if not pairs:
        return "<p>None.</p>"
    rows = ([answers.labels[i], answers.labels[j], f"{counts[i, j]} of {totals[i]}"] for i, j in pairs)
    return _table(["true", "decided", "how often"], rows, "words")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """`words`: every column but the last is of words."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="table {kind}">{table}</div>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
