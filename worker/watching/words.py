"""Figures in words, as sentences have them."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def shown(text: str) -> str:
    """A name or what another program said, with control characters spelt out: to a terminal they are commands."""
    return text.translate(_CONTROLS)


def number(value: float) -> str:
    """A count or a rate: one decimal below ten where there is any."""
    return f"{value:,.1f}" if value < 10 and value != int(value) else f"{value:,.0f}"


def plural(count: float, word: str) -> str:
    said = number(count)
    return f"{said} {word}" if said == "1" else f"{said} {word}s"


def share(value: float) -> str:
    """As per cent: one decimal below ten."""
    return f"{value * 100:.0f} %" if value >= 0.1 or value == 0 else f"{value * 100:.1f} %"


def duration(seconds: float) -> str:
    """In the largest unit that is full, with one more where that says more."""
    if seconds < 1:
        return f"{seconds * 1000:.{2 if seconds < 0.001 else 1 if seconds < 0.01 else 0}f} ms"
    if seconds < MINUTE:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < HOUR:
        return (
            f"{seconds // MINUTE:.0f} min {seconds % MINUTE:.0f} s" if seconds < 600 else f"{seconds / MINUTE:.0f} min"
        )
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"


def size(count: float) -> str:
    """Bytes, in powers of 1024."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    step = 0
    while count >= 1024 and step < len(units) - 1:
        count, step = count / 1024, step + 1
    return f"{count:,.0f} {units[step]}" if step < 3 else f"{count:,.1f} {units[step]}"
