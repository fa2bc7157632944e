"""The recipe of the default bundle: `python -m worker.model.spam.__main__ --data DIR` makes it again.

DIR holds `sms_spam/train.jsonl`, `sms_spam/test.jsonl`, `youtube_spam/comments.jsonl` and `enron_spam/mails.jsonl`, one
`{"text", "label"}` a line: the SMS Spam Collection and the YouTube Spam Collection of the UCI repository, and the
folders enron1 to enron4 of Enron-Spam with mails cut at 3,000 characters. The encoder comes with the extra `train`.
Needs torch, and about forty minutes of two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import Progress
from tokenizers import Tokenizer

from worker.model.assemble import config_json, plain_tokenizer
from worker.model.spam import card as spam_card
from worker.model.spam import making as spam_bundle
from worker.model.spam.texts import EXTRA, LABELS, Splits, augment, load_splits
from worker.model.training import encoder
from worker.model.training.fine_tuning import Pair, Settings, fine_tune, new_model

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from worker.model.training.encoder import Encoder

# Most batches see mails cut short: their first lines tell them apart, and training takes a third of the time.
_LENGTHS = ((64, 0.4), (128, 0.5), (256, 0.1))


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    `start` names the earlier runs whose average it starts from; none: the encoder under a new head. The counts say how
    often an epoch shows each text, for mails how many it draws.
    """

    start: tuple[str, ...]
    settings: Settings
    sms: int
    comments: int
    modern: int
    mails: int


RUNS = {
    "first": Run((), Settings(epochs=3, lengths=_LENGTHS, seed=1), sms=1, comments=2, modern=0, mails=2500),
    "second": Run(
        ("first",),
        Settings(epochs=2, smoothing=0.03, warmup=0.05, lengths=_LENGTHS, seed=11),
        sms=2,
        comments=3,
        modern=0,
        mails=1500,
    ),
    "third": Run(
        ("first",),
        Settings(epochs=2, batch=40, rate=1.2e-4, smoothing=0.03, warmup=0.05, lengths=_LENGTHS, seed=12),
        sms=2,
        comments=3,
        modern=4,
        mails=1500,
    ),
    "fourth": Run(
        ("first", "second"),
        Settings(epochs=1, smoothing=0.06, warmup=0.05, lengths=_LENGTHS, seed=21),
        sms=2,
        comments=2,
        modern=4,
        mails=1200,
    ),
}
# The runs whose average is the bundle; docs/models.md has what validation said of other choices.
CHOSEN = ("first", "second", "third", "fourth")


def train(base: Encoder, splits: Splits, report: Callable[[str, int, int, float], None]) -> dict[str, np.ndarray]:
    """Goes through `RUNS`; `report` gets the run's name, its step, its number of steps, and the loss."""
    config = config_json(base.config, LABELS) | {"attention_dropout": 0.0, "seq_classif_dropout": 0.1}
    tokenizer = Tokenizer.from_str(plain_tokenizer(base.tokenizer).decode())
    done: dict[str, dict[str, np.ndarray]] = {}
    for name, run in RUNS.items():
        start = average([done[earlier] for earlier in run.start]) if run.start else base.tensors
        model = new_model(config, start, run.settings.seed)
        done[name] = fine_tune(model, tokenizer, _epochs(run, splits), run.settings, partial(report, name))
    return average([done[name] for name in CHOSEN])


def average(runs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The mean of each tensor: runs that began at the same weights end in one valley, and its middle is better."""
    stacked = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    return {name: each.mean(axis=0, dtype=np.float64).astype(np.float32) for name, each in stacked.items()}


def _epochs(run: Run, splits: Splits) -> Callable[[int, random.Random], list[Pair]]:
    """Each epoch draws its mails and augments every text anew."""
    by_channel = {name: [row for row in splits.train if row.channel == name] for name in spam_card.CHANNELS}

    def epoch(_: int, rng: random.Random) -> list[Pair]:
        rows = by_channel["sms"] * run.sms + by_channel["comments"] * run.comments + by_channel["modern"] * run.modern
        rows += rng.sample(by_channel["mails"], min(run.mails, len(by_channel["mails"])))
        return [(augment(row, rng), (1.0 - row.label, float(row.label))) for row in rows]

    return epoch


def main(
    data: Annotated[Path, typer.Option(help="Folder with sms_spam, youtube_spam and enron_spam.")],
    out: Annotated[Path, typer.Option(help="Where the bundle is written.")] = spam_bundle.DEFAULT,
) -> None:
    """Train, quantize, measure and write the default bundle."""
    base, splits = encoder.minilm(), load_splits(data, Path(__file__).with_name(EXTRA))
    with Progress(transient=True) as progress:
        bars: dict[str, Any] = {}

        def report(run: str, step: int, steps: int, loss: float) -> None:
            if run not in bars:
                bars[run] = progress.add_task(run, total=steps)
            progress.update(bars[run], completed=step, description=f"{run} run, loss {loss:.3f}")

        weights = train(base, splits, report)
    made = spam_bundle.make(base, weights, splits, out)
    typer.echo(f"{made.path}: {made.manifest.name}, {made.digest}")
    typer.echo(spam_card.figures_table(made.manifest.evaluation))


if __name__ == "__main__":
    typer.run(main)
