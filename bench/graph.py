"""Tokens per second of one network in several graphs, and what share of the machine's INT8 products ours reaches.

FP32 as exported, exported + `quantize_dynamic`, `onnxruntime.transformers.optimizer` + `quantize_dynamic`, ours in
static INT8, and with `--openvino` NNCF's INT8 in OpenVINO.

    ./dev bench graph --model bert --task token

Needs the extra `train` (torch exports). Weights are random and the same for all; batches are full and the same for
all; one lane is one thread running one session, two lanes are two threads sharing it. OpenVINO gets as many threads as
lanes, as one stream and as two, with f32 and, where the CPU has it, bf16 between the products. Candidates take turns
within every round, so that a disturbance of the machine meets all of them; figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from bench import kit
from bench.graphs import (
    DYNAMIC,
    EXPORTED,
    FP32,
    FUSED,
    MODELS,
    OURS,
    SIZES,
    TASKS,
    candidates,
    export,
    random_model,
    rate,
)
from bench.openvino import OpenVino
from bench.peak import Peak

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.graphs import Candidates

    Rate: TypeAlias = Callable[[int, int, int, float], float]

__all__ = ["export", "main"]
SHAPES = ((1, 32), (4, 32), (8, 32), (12, 32), (16, 32), (24, 32), (48, 16), (4, 128), (1, 512))
LANES = (1, 2)
OPENVINO = "OpenVINO INT8"
OTHERS = {"to_dynamic": DYNAMIC, "to_fused": FUSED, "to_fp32": FP32, "to_openvino": OPENVINO}
"""Our ratios, and what they are to; OpenVINO's is to the best of its settings at that batch."""
BARE_SECONDS = 0.2
"""Of a graph's time in a round, what a bare product gets."""


@dataclass(frozen=True)
class Cell:
    """Tokens per second of one graph at one shape."""

    graph: str
    messages: int
    tokens: int
    lanes: int
    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def rates(found: Candidates, openvino: OpenVino | None, lanes: int) -> dict[str, Rate]:
    """What can be measured on so many lanes, by name."""
    known: dict[str, Rate] = {
        name: lambda m, t, n, s, session=session: rate(session, m, t, n, s)  # type: ignore[misc]
        for name, session in found.sessions.items()
    }
    for setting in openvino.settings_for(lanes) if openvino is not None else ():
        known[setting.name] = lambda m, t, n, s, setting=setting: openvino.rate(setting, m, t, n, s)  # type: ignore[misc,union-attr]
    return known


def measure(by_lanes: Mapping[int, Mapping[str, Rate]], peak: Peak, rounds: int, seconds: float) -> list[Cell]:
    """Every candidate at every shape on one lane and on two, in turns, `rounds` times; bare products beside them."""
    cells = [Cell(name, *shape, n, []) for shape in SHAPES for n, known in by_lanes.items() for name in known]
    for number in range(rounds):
        for cell in cells if number % 2 == 0 else reversed(cells):
            run = by_lanes[cell.lanes][cell.graph]
            cell.rounds.append(run(cell.messages, cell.tokens, cell.lanes, seconds))
        peak.round()
        print(f"round {number + 1} of {rounds}", flush=True)
    return cells


def summary(cells: Sequence[Cell], peak: Peak) -> dict[str, Any]:
    """Medians by cell, our ratios and shares, and the best batch of each graph."""
    rows = [
        _row([c for c in cells if (c.messages, c.tokens, c.lanes) == (*shape, lanes)], peak)
        for shape in SHAPES
        for lanes in LANES
    ]
    one_lane = [c for c in cells if c.lanes == 1]
    best = {g: max(c.median for c in one_lane if c.graph == g) for g in dict.fromkeys(c.graph for c in one_lane)}
    of_others = {n: max(v for g, v in best.items() if g.startswith(o)) for n, o in OTHERS.items() if _is_there(o, best)}
    return {
        "cells": [{**asdict(c), "median": c.median, "min": min(c.rounds), "max": max(c.rounds)} for c in cells],
        "ratios": rows,
        "best_one_lane": best,
        **{f"best_{name}": best[OURS] / other for name, other in of_others.items()},
        "two_lanes_to_one": _two_lanes_to_one([c for c in cells if c.graph == OURS]),
        "best_of_peak": max(row["of_peak"] for row in rows),
        "best_of_products": max(row["of_products"] for row in rows),
    }


def _row(cells: Sequence[Cell], peak: Peak) -> dict[str, Any]:
    """One batch on so many lanes: our ratio to each of the others, and our shares of the peak."""
    ours = next(c for c in cells if c.graph == OURS)
    found: dict[str, Any] = {"messages": ours.messages, "tokens": ours.tokens, "lanes": ours.lanes}
    for name, other in OTHERS.items():
        against = [c for c in cells if c.graph.startswith(other)]
        if against:
            found[name] = _ratio(ours, max(against, key=lambda c: c.median))
    return found | peak.row((ours.messages, ours.tokens), ours.lanes, ours.rounds)


def _two_lanes_to_one(ours: Sequence[Cell]) -> float:
    """At the batch that is best on one."""
    one = max((c for c in ours if c.lanes == 1), key=lambda c: c.median)
    two = next(c for c in ours if c.lanes == 2 and (c.messages, c.tokens) == (one.messages, one.tokens))
    return _ratio(two, one)


def _is_there(name: str, graphs: Mapping[str, float]) -> bool:
    return any(graph.startswith(name) for graph in graphs)


def _ratio(ours: Cell, other: Cell) -> float:
    """The median of the ratios within a round: what disturbed a round disturbed both."""
    return statistics.median(a / b for a, b in zip(ours.rounds, other.rounds, strict=True))


def show(figures: dict[str, Any], rounds: int) -> None:
    """The ratios, and ours in thousands of tokens per second."""
    ours = {(c["messages"], c["tokens"], c["lanes"]): c["median"] for c in figures["cells"] if c["graph"] == OURS}
    print(f"ours in thousand tokens per second and its ratios, median of {rounds} rounds")
    for row in figures["ratios"]:
        at = (row["messages"], row["tokens"], row["lanes"])
        told = "  ".join(f"{name} {value:.2f}" for name, value in row.items() if isinstance(value, float))
        print(f"{at[0]:>4} × {at[1]:<4} {at[2]} lanes {ours[at] / 1e3:7.1f}  {told}")
    best = "  ".join(f"{name} {value:.2f}" for name, value in figures.items() if isinstance(value, float))
    print(f"one lane, the best batch of each: {best}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench graph", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="distilbert", help="random weights of this architecture")
    parser.add_argument("--task", choices=sorted(TASKS), default="sequence")
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="6 layers of 384 or of 768")
    parser.add_argument("--attention", choices=("eager", "sdpa"), help="what is exported instead of the default")
    parser.add_argument("--openvino", action="store_true", help="OpenVINO, too; installs it into .peers/")
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for figures to quote")
    parser.add_argument("--seconds", type=float, default=0.5, help="per candidate, shape and round")
    parser.add_argument("--json", type=Path, help="write the figures there instead of into bench/results")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in ("model", "task", "size", "attention", "rounds", "seconds")}
    conditions = kit.machine() | asked
    print(f"{conditions['cpu']}: {' '.join(conditions['instruction_sets'])}; onnxruntime {conditions['onnxruntime']}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = random_model(options.model, options.task, options.size, options.attention)
        found = candidates(model, options.task, folder)
        openvino = stack.enter_context(_openvino(folder)) if options.openvino else None
        if openvino is not None:
            conditions |= {name: openvino.about[name] for name in ("openvino", "nncf")}
        peak = Peak(found.ours, SHAPES, LANES, BARE_SECONDS * options.seconds)
        by_lanes = {lanes: rates(found, openvino, lanes) for lanes in LANES}
        figures = summary(measure(by_lanes, peak, options.rounds, options.seconds), peak)
    show(figures, options.rounds)
    if options.json is None:
        kind = () if (options.model, options.task) == ("distilbert", "sequence") else (options.model, options.task)
        kit.save("-".join(["graph", *kind, options.size]), conditions, figures)
    else:
        document = {"conditions": conditions, "figures": figures}
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def _openvino(folder: Path) -> OpenVino:
    from bench.peers.environments import python

    return OpenVino(python("openvino"), folder / EXPORTED)


if __name__ == "__main__":
    main()
