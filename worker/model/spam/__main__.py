"""The recipe of the default bundle: `python -m worker.model.spam --data DIR` makes it again.

DIR holds `sms_spam/train.jsonl`, `sms_spam/test.jsonl`, `youtube_spam/comments.jsonl` and `enron_spam/mails.jsonl`, one
`{"text", "label"}` a line: the SMS Spam Collection and the YouTube Spam Collection of the UCI repository, and the
folders enron1 to enron4 of Enron-Spam with mails cut at 3,000 characters. The encoder comes with the extra `train`.
Needs torch, 8 GB of memory, and about fifty minutes of two cores that compute in bfloat16, 100 minutes in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import torch
import typer
from rich.progress import Progress
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from worker.model.assemble import config_json, plain_tokenizer
from worker.model.graph.architectures.families import EARLY_EXIT
from worker.model.spam import card, making
from worker.model.spam.early_head import with_early_head
from worker.model.spam.texts import EXTRA, LABELS, augment, load_splits
from worker.model.training import early_exit, encoder
from worker.model.training.fine_tuning import Pair, Settings, fine_tune, load_tensors
from worker.model.training.objectives import Softmax

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from worker.model.spam.texts import Labelled, Splits
    from worker.model.training.encoder import Encoder

# Most batches see mails cut short: their first lines tell them apart, and training takes a third of the time.
_LENGTHS = ((64, 0.4), (128, 0.5), (256, 0.1))
# How much the loss of the early head counts beside that of all layers. What the runs make of that head is not kept:
# the mean of heads is not the head of the mean, so that one is trained alone.
_EXIT_SHARE = 0.5
_DROPOUT = 0.1


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    `start` names the earlier runs whose mean it starts from; none: the encoder under new heads.
    The counts say how often an epoch shows each text, for mails how many it draws. `styled` adds the project's own
    texts in the style of the collections, `validation` the validation texts.
    """

    start: tuple[str, ...]
    settings: Settings
    sms: int
    comments: int
    modern: int
    mails: int
    styled: bool = False
    validation: bool = False


_FIRST = Settings(epochs=3, lengths=_LENGTHS, seed=1)
_SECOND = Settings(epochs=2, smoothing=0.03, warmup=0.05, lengths=_LENGTHS, seed=11)
_THIRD = replace(_SECOND, batch=40, rate=1.2e-4, seed=12)
_FOURTH = Settings(epochs=1, smoothing=0.06, warmup=0.05, lengths=_LENGTHS, seed=21)

# What temperature and threshold are fitted for: their mean. docs/models.md has what validation said of others.
CHOSEN = ("first", "second", "third", "fourth", "fifth")
# The bundle: the mean of that and of one more epoch from there, twice, on everything but the test texts.
LAST = ("last", "last again")
_EVERYTHING = Run(CHOSEN, _FOURTH, sms=2, comments=2, modern=2, mails=1200, styled=True, validation=True)
RUNS = {
    "first": Run((), _FIRST, sms=1, comments=2, modern=0, mails=2500),
    "second": Run(("first",), _SECOND, sms=2, comments=3, modern=0, mails=1500),
    "third": Run(("first",), _THIRD, sms=2, comments=3, modern=4, mails=1500),
    "fourth": Run(("first", "second"), _FOURTH, sms=2, comments=2, modern=2, mails=1200, styled=True),
    "fifth": Run(("second", "third"), replace(_FOURTH, seed=22), sms=2, comments=2, modern=2, mails=1200, styled=True),
    "last": replace(_EVERYTHING, settings=replace(_FOURTH, seed=31)),
    "last again": replace(_EVERYTHING, settings=replace(_FOURTH, seed=32)),
}
Weights: TypeAlias = "dict[str, np.ndarray]"


class Runs:
    """The runs, each trained when it is first asked for.

    Args:
        base: the encoder.
        splits: the texts.
        precision: of the training.
        keep: a folder that finished runs are kept in, and taken from; None: they are kept in memory alone.
        report: gets a run's name, its step, its number of steps, and the loss.
    """

    def __init__(
        self,
        base: Encoder,
        splits: Splits,
        precision: str,
        keep: Path | None,
        report: Callable[[str, int, int, float], None],
    ) -> None:
        self._base = base
        self._splits = splits
        self._precision = precision
        self._keep = keep
        self._report = report
        self._config = config_json(base.config, LABELS) | {"attention_dropout": 0.0, "seq_classif_dropout": _DROPOUT}
        self._tokenizer = Tokenizer.from_str(plain_tokenizer(base.tokenizer).decode())
        self._done: dict[str, Weights] = {}

    def mean(self, names: tuple[str, ...]) -> Weights:
        return _mean([self[name] for name in names])

    def chosen(self, *, early: bool) -> Weights:
        """What has seen no validation text; with `early`, under an early head of its own."""
        splits, weights = self._splits, _without_early_head(self.mean(CHOSEN))
        if not early:
            return weights
        return self._with_early_head("early head", weights, [*splits.train, *splits.styled])

    def bundle(self, *, early: bool) -> Weights:
        splits, weights = self._splits, _without_early_head(_mean([self.mean(CHOSEN), *(self[n] for n in LAST)]))
        if not early:
            return weights
        rows = [*splits.train, *splits.styled, *splits.validation]
        return self._with_early_head("early head, last", weights, rows)

    def __getitem__(self, name: str) -> Weights:
        if name not in self._done:
            self._done[name] = self._kept(name) or self._trained(name, RUNS[name])
        return self._done[name]

    def _kept(self, name: str) -> Weights | None:
        path = self._keep and self._keep / f"{name}.safetensors"
        return load_file(path) if path and path.exists() else None

    def _model(self, start: Weights, seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        model = DistilBertForSequenceClassification(DistilBertConfig(**self._config))
        early_exit.add(model, making.EXIT_LAYER, _DROPOUT)
        load_tensors(model, start)
        return model

    def _with_early_head(self, name: str, weights: Weights, rows: list[Labelled]) -> Weights:
        return with_early_head(self._base, weights, self._splits, rows, partial(self._report, name))

    def _trained(self, name: str, run: Run) -> Weights:
        start = self.mean(run.start) if run.start else self._base.tensors
        settings = replace(run.settings, precision=self._precision)
        model = self._model(start, settings.seed)
        objective = early_exit.BothHeads(Softmax(settings.smoothing), _EXIT_SHARE)
        epochs, report = _epochs(run, self._splits), partial(self._report, name)
        with early_exit.answering(model):
            trained = fine_tune(model, self._tokenizer, epochs, objective, settings, report)
        if self._keep:
            self._keep.mkdir(parents=True, exist_ok=True)
            save_file(trained, self._keep / f"{name}.safetensors")
        return trained


def _mean(runs: list[Weights]) -> Weights:
    """The mean of each tensor: runs that began at the same weights end in one valley, and its middle is better."""
    stacked = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    return {name: each.mean(axis=0, dtype=np.float64).astype(np.float32) for name, each in stacked.items()}


def _without_early_head(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(EARLY_EXIT)}


def _epochs(run: Run, splits: Splits) -> Callable[[int, random.Random], list[Pair]]:
    """Each epoch draws its mails and augments every text anew."""
    rows = [*splits.train, *(splits.styled if run.styled else ()), *(splits.validation if run.validation else ())]
    by_channel = {name: [row for row in rows if row.channel == name] for name in card.CHANNELS}

    def epoch(_: int, rng: random.Random) -> list[Pair]:
        shown = by_channel["sms"] * run.sms + by_channel["comments"] * run.comments + by_channel["modern"] * run.modern
        shown += rng.sample(by_channel["mails"], min(run.mails, len(by_channel["mails"])))
        return [(augment(row, rng), _target(row)) for row in shown]

    return epoch


def _target(row: Labelled) -> tuple[float, float]:
    """The probability of each label."""
    return 1.0 - row.label, float(row.label)


def main(
    data: Annotated[Path, typer.Option(help="Folder with sms_spam, youtube_spam and enron_spam.")],
    out: Annotated[Path, typer.Option(help="Where the bundle is written.")] = making.DEFAULT,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 where the CPU has it.")] = "float32",
    keep: Annotated[Path | None, typer.Option(help="Keep finished runs here, and go on from them.")] = None,
    early: Annotated[bool, typer.Option("--early-exit/--one-stage", help="Clear texts leave after two layers.")] = True,
) -> None:
    """Train, quantize, measure and write the default bundle."""
    base, splits = encoder.minilm(), load_splits(data, Path(__file__).with_name(EXTRA))
    with Progress(transient=True) as progress:
        bars: dict[str, Any] = {}

        def report(run: str, step: int, steps: int, loss: float) -> None:
            if run not in bars:
                bars[run] = progress.add_task(run, total=steps)
            progress.update(bars[run], completed=step, description=f"{run} run, loss {loss:.3f}")

        runs = Runs(base, splits, precision, keep, report)
        decision = making.fit_decision(base, runs.chosen(early=early), splits, early=early)
        weights = runs.bundle(early=early)
    made = making.make(base, weights, splits, decision, out)
    typer.echo(f"{made.path}: {made.manifest.name}, {made.digest}")
    typer.echo(card.figures_table(made.manifest.evaluation))


if __name__ == "__main__":
    typer.run(main)
