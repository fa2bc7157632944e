"""`winnow run`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from worker import logs
from worker.config import load
from worker.errors import Fatal, StageError

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

CLOSING_GRACE = 15.0
"""Seconds beyond the drain budget after which a shutdown that hangs is cut."""
AT_ONCE = 130


class Stop:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""

    def __init__(self) -> None:
        self._asked = False
        self.cut_after: float | None = None
        """Seconds after the first signal at which a shutdown that hangs is cut; None never cuts."""

    def __call__(self) -> bool:
        return self._asked

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is Python's
        # A handler that raised would lose messages already fetched, so it only sets the flag.
        if self._asked:
            os._exit(AT_ONCE)
        self._asked = True
        if self.cut_after is not None:
            exit_after(self.cut_after, StageError.exit_code)


def exit_after(seconds: float, code: int) -> None:
    """End the process then, unless it has ended before: closing a client may hang while its brokers are away."""

    def end() -> None:
        sys.stderr.write(
            f"winnow: the shutdown has not ended within {seconds:g} s, perhaps because the brokers are away. "
            "What was not committed will be delivered again.\n"
        )
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


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
    try:
        worker.run(stop)
    except Fatal as error:
        exit_after(CLOSING_GRACE, error.exit_code)
        worker.abandon()
        raise
