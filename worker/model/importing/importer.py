"""Somebody's model to a bundle: `winnow model import`, and the last step of `winnow train`.

    checkpoint (safetensors) ─► network ─► FP32 over the texts ─► static INT8 ─► gate ─► bundle
    ONNX with --rebuild      ─► network, proven against the graph it came from ─► the same
    ONNX                     ─► looked at, and served as it is (gate only where its FP32 form lies beside it)

Nothing of a model is executed but the operators of its graph, which ONNX Runtime itself has.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.assemble import Encode, graph_files
from worker.model.data import parted
from worker.model.evaluation import answers
from worker.model.graph.activations import GELUS
from worker.model.graph.network import WrongLabels, from_checkpoint
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.importing import (
    checkpoint,
    describing,
    foreign,
    gate,
    leaving,
    padding,
    place,
    probing,
    ready,
    recover,
    sources,
    trained,
    twin,
    vocabulary,
)
from worker.model.importing.bounds import Bounds
from worker.model.importing.options import ImportOptions
from worker.model.importing.quantizing import Made, Quantizing
from worker.model.importing.texts import ENOUGH, Texts
from worker.model.manifest import Quantization
from worker.model.session import Stages, open_session, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from worker.model.data import Example
    from worker.model.graph.network import Network
    from worker.model.importing.describing import Described

    Compare = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], gate.Comparison]

__all__ = ["ImportOptions", "Imported", "Importer", "import_folder"]


class Imported(NamedTuple):
    """A bundle, how its INT8 graph compared, and what its user should know."""

    bundle: bundle.Bundle
    comparison: gate.Comparison | None
    notes: tuple[str, ...]


def import_folder(folder: Path, out: Path, options: ImportOptions | None = None) -> bundle.Bundle:
    """Makes the bundle `out` of the checkpoint or graph in `folder`.

    Raises:
        BundleError: the model cannot be imported, or INT8 is too far from FP32 (`bounds.GateRefused`).
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
        self._bounds = Bounds(options.min_agreement, options.max_metric_drop)
        self._notes: list[str] = []

    def run(self, out: Path) -> Imported:
        """Raises BundleError and ConfigError, as `import_folder` does."""
        # What is wrong with the options is found out before the work.
        self._name()
        describing.check_names(self._options.labels)
        with place.files():
            place.check(out, self._folder)
            return self._run(out)

    def _run(self, out: Path) -> Imported:
        options = self._options
        wants_graph = options.onnx_file is not None or options.rebuild
        has_weights = checkpoint.has_weights(self._folder)
        wanted = wants_graph or not has_weights
        path = foreign.find(self._folder, options.onnx_file, fp32=options.rebuild) if wanted else None
        if path is None and not has_weights:
            sources.refuse_without_model(self._folder)
        if path is None and options.rebuild:
            sources.refuse_rebuild(str(self._folder))
        if path is None:
            described, made = self._checkpoint()
        elif options.rebuild:
            described, made = self._rebuilt(path)
        else:
            described, made = self._foreign(path)
        self._say("writing the bundle")
        return Imported(self._write(out, described, made), made.comparison, tuple(self._notes))

    def _name(self) -> str:
        wanted = self._options.name or self._folder.resolve().name
        name = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:100]
        if not name:
            raise ConfigError(f"{wanted!r} makes no name for a bundle: give one with --name.")
        return name

    def _describe(self, kind: str, positions: int | None = None) -> Described:
        options = self._options
        return describing.describe(
            self._folder,
            kind,
            labels=options.labels,
            task=options.task,
            max_length=options.max_length,
            lowercase=options.lowercase,
            positions=positions,
        )

    def _checkpoint(self) -> tuple[Described, Made]:
        self._say("reading the checkpoint")
        config = self._config()
        with checkpoint.open_tensors(self._folder) as tensors:
            network = self._network(config, tensors)
            checkpoint.check_all_used(tensors.unread)
        described = self._describe(network.task, network.max_tokens)
        note = trained.note(self._folder, described.task)
        self._notes += [note] if note is not None else []
        return described, self._quantized(network, described)

    def _network(self, config: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Network:
        try:
            return from_checkpoint(config, tensors)
        except WrongLabels as error:
            describing.check_count(self._options.labels, error.count)
            raise

    def _config(self) -> dict[str, Any]:
        """config.json with the labels that the options give, and with the padding token that it leaves open."""
        config = padding.settled(checkpoint.read_json(self._folder / bundle.CONFIG), self._folder)
        labels = self._options.labels
        return config | {"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else config

    def _rebuilt(self, path: Path) -> tuple[Described, Made]:
        self._say("recovering the weights of the graph")
        graph = foreign.read(path, self._folder)
        config, tensors = self._config(), recover.tensors(graph.proto, path)
        try:
            network = self._network(config, tensors)
        except BundleError as error:
            raise BundleError(f"--rebuild takes the weights of {path} for a model.safetensors: {error}") from None
        if network.task != graph.kind:
            raise BundleError(f"{path} and config.json are of different tasks: take both from the same export.")
        described = self._describe(network.task, network.max_tokens)

        def prove(rows: Sequence[Sequence[int]], logits: Sequence[np.ndarray]) -> None:
            ready.check_rebuilt(graph, rows, logits, described.pad_id)

        return described, self._quantized(network, described, prove)

    def _quantized(
        self,
        network: Network,
        described: Described,
        prove: Callable[[Sequence[Sequence[int]], Sequence[np.ndarray]], None] | None = None,
    ) -> Made:
        vocabulary.check_fits(described.tokenizer, len(network.words), described.pad_id)
        texts = self._texts(described)
        self._note_own(texts, "calibrated with")
        compare = self._compare(described, texts, texts.note)
        if texts.gate == texts.calibration:
            self._notes.append(f"INT8 is compared on {texts.note}: give at least {ENOUGH} to keep some from it")
        leave = leaving.rule(network, described, texts, self._options)
        made = Quantizing(
            network, texts, compare, self._bounds, self._options.weight_limit, self._say, leave,
            exact_gelu=self._options.exact_gelu,
        ).run(prove)  # fmt: skip
        self._note_gelu(network.activation in GELUS, made.quantization)
        if network.early is not None:
            self._notes.append(leaving.LEFT_OUT if leave is None else leaving.said(made.early_exit))
        if made.quantization.fp32_parts:
            parts = ", ".join(made.quantization.fp32_parts)
            self._notes.append(f"these parts stayed FP32, because INT8 cost too much there: {parts}")
        return made

    def _note_gelu(self, there: bool, made: Quantization) -> None:
        if self._options.exact_gelu and not there:
            self._notes.append("--exact-gelu changes nothing: the model has no Gelu")
        elif there and made.gelu == "as trained" and not self._options.exact_gelu:
            self._notes.append("Gelu stayed as it is: the Silu fitted to it, which is faster, is too far from FP32")

    def _foreign(self, path: Path) -> tuple[Described, Made]:
        self._say(f"reading {path.name}")
        graph = foreign.read(path, self._folder)
        described = self._describe(graph.kind)
        ready.check_answers(graph, described, self._options.labels)
        quantization = Quantization(weights="as imported", activations="as imported", embeddings="as imported")
        self._notes.append(
            f"{path.name} is served as it is; made from the checkpoint itself, or with --rebuild, Winnow's own graph "
            "is faster and gives a text the same score in any company"
        )
        given = {"--reduce-range": self._options.weight_limit != WEIGHT_LIMIT, "--exact-gelu": self._options.exact_gelu}
        useless = [option for option, is_given in given.items() if is_given]
        self._notes += [f"{option} changes nothing in a graph that is served as it is" for option in useless]
        comparison = self._held(graph, described)
        against = None if comparison is None else comparison.agreement
        return described, Made(graph.model, quantization.model_copy(update={"against_fp32": against}), comparison)

    def _held(self, graph: foreign.Graph, described: Described) -> gate.Comparison | None:
        """The gate of a graph that is served as it is; None, and a note where that matters, if it cannot be run."""
        exact = foreign.exact(self._folder, graph.path)
        if exact is None:
            self._unjudged(twin.missing(graph))
            return None
        texts = self._texts(described)
        self._say(f"comparing with {exact.name} on {len(texts.gate)} texts")
        rows = [texts.rows[i] for i in texts.gate]
        given = ready.logits(graph, rows, described.pad_id)
        try:
            fp32 = twin.logits(exact, self._folder, graph, rows, described.pad_id)
        except BundleError as error:
            self._unjudged(twin.unusable(graph, error))
            return None
        self._note_own(texts, "compared on")
        comparison = self._compare(described, texts, "")(fp32, given)
        self._bounds.check(comparison, mend=f"Import {exact.relative_to(self._folder)} with --onnx-file")
        return comparison

    def _unjudged(self, note: str | None) -> None:
        self._notes += [note] if note is not None else []
        if self._options.calibration:
            self._notes.append("the texts to calibrate with were not used: nothing is calibrated or compared here")

    def _texts(self, described: Described) -> Texts:
        options = self._options
        given, judging = (self._named(described, each) for each in (options.calibration, options.gate))
        encode = Encode(described.tokenizer, described.max_length)
        return Texts(replace(options, calibration=given, gate=judging), encode)

    def _named(self, described: Described, examples: Sequence[Example]) -> Sequence[Example]:
        """With the names of labels for ids, which is told."""
        if described.task == "multi-label":
            examples = parted(examples)
        named, note = answers.by_name(described.task, described.labels, examples, "--calibrate", "the model")
        self._notes += [note] if note is not None else []
        return named

    def _note_own(self, texts: Texts, used: str) -> None:
        if texts.own:
            self._notes.append(
                f"{used} neutral sentences that come with Winnow: give texts like those that the model will see with "
                "--calibrate"
            )

    def _compare(self, described: Described, texts: Texts, note: str) -> Compare:
        options = self._options
        meaning = gate.Meaning(described.task, described.labels, options.temperature, options.thresholds)
        truth = gate.truth_of(meaning, texts.examples, texts.first)
        if truth is None and texts.examples[0].form != "plain":
            self._notes.append(gate.without_truth(meaning))
        return lambda fp32, int8: gate.compare(meaning, fp32, int8, truth, note)

    def _write(self, out: Path, described: Described, made: Made) -> bundle.Bundle:
        options = self._options
        encode = Encode(described.tokenizer, described.max_length)
        probes = probing.probes(_answering(made, encode, described.pad_id))
        compared = made.comparison.evaluation if made.comparison else None
        fields = {
            "name": self._name(),
            "licence": options.licence or describing.licence(self._folder),
            "task": described.task,
            "activation": describing.ACTIVATIONS[described.task],
            "temperature": options.temperature,
            "thresholds": options.thresholds,
            "max_length": described.max_length,
            "pad_id": described.pad_id,
            "early_exit": made.early_exit,
            "quantization": made.quantization,
            "evaluation": (*options.evaluation, *((compared,) if compared else ())),
            "base_model": options.base_model,
            "data": options.data,
            "probes": probes,
            "probe_tolerance": probing.tolerance(probes, described.task),
        }
        files = {
            **graph_files(made.model, made.stages),
            bundle.TOKENIZER: described.tokenizer,
            bundle.CONFIG: orjson.dumps(described.config, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        }
        return bundle.replace(out, files, fields)


def _answering(made: Made, encode: Encode, pad_id: int) -> probing.LogitsOf:
    """The logits of a text, and those of the early head where there is one."""
    if made.stages is None:
        session = open_session(made.model)
        return lambda text: (run(session, encode([text]), pad_id=pad_id)[0], None)
    stages = Stages(*made.stages, pad_id)

    def both(text: str) -> tuple[np.ndarray, np.ndarray]:
        early, last = stages(encode([text]))
        return last[0], early[0]

    return both
