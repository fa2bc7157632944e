"""Where the time goes: by function while a worker works off a backlog, by operator within a run of the graph.

py-spy samples what every thread is doing, native code as the function that called it; threads that wait do not count.
It must be allowed to look into another process (root, or `CAP_SYS_PTRACE`). The classifier is the bundle's, then the
stub of `overhead`, with which everything around the model is left.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from bench import kit
from bench.graphs import profiled
from bench.stream import PARTITIONS, feed
from worker.model.bundle import load
from worker.opening import bundle_folder
from worker.pipeline.infer import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnxruntime

MODULES = {"worker": "worker", "stub": "bench.stub"}
RATE = 400
"""Samples a second."""
WARM_UP = 3.0
"""Seconds of work before the first sample."""
ROOTS = {"Loop.run": "poll thread", "Lanes._work": "lanes"}
"""Where a thread's own work begins, and what stands for it: what is above is how it was started."""
SHAPE = 16, 32
"""Messages and tokens of the batch whose operators are told."""
RUNS = 30
LEAST = 0.01
"""Of all samples: what is less is not told."""


def sampled(broker: Any, module: str, bundle: str, texts: list[str], seconds: float) -> Counter[tuple[str, ...]]:
    """Samples by stack, outermost first, of a worker in the middle of a backlog."""
    name = uuid4().hex[:8]
    broker.create_topics({f"in-{name}": PARTITIONS, f"out-{name}": PARTITIONS, f"dead-{name}": 1})
    feed(broker, f"in-{name}", texts)
    settings = kit.NO_CACHE | {
        "kafka__bootstrap_servers": broker.bootstrap_servers, "kafka__group_id": name,
        "kafka__input_topics": f"in-{name}", "kafka__output_topic": f"out-{name}",
        "kafka__dead_letter_topic": f"dead-{name}", "model__bundle": bundle,
    }  # fmt: skip
    with kit.Worker(kit.free_port(), module, **settings) as worker:
        worker.ready()
        time.sleep(WARM_UP)
        before = worker.metric("winnow_delivered_total")
        found = py_spy(worker.process.pid, seconds)
        done = worker.metric("winnow_delivered_total")
        if not before < done < len(texts):
            raise RuntimeError(f"the backlog was worked off within the samples: give more than {len(texts)} messages")
    return found


def py_spy(pid: int, seconds: float) -> Counter[tuple[str, ...]]:
    program = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        done = subprocess.run(
            [str(program), "record", "--pid", str(pid), "--duration", f"{seconds:.0f}", "--rate", str(RATE),
             "--format", "raw", "--output", str(raw), "--nonblocking"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not raw.exists():
            sys.exit(f"bench profile: py-spy could not look into the worker: {done.stderr.strip()[-300:]}")
        return stacks(raw.read_text("utf-8").splitlines())


def stacks(raw: Iterable[str]) -> Counter[tuple[str, ...]]:
    """py-spy's raw lines, `outer (file:1);inner (file:2) 7`: from where a thread's own work begins, without lines."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in raw:
        frames, _, count = line.rpartition(" ")
        names = tuple(re.sub(r" \([^()]*\)$", "", frame) for frame in frames.split(";"))
        begins = next((at for at, name in enumerate(names) if name in ROOTS), None)
        found[("other",) if begins is None else (ROOTS[names[begins]], *names[begins + 1 :])] += int(count)
    return found


def functions(samples: Mapping[tuple[str, ...], int]) -> list[dict[str, Any]]:
    """What the samples were in: by itself, and with all that it called."""
    alone, total = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for stack, count in samples.items():
        alone[stack[0], stack[-1]] += count
        for name in set(stack):
            total[stack[0], name] += count
    everything = sum(samples.values())
    return [
        {
            "thread": thread,
            "function": name,
            "itself": count / everything,
            "with_callees": total[thread, name] / everything,
        }
        for (thread, name), count in alone.most_common()
        if count >= LEAST * everything
    ]


def drawable(samples: Mapping[tuple[str, ...], int], least: float = 0.002) -> dict[str, float]:
    """Shares of all samples by stack, its functions joined by `;`; what is too thin to be drawn ends earlier."""
    everything, inside = sum(samples.values()), Counter[tuple[str, ...]]()
    for stack, count in samples.items():
        for depth in range(1, len(stack) + 1):
            inside[stack[:depth]] += count
    found = Counter[tuple[str, ...]]()
    for stack, count in samples.items():
        depth = next((d for d in range(len(stack), 1, -1) if inside[stack[:d]] >= least * everything), 1)
        found[stack[:depth]] += count
    return {";".join(stack): round(count / everything, 5) for stack, count in found.most_common()}


def operators(graph: Path) -> list[dict[str, Any]]:
    """What the operators of a graph take of a run of one full batch, one thread."""
    events = profiled(graph.read_bytes(), full_batch, RUNS)
    seconds, times = Counter[str](), Counter[str]()
    for event in events:
        # What a branch of somebody else's graph does is told once more by itself.
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time") and event["args"]["op_name"] != "If":
            seconds[event["args"]["op_name"]] += event["dur"]
            times[event["args"]["op_name"]] += 1
    everything = sum(seconds.values())
    return [
        {"graph": graph.stem, "operator": name, "share": spent / everything, "a_run": times[name] // RUNS}
        for name, spent in seconds.most_common()
        if spent >= LEAST * everything
    ]


def full_batch(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """Random ids or states, none of them padding."""
    (messages, tokens), rng = SHAPE, np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for each in session.get_inputs():
        if each.type in DTYPES:
            ids = rng.integers(1_000, 30_000, (messages, tokens))
            found[each.name] = (ids if each.name == "input_ids" else np.ones_like(ids)).astype(DTYPES[each.type])
        else:
            found[each.name] = rng.standard_normal((messages, tokens, each.shape[2]), np.float32)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench profile", description=__doc__)
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL files with a field `text`")
    parser.add_argument("--messages", type=int, default=60_000, help="of the backlog; ten times as many for the stub")
    parser.add_argument("--seconds", type=float, default=6.0, help="of samples")
    parser.add_argument("--bundle", default="default", help="a folder, `default`, `random-base` or `random-small`")
    parser.add_argument("--name", default="profile", help="of the results file")
    options = parser.parse_args()
    bundle = kit.bundle(options.bundle)
    conditions = kit.machine() | {
        "bundle": options.bundle,
        "batch_of_operators": " × ".join(map(str, SHAPE)),
        "py_spy": version("py-spy"),
        "texts": [path.parent.name for path in options.texts] or ["demo"],
    }
    graphs = load(bundle_folder(bundle)).graph_paths
    figures: dict[str, Any] = {"operators": [row for graph in graphs for row in operators(graph)], "stacks": {}}
    with kit.kafka() as broker:
        for kind, module in MODULES.items():
            texts = kit.texts(options.messages * (10 if kind == "stub" else 1), options.texts)
            samples = sampled(broker, module, bundle, texts, options.seconds)
            figures[f"functions_{kind}"] = functions(samples)
            figures["stacks"][kind] = drawable(samples)
            for row in figures[f"functions_{kind}"][:12]:
                print(f"{kind:7} {row['thread']:12} {row['itself']:6.1%} {row['with_callees']:6.1%}  {row['function']}")
    kit.save(options.name, conditions, figures)


if __name__ == "__main__":
    main()
