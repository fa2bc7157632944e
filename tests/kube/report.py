"""The table of the steps: rows kept as JSON, printed, and written into `docs/kubernetes.md`.

`python -m tests.kube.report` writes the table of the kept run into the document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import rows
from tests.rows import HOLDS, ROOT

if TYPE_CHECKING:
    from tests.faults.accounts import Account

KEPT = Path(__file__).parent / "results" / "kube.json"
"""The run of the document, under version control."""
LAST = ROOT / ".dev" / "kube.json"
"""The last run; `WINNOW_KUBE_KEEP=1` writes the kept one."""
DOCUMENT = ROOT / "docs" / "kubernetes.md"
IMAGE_DOCUMENT = ROOT / "docs" / "image.md"
IMAGE_BEGIN, IMAGE_END = "<!-- image: written by `python -m tests.kube.report` -->", "<!-- end of image -->"
IMAGE_STEP = "image: built, and run read-only as uid 10001 without capabilities and network"
BEGIN, END = "<!-- kube: written by `python -m tests.kube.report` -->", "<!-- end of kube -->"
HEAD = ("step", "messages", "lost", "doubled", "figures", "seconds", "result")


@dataclass
class Step:
    """One row."""

    number: int
    name: str
    delivery: str = ""
    messages: int | None = None
    lost: int | None = None
    doubled: int | None = None
    figures: dict[str, str] = field(default_factory=dict)
    """By what they say."""
    seconds: float = 0.0
    result: str = HOLDS
    conditions: dict[str, Any] = field(default_factory=dict)

    protocol = "classic"
    """Of groups, for `tests.faults.stage`, whose row this is."""

    @property
    def key(self) -> str:
        return f"{self.number:02}/{self.name}/{self.delivery}"

    def add(self, account: Account, messages: int) -> None:
        """What an account says of all messages so far."""
        self.messages, self.lost, self.doubled = messages, account.lost, account.doubled

    def recovered(self, seconds: float) -> None:
        self.figures["every partition goes on after"] = f"{seconds:.1f} s"


def keep(step: Step, path: Path) -> None:
    """Put a row in the place of the one before it of the same step."""
    found = rows.conditions()
    step.conditions = {name: found[name] for name in ("date", "cpu", "cores", "load", "kafka", "python")}
    rows.store(step, path)


def cells(step: Step) -> list[str]:
    name = step.name + (f" ({step.delivery})" if step.delivery else "")
    counts = ["" if count is None else f"{count:,}" for count in (step.messages, step.lost, step.doubled)]
    figures = "; ".join(f"{what}: {value}" for what, value in _shown(step).items())
    return [name, *counts, figures, f"{step.seconds:.0f}", step.result]


def _shown(step: Step) -> dict[str, str]:
    """Of the image its size: its parts are in a table of their own."""
    return {"size": step.figures["all"]} if "all" in step.figures else step.figures


def described(steps: list[Step]) -> str:
    """The table with the conditions under which it came to be."""
    kafka, cpu, cores = (rows.every(steps, name) for name in ("kafka", "cpu", "cores"))
    said = (
        f"Apache Kafka {kafka}; {cpu}, {cores} cores that the API server, the node, KEDA, the broker, the workers and "
        f"the readers share. {rows.measured(steps, 'step')}"
    )
    return f"{said}\n\n{rows.table(HEAD, steps, cells)}"


def parts(steps: list[Step]) -> str:
    """What the image is made of, in Markdown."""
    image = next(step for step in steps if step.name == IMAGE_STEP)
    return "\n".join(["| | |", "|---|--:|", *(f"| {name} | {size} |" for name, size in image.figures.items())])


def write() -> None:
    steps = rows.read(Step, KEPT)
    rows.write(DOCUMENT, BEGIN, described(steps), END)
    rows.write(IMAGE_DOCUMENT, IMAGE_BEGIN, parts(steps), IMAGE_END)


if __name__ == "__main__":
    write()
