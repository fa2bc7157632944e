"""From a corpus to trained weights: epochs with early stopping, kept after each so that a training can go on later."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import orjson
import torch

from worker.errors import ConfigError
from worker.model.evaluation import answers as judging
from worker.model.evaluation import measure, predict
from worker.model.training import corpus as corpora
from worker.model.training import early_exit, frozen
from worker.model.training import fine_tuning as train
from worker.model.training.early_exit import BothHeads, LikeTheLast
from worker.model.training.objectives import Sigmoid, Softmax, Squares, Tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from worker.model.data import Example
    from worker.model.evaluation.predict import Encoded
    from worker.model.training.bases import Base
    from worker.model.training.clock import Clock
    from worker.model.training.corpus import Corpus
    from worker.model.training.objectives import Objective

_OBJECTIVES: dict[str, type[Softmax | Sigmoid | Tags]] = {
    "single-label": Softmax,
    "multi-label": Sigmoid,
    "token": Tags,
}
_FORMAT = 2
_EARLY_SHARE = 0.3
_MOST_MEMORY = 0.7
"""Of the machine's, for what a frozen encoder says."""
"""How much the early head's loss counts beside that of all layers."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products as small as a head's take longer on several cores than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rescale(model: torch.nn.Module, mean: float, deviation: float) -> None:
    """Lets a model of one value give the value itself, where it learnt how many deviations it is from the mean."""
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(deviation)
        last.bias.mul_(deviation).add_(mean)


class Watcher(Protocol):
    """Is told how a training goes."""

    def phase(self, name: str, total: int) -> None:
        """A stretch of work begins that has `total` steps; 0 where nobody knows."""

    def step(self, done: int, text: str = "") -> None:
        """So many more steps are done."""

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch is over: `epoch` from 1, `loss`, `validation_loss`, and the metric by its name."""

    def stopping(self) -> bool:
        """Whether the training is to stop after this step."""


class Stopped(Exception):
    """The training was stopped; what it had learnt is kept."""


@dataclass(frozen=True)
class Plan:
    """How a corpus is learnt.

    Attributes:
        settings: of the steps; `epochs` at most.
        max_length: tokens of a text that are read.
        freeze_encoder: learn the head alone, or both where there is an early one.
        patience: epochs without a better figure on validation after which training ends.
        label_weights: `none`, `root` or `balanced`.
        freeze_model: of the heads learn the early one alone.
    """

    settings: train.Settings
    max_length: int
    freeze_encoder: bool
    patience: int
    label_weights: str
    freeze_model: bool = False


class Fitting:
    """One training of one model; `run` leaves the best weights in it.

    Args:
        base: an encoder under a new head.
        corpus: what is learnt.
        plan: how.
        kept: the file that holds what is needed to go on.
        watcher: is told how it goes.
        clock: counts the time; what is kept has the time up to then, what is resumed adds it.
    """

    def __init__(self, base: Base, corpus: Corpus, plan: Plan, kept: Path, watcher: Watcher, clock: Clock) -> None:
        self._base = base
        self._corpus = corpus
        self._plan = plan
        self._kept = kept
        self._watcher = watcher
        self._clock = clock
        self._pad = partial(train.padded, pad_id=base.pad_id)
        self.early_layer = early_exit.layer_of(base.model)
        base.tokenizer.no_padding()
        base.tokenizer.enable_truncation(plan.max_length)
        self.history: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._best: dict[str, torch.Tensor] = {}
        self._best_logits = np.empty(0)
        self._done = False

    def run(self, resume: bool) -> None:
        """Trains until the figure on validation stops rising, or the epochs are over.

        Raises:
            Stopped: the watcher wished so.
            ConfigError: `resume` finds nothing, or what another training left; what is kept cannot be written.
        """
        examples = self._encode(self._corpus.train), self._encode(self._corpus.validation)
        if not self._plan.freeze_encoder:
            self._base.model.base_model.embeddings.requires_grad_(not self._plan.settings.freeze_embeddings)
            self._fit([e.ids for e in examples[0]], [e.ids for e in examples[1]], examples, self._pad, resume)
            return
        self._check_room([*examples[0], *examples[1]])
        kept = [self._states(each) for each in examples]
        learning = early_exit.alone(self._base.model) if self._plan.freeze_model else nullcontext()
        with learning, frozen.replaced(self._base.model), _one_thread():
            self._fit(kept[0], kept[1], examples, frozen.collate, resume)

    @property
    def validation_logits(self) -> np.ndarray:
        """Logits [rows, labels] of the validation texts, of all layers, as the best epoch gave them."""
        return self._best_logits[:, : len(self._corpus.labels)]

    def logits(self, examples: Sequence[Example]) -> np.ndarray:
        """FP32 logits [rows, labels] of the trained model, computed in FP32."""
        encoded = self._encode(examples)
        found = train.outputs(self._base.model, [each.ids for each in encoded], self._pad)
        return self._by_row(examples, encoded, found)

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return predict.encode(self._base.tokenizer, [example.text for example in examples])

    def _check_room(self, encoded: Sequence[Encoded]) -> None:
        """All that the encoder says is kept in memory: of every token where a head reads every token."""
        whole, layer = self._corpus.task == "token", self.early_layer
        states = sum(1 + len(each.ids) for each in encoded) if whole or layer is not None else len(encoded)
        needed = states * int(self._base.model.config.hidden_size) * (4 if layer is None else 2)
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > _MOST_MEMORY * there:
            raise ConfigError(
                f"What the frozen encoder says of {len(encoded):,} texts takes {needed / 1e9:.1f} GB of memory, and "
                f"this machine has {there / 1e9:.1f}: give fewer texts, or a smaller --max-length."
            )

    def _states(self, encoded: Sequence[Encoded]) -> list[np.ndarray]:
        """What the frozen encoder says of each text; stopping here loses nothing that was learnt."""

        def told(done: int) -> None:
            self._watcher.step(done)
            if self._watcher.stopping():
                raise Stopped

        self._clock.phase("encoder")
        self._watcher.phase("running the encoder", len(encoded))
        rows = [each.ids for each in encoded]
        precision, whole = self._plan.settings.precision, self._corpus.task == "token"
        return frozen.encoded(self._base.model, rows, self._pad, precision, whole, told)

    def _fit(
        self,
        rows: Sequence[Any],
        held: Sequence[Any],
        encoded: tuple[list[Encoded], list[Encoded]],
        collate: train.Collate,
        resume: bool,
    ) -> None:
        corpus, plan = self._corpus, self._plan
        wanted = corpora.targets(corpus.task, corpus.labels, corpus.train, [each.offsets for each in encoded[0]])
        settings = plan.settings
        steps = settings.epochs * -(-len(rows) // settings.batch)
        trainer = train.Trainer(self._base.model, self._objective(), settings, steps, collate)
        mean, deviation = corpora.scale(corpus)

        def validate() -> np.ndarray:
            with trainer.averaged() as model:
                found = train.outputs(model, held, collate, settings.precision)
            return mean + deviation * self._by_row(corpus.validation, encoded[1], found)

        self._clock.phase("training")
        epoch, position = self._restore(trainer) if resume else (0, 0)
        with early_exit.answering(self._base.model) if self.early_layer else nullcontext():
            while epoch < settings.epochs and not self._done:
                self._epoch(trainer, rows, wanted, epoch, position)
                self._judge(trainer, validate(), epoch)
                epoch, position = epoch + 1, 0
                self._keep(trainer, epoch, 0)
        trainer.finish(self._best)
        if corpus.task == "regression":
            _rescale(self._base.model, mean, deviation)

    def _objective(self) -> Objective:
        weights = corpora.label_weights(self._corpus, self._plan.label_weights)
        if self._corpus.task == "regression":
            return Squares(*corpora.scale(self._corpus))
        objective = _OBJECTIVES[self._corpus.task](self._plan.settings.smoothing, weights)
        if self.early_layer is None:
            return objective
        return LikeTheLast() if self._plan.freeze_model else BothHeads(objective, _EARLY_SHARE)

    def _epoch(
        self, trainer: train.Trainer, rows: Sequence[Any], wanted: Sequence[Any], epoch: int, start: int
    ) -> None:
        settings = self._plan.settings
        order = train.batches([len(row) for row in rows], settings.batch, random.Random(f"{settings.seed}:{epoch}"))
        if start == 0:  # a training that goes on brings its own state
            torch.manual_seed(settings.seed * 1_000_003 + epoch)
        self._watcher.phase(f"epoch {epoch + 1} of {settings.epochs}", len(order))
        self._watcher.step(start)
        for position in range(start, len(order)):
            if self._watcher.stopping():
                self._keep(trainer, epoch, position)
                raise Stopped
            batch = order[position]
            self._losses.append(trainer.learn([rows[i] for i in batch], [wanted[i] for i in batch]))
            self._watcher.step(1, f"loss {np.mean(self._losses[-50:]):.3f}")

    def _judge(self, trainer: train.Trainer, logits: np.ndarray, epoch: int) -> None:
        corpus = self._corpus
        *others, decides = [
            judging.answers(corpus.task, corpus.labels, corpus.validation, each) for each in self._by_head(logits)
        ]
        name, value = measure.headline(decides)
        self.history.append(
            {
                "epoch": epoch + 1,
                "loss": round(float(np.mean(self._losses)), 4),
                "validation_loss": round(measure.log_loss(decides), 4),
                **{f"{name} of the other head": round(measure.headline(each)[1], 4) for each in others},
                name: round(value, 4),
            }
        )
        self._losses.clear()
        values = [entry[name] for entry in self.history]
        if values[-1] == max(values) and values.count(max(values)) == 1:
            self._best, self._best_logits = trainer.average(), logits
        self._done = self._is_over()
        self._watcher.epoch(self.history[-1])

    def _by_head(self, logits: np.ndarray) -> list[np.ndarray]:
        """Logits of each head, that which decides last: the one of all layers, unless the early one alone is learnt."""
        if self.early_layer is None:
            return [logits]
        last, early = np.split(logits, 2, axis=1)
        return [last, early] if self._plan.freeze_model else [early, last]

    def _is_over(self) -> bool:
        """Whether the last epochs were in vain, more of them than the patience lasts; none yet is not."""
        # The figure that decides is named by its task, after those that all epochs have.
        values = [list(entry.values())[-1] for entry in self.history]
        return bool(values) and len(values) - 1 - values.index(max(values)) >= self._plan.patience

    def _by_row(self, examples: Sequence[Example], encoded: Sequence[Encoded], found: list[np.ndarray]) -> np.ndarray:
        if self._corpus.task == "token":
            return predict.word_logits(self._corpus.labels, examples, encoded, found)
        return np.stack(found)

    def _keep(self, trainer: train.Trainer, epoch: int, position: int) -> None:
        state = {
            "format": _FORMAT,
            "of": self._identity(),
            "epoch": epoch,
            "position": position,
            "history": self.history,
            "losses": self._losses,
            "best": self._best,
            "best_logits": torch.from_numpy(self._best_logits),
            "trainer": trainer.state(),
            "seconds": self._clock.phases(),
        }
        beside = self._kept.with_suffix(".new")
        try:
            torch.save(state, beside)
            os.replace(beside, self._kept)
        except (OSError, RuntimeError) as error:
            said = str(error).partition("\n")[0]
            raise ConfigError(
                f"{self._kept} cannot be written ({said}): make room, and go on with --resume from what was kept last."
            ) from None

    def _restore(self, trainer: train.Trainer) -> tuple[int, int]:
        """The epoch and the position in it at which to go on."""
        try:
            state = torch.load(self._kept, weights_only=True)
        except OSError:
            raise ConfigError(f"--resume: {self._kept} is missing, so there is nothing to go on from.") from None
        except (RuntimeError, EOFError, UnpicklingError):
            raise ConfigError(
                f"--resume: {self._kept} is damaged or not Winnow's: start anew in another folder."
            ) from None
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ConfigError(f"--resume: {self._kept} is of another version of Winnow: start anew in another folder.")
        if state["of"] != self._identity():
            raise ConfigError(
                f"--resume: {self._kept} is of a training with other texts or settings; give those again, or start "
                "anew in another folder."
            )
        self.history, self._losses, self._best = state["history"], state["losses"], state["best"]
        self._best_logits = state["best_logits"].numpy()
        self._done = self._is_over()  # by the patience of now, which may be another
        trainer.restore(state["trainer"])
        self._clock.add(state["seconds"])
        return int(state["epoch"]), int(state["position"])

    def _identity(self) -> str:
        """A digest of all that the weights depend on, but for the patience."""
        plan, corpus = self._plan, self._corpus
        said = [repr(plan.settings), plan.max_length, plan.freeze_encoder, plan.label_weights, self._base.name]
        said += [] if self.early_layer is None else [self.early_layer, plan.freeze_model]
        digest = hashlib.sha256(orjson.dumps([*said, corpus.task, corpus.labels]))
        for example in (*corpus.train, *corpus.validation):
            digest.update(repr((example.text, example.labels, example.tags)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()
