"""What the benchmarks share: texts, a worker process, the machine's description, results."""

from __future__ import annotations

import hashlib
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from bench.broker import kafka
from worker.broker.ports import free_port
from worker.capacity.machine import cpu
from worker.demo import corpus
from worker.model import graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pipeline.messages import Record

__all__ = [
    "NO_CACHE",
    "Worker",
    "bundle",
    "cpu_seconds",
    "free_port",
    "kafka",
    "machine",
    "quantile",
    "read_until",
    "save",
    "settings",
    "spread",
    "texts",
    "version",
]
RESULTS = Path(__file__).parent / "results"
MADE = Path(__file__).parent.parent / "build" / "bench"
"""Bundles with random weights, which take a while to make."""
GRAPH = Path(graph.__file__).parent
RANDOM = "random-"
NO_CACHE = {"cache__max_bytes": 0}
"""Texts come again in benchmarks, because there are fewer of them than messages: their answers must not be kept."""
TICKS = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """CPU model, instruction sets that matter, cores, load, how fast a core is at the moment, versions."""
    import onnxruntime

    processor = cpu()
    return {
        "cpu": processor.model,
        "instruction_sets": list(processor.instruction_sets),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "ms_for_a_million_squares_before": round(1_000 * min(_squares() for _ in range(3)), 1),
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _squares(count: int = 1_000_000) -> float:
    """Seconds in which the interpreter adds so many squares: a core of a shared machine is not always as fast."""
    started, total = time.perf_counter(), 0
    for number in range(count):
        total += number * number
    return time.perf_counter() - started


def save(name: str, conditions: dict[str, Any], figures: dict[str, Any]) -> None:
    """Keep a result with the command and the conditions under which it was measured."""
    RESULTS.mkdir(exist_ok=True)
    benchmark = Path(sys.argv[0].removeprefix("bench ")).stem
    # A folder of the measuring machine says nothing to others: the last two parts of a path do.
    words = ["/".join(Path(word).parts[-2:]) if "/" in word else word for word in sys.argv[1:]]
    results = {
        "conditions": {"command": " ".join(["./dev bench", benchmark, *words]), **conditions},
        "figures": figures,
    }
    if "cpu" in conditions:
        print(f"{conditions['cpu']}, {conditions['cores']} cores: {' '.join(conditions['instruction_sets'])}")
    path = RESULTS / f"{name}.json"
    path.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"written: {path.relative_to(RESULTS.parent.parent)}")


def texts(count: int, files: Sequence[Path] = (), seed: int = 1) -> list[str]:
    """`count` texts from JSONL files with a `text` field, or of the demo's messages; repeated where there are fewer."""
    found = [orjson.loads(line)["text"] for path in files for line in path.read_bytes().splitlines() if line.strip()]
    found = found or [message.text for message in corpus.load()]
    rng = random.Random(seed)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(found, len(found))
    return drawn[:count]


def bundle(name: str) -> str:
    """A bundle as settings name it; `random-base`, `random-small` and those with `-exit` are made at first use.

    Their weights are random; nine of ten random texts leave those with `-exit` after the second layer.
    """
    if not name.startswith(RANDOM):
        return name
    folder = MADE / f"{name}.{version(GRAPH)}"
    if not (folder / "bundle.json").exists():
        from worker.model import random_bundle  # needs onnx

        print(f"making {name} in {folder.relative_to(MADE.parent.parent)}", flush=True)
        _, size, *more = name.split("-")
        random_bundle.write(folder, size, exit_layer=2 if more == ["exit"] else None)
    return str(folder)


def version(*folders: Path) -> str:
    """What changes with the programs in them: nothing that was made before such a change is measured after it."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def settings(assignments: Sequence[str]) -> dict[str, object]:
    """`SECTION.NAME=VALUE` as keyword arguments of a worker."""
    pairs = (each.partition("=") for each in assignments)
    return {name.replace(".", "__", 1): value for name, _, value in pairs}


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "rounds": len(values),
    }


class Worker:
    """`winnow run` in a process of its own; `module` may be `bench.stub`, whose model costs nothing."""

    def __init__(self, port: int, module: str = "worker", /, **settings: object) -> None:
        settings = {"serving__host": "127.0.0.1", "serving__port": port, "logging__level": "warning"} | settings
        flags = [
            part for name, value in settings.items() for part in ("--set", f"{name.replace('__', '.', 1)}={value}")
        ]
        self.port = port
        self.spawned = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", module, "run", *flags], stdin=subprocess.DEVNULL)

    def ready(self, seconds: float = 60.0) -> float:
        """Wait until it is ready; seconds since it was spawned."""
        deadline = time.monotonic() + seconds
        while self.get("/readyz") == "":
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the worker did not become ready")
            time.sleep(0.005)
        return time.perf_counter() - self.spawned

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.M)
        return float(found.group(1)) if found else 0.0

    def resident_mib(self) -> float:
        return self._mib("VmRSS")

    def most_mib(self) -> float:
        """The most that was ever resident."""
        return self._mib("VmHWM")

    def _mib(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(re.search(rf"{name}:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise RuntimeError("the worker did not end well")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def cpu_seconds(pid: int) -> float:
    """What a process has used of the CPU so far, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def read_until(reader: Any, count: int, quiet: float = 60.0) -> list[Record]:
    """Records until there are `count`; gives up after `quiet` seconds without one."""
    found: list[Record] = []
    last = time.monotonic()
    while len(found) < count:
        fresh = reader.poll(2000, 0.2)
        if fresh:
            last = time.monotonic()
            found += fresh
        elif time.monotonic() - last > quiet:
            raise RuntimeError(f"only {len(found)} of {count} records came")
    return found
