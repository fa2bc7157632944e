"""Bars and lines as SVG, without a plotting library: what `docs/benchmarks.md` shows beside its tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, LEFT, RIGHT, TOP, BAR = 720, 230, 70, 40, 26
HEIGHT, HIGHEST, BOTTOM, AXIS = 340, 64, 46, 60
FLAME, THINNEST = 18, 1.5
"""The height of a row of a flame graph, and the least width of what is drawn."""
WARM = ("#fbd38d", "#f6ad55", "#feb2b2", "#fc8181", "#faf089", "#f6e05e")
COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#4a5568", "#b7791f")


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """One horizontal bar a value, in the order given.

    Args:
        title: above the plot.
        values: by what stands left of the bar; none is negative.
        unit: of all of them, behind each number.
    """
    scale = (WIDTH - LEFT - RIGHT) / (max(values.values()) or 1.0)
    shapes = []
    for number, (name, value) in enumerate(values.items()):
        y = TOP + number * BAR
        shapes += [
            _text(LEFT - 8, y + 16, name, "end"),
            f'<rect x="{LEFT}" y="{y + 4}" width="{value * scale:.1f}" height="{BAR - 8}" fill="{COLOURS[0]}"/>',
            _text(LEFT + value * scale + 6, y + 16, f"{number_text(value)}{unit}"),
        ]
    return _svg(title, TOP + len(values) * BAR + 10, shapes)


def lines(title: str, at: Sequence[float], series: Mapping[str, Sequence[float]], across: str, up: str) -> str:
    """One line a series over the same places, the values on a logarithmic axis.

    Args:
        title: above the plot.
        at: places on the horizontal axis, ascending.
        series: positive values at these places, by name.
        across: what the places are.
        up: what the values are.
    """
    decades = _decades([value for values in series.values() for value in values])
    x_of = _placed(at[0], at[-1], AXIS, WIDTH - 130)
    y_of = _placed(math.log10(decades[0]), math.log10(decades[-1]), HEIGHT - BOTTOM, HIGHEST)
    shapes = [_grid(y_of(math.log10(each)), each) for each in decades]
    shapes += [_text(x_of(place), HEIGHT - BOTTOM + 18, number_text(place), "middle") for place in at]
    shapes += [_text((AXIS + WIDTH - 130) / 2, HEIGHT - 8, across, "middle"), _text(AXIS - 8, HIGHEST - 16, up, "end")]
    for values, colour in zip(series.values(), COLOURS, strict=False):
        points = [(x_of(place), y_of(math.log10(value))) for place, value in zip(at, values, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    ends = _apart({name: y_of(math.log10(values[-1])) for name, values in series.items()})
    shapes += [
        _text(x_of(at[-1]) + 8, ends[name] + 4, name, colour=c) for name, c in zip(series, COLOURS, strict=False)
    ]
    return _svg(title, HEIGHT, shapes)


def flame(title: str, stacks: Mapping[str, float]) -> str:
    """A flame graph, upside down: what calls stands above what it calls, as wide as its share.

    Args:
        title: above the plot.
        stacks: shares of the time by the functions of a stack, outermost first, joined by `;`.
    """
    inside: dict[tuple[str, ...], float] = {}
    for stack, share in stacks.items():
        names = tuple(stack.split(";"))
        for depth in range(1, len(names) + 1):
            inside[names[:depth]] = inside.get(names[:depth], 0.0) + share
    scale = (WIDTH - 24) / sum(stacks.values())
    shapes: list[str] = []
    ends: dict[tuple[str, ...], float] = {(): 12.0}
    for names in sorted(inside, key=lambda each: (len(each), -inside[each])):
        x, width = ends[names[:-1]], inside[names] * scale
        ends[names[:-1]], ends[names] = x + width, x
        shapes += _flame(names, x, width) if width >= THINNEST else []
    return _svg(title, TOP + max(map(len, inside)) * FLAME + 10, shapes)


def _flame(names: tuple[str, ...], x: float, width: float) -> list[str]:
    y, colour = TOP + (len(names) - 1) * FLAME, WARM[sum(map(ord, names[-1])) % len(WARM)]
    fitting = names[-1][: int((width - 6) / 6)]
    return [
        f'<rect x="{x:.1f}" y="{y}" width="{width - 1:.1f}" height="{FLAME - 1}" fill="{colour}">'
        f"<title>{escape(names[-1])}</title></rect>",
        *([_text(x + 3, y + 13, fitting, size=10)] if len(fitting) > 2 else []),
    ]


def number_text(value: float) -> str:
    """Three digits, or all of a larger number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _decades(values: Sequence[float]) -> list[float]:
    """Powers of ten around the values, at least two."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _apart(places: Mapping[str, float], gap: float = 14.0) -> dict[str, float]:
    """The same places, the lower ones moved down until none is nearer than `gap` to the one above it."""
    found: dict[str, float] = {}
    lowest = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        lowest = found[name] = max(place, lowest + gap)
    return found


class _placed:  # noqa: N801 - a function with two fixed points
    """Places values between `low` and `high` on a line from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._scale = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._scale


def _grid(y: float, value: float) -> str:
    line = f'<line x1="{AXIS}" x2="{WIDTH - 130}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e8f0"/>'
    return line + _text(AXIS - 8, y + 4, number_text(value), "end")


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1a202c", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
    )


def _svg(title: str, height: float, shapes: Iterable[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
            f'font-family="system-ui, sans-serif"><title>{escape(title)}</title>',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(12, 22, title, size=14),
            *shapes,
            "</svg>\n",
        ]
    )
