"""Exactly once against at least once: messages a second on a backlog, round by round, the order alternating.

With a bundle, and with a model that costs nothing, where everything is delivery. The broker shares the cores. Beside
the rates, which move with everything else that the machine does, the CPU that worker and broker take for a message:
where both cores are busy, one is the reciprocal of the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import kit
from bench.stream import streamed

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST, EXACTLY = "at-least-once", "exactly-once"
MODES = (LEAST, EXACTLY)


class Cost(NamedTuple):
    """Of one mode in one round."""

    rate: float
    """Messages a second."""
    cpu: float
    """Seconds of CPU a message, of worker and broker; storing the backlog and reading the results included."""


def cost(broker: Any, texts: Sequence[str], bundle: str, module: str, mode: str) -> Cost:
    before = kit.cpu_seconds(broker.pid)
    found = streamed(broker, texts, bundle, module, kafka__delivery=mode)
    return Cost(found.rate, found.cpu + (kit.cpu_seconds(broker.pid) - before) / len(texts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench delivery", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--stub-messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--name", default="delivery", help="of the results file")
    options = parser.parse_args()
    modules = {"worker": options.messages, "bench.stub": options.stub_messages}
    conditions = kit.machine() | {
        "messages": options.messages,
        "stub_messages": options.stub_messages,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    costs: dict[str, dict[str, list[Cost]]] = {module: {mode: [] for mode in MODES} for module in modules}
    with kit.kafka() as broker:
        for number in range(options.rounds):
            for module, count in modules.items():
                texts = kit.texts(count, options.texts)
                for mode in MODES if number % 2 else reversed(MODES):
                    found = cost(broker, texts, options.bundle, module, mode)
                    costs[module][mode].append(found)
                    print(
                        f"round {number + 1}: {module}, {mode}: {found.rate:,.0f}/s, {1e6 * found.cpu:,.0f} µs of CPU"
                    )
    figures: dict[str, dict[str, float]] = {}
    for module, by_mode in costs.items():
        figures |= _figures("stub" if module == "bench.stub" else "bundle", by_mode)
    for name, spread in figures.items():
        print(f"{name:28} {spread['median']:,.3f} ({spread['min']:,.3f} to {spread['max']:,.3f})")
    kit.save(options.name, conditions, figures)


def _figures(name: str, costs: dict[str, list[Cost]]) -> dict[str, dict[str, float]]:
    pairs = list(zip(costs[LEAST], costs[EXACTLY], strict=True))
    return {
        **{f"{name}_{mode}": kit.spread([one.rate for one in costs[mode]]) for mode in MODES},
        f"{name}_ratio": kit.spread([exactly.rate / least.rate for least, exactly in pairs]),
        f"{name}_cpu_ratio": kit.spread([least.cpu / exactly.cpu for least, exactly in pairs]),
    }


if __name__ == "__main__":
    main()
