"""The recipe of the default bundle: `python -m worker.model.spam --data DIR` makes it again.

DIR holds `sms_spam/train.jsonl`, `sms_spam/test.jsonl`, `youtube_spam/comments.jsonl` and `enron_spam/mails.jsonl`, one
`{"text", "label"}` a line: the SMS Spam Collection and the YouTube Spam Collection of the UCI repository, and the
folders enron1 to enron4 of Enron-Spam with mails cut at 3,000 characters. The encoder comes with the extra `train`.
Needs torch, and about an hour of two cores that compute in bfloat16, two in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import typer
from rich.progress import Progress
from tokenizers import Tokenizer

from worker.model.assemble import config_json, plain_tokenizer
from worker.model.spam import card, making
from worker.model.spam.texts import EXTRA, LABELS, augment, load_splits
from worker.model.training import encoder
from worker.model.training.fine_tuning import Pair, Settings, fine_tune, new_model

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from worker.model.spam.texts import Splits
    from worker.model.training.encoder import Encoder

# Most batches see mails cut short: their first lines tell them apart, and training takes a third of the time.
_LENGTHS = ((64, 0.4), (128, 0.5), (256, 0.1))


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    `start` gives the share of each earlier run in the average that it starts from; none: the encoder under a new head.
    The counts say how often an epoch shows each text, for mails how many it draws. `styled` adds the project's own
    texts in the style of the collections, `validation` the validation texts.
    """

    start: dict[str, float]
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

RUNS = {
    "a1": Run({}, _FIRST, sms=1, comments=2, modern=0, mails=2500),
    "a2": Run({"a1": 1}, _SECOND, sms=2, comments=3, modern=0, mails=1500),
    "a3": Run({"a1": 1}, _THIRD, sms=2, comments=3, modern=4, mails=1500),
    "a4": Run({"a1": 0.5, "a2": 0.5}, _FOURTH, sms=2, comments=2, modern=4, mails=1200),
    "b1": Run({}, _FIRST, sms=1, comments=2, modern=1, mails=2500, styled=True),
    "b2": Run({"b1": 1}, _SECOND, sms=2, comments=3, modern=2, mails=1500, styled=True),
    "b3": Run({"b1": 1}, _THIRD, sms=2, comments=3, modern=3, mails=1500, styled=True),
    "b4": Run({"b1": 0.5, "b2": 0.5}, _FOURTH, sms=2, comments=2, modern=2, mails=1200, styled=True),
}
# The average that temperature and threshold are fitted for; docs/models.md has what validation said of others.
CHOSEN = {"a1": 0.175, "a2": 0.175, "a3": 0.175, "a4": 0.175, "b1": 0.075, "b2": 0.075, "b3": 0.075, "b4": 0.075}
# One more epoch from there on everything but the test texts; the bundle is the mean of where it starts and ends.
LAST = Run(
    CHOSEN, replace(_FOURTH, seed=31), sms=2, comments=2, modern=2, mails=1200, styled=True, validation=True
)  # fmt: skip
Weights: TypeAlias = "dict[str, np.ndarray]"


class Trainer:
    """Goes through the runs; `report` gets a run's name, its step, its number of steps, and the loss."""

    def __init__(
        self, base: Encoder, splits: Splits, precision: str, report: Callable[[str, int, int, float], None]
    ) -> None:
        self._base = base
        self._splits = splits
        self._precision = precision
        self._report = report
        self._config = config_json(base.config, LABELS) | {"attention_dropout": 0.0, "seq_classif_dropout": 0.1}
        self._tokenizer = Tokenizer.from_str(plain_tokenizer(base.tokenizer).decode())
        self._done: dict[str, Weights] = {}

    def chosen(self) -> Weights:
        """What is to be tuned by the validation texts, which it has not seen."""
        for name, run in RUNS.items():
            self._done[name] = self._trained(name, run)
        return self._average(CHOSEN)

    def last(self) -> Weights:
        """What goes into the bundle."""
        return _mean([(self._average(CHOSEN), 0.5), (self._trained("last", LAST), 0.5)])

    def _trained(self, name: str, run: Run) -> Weights:
        settings = replace(run.settings, precision=self._precision)
        start = self._average(run.start) if run.start else self._base.tensors
        model = new_model(self._config, start, settings.seed)
        return fine_tune(model, self._tokenizer, _epochs(run, self._splits), settings, partial(self._report, name))

    def _average(self, shares: dict[str, float]) -> Weights:
        return _mean([(self._done[name], share) for name, share in shares.items()])


def _mean(runs: list[tuple[Weights, float]]) -> Weights:
    """The weighted mean of each tensor: runs that began at the same weights end in one valley; its middle is better."""
    shares = np.array([share for _, share in runs])

    def mean(name: str) -> np.ndarray:
        return np.tensordot(shares, np.stack([weights[name] for weights, _ in runs]), axes=1).astype(np.float32)

    return {name: mean(name) for name in runs[0][0]}


def _epochs(run: Run, splits: Splits) -> Callable[[int, random.Random], list[Pair]]:
    """Each epoch draws its mails and augments every text anew."""
    rows = [*splits.train, *(splits.styled if run.styled else ()), *(splits.validation if run.validation else ())]
    by_channel = {name: [row for row in rows if row.channel == name] for name in card.CHANNELS}

    def epoch(_: int, rng: random.Random) -> list[Pair]:
        shown = by_channel["sms"] * run.sms + by_channel["comments"] * run.comments + by_channel["modern"] * run.modern
        shown += rng.sample(by_channel["mails"], min(run.mails, len(by_channel["mails"])))
        return [(augment(row, rng), (1.0 - row.label, float(row.label))) for row in shown]

    return epoch


def main(
    data: Annotated[Path, typer.Option(help="Folder with sms_spam, youtube_spam and enron_spam.")],
    out: Annotated[Path, typer.Option(help="Where the bundle is written.")] = making.DEFAULT,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 where the CPU has it.")] = "float32",
) -> None:
    """Train, quantize, measure and write the default bundle."""
    base, splits = encoder.minilm(), load_splits(data, Path(__file__).with_name(EXTRA))
    with Progress(transient=True) as progress:
        bars: dict[str, Any] = {}

        def report(run: str, step: int, steps: int, loss: float) -> None:
            if run not in bars:
                bars[run] = progress.add_task(run, total=steps)
            progress.update(bars[run], completed=step, description=f"{run} run, loss {loss:.3f}")

        trainer = Trainer(base, splits, precision, report)
        decision = making.fit_decision(base, trainer.chosen(), splits)
        weights = trainer.last()
    made = making.make(base, weights, splits, decision, out)
    typer.echo(f"{made.path}: {made.manifest.name}, {made.digest}")
    typer.echo(card.figures_table(made.manifest.evaluation))


if __name__ == "__main__":
    typer.run(main)
