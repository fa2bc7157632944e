"""A stream in which most texts come again, with the cache of answers on and off, round by round, the order alternating.

A text that comes again is one of those before it, each as likely; the texts that are new are all different.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from bench import kit
from bench.stream import streamed


def with_repeats(fresh: list[str], count: int, repeats: float, seed: int = 1) -> list[str]:
    """`count` texts of which a share `repeats` has been there before, word by word."""
    rng = random.Random(seed)
    again = set(rng.sample(range(1, count), round(count * repeats)))
    new, found = iter(different(fresh, count - len(again))), list[str]()
    for number in range(count):
        found.append(rng.choice(found) if number in again else next(new))
    return found


def different(texts: list[str], count: int) -> list[str]:
    """So many different texts: those that are given, then the same with a number behind them."""
    once = list(dict.fromkeys(texts))
    return [once[n % len(once)] + (f" {n // len(once)}" if n >= len(once) else "") for n in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench cache", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--repeats", type=float, default=0.8, help="share of messages whose text was there before")
    parser.add_argument("--max-bytes", type=int, default=64 << 20, help="cache.max_bytes of the one that has a cache")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--name", default="cache", help="of the results file")
    options = parser.parse_args()
    fresh = kit.texts(options.messages, options.texts)
    texts, bundle = with_repeats(fresh, options.messages, options.repeats), kit.bundle(options.bundle)
    sizes = {"on": options.max_bytes, "off": 0}
    rates: dict[str, list[float]] = {mode: [] for mode in sizes}
    with kit.kafka() as broker:
        for number in range(options.rounds):
            for mode in sizes if number % 2 else reversed(sizes):
                rates[mode].append(streamed(broker, texts, bundle, cache__max_bytes=sizes[mode]).rate)
            print(f"round {number + 1}: " + ", ".join(f"{mode} {each[-1]:,.0f}/s" for mode, each in rates.items()))
    ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
    figures = {**{mode: kit.spread(each) for mode, each in rates.items()}, "ratio": kit.spread(ratios)}
    print(f"on / off {figures['ratio']['median']:.2f}")
    conditions = kit.machine() | {
        "bundle": options.bundle,
        "messages": len(texts),
        "repeats": round(1 - len(set(texts)) / len(texts), 4),
        "max_bytes": options.max_bytes,
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
