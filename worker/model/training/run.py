"""`winnow train` from end to end: data and encoder to a Hugging Face folder, a bundle, and the answers to report on."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
import torch

from worker.cpu import usable_cores
from worker.errors import ConfigError
from worker.model import bundle
from worker.model.data import Fields
from worker.model.evaluation import answers as judging
from worker.model.evaluation import calibration, measure, report, threshold
from worker.model.evaluation.predict import Predictor
from worker.model.evaluation.serving import Serving
from worker.model.importing import place
from worker.model.importing.bounds import MAX_METRIC_DROP, MIN_AGREEMENT
from worker.model.importing.gate import NEAR
from worker.model.importing.importer import ImportOptions, import_folder
from worker.model.importing.texts import CALIBRATION_TEXTS
from worker.model.manifest import Evaluation, Source
from worker.model.training import bases, corpus, precision
from worker.model.training.clock import Clock
from worker.model.training.encoder import BASE
from worker.model.training.fine_tuning import Settings
from worker.model.training.fitting import Fitting, Plan, Stopped
from worker.model.words import counted
from worker.sections import EntitySettings

if TYPE_CHECKING:
    from worker.model.bundle import Bundle
    from worker.model.evaluation.answers import Answers
    from worker.model.training.corpus import Corpus
    from worker.model.training.fitting import Watcher
    from worker.pipeline.entities import Strategy

HF, BUNDLE, KEPT, SUMMARY, REPORT = "hf", "bundle", "checkpoint.pt", "training.json", "report.html"
_AGGREGATIONS: tuple[Strategy, ...] = ("simple", "first", "average", "max")
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


class Trained(NamedTuple):
    """A bundle, what it says of held-out texts, and how it came to be."""

    bundle: Bundle
    answers: Answers
    measured_on: str
    fp32: Answers
    history: list[dict[str, Any]]


def train(options: Options, watcher: Watcher, begun: float | None = None) -> Trained:
    """Trains, writes `hf`, `bundle`, `report.html` and `training.json` under `options.out`, and measures the bundle.

    `begun` is when the time that `training.json` has began, by `time.monotonic`; None: now.

    Raises:
        ConfigError: the data, the encoder or the folder cannot be used.
        Stopped: the watcher wished so; `options.resume` goes on from there.
        BundleError: INT8 is too far from FP32, and what was trained is in `hf`; or the folder holds something else.
    """
    clock = Clock(begun)
    _check_folder(options)
    torch.set_num_threads(usable_cores())
    watcher.phase("reading the texts", 0)
    texts = _corpus(options)
    watcher.phase("loading the encoder", 0)
    base = bases.load(options.base, texts.task, texts.labels, options.seed)  # type: ignore[arg-type]
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
    trained = _measured(made, texts, fitting, watcher)
    page = report.report(trained.bundle, trained.answers, trained.measured_on, trained.history, trained.fp32)
    (options.out / REPORT).write_text(page, "utf-8")
    _write_summary(options, plan, texts, trained, clock)
    return trained


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


def _measured(made: Bundle, texts: Corpus, fitting: Fitting, watcher: Watcher) -> Trained:
    """The bundle with its figures on the test texts, or without any on those of validation."""
    held, name = (texts.test, "test") if texts.test else (texts.validation, "validation")
    watcher.phase(f"measuring on {name}", len(held))
    found = Predictor(made)(held, watcher.step)
    found = replace(found, notes=_notes(made, texts, watcher))
    manifest = made.manifest
    fp32 = judging.answers(
        texts.task, texts.labels, held, fitting.logits(held),
        temperature=manifest.temperature, thresholds=manifest.thresholds,
    )  # fmt: skip
    made = bundle.amend(made, {"evaluation": [*manifest.evaluation, _evaluation(name, found, fp32)]})
    return Trained(made, found, name, fp32, fitting.history)


def _notes(made: Bundle, texts: Corpus, watcher: Watcher) -> tuple[str, ...]:
    """What the validation texts decided, or were too few to decide."""
    if texts.task == "multi-label":
        return _unfitted(texts)
    if texts.task != "token":
        return ()
    watcher.phase("joining tokens in other ways on validation", len(_AGGREGATIONS) * len(texts.validation))
    return (_best_aggregation({each: _joined(made, texts, each, watcher) for each in _AGGREGATIONS}),)


def _unfitted(texts: Corpus) -> tuple[str, ...]:
    counts = judging.truth_of(texts.task, texts.labels, texts.validation).sum(axis=0)
    few = int((counts < threshold.ENOUGH).sum())
    if not few:
        return ()
    return (
        f"{few} of {counted(len(texts.labels), 'label')} kept the threshold 0.5, because fewer than "
        f"{threshold.ENOUGH} validation texts have them",
    )


def _joined(made: Bundle, texts: Corpus, aggregation: Strategy, watcher: Watcher) -> float:
    """F1 of the entities of the validation texts as they are served with an aggregation."""
    serving = Serving(entities=EntitySettings(aggregation=aggregation))
    served = Predictor(made, serving)(texts.validation, watcher.step).served
    return served.scores().f1 if served else 0.0


def _best_aggregation(f1: dict[Strategy, float]) -> str:
    usual = EntitySettings().aggregation
    best = max(f1, key=lambda each: (round(f1[each], 4), each == usual))
    said = f"entities as served have an F1 of {f1[usual]:.4f} on validation with entities.aggregation={usual}"
    if best == usual:
        return f"{said}, the default, and no other aggregation does better"
    return f"{said}, the default, and {f1[best]:.4f} with {best}, which does best"


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
    frozen, hidden = options.freeze_encoder, base.model.config.hidden_size
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
        options.label_weights,
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
    )


def _evaluation(name: str, found: Answers, fp32: Answers) -> dict[str, Any]:
    counts = measure.measure(found).get("labels", {})
    return Evaluation(
        channel=name,
        texts=len(found.ids),
        per_label={label: each["support"] for label, each in counts.items()},
        quantized=measure.figures(found),
        fp32=measure.figures(fp32),
        same_label=round(agreement(found, fp32), 4),
    ).model_dump(mode="json")


def agreement(one: Answers, other: Answers) -> float:
    """The share of decisions that are the same, as the gate counts them: texts, words, or pairs of a text and a label.

    Values are, within a twentieth of what FP32's differ by.
    """
    if one.task == "regression":
        return float((np.abs(one.decided - other.decided) <= NEAR * other.decided.std()).mean())
    return float((one.decided == other.decided).mean())


def same_set(one: Answers, other: Answers) -> float:
    """For `multi-label` the share of texts whose labels are all the same."""
    return float((one.decided == other.decided).all(axis=1).mean())


def _write_summary(options: Options, plan: Plan, texts: Corpus, trained: Trained, clock: Clock) -> None:
    settings = {name: value for name, value in vars(plan.settings).items() if name != "lengths"}
    document = {
        "base": options.base,
        "task": texts.task,
        "labels": len(texts.labels),
        "texts": {"train": len(texts.train), "validation": len(texts.validation), "test": len(texts.test)},
        "seconds": clock.seconds(),
        "phases": clock.phases(),
        "max_length": plan.max_length,
        "freeze_encoder": plan.freeze_encoder,
        "label_weights": plan.label_weights,
        "settings": settings,
        "history": trained.history,
        "temperature": trained.bundle.manifest.temperature,
        "thresholds": trained.bundle.manifest.thresholds,
        "measured_on": trained.measured_on,
        "notes": list(trained.answers.notes),
        "int8": measure.measure(trained.answers),
        "fp32": measure.measure(trained.fp32),
        "same_decision": round(agreement(trained.answers, trained.fp32), 4),
    }
    if texts.task == "multi-label":
        document["same_set"] = round(same_set(trained.answers, trained.fp32), 4)
    options_ = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (options.out / SUMMARY).write_bytes(orjson.dumps(document, option=options_))
