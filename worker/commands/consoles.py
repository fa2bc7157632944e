"""Standard output for tables: on a terminal as Rich has it, elsewhere wide and without filling."""

from __future__ import annotations

import re
import sys
from typing import IO, cast

from rich.console import Console

WIDE = 200
"""Columns where the output is no terminal: whoever reads it then can cut it."""
_FILLING = re.compile(r" +$", re.MULTILINE)


class _Trimmed:
    """Standard output without the spaces with which tables are filled up to their width."""

    @property
    def encoding(self) -> str:
        return sys.stdout.encoding

    def write(self, text: str) -> int:
        return sys.stdout.write(_FILLING.sub("", text))

    def flush(self) -> None:
        sys.stdout.flush()

    def isatty(self) -> bool:
        return False


def console(*, highlight: bool = False) -> Console:
    """Of stdout; `highlight` colours numbers on a terminal."""
    on_terminal = Console(highlight=highlight)
    if on_terminal.is_terminal:
        return on_terminal
    return Console(highlight=False, width=WIDE, file=cast("IO[str]", _Trimmed()))
