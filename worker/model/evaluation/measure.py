"""Figures of a model on labelled texts, by scikit-learn: what `winnow evaluate` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from worker.model.data import OUTSIDE
from worker.model.evaluation.answers import ABSTAINED
from worker.model.evaluation.by_label import by_label
from worker.model.evaluation.calibration import calibration_error
from worker.model.evaluation.spans import span_f1
from worker.model.manifest import Figures
from worker.pipeline.decision import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.model.evaluation.answers import Answers
    from worker.model.evaluation.by_label import ByLabel
    from worker.model.evaluation.spans import SpanScores

DIGITS = 4
AVERAGES = ("micro", "macro", "weighted")
_OF_VALUES = ("mean_absolute_error", "root_mean_squared_error", "r2", "pearson", "spearman")


def measure(answers: Answers) -> dict[str, Any]:
    """All figures of one model on one set of texts, as a JSON document; what cannot be computed is null.

    `accuracy` is the share of rows that are right: texts, words for the task `token`; for `multi-label` all labels of a
    text must be. `spans` are entities by words and their tags, `served` those that the worker gives. The areas are of
    one label against the rest, their mean over labels for the model as a whole. Where the settings let the worker
    abstain, that is wrong: `coverage` is the share of the other rows, `selective_accuracy` how many of them are right.
    `left_early` is the share of the texts that did not need all layers, where the model has an early exit.
    """
    document: dict[str, Any] = {"task": answers.task, "texts": len(answers.ids), "truncated": answers.truncated}
    if answers.task == "regression":
        return document | _regression(answers)
    truth = one_hot(answers, answers.truth)
    found = by_label(truth, one_hot(answers, answers.decided))
    document |= {"accuracy": _rounded(1 - answers.wrong.mean()), **_coverage(answers)}
    document |= {} if answers.left is None else {"left_early": _rounded(answers.left.mean())}
    document["calibration_error"] = _rounded(calibration_error(*confidences(answers)))
    document |= {kind: _averaged(found, kind) for kind in AVERAGES}
    document["roc_auc"] = _mean_area(roc_auc_score, truth, answers.scores)
    document["pr_auc"] = _mean_area(average_precision_score, truth, answers.scores)
    document["labels"] = _labels(answers, truth, found)
    if answers.task == "token":
        document["spans"] = _by_type(span_f1(*_tag_sequences(answers), answers.labels))
    if answers.served is not None:
        document["served"] = {"aggregation": answers.served.aggregation, **_by_type(answers.served.scores())}
    if answers.actions:
        document["actions"] = _actions(answers)
    return document


def _coverage(answers: Answers) -> dict[str, float | None]:
    if answers.fallback is None:
        return {}
    given = answers.decided != ABSTAINED
    right = _rounded(1 - answers.wrong[given].mean()) if given.any() else None
    return {"coverage": _rounded(given.mean()), "selective_accuracy": right}


def _actions(answers: Answers) -> dict[str, Any]:
    """Of each action how many texts it is for, and how many of them are right."""
    said = np.array(answers.actions)
    rows = {action: said == action for action in ACTIONS}
    return {
        action: {
            "texts": int(each.sum()),
            "accuracy": _rounded(1 - answers.wrong[each].mean()) if each.any() else None,
        }
        for action, each in rows.items()
    }


def entity_kinds(found: dict[str, Any], before: str = "") -> dict[str, str]:
    """What figures of entities there are among `found`, and what to call them."""
    called = {"spans": f"{before}entities by tag"}
    if "served" in found:
        called["served"] = f"{before}entities as served ({found['served']['aggregation']})"
    return called if "spans" in found else {}


def figures(answers: Answers) -> Figures:
    """The same as a bundle's manifest keeps them; for `token` precision, recall and F1 are of entities by type."""
    found = measure(answers)
    if answers.task == "regression":
        return Figures(metrics={name: found[name] for name in _OF_VALUES if found[name] is not None})
    spans = found.get("spans")
    by_label: dict[str, dict[str, float]] = spans["types"] if spans else found["labels"]
    averages = {"span_f1": spans["f1"]} if spans else {}
    averages |= {f"{kind}_f1": found[kind]["f1"] for kind in ("micro", "macro")}
    averages |= {name: found[name] for name in ("roc_auc", "pr_auc") if found[name] is not None}
    return Figures(
        accuracy=found["accuracy"],
        precision={label: each["precision"] for label, each in by_label.items()},
        recall={label: each["recall"] for label, each in by_label.items()},
        f1={label: each["f1"] for label, each in by_label.items()},
        calibration_error=found["calibration_error"],
        metrics=averages,
    )


def headline(answers: Answers) -> tuple[str, float]:
    """The one figure by which training chooses, and its name; more is better."""
    if answers.task == "regression":
        return "R²", 1 - log_loss(answers)
    if answers.task == "token":
        return "span F1", span_f1(*_tag_sequences(answers), answers.labels).f1
    average = "micro" if answers.task == "multi-label" else "macro"
    truth, decided = one_hot(answers, answers.truth), one_hot(answers, answers.decided)
    if average == "macro":  # a label that does not occur here cannot be found
        occurring = truth.any(axis=0) | decided.any(axis=0)
        truth, decided = truth[:, occurring], decided[:, occurring]
    return f"{average} F1", _averaged(by_label(truth, decided), average)["f1"]


def log_loss(answers: Answers) -> float:
    """Mean over rows of the negative log of what was given to the truth; over labels too for `multi-label`.

    For `regression` the mean squared error, in parts of the variance of the true values.
    """
    if answers.task == "regression":
        return float(((answers.decided - answers.truth) ** 2).mean() / max(float(answers.truth.var()), 1e-12))
    truth = one_hot(answers, answers.truth)
    scores = np.clip(answers.scores, 1e-12, 1 - 1e-12)
    if answers.task == "multi-label":
        return float(-(truth * np.log(scores) + (1 - truth) * np.log(1 - scores)).mean())
    return float(-np.log(scores[truth.astype(bool)]).mean())


def one_hot(answers: Answers, ids: np.ndarray) -> np.ndarray:
    """0 or 1 [rows, labels] of decisions or truth."""
    given = ids if answers.task == "multi-label" else ids[:, None] == np.arange(len(answers.labels))
    return np.asarray(given, int)


def confidences(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether what they are given to is true, for calibration.

    Of two labels the score of the second; of several the best one's; for `multi-label` every score of every label.
    """
    if answers.task == "multi-label":
        return answers.scores.ravel(), answers.truth.ravel().astype(bool)
    if len(answers.labels) == 2:
        return answers.scores[:, 1], answers.truth == 1
    best = answers.scores.argmax(axis=1)
    return answers.scores.max(axis=1), best == answers.truth


def confusion(answers: Answers) -> np.ndarray:
    """Counts [true label, decided label]."""
    return np.asarray(confusion_matrix(answers.truth, answers.decided, labels=range(len(answers.labels))))


def _labels(answers: Answers, truth: np.ndarray, found: ByLabel) -> dict[str, Any]:
    out = {}
    for i, label in enumerate(answers.labels):
        out[label] = {
            "precision": _rounded(found.precision[i]),
            "recall": _rounded(found.recall[i]),
            "f1": _rounded(found.f1[i]),
            "support": int(found.support[i]),
            "decided": int(found.decided[i]),
            "roc_auc": _area(roc_auc_score, truth[:, i], answers.scores[:, i]),
            "pr_auc": _area(average_precision_score, truth[:, i], answers.scores[:, i]),
        }
    return out


def _averaged(found: ByLabel, kind: str) -> dict[str, float]:
    precision, recall, f1 = found.average(kind)
    return {"precision": _rounded(precision), "recall": _rounded(recall), "f1": _rounded(f1)}


def _area(area: Callable[..., float], truth: np.ndarray, scores: np.ndarray) -> float | None:
    """None where a label is true of all rows or of none."""
    return _rounded(area(truth, scores)) if 0 < truth.sum() < len(truth) else None


def _mean_area(area: Callable[..., float], truth: np.ndarray, scores: np.ndarray) -> float | None:
    areas = [_area(area, truth[:, i], scores[:, i]) for i in range(truth.shape[1])]
    known = [each for each in areas if each is not None]
    return _rounded(float(np.mean(known))) if known else None


def _tag_sequences(answers: Answers) -> tuple[list[list[str]], list[list[str]]]:
    return answers.sequences(answers.truth), answers.sequences(answers.decided)


def _by_type(found: SpanScores) -> dict[str, Any]:
    types = {kind: _score(each) for kind, each in found.types.items() if kind != OUTSIDE}
    return {**_score(found), "types": types}


def _score(score: Any) -> dict[str, float]:
    rounded = {name: _rounded(getattr(score, name)) for name in ("precision", "recall", "f1")}
    return {**rounded, "support": score.support}


def _regression(answers: Answers) -> dict[str, Any]:
    truth, found = answers.truth, answers.decided
    return {
        "mean_absolute_error": _rounded(mean_absolute_error(truth, found)),
        "root_mean_squared_error": _rounded(root_mean_squared_error(truth, found)),
        "r2": _rounded(r2_score(truth, found)) if len(truth) > 1 else None,
        "pearson": _correlation(pearsonr, truth, found),
        "spearman": _correlation(spearmanr, truth, found),
    }


def _correlation(of: Callable[..., Any], truth: np.ndarray, found: np.ndarray) -> float | None:
    """None where either does not vary."""
    return _rounded(of(truth, found).statistic) if truth.std() > 0 and found.std() > 0 else None


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
