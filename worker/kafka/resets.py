"""Positions that the brokers do not have, counted.

Retention has deleted them before they were read, or the topic was made anew. The client tells of them in its log alone,
as a warning (a `log_level` below 4 silences it), and goes on where `auto.offset.reset` says.
"""

from __future__ import annotations

import logging
import re
from typing import Any

_RESET = re.compile(r"^OFFSET \[.*: offset reset \(at offset \d+")
"""The client's line (librdkafka `rd_kafka_offset_reset`); without a committed offset it is `INVALID`, and no loss."""


class Resets(logging.LoggerAdapter[logging.Logger]):
    """The client's logger, which passes everything on and counts what `auto.offset.reset` decided. One thread."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("librdkafka"), {})
        self.count = 0

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """The client calls this from within its polls."""
        if _RESET.match(str(msg) % args if args else str(msg)):
            self.count += 1
        super().log(level, msg, *args, **kwargs)
