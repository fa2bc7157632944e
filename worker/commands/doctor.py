"""`winnow doctor`: can a worker run here, with these settings, on that Kafka?"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import orjson
import typer
from rich.console import Console
from rich.text import Text

from worker.config import load
from worker.doctor import Finding, Status, examine, worst
from worker.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red", Status.NOT_CHECKED: "dim"}
WIDTH = max(map(len, Status))


def doctor(config: Path | None, assignments: Sequence[str], replicas: int, as_json: bool) -> None:
    """Look at everything, and show each finding as soon as it is there.

    Raises:
        ConfigError: the settings cannot be read.
        SetupError: there is a problem.
    """
    findings = examine(load(config, assignments), replicas, time.time() * 1000)
    found = list(findings) if as_json else list(_shown(findings))
    if as_json:
        typer.echo(orjson.dumps(document(found), option=orjson.OPT_INDENT_2))
    check(found)


def document(findings: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    return {
        "status": worst(findings),
        "counts": _counts(findings),
        "findings": [finding._asdict() for finding in findings],
    }


def check(findings: Sequence[Finding]) -> None:
    """Raises SetupError where there is a problem."""
    problems = [finding.check for finding in findings if finding.status is Status.PROBLEM]
    if problems:
        raise SetupError(f"{_problems(len(problems))}: {', '.join(problems)}. Each is named above with its mend.")


def _shown(findings: Iterator[Finding]) -> Iterator[Finding]:
    console = Console(highlight=False, soft_wrap=True)
    counted: list[Finding] = []
    for finding in findings:
        line = Text.assemble(
            (f"{finding.status:<{WIDTH}}", STYLES[finding.status]), f"  {finding.check}: {finding.found}"
        )
        console.print(line)
        if finding.mend:
            console.print(Text.assemble(" " * WIDTH, ("  -> ", "bold"), finding.mend))
        counted.append(finding)
        yield finding
    counts = _counts(counted)
    said = (f"{number} {_plural(status, number)}" for status, number in counts.items() if number)
    console.print(Text(f"\n{', '.join(said)}."))


def _plural(status: str, number: int) -> str:
    return f"{status}s" if number > 1 and status in (Status.WARNING, Status.PROBLEM) else status


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(finding.status for finding in findings)
    return {status.value: counted[status] for status in Status}


def _problems(number: int) -> str:
    return "There is 1 problem" if number == 1 else f"There are {number} problems"
