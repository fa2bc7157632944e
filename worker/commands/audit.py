"""`winnow audit`: what was written, set against what was read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import worker.audit as auditing
from worker.audit.report import FAULTS
from worker.commands import consoles
from worker.commands.moments import moment
from worker.config import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.audit import Figures, Report
    from worker.config import Settings

ALWAYS = {
    "messages": "messages",
    "results": "results",
    "dead_letters": "dead letters",
    "missing": "missing",
    "doubled": "doubled",
}
"""Columns of the table: figure and heading."""
WHERE_ANY = {
    "skipped": "tombstones",
    "waiting": "waiting",
    "differing": "differing",
    "out_of_order": "out of order",
    "wrong": "wrong",
    "unknown": "unknown",
    "expired": "expired",
    "redeliveries": "redeliveries",
    "other_bundle": "other bundle",
}
"""Those that are there only where they are not all 0."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    config: Path | None
    assign: Sequence[str]
    inputs: Sequence[str]
    output: str | None
    dead_letters: str | None
    group: str | None
    no_group: bool
    scores: bool
    since: str | None
    last: int | None
    doubles: bool | None
    as_json: bool


def audit(asked: Asked) -> None:
    """Audit, and show what was found.

    Raises:
        AuditError: something is not as it should be.
        Fatal: the topics cannot be read.
    """
    settings = load(asked.config, asked.assign)
    options = auditing.Options(
        inputs=tuple(asked.inputs),
        output=asked.output,
        dead_letters=asked.dead_letters,
        group=asked.group,
        all_processed=asked.no_group,
        scores=asked.scores,
        since=moment("--since", asked.since, time.time()),
        last=asked.last,
        doubles_allowed=asked.doubles,
    )
    report = _read(settings, options)
    if asked.as_json:
        typer.echo(orjson.dumps(report.document(), option=orjson.OPT_INDENT_2))
    else:
        show(report)
    auditing.check(report)


def _read(settings: Settings, options: auditing.Options) -> Report:
    with Console(stderr=True, highlight=False).status("") as status:
        return auditing.audit(settings, options, lambda what: status.update(Text(f"Reading {what} …")))


def show(report: Report) -> None:
    """For people: a row a partition, what is of note, a verdict."""
    console = consoles.console()
    console.print(_table(report))
    console.print()
    for line in _notes(report):
        console.print(Text(line))
    for name, found in report.examples.items():
        if name in report.faults:
            console.print(Text(f"{name.replace('_', ' ').capitalize()}, for example {', '.join(found)}."))
    if report.ok:
        console.print(Text(report.verdict(), style="bold green"))


def _table(report: Report) -> Table:
    total = report.total
    headings = ALWAYS | {name: heading for name, heading in WHERE_ANY.items() if getattr(total, name)}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("input", no_wrap=True)
    for heading in headings.values():
        table.add_column(heading, justify="right")
    for one in report.partitions:
        table.add_row(f"{one.topic}/{one.partition}", *_figures(one.figures, headings))
    if len(report.partitions) > 1:
        table.add_row("total", *_figures(total, headings), style="bold")
    return table


def _figures(figures: Figures, names: dict[str, str]) -> list[Text]:
    return [_figure(name, int(getattr(figures, name))) for name in names]


def _figure(name: str, value: int) -> Text:
    return Text(f"{value:,}", style="bold red" if value and name in FAULTS else "")


def _notes(report: Report) -> list[str]:
    """Sentences on what the figures of the table do not say."""
    return [note for note in (*_on_processing(report), *_on_answers(report), *_on_comparing(report)) if note]


def _on_processing(report: Report) -> list[str]:
    total = report.total
    notes = []
    if report.group is not None and not report.committed:
        notes.append(f"The group {report.group!r} has committed nothing: every message is taken as processed.")
    if total.waiting:
        notes.append(f"{total.waiting:,} messages wait: the group {report.group!r} has not committed them.")
    if total.doubled:
        equal = "none of them differs" if not total.differing else f"{total.differing:,} of them differ"
        allowed = "allowed at least once" if report.doubles_allowed else "not allowed"
        notes.append(f"{total.doubled:,} messages have {total.copies:,} answers too many ({allowed}); {equal}.")
    notes += [
        f"An open transaction hides {offsets:,} offsets of {partition}."
        for partition, offsets in report.held_back.items()
    ]
    return notes


def _on_answers(report: Report) -> list[str]:
    notes = []
    if report.begins:
        begins = ", ".join(f"{partition} begins at offset {offset:,}" for partition, offset in report.begins.items())
        notes.append(f"{begins}: what was there before cannot be seen; --since or --last audits what is left.")
    if report.reasons:
        reasons = ", ".join(f"{count:,} {reason or '(none)'}" for reason, count in report.reasons.items())
        notes.append(f"Dead letters: {reasons}.")
    if report.forwarded_due or report.forwarded:
        notes.append(f"Tombstones to be forwarded: {report.forwarded_due:,}; on the output: {report.forwarded:,}.")
    if report.elsewhere:
        notes.append(f"{report.elsewhere:,} answers are to messages of other topics.")
    if report.foreign:
        notes.append(f"{report.foreign:,} records of output and dead letters are not Winnow's.")
    return notes


def _on_comparing(report: Report) -> list[str]:
    total, bundle = report.total, report.bundle
    if bundle is None:
        return ["Answers were not compared with what the bundle gives (--no-scores)."]
    equal = total.checked - total.wrong - total.curable
    notes = [
        f"{total.checked:,} answers were compared with what {bundle.name} ({bundle.digest}) gives today; "
        f"{equal:,} are the same bit by bit."
    ]
    if total.curable:
        notes.append(f"Dead letters that would be results today: {total.curable:,} (`winnow dlq replay` sends again).")
    if total.other_bundle:
        others = ", ".join(digest for digest in report.bundles if digest != bundle.digest)
        notes.append(f"{total.other_bundle:,} results are of other bundles ({others}): --set model.bundle=… names one.")
    return notes
