"""The table of faults: rows kept as JSON, printed, and written into `docs/reliability.md`.

`python -m tests.faults.report [FILE]` writes the table of a results file into the document.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import confluent_kafka
import orjson

from tests.faults.size import FULL
from worker.broker import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.faults.accounts import Account

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "results" / "full.json"
"""The full run, under version control; a reduced one is nobody's evidence."""
RESULTS = KEPT if FULL else ROOT / ".dev" / "faults-reduced.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by `./dev faults report` -->", "<!-- end of faults -->"
HEAD = (
    "#", "fault", "delivery", "group", "runs", "messages", "lost", "doubled", "out of order", "slowest recovery",
    "result",
)  # fmt: skip
HOLDS = "holds"


@dataclass
class Row:
    """One fault, as it went in one delivery mode and one group protocol."""

    number: int
    name: str
    delivery: str = "at-least-once"
    protocol: str = "classic"
    runs: int = 0
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    differing: int = 0
    out_of_order: int = 0
    slowest_recovery: float | None = None
    """Seconds."""
    note: str = ""
    result: str = HOLDS
    seconds: float = 0.0
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.number:02}/{self.name}/{self.delivery}/{self.protocol}"

    def add(self, account: Account, messages: int) -> None:
        """The figures of a part of the runs."""
        self.messages += messages
        self.lost += account.lost
        self.doubled += account.doubled
        self.differing += account.differing
        self.out_of_order += account.out_of_order

    def recovered(self, seconds: float | None) -> None:
        if seconds is not None:
            self.slowest_recovery = round(max(seconds, self.slowest_recovery or 0.0), 2)


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
        "size": "full" if FULL else "reduced",
    }


def keep(row: Row) -> None:
    """Put a row in the place of the one before it of the same fault."""
    rows = {kept.key: kept for kept in read(RESULTS)}
    row.conditions = conditions()
    rows[row.key] = row
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    document = [asdict(rows[key]) for key in sorted(rows)]
    RESULTS.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def read(path: Path) -> list[Row]:
    return [Row(**row) for row in orjson.loads(path.read_bytes())] if path.exists() else []


def cells(row: Row) -> list[str]:
    recovery = "" if row.slowest_recovery is None else f"{row.slowest_recovery:.1f} s"
    doubled = f"{row.doubled:,}" + (f", {row.differing} not identical" if row.differing else "")
    result = row.result + (f" ({row.note})" if row.note else "")
    counts = [f"{row.runs:,}", f"{row.messages:,}", f"{row.lost:,}", doubled, f"{row.out_of_order:,}"]
    return [str(row.number), row.name, row.delivery, row.protocol, *counts, recovery, result]


def table(rows: Iterable[Row]) -> str:
    """In Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *map(cells, sorted(rows, key=lambda row: row.key))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def described(rows: list[Row]) -> str:
    """The table with the conditions under which it came to be."""
    found = [row.conditions for row in rows]

    def every(name: str) -> str:
        return ", ".join(sorted({str(one.get(name)) for one in found}))

    said = (
        f"Size: {every('size')}. Apache Kafka {every('kafka')}, confluent-kafka {every('confluent_kafka')} "
        f"(librdkafka {every('librdkafka')}), Python {every('python')}; {every('cpu')}, {every('cores')} cores that "
        f"broker, workers and readers share. Measured {min(one['date'] for one in found)} to "
        f"{max(one['date'] for one in found)} UTC, load at the end of a fault {min(one['load'] for one in found)} to "
        f"{max(one['load'] for one in found)}."
    )
    return f"{said}\n\n{table(rows)}"


def write(path: Path) -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{described(read(path))}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT)
