"""The HTML report: one file that holds its pictures and asks no other for anything; no message text in it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.model.evaluation import charts, measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.model.bundle import Bundle
    from worker.model.evaluation.answers import Answers

MISTAKES = 40
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; text-align: right }
th:first-child, td:first-child, td.word, th.word { text-align: left }
tr:nth-child(even) td { background: #f4f6f8 } th { border-bottom: 2px solid #ccc }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top } svg { max-width: 100%; height: auto }
.headline { font-size: 1.3rem } .note { color: #666 }
"""


def report(
    bundle: Bundle,
    answers: Answers,
    measured_on: str,
    history: Sequence[dict[str, Any]] = (),
    fp32: Answers | None = None,
) -> str:
    """The whole page.

    Args:
        bundle: what was measured.
        answers: of the bundle.
        measured_on: what to call the texts.
        history: a training's epochs.
        fp32: answers of the same network in FP32.
    """
    found = measure.measure(answers)
    name = f"{bundle.manifest.name} ({bundle.digest})"
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="note">{escape(answers.task)}, measured on {escape(measured_on)}: {len(answers.ids)} texts, '
        f"{answers.truncated} of them longer than the {bundle.manifest.max_length} tokens that the model reads.</p>",
        _summary(found, measure.measure(fp32) if fp32 else None),
        *_pictures(answers, history),
    ]
    if answers.task != "regression":
        parts += ["<h2>By label</h2>", _labels(found, bundle)]
    if "spans" in found:
        parts += ["<h2>Entities by type</h2>", _spans(found["spans"])]
    parts += [f"<h2>Hardest mistakes</h2>{_mistakes(answers)}"]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(name)}</title><style>{_STYLE}</style>'
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


def _summary(found: dict[str, Any], fp32: dict[str, Any] | None) -> str:
    names = {name: name.replace("_", " ") for name in found if isinstance(found[name], float)}
    rows = {words: [found[name], *([fp32[name]] if fp32 else [])] for name, words in names.items()}
    for kind in ("micro", "macro", "weighted", "spans"):
        if kind in found:
            words = "F1 of entities" if kind == "spans" else f"F1, {kind}"
            rows[words] = [found[kind]["f1"], *([fp32[kind]["f1"]] if fp32 else [])]
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
    return (f"<figure>{picture}</figure>" for picture in pictures)


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


def _mistakes(answers: Answers) -> str:
    found = mistakes(answers)
    if not found:
        return "<p>None.</p>"
    last = "off by" if answers.task == "regression" else "score of the truth"
    rows = ([name, truth, decided, f"{given:.4f}"] for name, truth, decided, given in found)
    return _table(["id", "true", "decided", last], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
