"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """`1 label`, `2 labels`; `what` is of the kind that takes an s."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
