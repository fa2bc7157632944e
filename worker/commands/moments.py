"""Points in time as the command line takes and shows them, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from worker.errors import ConfigError

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
NO_TIME = "-"


def moment(flag: str, text: str | None, now: float) -> int | None:
    """Milliseconds since the epoch.

    Args:
        flag: named in the error.
        text: ISO 8601, in UTC where it has no zone, or so long ago: `90s`, `15m`, `2h`, `3d`.
        now: seconds since the epoch.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if ago is not None:
        return max(0, int((now - int(ago[1]) * SECONDS[ago[2]]) * 1000))
    try:
        found = datetime.fromisoformat(text.strip())
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{flag}: {text!r} is no time; write 2026-11-21T13:00:00Z, or how long ago: 90s, 15m, 2h, 3d."
        ) from None


def shown(milliseconds: int | None) -> str:
    """To the second, for people."""
    if milliseconds is None:
        return NO_TIME
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)  # a producer may write any number


def precise(milliseconds: int) -> str:
    """To the millisecond, as `moment` reads it."""
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
