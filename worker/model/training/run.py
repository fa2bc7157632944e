"""`winnow train` from end to end: data and encoder to a Hugging Face folder, a bundle, and the answers to report on."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import torch

from worker.cpu import usable_cores
from worker.errors import ConfigError
from worker.model.data import Fields
from worker.model.evaluation import answers as judging
from worker.model.evaluation import calibration, measure, report, threshold
from worker.model.evaluation.early_exit import AGREEMENT
from worker.model.importing import place
from worker.model.importing.bounds import MAX_METRIC_DROP, MIN_AGREEMENT
from worker.model.importing.importer import ImportOptions, import_folder
from worker.model.importing.texts import CALIBRATION_TEXTS
from worker.model.manifest import Source
from worker.model.training import bases, corpus, measuring, precision
from worker.model.training.clock import Clock
from worker.model.training.encoder import BASE
from worker.model.training.fine_tuning import Settings
from worker.model.training.fitting import Fitting, Plan, Stopped

if TYPE_CHECKING:
    from worker.model.bundle import Bundle
    from worker.model.data import Example
    from worker.model.training.corpus import Corpus
    from worker.model.training.fitting import Watcher
    from worker.model.training.measuring import Trained

HF, BUNDLE, KEPT, SUMMARY, REPORT = "hf", "bundle", "checkpoint.pt", "training.json", "report.html"
_STEP_OF_LENGTH = 8
_LONGEST_BY_ITSELF = 256


@dataclass(frozen=True)
class Options:
    """What `winnow train` is asked for; None leaves a choice to the data and the encoder."""

    base: str
    data: Path
    out: Path
    validation: Path | None = None
    test: Path | None = None
    task: str = "auto"
    freeze_encoder: bool = False
    early_exit: bool = False
    exit_layer: int | None = None
    exit_agreement: float = AGREEMENT
    freeze_model: bool = False
    epochs: int | None = None
    batch: int | None = None
    rate: float | None = None
    max_length: int | None = None
    label_weights: str = "none"
    patience: int = 3
    share: float = 0.1
    seed: int = 1
    precision: str = "auto"
    train_embeddings: bool = False
    smoothing: float = 0.05
    resume: bool = False
    name: str | None = None
    licence: str | None = None
    min_agreement: float = MIN_AGREEMENT
    max_metric_drop: float = MAX_METRIC_DROP
    fields: Fields = field(default_factory=Fields)


def train(options: Options, watcher: Watcher, begun: float | None = None) -> Trained:
    """Trains, writes `hf`, `bundle`, `report.html` and `training.json` under `options.out`, and measures the bundle.

    `begun` is when the time that `training.json` has began, by `time.monotonic`; None: now.

    Raises:
        ConfigError: the data, the encoder or the folder cannot be used.
        Stopped: the watcher wished so; `options.resume` goes on from there.
        BundleError: INT8 is too far from FP32, and what was trained is in `hf`; or the folder holds something else.
    """
    clock = Clock(begun)
    _check_exit(options)
    _check_folder(options)
    torch.set_num_threads(usable_cores())
    watcher.phase("reading the texts", 0)
    texts = _corpus(options)
    watcher.phase("loading the encoder", 0)
    base, texts = _base(options, texts)
    watcher.phase("looking at lengths and speed", 0)
    plan = _plan(options, base, texts)
    _make_folder(options.out)
    fitting = Fitting(base, texts, plan, options.out / KEPT, watcher, clock)
    fitting.run(options.resume)
    base.save(options.out / HF, plan.max_length)
    _stop_if_wished(watcher)
    clock.phase("quantizing")
    made = _imported(options, texts, plan, fitting, watcher)
    _stop_if_wished(watcher)
    clock.phase("measuring")
    trained = measuring.measured(made, texts, fitting, watcher)
    page = report.report(trained.bundle, trained.answers, trained.measured_on, trained.history, trained.fp32)
    (options.out / REPORT).write_text(page, "utf-8")
    _write_summary(options, plan, texts, trained, clock)
    return trained


def _check_exit(options: Options) -> None:
    for name, given in (("exit-layer", options.exit_layer is not None), ("freeze-model", options.freeze_model)):
        if given and not options.early_exit:
            raise ConfigError(f"--{name} has no meaning without --early-exit: add it, or leave --{name} out.")


def _base(options: Options, texts: Corpus) -> tuple[bases.Base, Corpus]:
    """The encoder, and the texts by the labels that it has or gets."""
    if options.early_exit and texts.task != "single-label":
        raise ConfigError(f"--early-exit is for texts with one label, and {options.data} is for {texts.task}.")
    if options.freeze_model:
        texts = _by_labels_of(options.base, texts, str(options.data))
    exit_layer = (options.exit_layer or 0) if options.early_exit else None
    task, labels = texts.task, texts.labels
    base = bases.load(options.base, task, labels, options.seed, exit_layer, fine_tuned=options.freeze_model)  # type: ignore[arg-type]
    return base, texts


def _by_labels_of(base: str, texts: Corpus, name: str) -> Corpus:
    """The texts by the labels of a fine-tuned checkpoint, which may know more than they have."""
    labels, model = bases.own_labels(base), f"--base {base}"

    def named(examples: list[Example]) -> list[Example]:
        if not examples:
            return []
        by_name, _ = judging.by_name(texts.task, labels, examples, name, model)
        judging.check(texts.task, labels, by_name, name, model)
        return list(by_name)

    return texts._replace(
        labels=labels, train=named(texts.train), validation=named(texts.validation), test=named(texts.test)
    )


def _stop_if_wished(watcher: Watcher) -> None:
    """Between the steps after training, which are done again where a training goes on."""
    if watcher.stopping():
        raise Stopped


def _imported(options: Options, texts: Corpus, plan: Plan, fitting: Fitting, watcher: Watcher) -> Bundle:
    temperature, thresholds = _fitted(texts, fitting.validation_logits)
    watcher.phase("building and comparing INT8", 0)
    return import_folder(
        options.out / HF, options.out / BUNDLE, _import_options(options, texts, plan, temperature, thresholds)
    )


def _check_folder(options: Options) -> None:
    """Before the work: whether what comes of it can be written."""
    if os.path.exists(options.out / KEPT) and not options.resume:
        raise ConfigError(f"{options.out} holds a training already: go on with --resume, or name another --out.")
    if os.path.exists(options.out) and not os.path.isdir(options.out):
        raise ConfigError(f"--out {options.out} is a file: name a folder.")
    place.check(options.out / BUNDLE)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made ({error.strerror}): name a folder that is yours.") from None


def _corpus(options: Options) -> Corpus:
    return corpus.load(
        options.data,
        options.validation,
        options.test,
        task=options.task,
        share=options.share,
        seed=options.seed,
        fields=options.fields,
    )


def _plan(options: Options, base: bases.Base, texts: Corpus) -> Plan:
    """Fills in what was left open: small encoders take larger steps, and a head alone still larger ones."""
    frozen, hidden = options.freeze_encoder or options.freeze_model, base.model.config.hidden_size
    settings = Settings(
        epochs=options.epochs or (60 if frozen else 4),
        batch=options.batch or (64 if frozen else 32),
        rate=options.rate or (2e-3 if frozen else min(2e-4, 2e-4 * 384 / hidden)),
        weight_decay=0.01,
        smoothing=options.smoothing,
        freeze_embeddings=not options.train_embeddings,
        seed=options.seed,
        precision=precision.choose(options.precision),
    )
    return Plan(
        settings, _max_length(options, base, texts), frozen, options.patience * (2 if frozen else 1),
        options.label_weights, options.freeze_model,
    )  # fmt: skip


def _max_length(options: Options, base: bases.Base, texts: Corpus) -> int:
    """What 98 of 100 texts need, rounded up, but no more than 256 unless it is asked for."""
    if options.max_length is not None and options.max_length > base.longest:
        raise ConfigError(
            f"--max-length {options.max_length} is more than the {base.longest} tokens that {base.name} reads: "
            "lower it."
        )
    if options.max_length is not None:
        return options.max_length
    lengths = [len(e.ids) for e in base.tokenizer.encode_batch([example.text for example in texts.train])]
    needed = int(np.ceil(np.quantile(lengths, 0.98) / _STEP_OF_LENGTH)) * _STEP_OF_LENGTH
    return int(min(max(needed, 2 * _STEP_OF_LENGTH), _LONGEST_BY_ITSELF, base.longest))


def _fitted(texts: Corpus, logits: np.ndarray) -> tuple[float, dict[str, float]]:
    """Temperature, and for `multi-label` a threshold a label, by the validation texts."""
    if texts.task == "regression":
        return 1.0, {}
    truth = judging.truth_of(texts.task, texts.labels, texts.validation)
    temperature = calibration.fit_temperature(texts.task, logits, truth)
    if texts.task != "multi-label":
        return temperature, {}
    return temperature, threshold.best_f1(texts.labels, judging.activated(texts.task, logits, temperature), truth)


def _import_options(
    options: Options, texts: Corpus, plan: Plan, temperature: float, thresholds: dict[str, float]
) -> ImportOptions:
    own = options.base == bases.MINILM
    drawn = random.Random(options.seed).sample(texts.train, len(texts.train))
    return ImportOptions(
        name=options.name or options.out.resolve().name.lower(),
        calibration=drawn[:CALIBRATION_TEXTS],
        # However few they are: on what was learnt by heart INT8 agrees more.
        gate=texts.validation,
        gate_source="validation texts, which neither training nor calibration saw",
        calibration_source="training texts",
        min_agreement=options.min_agreement,
        max_metric_drop=options.max_metric_drop,
        max_length=plan.max_length,
        licence=options.licence,
        base_model=BASE if own else Source(name=Path(options.base).name, licence="see the encoder's own card"),
        thresholds=thresholds,
        temperature=temperature,
        exit_agreement=options.exit_agreement if options.early_exit else None,
    )


def _write_summary(options: Options, plan: Plan, texts: Corpus, trained: Trained, clock: Clock) -> None:
    settings = {name: value for name, value in vars(plan.settings).items() if name != "lengths"}
    early = trained.bundle.manifest.early_exit
    document = {
        "base": options.base,
        "task": texts.task,
        "labels": len(texts.labels),
        "texts": {"train": len(texts.train), "validation": len(texts.validation), "test": len(texts.test)},
        "seconds": clock.seconds(),
        "phases": clock.phases(),
        "max_length": plan.max_length,
        "freeze_encoder": plan.freeze_encoder,
        "freeze_model": plan.freeze_model,
        "early_exit": early.model_dump(mode="json") if early else None,
        "label_weights": plan.label_weights,
        "settings": settings,
        "history": trained.history,
        "temperature": trained.bundle.manifest.temperature,
        "thresholds": trained.bundle.manifest.thresholds,
        "measured_on": trained.measured_on,
        "notes": list(trained.answers.notes),
        "int8": measure.measure(trained.whole),
        "fp32": measure.measure(trained.fp32),
        "same_decision": round(measuring.agreement(trained.whole, trained.fp32), 4),
    }
    if trained.answers.left is not None:
        document["with_exits"] = measure.measure(trained.answers)
    if texts.task == "multi-label":
        document["same_set"] = round(measuring.same_set(trained.whole, trained.fp32), 4)
    options_ = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (options.out / SUMMARY).write_bytes(orjson.dumps(document, option=options_))
