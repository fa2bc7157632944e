"""What Winnow is called where packages are installed: `winnow` belongs to somebody else in the package index."""

from __future__ import annotations

NAME = "winnow-worker"


def install(extra: str) -> str:
    """The command that adds an extra to what is installed."""
    return f"pip install '{NAME}[{extra}]'"
