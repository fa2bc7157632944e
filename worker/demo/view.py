"""The demo's live view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from worker.demo.tally import Tally

BAR = 30
FIGURES = 7
MOST_LABELS = 6
"""Shown in the view: the most frequent."""
COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "red")
KNOWN = {"ham": "green", "spam": "red"}


def render(
    title: str, notes: Sequence[str], tally: Tally, batches: Mapping[str, float], sent: int, now: float
) -> RenderableType:
    """The whole view.

    Args:
        title: what runs.
        notes: lines on how to look further.
        tally: what was seen.
        batches: figures of the worker's own metrics, by name.
        sent: messages fed so far.
        now: on the tally's clock.
    """
    top = Table.grid(expand=True, padding=(0, 2))
    top.add_column(ratio=1)
    top.add_column(ratio=1)
    top.add_row(
        Panel(_figures(tally, batches, sent, now), title="flow", border_style="dim"),
        Panel(_labels(tally), height=FIGURES + 2, title="labels", border_style="dim"),
    )
    latest = Panel(_latest(tally), title="latest messages", border_style="dim")
    return Panel(
        Group(top, latest, *(Text(note, style="dim") for note in notes)),
        title=Text(f"winnow demo · {title}", style="bold"),
    )


def _figures(tally: Tally, batches: Mapping[str, float], sent: int, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    rows = {
        "fed": f"{sent:,}",
        "results": f"{tally.results:,}",
        "dead letters": f"{tally.dead_letters:,}",
        "rate": f"{tally.rate(now):,.1f}/s",
        "latency p50 / p99": f"{milliseconds(tally.latency(0.5))} / {milliseconds(tally.latency(0.99))}",
        "messages a batch": f"{batches.get('messages', 0):.1f}",
        "padding": f"{batches.get('padding', 0):.1%}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _labels(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 1))
    for label, count in sorted(tally.labels.most_common(MOST_LABELS)):
        share = count / tally.total
        bar = Text("█" * round(BAR * share), style=_colour(label, tally))
        table.add_row(label, bar, f"{share:.0%}")
    if (more := len(tally.labels) - MOST_LABELS) > 0:
        table.add_row(Text(f"{more} more", style="dim"), "", "")
    for reason, count in tally.reasons.most_common(5):
        table.add_row(Text(reason, style="dim"), Text(f"dead letter x {count}", style="dim"), "")
    return table


def _colour(label: str, tally: Tally) -> str:
    return KNOWN.get(label) or COLOURS[sorted(tally.labels).index(label) % len(COLOURS)]


def _latest(tally: Tally) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(width=12)
    table.add_column(width=6, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for seen in tally.latest:
        if seen.labels is None:
            table.add_row(Text("dead letter", style="yellow"), "", Text(f"{seen.reason}: {seen.text}", style="dim"))
        else:
            score = "" if seen.score is None else f"{seen.score:.2f}"
            label = Text(", ".join(seen.labels), style=_colour(seen.labels[0], tally))
            table.add_row(label, score, Text(seen.text))
    return table


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
