"""Structured logs: colours in a terminal, JSON lines elsewhere; never message text, nor the same line in a flood."""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.config import LoggingSettings

EVERY = 30.0
"""Seconds in which the client may say a thing once."""
MOST_KINDS = 256
HTTP_CLIENT = ("httpx2", "httpcore2")
"""Loggers of the schema registry's client: at the level of information they say each request."""
_CHANGING = re.compile(r", \d+ identical error\(s\) suppressed|(?<![\w.:#/\[-])\d+(?!\.\d)(?=ms\b|s\b|\b)")
"""The client's own count, and numbers that stand alone or before a unit of time: no part of an address or a name."""


class Spared(logging.Filter):
    """Holds back what the client repeats: with the brokers away it says twenty times a second that it is refused.

    One line of a kind passes every `EVERY` seconds and says how many were held back before it. A kind is everything
    that a line says but its changing numbers. What was asked for by the client's `debug` property passes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._passed: dict[str, tuple[float, int]] = {}
        """By kind: when one passed, and how many were held back since. The one that passed last is last."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes. Of a line that passes, `msg` may be given the count."""
        if record.levelno <= logging.DEBUG:
            return True
        said = record.getMessage()
        held = self._held(_CHANGING.sub("", said))
        if held:
            record.msg, record.args = f"{said} (and {held} like it since the last one)", ()
        return held is not None

    def _held(self, kind: str) -> int | None:
        """How many of the kind were held back since one passed; None: this one is too."""
        now = self._clock()
        with self._lock:
            passed, held = self._passed.get(kind, (-math.inf, 0))
            if now - passed < EVERY:
                self._passed[kind] = passed, held + 1
                return None
            self._passed.pop(kind, None)
            self._passed[kind] = now, 0
            if len(self._passed) > MOST_KINDS:
                del self._passed[next(iter(self._passed))]
            return held


def configure(settings: LoggingSettings) -> None:
    """Set up structlog, and the standard library's logging (librdkafka's lines) through it, on stderr."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _tracebacks, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("librdkafka").filters[:] = [Spared(time.monotonic)]
    for name in HTTP_CLIENT:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _tracebacks(logger: Any, name: str, event: Any) -> Any:
    return structlog.processors.format_exc_info(logger, name, event)
