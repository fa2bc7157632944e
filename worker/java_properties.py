"""Java's properties files, as `java.util.Properties.load(Reader)` reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = " \t\f"
_ENTRY = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.?)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse(text: str) -> dict[str, str]:
    """The entries of a file; of a key that stands there twice, the last."""
    entries = {}
    for line in _logical_lines(text):
        found = _ENTRY.fullmatch(line)
        if found is not None:
            entries[_plain(found[1])] = _plain(found[2])
    return entries


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments; one that ends in a backslash goes on in the next, without what that is indented by."""
    begun = ""
    for natural in re.split(r"\r\n|[\n\r]", text):
        line = natural.lstrip(_BLANK)
        if not begun and (not line or line[0] in "#!"):
            continue
        begun += line
        if _continues(line):
            begun = begun[:-1]
        else:
            yield begun
            begun = ""
    if begun:
        yield begun


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _plain(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(escape: re.Match[str]) -> str:
    said = escape[1]
    return chr(int(said[1:], 16)) if len(said) == 5 else _CONTROL.get(said, said)
