"""Exactly once against at least once: messages a second on a backlog, round by round, the order alternating.

With a bundle, and with a model that costs nothing, where everything is delivery. The broker shares the cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import kit
from bench.stream import stream

MODES = ("at-least-once", "exactly-once")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench delivery", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--stub-messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--name", default="delivery", help="of the results file")
    options = parser.parse_args()
    modules = {"worker": options.messages, "bench.stub": options.stub_messages}
    conditions = kit.machine() | {
        "messages": options.messages,
        "stub_messages": options.stub_messages,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    rates: dict[str, dict[str, list[float]]] = {module: {mode: [] for mode in MODES} for module in modules}
    with kit.kafka() as broker:
        for number in range(options.rounds):
            for module, count in modules.items():
                texts = kit.texts(count, options.texts)
                for mode in MODES if number % 2 else reversed(MODES):
                    rate, _ = stream(broker, texts, options.bundle, module, kafka__delivery=mode)
                    rates[module][mode].append(rate)
                    print(f"round {number + 1}: {module}, {mode}: {rate:,.0f}/s", flush=True)
    figures: dict[str, dict[str, float]] = {}
    for module, by_mode in rates.items():
        name = "stub" if module == "bench.stub" else "bundle"
        ratios = [exactly / least for least, exactly in zip(*(by_mode[mode] for mode in MODES), strict=True)]
        figures |= {f"{name}_{mode}": kit.spread(by_mode[mode]) for mode in MODES}
        figures[f"{name}_ratio"] = kit.spread(ratios)
        print(f"{name}: exactly once / at least once {figures[f'{name}_ratio']['median']:.3f}")
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
