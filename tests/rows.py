"""Rows of what tests tried, one or more a test: kept as JSON however the test ends, printed, written into a document.

`tests/faults` and `tests/kube` make their tables so.
"""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import confluent_kafka
import orjson
import pytest

from worker.broker import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
HOLDS = "holds"
R = TypeVar("R", bound="Row")
_outcome = pytest.StashKey[pytest.TestReport]()


class Row(Protocol):
    """A dataclass of what its table tells, and of these."""

    seconds: float
    result: str
    conditions: dict[str, Any]

    @property
    def key(self) -> str:
        """What it is a row of: a later one takes its place. Rows are in the order of their keys."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """For a conftest: `rows_of` has to know how the test ended."""
    made = yield
    if made.when == "call" or made.outcome != "passed":
        item.stash[_outcome] = made
    return made


@contextmanager
def rows_of(request: pytest.FixtureRequest, keep: Callable[[R], None]) -> Iterator[list[R]]:
    """What the test puts into the list is timed, told how it ended, and kept; not if the test was skipped."""
    made: list[R] = []
    began = time.monotonic()
    yield made
    outcome = request.node.stash.get(_outcome, None)
    for row in made:
        row.seconds = round(time.monotonic() - began, 1)
        if outcome is None or outcome.outcome == "skipped":
            continue
        if outcome.outcome == "failed":
            row.result = f"FAILS: {_reason(outcome)}"
        keep(row)


def _reason(outcome: pytest.TestReport) -> str:
    crash = getattr(outcome.longrepr, "reprcrash", None)
    said = crash.message if crash else str(outcome.longrepr)
    return said.splitlines()[0][:160].replace("|", "/")


def conditions() -> dict[str, Any]:
    """What the figures were measured with."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cpu": model.group(1) if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "kafka": artifacts.kafka_version(),
        "confluent_kafka": confluent_kafka.version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "python": platform.python_version(),
    }


def store(row: Any, path: Path) -> None:
    """Put a row, a dataclass, in the place of the one before it with the same key."""
    rows = {kept.key: kept for kept in read(type(row), path)}
    rows[row.key] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    document = [asdict(rows[key]) for key in sorted(rows)]
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def read(kind: Callable[..., R], path: Path) -> list[R]:
    """What is kept there; nothing, where there is no such file."""
    return [kind(**row) for row in orjson.loads(path.read_bytes())] if path.exists() else []


def table(head: Sequence[str], rows: Iterable[R], cells: Callable[[R], Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *map(cells, sorted(rows, key=lambda row: row.key))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def every(rows: Sequence[Row], name: str) -> str:
    """What a condition was, in all rows."""
    return ", ".join(sorted({str(row.conditions.get(name)) for row in rows}))


def measured(rows: Sequence[Row], what: str) -> str:
    """When, and at which load; `what` is a row of."""
    dates, loads = ([row.conditions[name] for row in rows] for name in ("date", "load"))
    when = f"Measured {min(dates)} to {max(dates)} UTC"
    return f"{when}, load at the end of a {what} {min(loads)} to {max(loads)}."


def write(document: Path, begin: str, text: str, end: str) -> None:
    """Into a document, between two marks."""
    before, _, rest = document.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", "utf-8")
