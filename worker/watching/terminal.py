"""A worker's view as a terminal shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.watching.words import duration, number, plural, share, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from worker.watching.figures import Latency
    from worker.watching.histogram import Quantile
    from worker.watching.history import Point
    from worker.watching.view import View

STYLES = {"well": "green", "look": "yellow", "not-well": "red", "starting": "blue", "stopping": "blue"}
SIGNS = {"well": "✔", "look": "!", "not-well": "✖", "starting": "…", "stopping": "…"}
BLOCKS = "▁▂▃▄▅▆▇█"
TWO_COLUMNS = 96
"""Characters from which on there are two."""
COURSE = 30
BAR = 12
NOTHING = "–"
UNKNOWN = "not known yet"


def render(url: str, view: View, width: int, height: int | None, gone: str | None = None) -> RenderableType:
    """All of one worker, or what fits.

    Args:
        url: where it is.
        view: its last view.
        width: of the terminal, in characters.
        height: of the terminal, in lines; None where there may be as many as it takes.
        gone: why it does not answer any more; the figures are then the last ones.
    """
    if width >= TWO_COLUMNS:
        rows = 12 if height is None else max(3, min(12, height - 28))
    else:
        rows = 6 if height is None or height >= 40 else 3
    wide = BAR if width >= 70 else BAR // 2
    left = [
        _card("now", _now(view)),
        _card("lag by partition", _partitions(view, rows, wide)),
        _card("dead letters", _refused(view)),
    ]
    right = [
        _card("labels", _labels(view, rows, wide)),
        _card("latency", _latency(view)),
        _card("batches", _batches(view)),
    ]
    if view.drift.labels:
        left.append(_card("scores against the bundle's reference", _drift(view, rows, wide)))
    columns = [left, right] if width >= TWO_COLUMNS else [[*left[:3], *right[:2], *left[3:], *right[2:]]]
    above = Group(_head(url, view), _verdict(view) if gone is None else _gone(gone))
    return _Picture(above, columns, _foot(view), height, "dim" if gone else "")


@dataclass(frozen=True)
class _Picture:
    above: RenderableType
    columns: list[list[Panel]]
    foot: str
    height: int | None
    style: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """All panels; where the height is bounded, those that fit whole, and how many do not."""
        columns, foot = self.columns, self.foot
        if self.height is not None:
            foot = f"{foot} Ctrl-C ends."
            columns = self._fitting(foot, console, options)
            if left_out := sum(map(len, self.columns)) - sum(map(len, columns)):
                foot = _left_out(left_out) + foot
                columns = self._fitting(foot, console, options)
        figures = Table.grid(expand=True, padding=(0, 1))
        for _ in columns:
            figures.add_column(ratio=1, style=self.style)
        figures.add_row(*(Group(*column) for column in columns))
        yield self.above
        yield figures
        yield Text(foot, style="dim")

    def _fitting(self, foot: str, console: Console, options: ConsoleOptions) -> list[list[Panel]]:
        def lines(part: RenderableType, among: int = 1) -> int:
            width = (options.max_width - among + 1) // among
            return len(console.render_lines(part, options.update(width=width, height=None), pad=False))

        room = (self.height or 0) - lines(self.above) - lines(Text(foot))
        found = []
        for column in self.columns:
            left, fitting = room, []
            for panel in column:
                if (needed := lines(panel, len(self.columns))) <= left:
                    left -= needed
                    fitting.append(panel)
            found.append(fitting)
        return found


def _left_out(panels: int) -> str:
    return f"{plural(panels, 'panel')} more: a taller window, or --once. "


def _card(title: str, inside: RenderableType) -> Panel:
    return Panel(inside, title=Text(title, style="dim"), title_align="left", border_style="dim", padding=(0, 1))


def _head(url: str, view: View) -> Text:
    worker = view.worker
    parts = [
        url,
        worker.group and f"group {worker.group}",
        worker.delivery,
        worker.model and f"{worker.model} {worker.digest}",
    ]
    return Text.assemble(("winnow top", "bold"), "  ", (" · ".join(part for part in parts if part), "dim"))


def _verdict(view: View) -> Panel:
    verdict = view.verdict
    style = STYLES[verdict.state]
    lines = [Text.assemble((f"{SIGNS[verdict.state]} {verdict.title}", f"bold {style}"), f" {verdict.says}")]
    for finding in verdict.findings:
        if finding.title != verdict.title:
            lines.append(Text.assemble((f"{finding.severity}: ", "dim"), (finding.title, "bold"), f" {finding.says}"))
        lines.append(Text(f"  → {finding.runbook}  ({finding.alert})", style="dim"))
    return Panel(Group(*lines), border_style=style)


def _gone(why: str) -> Panel:
    lines = [Text.assemble(("✖ No answer. ", "bold red"), why)]
    lines.append(Text("  → docs/operations.md#no-worker-answers  (WinnowAbsent)", style="dim"))
    return Panel(Group(*lines), border_style="red")


def _foot(view: View) -> str:
    window = view.window
    over = "since the start" if window.since_start else f"over the last {duration(round(window.seconds or 0.0))}"
    return f"Figures are {over}. {time.strftime('%H:%M:%S', time.localtime(view.at))}."


def _table(*justify: str) -> Table:
    table = Table.grid(padding=(0, 2), expand=False)
    for one in justify:
        table.add_column(justify=one, no_wrap=one == "right")  # type: ignore[arg-type]
    return table


def _row(table: Table, *cells: str | Text) -> None:
    """A row whose texts are what they are: a plain one would be read for markup, and names may have brackets."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _pairs(pairs: Iterable[tuple[str, str | Text | None]]) -> Table:
    table = _table("left", "left")
    for name, said in pairs:
        if said is not None:
            _row(table, Text(name, style="dim"), said)
    return table


def _now(view: View) -> Table:
    load, lag, dead = view.load, view.lag, view.dead_letters
    growth = "" if lag.growth is None or abs(lag.growth) < 0.5 else f", {lag.growth:+,.1f}/s"
    pace = NOTHING if view.rate.delivered is None else f"{number(view.rate.delivered)}/s"
    refused = NOTHING if dead.share is None else share(dead.share)
    memory = "" if load.memory_limit_bytes is None else f" of {size(load.memory_limit_bytes)}"
    limit = "" if load.in_flight_limit is None else f" of {number(load.in_flight_limit)}"
    lanes = None if load.lanes is None else f"{number(load.lanes_busy or 0)} of {number(load.lanes)} busy"
    return _pairs(
        [
            ("rate", Text.assemble((pace, "bold"), "  ", (course(view.course), "cyan"))),
            ("p50 / p99", f"{_time(view.end_to_end.p50)} / {_time(view.end_to_end.p99)}"),
            ("lag", UNKNOWN if lag.messages is None else f"{plural(lag.messages, 'message')}{growth}"),
            ("dead letters", f"{refused}, {number(dead.since_start)} since the start"),
            ("lanes", lanes),
            (
                "in flight",
                None
                if load.in_flight is None
                else f"{number(load.in_flight)}{limit}{', paused' if load.paused else ''}",
            ),
            ("memory", None if load.memory_bytes is None else f"{size(load.memory_bytes)}{memory}"),
            ("cores", None if load.cores is None else f"{load.cores:.2f}"),
            ("up", None if view.worker.uptime is None else duration(view.worker.uptime)),
        ]
    )


def course(points: Sequence[Point]) -> str:
    """The last rates as blocks."""
    rates = [point.rate for point in points][-COURSE:]
    most = max(rates, default=0.0)
    return "".join(BLOCKS[round(rate / most * (len(BLOCKS) - 1))] for rate in rates) if most else ""


def bar(of: float, width: int) -> Text:
    """A share as a bar."""
    full = round(max(0.0, min(1.0, of)) * width)
    return Text.assemble(("━" * full, "cyan"), ("─" * (width - full), "dim"))


def _labels(view: View, rows: int, wide: int) -> RenderableType:
    found = [one for one in (view.labels if any(one.count for one in view.labels) else view.entities) if one.count]
    if not found:
        return Text("No results in this time.", style="dim")
    table = _table("left", "left", "right", "right")
    for one in found[:rows]:
        _row(
            table,
            Text(one.name, overflow="ellipsis", no_wrap=True),
            bar(one.share, wide),
            share(one.share),
            number(one.count),
        )
    return _with_more(table, len(found) - rows, "label")


def _with_more(table: Table, more: int, what: str) -> RenderableType:
    return Group(table, Text(f"and {plural(more, what)} more", style="dim")) if more > 0 else table


def _latency(view: View) -> Table:
    table = _table("left", "right", "right", "right")
    _row(table, *(Text(name, style="dim") for name in ("", "p50", "p95", "p99")))
    rows: list[tuple[str, Latency]] = [("end to end", view.end_to_end), ("in the worker", view.inside)]
    rows += [(f"  {name}", one) for name, one in view.stages.items()]
    for name, one in rows:
        _row(table, name, _time(one.p50), _time(one.p95), _time(one.p99))
    return table


def _time(quantile: Quantile | None) -> str:
    return NOTHING if quantile is None else f"{'> ' if quantile.beyond else ''}{duration(quantile.value)}"


def _partitions(view: View, rows: int, wide: int) -> RenderableType:
    found = view.lag.partitions
    if not found:
        return Text("It has no partitions." if view.lag.messages is not None else f"It is {UNKNOWN}.", style="dim")
    most = max(found[0].messages, 1.0)
    table = _table("left", "left", "right", "right")
    for one in found[:rows]:
        name = Text(f"{one.topic} {one.partition}", overflow="ellipsis", no_wrap=True)
        _row(
            table,
            name,
            bar(one.messages / most, wide),
            number(one.messages),
            duration(one.seconds) if one.seconds else NOTHING,
        )
    return _with_more(table, len(found) + view.lag.more - rows, "partition")


def _refused(view: View) -> RenderableType:
    if not view.dead_letters.since_start:
        return Text("None since the start.", style="dim")
    table = _table("left", "left", "right", "right")
    _row(table, *(Text(name, style="dim") for name in ("reason", "stage", "lately", "since start")))
    for one in view.dead_letters.reasons[:6]:
        _row(table, one.reason, one.stage, number(one.count), number(one.since_start))
    return _with_more(table, len(view.dead_letters.reasons) - 6, "reason")


def _batches(view: View) -> RenderableType:
    batches = view.batches
    if not batches.count:
        return Text("No batches in this time.", style="dim")
    closed = ", ".join(f"{one.name} {share(one.share)}" for one in batches.closed if one.count)
    hits = view.cache.hits
    return _pairs(
        [
            ("messages", number(batches.mean_messages or 0.0)),
            ("tokens", f"{number(batches.mean_tokens or 0.0)}, {share(batches.padding or 0.0)} padding"),
            ("closed by", closed),
            ("known texts", None if hits is None else share(hits)),
            ("layers", ", ".join(f"{share(one.share)} after {one.name}" for one in view.exits if one.count) or None),
        ]
    )


def _drift(view: View, rows: int, wide: int) -> RenderableType:
    table = _table("left", "left", "right", "left")
    for one in view.drift.labels[:rows]:
        said = (
            "too few results" if not one.enough else f"{share(one.share)} ≤ {one.score:g}, was {share(one.reference)}"
        )
        _row(
            table,
            Text(one.label, overflow="ellipsis", no_wrap=True),
            bar(one.distance, wide // 2),
            f"{one.distance:.3f}",
            Text(said, style="dim"),
        )
    return _with_more(table, len(view.drift.labels) - rows, "label")


def overview(found: Sequence[tuple[str, View | None, str]]) -> RenderableType:
    """Several workers, a line each: address, view, and why there is none or it is the last one."""
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    for name, justify in (
        ("worker", "left"),
        ("", "left"),
        ("rate", "right"),
        ("p99", "right"),
        ("lag", "right"),
        ("dead", "right"),
        ("lanes", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=name != "")  # type: ignore[arg-type]
    for url, view, why in found:
        if view is None or why:
            _row(table, url.removeprefix("http://"), Text(f"✖ {why}", style="red"), *[NOTHING] * 5)
            continue
        verdict, load = view.verdict, view.load
        said = Text(f"{SIGNS[verdict.state]} {verdict.title}", style=STYLES[verdict.state])
        pace = NOTHING if view.rate.delivered is None else f"{number(view.rate.delivered)}/s"
        lanes = NOTHING if load.lanes is None else f"{number(load.lanes_busy or 0)}/{number(load.lanes)}"
        dead = NOTHING if view.dead_letters.share is None else share(view.dead_letters.share)
        _row(
            table,
            url.removeprefix("http://"),
            said,
            pace,
            _time(view.end_to_end.p99),
            NOTHING if view.lag.messages is None else number(view.lag.messages),
            dead,
            lanes,
        )
    answering = [view for _, view, why in found if view is not None and not why]
    total = sum(view.rate.delivered or 0.0 for view in answering)
    lag = sum(view.lag.messages or 0.0 for view in answering)
    wait = f"{plural(lag, 'message')} {'waits' if lag == 1 else 'wait'}"
    foot = Text(
        f"{len(answering)} of {plural(len(found), 'worker')} answer; {number(total)}/s, {wait}.",
        style="dim",
    )
    return Group(Text("winnow top", style="bold"), table, foot)
