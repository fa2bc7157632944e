"""Pictures of a model's figures, each the text of an SVG, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from worker.model.evaluation import calibration, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from worker.model.evaluation.answers import Answers

_CURVES = 10
CELLS = 24
_BLUE, _RED, _GREY = "#1f5fa8", "#c0392b", "#888888"
# Text as text, and the same names in every run: the same figures give the same file.
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "winnow", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}


def precision_recall(answers: Answers) -> str:
    """Precision over recall of each label; of many labels those whose area is least."""
    truth = measure.one_hot(answers, answers.truth)
    areas = {label: each["pr_auc"] for label, each in measure.measure(answers)["labels"].items()}
    known = sorted((area, label) for label, area in areas.items() if area is not None)[:_CURVES]
    figure, axes = _figure(5.2, 4.2)
    for area, label in known:
        i = answers.labels.index(label)
        precision, recall, _ = precision_recall_curve(truth[:, i], answers.scores[:, i])
        axes.plot(recall, precision, drawstyle="steps-post", linewidth=1.2, label=f"{_short(label)} ({area:.3f})")
    title = "Precision and recall" if len(known) == len(areas) else f"Precision and recall, the {len(known)} weakest"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03), title=title)
    if known:
        axes.legend(loc="lower left", fontsize=8)
    return _svg(figure)


def reliability(answers: Answers) -> str:
    """How often a score is right, in ten bins of the score, and how many scores there are in each."""
    score, true = measure.confidences(answers)
    bins, count = calibration.bin_of(score), calibration.BINS
    counts = np.bincount(bins, minlength=count)
    share = np.bincount(bins, true, count) / np.maximum(counts, 1)
    mean = np.bincount(bins, score, count) / np.maximum(counts, 1)
    figure, axes = _figure(4.4, 4.2)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    axes.bar(
        (np.arange(count) + 0.5) / count, counts / max(counts.max(), 1) * 0.25, 0.09,
        color=_GREY, alpha=0.35, label="how many (not to scale)",
    )  # fmt: skip
    axes.plot(mean[counts > 0], share[counts > 0], "o-", color=_BLUE, label="how often right")
    axes.set(xlabel="score", ylabel="share that is true", xlim=(0, 1.01), ylim=(0, 1.03), title="Reliability")
    axes.legend(loc="best", fontsize=8)
    return _svg(figure)


def confusion(answers: Answers) -> str:
    """What was decided of what is true, as shares of the true label; of many labels those that are mistaken most."""
    counts = measure.confusion(answers)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    chosen, title = np.arange(len(counts)), "Confusion matrix"
    if len(counts) > CELLS:
        mistaken = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        chosen = np.sort(np.argsort(-mistaken, kind="stable")[:CELLS])
        title += f", the {CELLS} labels that are most often mistaken"
    counts, shares = counts[np.ix_(chosen, chosen)], shares[np.ix_(chosen, chosen)]
    labels = [_short(answers.labels[i]) for i in chosen]
    size = 3.0 + 0.32 * len(labels)
    figure, axes = _figure(size, size)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set(xlabel="decided", ylabel="true", title=title)
    for i, j in np.argwhere(counts):
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7,
                  color="white" if shares[i, j] > 0.5 else "black")  # fmt: skip
    return _svg(figure)


def scatter(answers: Answers) -> str:
    """Found over true values of a regression."""
    figure, axes = _figure(4.4, 4.2)
    axes.scatter(answers.truth, answers.decided, s=8, color=_BLUE, alpha=0.5)
    ends = [
        float(min(answers.truth.min(), answers.decided.min())),
        float(max(answers.truth.max(), answers.decided.max())),
    ]
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="true", ylabel="found", title="Values")
    return _svg(figure)


def history(entries: Sequence[dict[str, Any]]) -> str:
    """Loss and figure on validation, by epoch."""
    figure, axes = _figure(5.2, 4.2)
    epochs = [entry["epoch"] for entry in entries]
    axes.plot(epochs, [entry["loss"] for entry in entries], ".-", color=_GREY, label="loss in training")
    axes.plot(epochs, [entry["validation_loss"] for entry in entries], ".-", color=_RED, label="loss on validation")
    metric = list(entries[0])[-1]
    axes.plot(epochs, [entry[metric] for entry in entries], ".-", color=_BLUE, label=f"{metric} on validation")
    axes.set(xlabel="epoch", title="Training", ylim=(min(0, *(entry[metric] for entry in entries)), None))
    axes.legend(fontsize=8)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :]


def _short(label: str) -> str:
    # A dollar sign would begin a formula.
    return (label if len(label) <= 24 else label[:23] + "…").replace("$", r"\$")
