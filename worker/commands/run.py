"""`winnow run`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from worker import logs
from worker.config import load

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

CLOSING_GRACE = 15.0
"""Seconds beyond the drain budget after which a shutdown that hangs is cut."""
HUNG = 7


class Stop:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""

    def __init__(self) -> None:
        self._asked = False
        self.cut_after: float | None = None

    def __call__(self) -> bool:
        return self._asked

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is Python's
        # A handler that raised would lose messages already fetched, so it only sets the flag.
        if self._asked:
            os._exit(130)
        self._asked = True
        if self.cut_after is not None:
            cut = threading.Timer(self.cut_after, os._exit, (HUNG,))
            cut.daemon = True
            cut.start()


def run(config: Path | None, assignments: list[str]) -> None:
    """Run a worker until it is told to stop.

    Raises:
        Fatal: it cannot start, or cannot go on.
    """
    stop = Stop()
    stop.install()
    settings = load(config, assignments)
    stop.cut_after = settings.shutdown.drain_ms / 1000 + CLOSING_GRACE
    logs.configure(settings.logging)
    # A lane that ends a run must get the interpreter back soon, or it stands idle: the default is 5 ms.
    sys.setswitchinterval(0.0005)

    from worker.app import Worker

    worker = Worker(settings)
    worker.run(stop)
