"""A network to its static INT8 graph: calibrated, held against FP32, and with parts left in FP32 where it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.errors import BundleError
from worker.model.assemble import two_stages
from worker.model.graph.builder import build
from worker.model.graph.names import EARLY_INPUT
from worker.model.graph.observe import observe
from worker.model.graph.silu import with_silu
from worker.model.graph.switched import WORDS, Switched
from worker.model.importing import fallback
from worker.model.manifest import Quantization
from worker.model.session import Stages, open_session, run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.model.assemble import TwoStages
    from worker.model.graph.network import Network
    from worker.model.graph.observe import Observed
    from worker.model.graph.quantize import Range
    from worker.model.importing.bounds import Bounds
    from worker.model.importing.gate import Comparison
    from worker.model.importing.leaving import Rule
    from worker.model.importing.texts import Texts
    from worker.model.manifest import EarlyExit


class Made(NamedTuple):
    """A graph, how it is stored, and how it compared; its two stages, and when a text leaves after the first."""

    model: bytes
    quantization: Quantization
    comparison: Comparison | None
    stages: TwoStages | None = None
    early_exit: EarlyExit | None = None


class Quantizing:
    """One network to one INT8 graph.

    Args:
        network: what is quantized.
        texts: to calibrate with and to compare on.
        compare: FP32's and INT8's logits on the gate's texts to a comparison.
        bounds: how far they may be apart.
        weight_limit: the largest weight code.
        exact_gelu: leave Gelu as it is, where a fitted Silu would be faster.
        say: is told what is going on.
        leave: how the exit is calibrated, of a network with an early head.
    """

    def __init__(
        self,
        network: Network,
        texts: Texts,
        compare: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Comparison],
        bounds: Bounds,
        weight_limit: int,
        say: Callable[[str], object],
        leave: Rule | None = None,
        *,
        exact_gelu: bool = False,
    ) -> None:
        self._network = network
        self._texts = texts
        self._compare = compare
        self._bounds = bounds
        self._weight_limit = weight_limit
        self._say = say
        self._leave = leave
        self._exact_gelu = exact_gelu

    def run(self, prove: Callable[[Sequence[Sequence[int]], Sequence[np.ndarray]], None] | None = None) -> Made:
        """The graph; `prove` is shown the FP32 logits of all texts before it is made.

        Raises:
            BundleError: FP32 gives no numbers, or INT8 is too far from it (`bounds.GateRefused`).
        """
        texts = self._texts
        self._say(f"running FP32 over {len(texts.rows)} texts")
        seen = observe(self._network, texts.rows, texts.calibration)
        if prove is not None:
            prove(texts.rows, seen.logits)
        if not all(np.isfinite(each).all() for each in seen.logits):
            raise BundleError("The FP32 graph gives logits that are not finite numbers: the weights are damaged.")
        fp32 = [seen.logits[i] for i in texts.gate]
        judge = fallback.Judge(
            [texts.rows[i] for i in texts.gate], lambda int8: self._compare(fp32, int8), self._bounds.passes_surely
        )
        few = fallback.sample([texts.rows[i] for i in texts.calibration], [seen.logits[i] for i in texts.calibration])
        return self._chosen(seen, judge, few)

    def _chosen(self, seen: Observed, judge: fallback.Judge, few: fallback.Sample) -> Made:
        network, ranges, model, comparison = self._whole(seen, judge)
        parts: tuple[str, ...] = ()
        most = 0
        if model is None or not judge.passes(comparison):
            model = None
            self._say("INT8 alone is too far from FP32: looking for the parts that it hurts most")
            of_whole = {name: found for name, found in ranges.items() if name != EARLY_INPUT}
            switched = Switched(network, of_whole, self._weight_limit)
            found = fallback.search(switched, judge, few, comparison, self._say)
            parts, most = found.fp32_parts, found.most
            del switched
            model, comparison = self._built(network, ranges, judge, parts)
        self._bounds.check(comparison, len(parts), most)
        made = Made(model, self._quantization(network, parts, comparison), comparison)
        return made if self._leave is None else self._in_two_stages(network, made, ranges, judge, self._leave)

    def _whole(
        self, seen: Observed, judge: fallback.Judge
    ) -> tuple[Network, dict[str, Range], bytes | None, Comparison]:
        """All parts in INT8: with Silu fitted to Gelu, but Gelu where that alone surely passes, or is nearer to FP32.

        Without the graph where it does not pass and another has been built since.
        """
        self._say("building and comparing INT8")
        network, fast = self._network, seen
        if not self._exact_gelu:
            network, fast = with_silu(network, seen)
        model, comparison = self._built(network, ranges := fast.equalized(), judge, ())
        if network is self._network or judge.passes(comparison):
            return network, ranges, model, comparison
        self._say("INT8 with Silu in place of Gelu is too far from FP32: trying Gelu itself")
        del model
        exact = seen.equalized()
        model, of_exact = self._built(self._network, exact, judge, ())
        if judge.passes(of_exact) or of_exact.closeness > comparison.closeness:
            return self._network, exact, model, of_exact
        return network, ranges, None, comparison

    def _in_two_stages(
        self, network: Network, made: Made, ranges: Mapping[str, Range], judge: fallback.Judge, leave: Rule
    ) -> Made:
        """With both stages, unless no text may leave."""
        self._say("calibrating the early exit")
        left, int8_words = _quantized(ranges, made.quantization.fp32_parts)
        stages = two_stages(network, left, weight_limit=self._weight_limit, int8_words=int8_words)
        early_exit = leave(*Stages(*stages)(judge.rows, fallback.BATCH))
        return made if early_exit is None else made._replace(stages=stages, early_exit=early_exit)

    def _built(
        self, network: Network, ranges: Mapping[str, Range], judge: fallback.Judge, fp32_parts: tuple[str, ...]
    ) -> tuple[bytes, Comparison]:
        left, int8_words = _quantized(ranges, fp32_parts)
        model = build(network, left, weight_limit=self._weight_limit, int8_words=int8_words).SerializeToString()
        return model, judge.compare(run_each(open_session(model), judge.rows, fallback.BATCH))

    def _quantization(self, network: Network, fp32_parts: tuple[str, ...], comparison: Comparison) -> Quantization:
        return Quantization(
            weights="int8 by column",
            activations="static uint8",
            embeddings="float32" if WORDS in fp32_parts else "int8 by row",
            fp32_parts=fp32_parts,
            gelu="as trained" if network is self._network else "fitted silu",
            calibration=f"minimum and maximum of equalized channels over {self._texts.source}",
            calibration_texts=len(self._texts.calibration),
            against_fp32=comparison.agreement,
        )


def _quantized(ranges: Mapping[str, Range], fp32_parts: tuple[str, ...]) -> tuple[dict[str, Range], bool]:
    """The ranges of what is INT8, and whether the embedding table is."""
    return {name: found for name, found in ranges.items() if name not in fp32_parts}, WORDS not in fp32_parts
