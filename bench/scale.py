"""One lane, two lanes, two workers of one lane, on the same backlog; beside them the bare graph on one and two lanes.

The messages come once the workers have their partitions, so that no rebalance is measured. The broker shares the cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import kit
from bench.ceiling import ceiling
from bench.stream import opened, streamed

SETUPS = {"1 worker × 1 lane": (1, 1), "1 worker × 2 lanes": (1, 2), "2 workers × 1 lane": (2, 1)}
ONE, TWO, APART = SETUPS
BARE = {"bare, 1 lane": 1, "bare, 2 lanes": 2}
RATIOS = {
    "two lanes to one, bare": tuple(reversed(BARE)),
    "two lanes to one": (TWO, ONE),
    "two workers to two lanes": (APART, TWO),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench scale", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--set", action="append", default=[], help="SECTION.NAME=VALUE; may be repeated")
    parser.add_argument("--name", default="scale", help="of the results file")
    options = parser.parse_args()
    texts, bundle = kit.texts(options.messages, options.texts), kit.bundle(options.bundle)
    model = opened(bundle, options.set)
    ids = [encoded.ids for encoded in model.tokenizer(texts)]
    rates: dict[str, list[float]] = {name: [] for name in (*BARE, *SETUPS)}
    with kit.kafka() as broker:
        for number in range(options.rounds):
            for name in rates if number % 2 else reversed(rates):
                if name in BARE:
                    rates[name].append(ceiling(model._replace(lanes=BARE[name]), ids))
                else:
                    workers, lanes = SETUPS[name]
                    chosen = kit.settings(options.set) | {"model__lanes": lanes}
                    found = streamed(broker, texts, bundle, workers=workers, feed_first=False, **chosen)
                    rates[name].append(found.rate)
                print(f"round {number + 1}: {name} {rates[name][-1]:,.0f}/s", flush=True)
    figures = {name: kit.spread(each) for name, each in rates.items()}
    for title, (one, other) in RATIOS.items():
        figures[title] = kit.spread([a / b for a, b in zip(rates[one], rates[other], strict=True)])
        print(f"{title}: {figures[title]['median']:.3f}")
    conditions = kit.machine() | {
        "bundle": options.bundle,
        "messages": len(texts),
        "texts": [path.parent.name for path in options.texts] or ["demo"],
        "settings": options.set,
    }
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
