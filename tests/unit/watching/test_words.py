"""Figures in words."""

from __future__ import annotations

import pytest

from worker.watching.words import duration, number, plural, share, shown, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00025, "0.25 ms"), (0.0019, "1.9 ms"), (0.0217, "22 ms"), (0.25, "250 ms"),
        (1.25, "1.2 s"), (59.4, "59 s"), (61, "1 min 1 s"),
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
    assert [plural(count, "message") for count in (1, 1.04, 2)] == ["1 message", "1.0 messages", "2 messages"]


def test_control_characters_are_spelt_out():
    """They are commands to a terminal; every other character stays."""
    assert shown("a\x1b[2J\x7f\x9b\n") == r"a\x1b[2J\x7f\x9b\x0a"
    assert shown("é 中 👍 [x]") == "é 中 👍 [x]"
