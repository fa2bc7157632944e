"""Figures in words."""

from __future__ import annotations

import pytest

from worker.watching.words import duration, number, plural, share, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00025, "0.25 ms"), (0.0217, "21.7 ms"), (1.25, "1.2 s"), (59.4, "59 s"), (61, "1 min 1 s"),
        (1_500, "25 min"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str):
    """In the unit that fits."""
    assert duration(seconds) == said


def test_numbers_shares_and_sizes():
    """As sentences have them."""
    assert [number(value) for value in (0, 1, 2.55, 1234.5)] == ["0", "1", "2.5", "1,234"]
    assert [share(value) for value in (0, 0.0123, 0.5, 1)] == ["0 %", "1.2 %", "50 %", "100 %"]
    assert [size(value) for value in (12, 2048, 5 << 20, 3 << 30)] == ["12 B", "2 KiB", "5 MiB", "3.0 GiB"]
    assert (plural(1, "message"), plural(2, "message")) == ("1 message", "2 messages")
