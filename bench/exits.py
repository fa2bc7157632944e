"""Early exit on against off: messages a second offline on all lanes, whether they say the same, and how good they are.

One file of labelled texts is a channel; `all` is all of them together. Both take turns within a round.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import kit
from bench.stream import opened
from worker.config import BatchingSettings
from worker.lanes import SWITCH_INTERVAL
from worker.model.bundle import load
from worker.model.data import Example, read_labelled
from worker.model.spam import texts
from worker.offline import Offline
from worker.opening import bundle_folder
from worker.pipeline.messages import Request, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.opening import Model

MODES = ("auto", "off")
ALL = "all"


class Said(NamedTuple):
    """What one pass over the texts of a channel gave."""

    rate: float
    """Messages a second."""
    labels: tuple[str | None, ...]
    left: float
    """Share of the texts that were decided before the last layer."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench exits", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--texts", type=Path, nargs="+", help="labelled JSONL or CSV, one for a channel")
    source.add_argument("--held-out", type=Path, help="data of the default bundle, of which its test split is taken")
    parser.add_argument("--most", type=int, default=3_000, help="texts of each channel, from its beginning")
    parser.add_argument("--messages", type=int, default=3_000, help="a pass over fewer texts goes over them again")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="default", help="a bundle with early exit")
    parser.add_argument("--label", help="whose F1 is told; the last label without it")
    parser.add_argument("--name", default="exits", help="of the results file")
    options = parser.parse_args()
    bundle = kit.bundle(options.bundle)
    early = load(bundle_folder(bundle)).manifest.early_exit
    if early is None:
        sys.exit(f"bench exits: the bundle {options.bundle} has no early exit: train one with --early-exit.")
    channels = held_out(options.held_out) if options.held_out else labelled(options.texts)
    channels = {channel: examples[: options.most] for channel, examples in channels.items()}
    channels[ALL] = [example for examples in channels.values() for example in examples]
    models = {mode: opened(bundle, [f"model.early_exit={mode}"]) for mode in MODES}
    label = options.label or models["off"].labels[-1]
    found: dict[str, dict[str, list[Said]]] = {channel: {mode: [] for mode in MODES} for channel in channels}
    sys.setswitchinterval(SWITCH_INTERVAL)  # as a worker does
    offline = {mode: Offline(models[mode], BatchingSettings()) for mode in MODES}
    for number in range(options.rounds):
        for channel, examples in channels.items():
            for mode in MODES if number % 2 else reversed(MODES):
                found[channel][mode].append(classify(offline[mode], examples, early.layers, options.messages))
            rates = {mode: found[channel][mode][-1].rate for mode in MODES}
            print(
                f"round {number + 1}: {channel}: {', '.join(f'{m} {r:,.0f}/s' for m, r in rates.items())}", flush=True
            )
    for each in offline.values():
        each.close()
    conditions = kit.machine() | {
        **identity(models["auto"]),
        "layer": early.layer,
        "layers": early.layers,
        "label": label,
        "texts": {channel: len(examples) for channel, examples in channels.items()},
        "messages": options.messages,
        "rounds": options.rounds,
    }
    rows = [summary(channel, examples, found[channel], label) for channel, examples in channels.items()]
    for row in rows:
        print(row)
    kit.save(options.name, conditions, {"channels": rows})


def labelled(files: Sequence[Path]) -> dict[str, list[Example]]:
    """The texts of each file, by the name of its folder."""
    return {path.parent.name: read_labelled(path) for path in files}


def held_out(data: Path) -> dict[str, list[Example]]:
    """The test texts of the default bundle's recipe by channel, but for the project's own."""
    channels: dict[str, list[Example]] = {}
    for row in texts.load_splits(data, Path(texts.__file__).with_name(texts.EXTRA)).test:
        if row.channel != "modern":
            examples = channels.setdefault(row.channel, [])
            examples.append(Example(str(len(examples)), row.text, (texts.LABELS[row.label],)))
    return channels


def identity(model: Model) -> dict[str, Any]:
    return {"bundle": model.identity.name, "digest": model.identity.digest, "lanes": model.lanes}


def classify(offline: Offline, examples: list[Example], layers: int, least: int) -> Said:
    """One pass over texts, again and again until it has so many messages: a short one is mostly its ends."""
    times = -(-least // len(examples))
    requests = [Request(str(number), example.text, False) for number, example in enumerate(examples * times)]
    started = time.perf_counter()
    results = list(offline(requests))
    seconds = time.perf_counter() - started
    said = [result.classification for result in results if isinstance(result, Result)]
    if len(said) != len(requests):
        raise RuntimeError(f"{len(requests) - len(said)} texts could not be classified")
    left = sum(each.layer is not None and each.layer < layers for each in said) / len(said)
    return Said(len(said) / seconds, tuple(each.label for each in said[: len(examples)]), left)


def summary(channel: str, examples: Sequence[Example], said: dict[str, list[Said]], label: str) -> dict[str, Any]:
    """A row: rates, their ratio round by round, agreement, F1 both ways, and the share that left early."""
    ratios = [on.rate / off.rate for on, off in zip(said["auto"], said["off"], strict=True)]
    on, off = said["auto"][0], said["off"][0]
    truth = [example.labels[0] for example in examples]
    return {
        "channel": channel,
        "texts": len(examples),
        "on_per_s": kit.spread([each.rate for each in said["auto"]])["median"],
        "off_per_s": kit.spread([each.rate for each in said["off"]])["median"],
        "ratio": kit.spread(ratios)["median"],
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "left": on.left,
        "agreement": sum(a == b for a, b in zip(on.labels, off.labels, strict=True)) / len(truth),
        "f1_on": f1(truth, on.labels, label),
        "f1_off": f1(truth, off.labels, label),
    }


def f1(truth: Sequence[str], said: Sequence[str | None], label: str) -> float:
    """Of one label; 0 where it is neither there nor given."""
    right = sum(a == b == label for a, b in zip(truth, said, strict=True))
    given_or_there = sum(a == label for a in truth) + sum(b == label for b in said)
    return 2 * right / given_or_there if given_or_there else 0.0


if __name__ == "__main__":
    main()
