"""Somebody's model to a bundle: `winnow model import`, and the last step of `winnow train`.

    checkpoint (safetensors) ─► network ─► FP32 over the texts ─► static INT8 ─► gate ─► bundle
    ONNX with --rebuild      ─► network, proven against the graph it came from ─► the same
    ONNX                     ─► looked at, and served as it is (gate only where its FP32 form lies beside it)

Nothing of a model is executed but the operators of its graph, which ONNX Runtime itself has.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.assemble import Encode
from worker.model.data import Example
from worker.model.evaluation.align import first_pieces
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.importing import (
    checkpoint,
    describing,
    fallback,
    foreign,
    gate,
    probing,
    recover,
    sources,
    vocabulary,
)
from worker.model.manifest import Quantization
from worker.model.session import open_session, run, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.model.graph.network import Network
    from worker.model.importing.describing import Described
    from worker.model.manifest import Evaluation, Source

CALIBRATION_TEXTS = 300
_HELD_OUT = 4
"""Every so many-th text is the gate's …"""
_ENOUGH = 40
"""… from this many texts on; with fewer the gate looks at those that calibration saw."""
_GATE_TEXTS = 500
_SAMPLE = 16
"""Calibration texts on which the parts are tried one by one."""
REBUILT = 1e-3
"""How far apart the logits of a graph and of its rebuilt form may be, in parts of the largest logit beyond 1."""


@dataclass(frozen=True)
class ImportOptions:
    """What an import depends on besides the model.

    Attributes:
        name: of the bundle; None makes one of the folder's.
        calibration: texts like those that the model will see, labelled or not; none takes Winnow's own sample.
        calibration_source: what the manifest says of them.
        min_agreement: least share of equal decisions, INT8 against FP32.
        max_metric_drop: by how much the metric may be worse in INT8, where the texts are labelled.
        max_length: tokens; None takes the model's own.
        weight_limit: `REDUCED_WEIGHT_LIMIT` for CPUs without VNNI.
        licence: of the model; None takes what its card says.
        base_model: what it was trained from.
        data: what it was trained and calibrated with.
        evaluation: figures measured elsewhere.
        thresholds: by label.
        temperature: divides the logits.
        labels: names in the order of their ids; none takes the model's own.
        task: of the manifest; None takes what the model says.
        lowercase: None takes what the tokenizer says.
        onnx_file: the graph to import, by its path in the folder.
        rebuild: make our own graph of an FP32 graph's weights.
    """

    name: str | None = None
    calibration: Sequence[Example] = ()
    calibration_source: str = "texts given by the user"
    min_agreement: float = 0.98
    max_metric_drop: float = 0.02
    max_length: int | None = None
    weight_limit: int = WEIGHT_LIMIT
    licence: str | None = None
    base_model: Source | None = None
    data: tuple[Source, ...] = ()
    evaluation: tuple[Evaluation, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    labels: tuple[str, ...] = ()
    task: str | None = None
    lowercase: bool | None = None
    onnx_file: str | None = None
    rebuild: bool = False


class Imported(NamedTuple):
    """A bundle, how its INT8 graph compared, and what its user should know."""

    bundle: bundle.Bundle
    comparison: gate.Comparison | None
    notes: tuple[str, ...]


class _Made(NamedTuple):
    model: bytes
    quantization: Quantization
    comparison: gate.Comparison | None


def import_folder(folder: Path, out: Path, options: ImportOptions | None = None) -> bundle.Bundle:
    """Makes the bundle `out` of the checkpoint or graph in `folder`.

    Raises:
        BundleError: the model cannot be imported, or INT8 is too far from FP32 (`gate.GateRefused`).
        ConfigError: an option contradicts the model.
    """
    return Importer(folder, options or ImportOptions()).run(out).bundle


class Importer:
    """One import.

    Args:
        folder: of the model.
        options: how.
        say: is told what is going on, in a few words.
    """

    def __init__(self, folder: Path, options: ImportOptions, say: Callable[[str], object] = lambda _: None) -> None:
        self._folder = folder
        self._options = options
        self._say = say
        self._notes: list[str] = []

    def run(self, out: Path) -> Imported:
        """Raises BundleError and ConfigError, as `import_folder` does."""
        bundle.check_place(out)
        options = self._options
        wants_graph = options.onnx_file is not None or options.rebuild
        has_weights = checkpoint.has_weights(self._folder)
        path = foreign.find(self._folder, options.onnx_file) if wants_graph or not has_weights else None
        if path is None and not has_weights:
            sources.refuse_without_model(self._folder)
        if path is None:
            described, made = self._checkpoint()
        elif options.rebuild:
            described, made = self._rebuilt(path)
        else:
            described, made = self._foreign(path)
        self._say("writing the bundle")
        return Imported(self._write(out, described, made), made.comparison, tuple(self._notes))

    def _describe(self, kind: str) -> Described:
        options = self._options
        return describing.describe(
            self._folder,
            kind,
            labels=options.labels,
            task=options.task,
            max_length=options.max_length,
            lowercase=options.lowercase,
        )

    def _checkpoint(self) -> tuple[Described, _Made]:
        self._say("reading the checkpoint")
        config = checkpoint.read_json(self._folder / bundle.CONFIG)
        with checkpoint.open_tensors(self._folder) as tensors:
            network = from_checkpoint(self._named(config), tensors)
            checkpoint.check_all_used(tensors.unread)
        described = self._describe(network.task)
        return described, self._quantized(network, described)

    def _named(self, config: dict[str, Any]) -> dict[str, Any]:
        """config.json with the labels that the options give."""
        labels = self._options.labels
        return config | {"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else config

    def _rebuilt(self, path: Path) -> tuple[Described, _Made]:
        self._say("recovering the weights of the graph")
        graph = foreign.read(path, self._folder)
        config = checkpoint.read_json(self._folder / bundle.CONFIG)
        network = from_checkpoint(self._named(config), recover.tensors(graph.proto, path))
        if network.task != graph.kind:
            raise BundleError(f"{path} and config.json are of different tasks: take both from the same export.")
        described = self._describe(network.task)

        def prove(rows: Sequence[Sequence[int]], logits: Sequence[np.ndarray]) -> None:
            original = run_each(_session(graph.model, path), rows, pad_id=described.pad_id)
            off = max(float(np.abs(a - b).max()) for a, b in zip(original, logits, strict=True))
            size = max(1.0, max(float(np.abs(a).max()) for a in original))
            if not off <= REBUILT * size:
                raise BundleError(
                    f"The graph rebuilt from the weights of {path} does not compute what that graph computes: a logit "
                    f"is off by {off:.3g}. Import it without --rebuild."
                )

        return described, self._quantized(network, described, prove)

    def _quantized(
        self,
        network: Network,
        described: Described,
        prove: Callable[[Sequence[Sequence[int]], Sequence[np.ndarray]], None] | None = None,
    ) -> _Made:
        vocabulary.check_fits(described.tokenizer, len(network.words))
        texts = self._texts(described)
        self._say(f"running FP32 over {len(texts.rows)} texts")
        seen = observe(network, texts.rows)
        if prove is not None:
            prove(texts.rows, seen.logits)
        if not all(np.isfinite(each).all() for each in seen.logits):
            raise BundleError("The FP32 graph gives logits that are not finite numbers: the weights are damaged.")
        quantizer = fallback.Quantizer(network, seen.ranges(texts.calibration), self._options.weight_limit)
        sample = fallback.Sample(*_pick(texts.calibration[:_SAMPLE], texts.rows, seen.logits))
        judge = self._judge(described, texts, [seen.logits[i] for i in texts.gate])
        self._say("building and comparing INT8")
        chosen = fallback.quantize(quantizer, judge, sample, self._say)
        self._check_gate(chosen.comparison, chosen.fp32_parts)
        if chosen.fp32_parts:
            parts = ", ".join(chosen.fp32_parts)
            self._notes.append(f"these parts stayed FP32, because INT8 cost too much there: {parts}")
        return _Made(
            chosen.model,
            Quantization(
                weights="int8 by column",
                activations="static uint8",
                embeddings="float32" if fallback.WORDS in chosen.fp32_parts else "int8 by row",
                fp32_parts=chosen.fp32_parts,
                calibration=f"plain minimum and maximum over {texts.source}",
                calibration_texts=len(texts.calibration),
                against_fp32=chosen.comparison.agreement,
            ),
            chosen.comparison,
        )

    def _foreign(self, path: Path) -> tuple[Described, _Made]:
        self._say(f"reading {path.name}")
        graph = foreign.read(path, self._folder)
        described = self._describe(graph.kind)
        _check_answers(graph, described)
        quantization = Quantization(weights="as imported", activations="as imported", embeddings="as imported")
        self._notes.append(
            f"{path.name} is served as it is; made from the checkpoint itself, or with --rebuild, Winnow's own graph "
            "is faster and gives a text the same score in any company"
        )
        exact = foreign.exact(self._folder, path)
        if exact is None:
            return described, _Made(graph.model, quantization, None)
        texts = self._texts(described)
        self._say(f"comparing with {exact.name} on {len(texts.gate)} texts")
        rows = [texts.rows[i] for i in texts.gate]
        twin = _session(foreign.read(exact, self._folder).model, exact)
        judge = self._judge(described, texts, run_each(twin, rows, pad_id=described.pad_id))
        comparison = judge.compare(run_each(_session(graph.model, path), rows, pad_id=described.pad_id))
        self._check_gate(comparison, ())
        return described, _Made(
            graph.model, quantization.model_copy(update={"against_fp32": comparison.agreement}), comparison
        )

    def _texts(self, described: Described) -> _Texts:
        given = list(self._options.calibration)
        source = self._options.calibration_source
        if not given:
            given = [Example(str(i), text) for i, text in enumerate(probing.neutral_texts())]
            source = "neutral sentences that come with Winnow"
            self._notes.append(
                "calibrated with neutral sentences that come with Winnow: give texts like those that the model will "
                "see with --calibrate"
            )
        return _Texts(given, source, Encode(described.tokenizer, described.max_length))

    def _judge(self, described: Described, texts: _Texts, fp32: Sequence[np.ndarray]) -> fallback.Judge:
        options = self._options
        meaning = gate.Meaning(described.task, described.labels, options.temperature, options.thresholds)
        truth = gate.truth_of(meaning, [texts.examples[i] for i in texts.gate], texts.first)
        if truth is None and texts.examples[0].form != "plain":
            self._notes.append("the texts' labels are not the model's, so there are no figures by label")
        note = "texts that calibration did not see" if texts.held_out else "the same texts that calibration saw"
        return fallback.Judge(
            [texts.rows[i] for i in texts.gate],
            lambda int8: gate.compare(meaning, fp32, int8, truth, note),
            lambda found: found.passes(options.min_agreement, options.max_metric_drop),
        )

    def _check_gate(self, found: gate.Comparison, fp32_parts: Sequence[str]) -> None:
        options = self._options
        if found.passes(options.min_agreement, options.max_metric_drop):
            return
        kept = f", even with {len(fp32_parts)} parts in FP32" if fp32_parts else ""
        if not found.agreement.same_label >= options.min_agreement:
            what = f"agrees with FP32 in {found.agreement.same_label:.4f} of its decisions{kept}"
            bound = f"less than --min-agreement {options.min_agreement:g}"
        else:
            what = f"loses {found.drop:.4f} of {found.metric}{kept}"
            bound = f"more than --max-metric-drop {options.max_metric_drop:g}"
        raise gate.GateRefused(
            f"INT8 {what} on {found.agreement.texts} texts, {bound}: nothing was written. Calibrate with more texts "
            "like those that the model will see, or change the bound.",
            found,
        )

    def _write(self, out: Path, described: Described, made: _Made) -> bundle.Bundle:
        options = self._options
        session, encode = open_session(made.model), Encode(described.tokenizer, described.max_length)
        probes = probing.probes(lambda text: run(session, encode([text]), pad_id=described.pad_id)[0])
        compared = made.comparison.evaluation if made.comparison else None
        fields = {
            "name": _bundle_name(options.name or self._folder.resolve().name),
            "licence": options.licence or describing.licence(self._folder),
            "task": described.task,
            "activation": describing.ACTIVATIONS[described.task],
            "temperature": options.temperature,
            "thresholds": options.thresholds,
            "max_length": described.max_length,
            "pad_id": described.pad_id,
            "quantization": made.quantization,
            "evaluation": (*options.evaluation, *((compared,) if compared else ())),
            "base_model": options.base_model,
            "data": options.data,
            "probes": probes,
            "probe_tolerance": probing.tolerance(probes, described.task),
        }
        files = {
            bundle.MODEL: made.model,
            bundle.TOKENIZER: described.tokenizer,
            bundle.CONFIG: orjson.dumps(described.config, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        }
        return bundle.replace(out, files, fields)


class _Texts:
    """The texts of an import as token ids, and which of them calibrate and which judge (indices of `rows`)."""

    def __init__(self, given: Sequence[Example], source: str, encode: Encode) -> None:
        shuffled = random.Random(0).sample(list(given), len(given))
        self.examples = shuffled[: CALIBRATION_TEXTS + _GATE_TEXTS]
        self.source = source
        encodings = encode.encodings([example.text for example in self.examples])
        self.rows = [encoding.ids for encoding in encodings]
        self.held_out = len(self.rows) >= _ENOUGH
        count = max(len(self.rows) // _HELD_OUT, len(self.rows) - CALIBRATION_TEXTS)
        everything = range(len(self.rows))
        self.gate = list(everything[:count]) if self.held_out else list(everything)
        self.calibration = list(everything[count:]) if self.held_out else list(everything)
        self.first = [
            first_pieces(encodings[i].offsets, self.examples[i].offsets) for i in self.gate if self.examples[i].offsets
        ]


def _pick(
    chosen: Sequence[int], rows: Sequence[Sequence[int]], logits: Sequence[np.ndarray]
) -> tuple[list[Sequence[int]], list[np.ndarray]]:
    return [rows[i] for i in chosen], [logits[i] for i in chosen]


def _session(model: bytes, path: Path) -> Any:
    try:
        return open_session(model)
    except Exception as error:  # noqa: BLE001 - the runtime raises bare exceptions of its own kinds
        said = str(error).splitlines()[0]
        raise BundleError(f"ONNX Runtime cannot load {path} ({said}): export it again.") from None


def _check_answers(graph: foreign.Graph, described: Described) -> None:
    """Runs the graph on two rows of the greatest length: as many labels as there are names, for every token or text."""
    length = described.max_length
    session = _session(graph.model, graph.path)
    filler = vocabulary.filler_id(described.tokenizer)
    try:
        found = run(session, [[filler] * length, [filler] * (length // 2)], pad_id=described.pad_id)
    except Exception as error:  # noqa: BLE001 - as above
        said = str(error).splitlines()[0][:200]
        raise BundleError(
            f"{graph.path} cannot be run on two texts of up to {length} tokens ({said}): if it reads fewer tokens, say "
            "how many with --max-length."
        ) from None
    if found.shape[-1] != len(described.labels):
        raise BundleError(
            f"{graph.path} classifies into {found.shape[-1]} labels, but {len(described.labels)} are named: give their "
            "names with --labels, in the order of their ids."
        )
    expected = (2, length) if graph.kind == "token" else (2,)
    if found.shape[:-1] != expected:
        raise BundleError(f"{graph.path} gives logits of the shape {found.shape} for two texts: export a classifier.")


def _bundle_name(wanted: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:100]
    if not name:
        raise ConfigError(f"{wanted!r} makes no name for a bundle: give one with --name.")
    return name
