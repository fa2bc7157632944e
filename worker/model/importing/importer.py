"""Somebody's model to a bundle: `winnow model import`, and the last step of `winnow train`.

    checkpoint (safetensors) ─► network ─► FP32 over the texts ─► static INT8 ─► gate ─► bundle
    ONNX with --rebuild      ─► network, proven against the graph it came from ─► the same
    ONNX                     ─► looked at, and served as it is (gate only where its FP32 form lies beside it)

Nothing of a model is executed but the operators of its graph, which ONNX Runtime itself has.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.assemble import Encode
from worker.model.graph.network import from_checkpoint
from worker.model.importing import checkpoint, describing, foreign, gate, probing, ready, recover, sources, vocabulary
from worker.model.importing.bounds import Bounds
from worker.model.importing.options import ImportOptions
from worker.model.importing.quantizing import Made, Quantizing
from worker.model.importing.texts import Texts
from worker.model.manifest import Quantization
from worker.model.session import open_session, run, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

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

    def _checkpoint(self) -> tuple[Described, Made]:
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

    def _rebuilt(self, path: Path) -> tuple[Described, Made]:
        self._say("recovering the weights of the graph")
        graph = foreign.read(path, self._folder)
        config = checkpoint.read_json(self._folder / bundle.CONFIG)
        network = from_checkpoint(self._named(config), recover.tensors(graph.proto, path))
        if network.task != graph.kind:
            raise BundleError(f"{path} and config.json are of different tasks: take both from the same export.")
        described = self._describe(network.task)

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
        compare = self._compare(described, texts)
        quantizing = Quantizing(network, texts, compare, self._bounds, self._options.weight_limit, self._say)
        made = quantizing.run(prove)
        if made.quantization.fp32_parts:
            parts = ", ".join(made.quantization.fp32_parts)
            self._notes.append(f"these parts stayed FP32, because INT8 cost too much there: {parts}")
        return made

    def _foreign(self, path: Path) -> tuple[Described, Made]:
        self._say(f"reading {path.name}")
        graph = foreign.read(path, self._folder)
        described = self._describe(graph.kind)
        ready.check_answers(graph, described)
        quantization = Quantization(weights="as imported", activations="as imported", embeddings="as imported")
        self._notes.append(
            f"{path.name} is served as it is; made from the checkpoint itself, or with --rebuild, Winnow's own graph "
            "is faster and gives a text the same score in any company"
        )
        exact = foreign.exact(self._folder, path)
        if exact is None:
            return described, Made(graph.model, quantization, None)
        texts = self._texts(described)
        self._say(f"comparing with {exact.name} on {len(texts.gate)} texts")
        rows = [texts.rows[i] for i in texts.gate]
        twin = ready.session(foreign.read(exact, self._folder).model, exact)
        comparison = self._compare(described, texts)(
            run_each(twin, rows, pad_id=described.pad_id),
            run_each(ready.session(graph.model, path), rows, pad_id=described.pad_id),
        )
        self._bounds.check(comparison)
        return described, Made(
            graph.model, quantization.model_copy(update={"against_fp32": comparison.agreement}), comparison
        )

    def _texts(self, described: Described) -> Texts:
        texts = Texts(self._options, Encode(described.tokenizer, described.max_length))
        if texts.own:
            self._notes.append(
                "calibrated with neutral sentences that come with Winnow: give texts like those that the model will "
                "see with --calibrate"
            )
        return texts

    def _compare(self, described: Described, texts: Texts) -> Compare:
        options = self._options
        meaning = gate.Meaning(described.task, described.labels, options.temperature, options.thresholds)
        truth = gate.truth_of(meaning, texts.examples, texts.first)
        if truth is None and texts.examples[0].form != "plain":
            self._notes.append("the texts' labels are not the model's, so there are no figures by label")
        return lambda fp32, int8: gate.compare(meaning, fp32, int8, truth, texts.note)

    def _write(self, out: Path, described: Described, made: Made) -> bundle.Bundle:
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


def _bundle_name(wanted: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:100]
    if not name:
        raise ConfigError(f"{wanted!r} makes no name for a bundle: give one with --name.")
    return name
