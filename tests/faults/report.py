"""The table of faults: rows kept as JSON, printed, and written into `docs/reliability.md`.

`python -m tests.faults.report [FILE]` writes the table of a results file into the document.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import rows
from tests.faults.size import FULL
from tests.rows import HOLDS, ROOT

if TYPE_CHECKING:
    from tests.faults.accounts import Account

KEPT = Path(__file__).parent / "results" / "full.json"
"""The full run, under version control; a reduced one is nobody's evidence."""
RESULTS = KEPT if FULL else ROOT / ".dev" / "faults-reduced.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by `./dev faults report` -->", "<!-- end of faults -->"
HEAD = (
    "#", "fault", "delivery", "group", "runs", "messages", "lost", "doubled", "out of order", "slowest recovery",
    "result",
)  # fmt: skip


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


def keep(row: Row) -> None:
    """Put a row in the place of the one before it of the same fault."""
    row.conditions = rows.conditions() | {"size": "full" if FULL else "reduced"}
    rows.store(row, RESULTS)


def cells(row: Row) -> list[str]:
    recovery = "" if row.slowest_recovery is None else f"{row.slowest_recovery:.1f} s"
    doubled = f"{row.doubled:,}" + (f", {row.differing} not identical" if row.differing else "")
    result = row.result + (f" ({row.note})" if row.note else "")
    counts = [f"{row.runs:,}", f"{row.messages:,}", f"{row.lost:,}", doubled, f"{row.out_of_order:,}"]
    return [str(row.number), row.name, row.delivery, row.protocol, *counts, recovery, result]


def described(found: list[Row]) -> str:
    """The table with the conditions under which it came to be."""
    size, kafka, client, library, python, cpu, cores = (
        rows.every(found, name)
        for name in ("size", "kafka", "confluent_kafka", "librdkafka", "python", "cpu", "cores")
    )  # fmt: skip
    said = (
        f"Size: {size}. Apache Kafka {kafka}, confluent-kafka {client} (librdkafka {library}), Python {python}; {cpu}, "
        f"{cores} cores that broker, workers and readers share. {rows.measured(found, 'fault')}"
    )
    return f"{said}\n\n{rows.table(HEAD, found, cells)}"


def write(path: Path) -> None:
    rows.write(DOCUMENT, BEGIN, described(rows.read(Row, path)), END)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT)
