"""`winnow run`."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import structlog

from worker import logs
from worker.config import load
from worker.errors import Fatal, StageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger("winnow")
CLOSING_GRACE = 8.0
"""Seconds beyond the drain budget after which a shutdown that hangs is cut."""
AT_ONCE = 130
SAME = 0.5
"""Seconds after the first signal in which another is the same one sent twice: to the process, and to its group."""
SAYING = 0.2
"""Seconds at most for the last words of a process that is to end at once."""
COLLECT_AFTER = 50_000
"""Objects made and not yet freed, after which cycles are looked for; the interpreter's default is 700 or 2,000."""


class Stop:
    """Set by the first SIGTERM, SIGINT or SIGHUP; a second one, later than `SAME`, ends the process at once.

    Python's own handlers run only between two steps of the main thread, which may sit in a client's call for a long
    time. The interpreter writes each signal into a pipe at once, whatever the main thread does, and a thread reads it.
    What is said of signals is said by threads of its own: a log that nobody reads must not hold up the next signal.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None
        self.cut_after: float | None = None
        """Seconds after the first signal at which a shutdown that hangs is cut; None never cuts."""
        self.announce: Callable[[], object] | None = None
        """Called at the first signal."""
        self.consequence = ""
        """Of ending at once, for the user: a part of a sentence."""

    def __call__(self) -> bool:
        return self._first is not None

    def install(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, _nothing)
        threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True).start()

    def _listen(self, pipe: int) -> None:
        while os.read(pipe, 1):
            self.on_signal()

    def on_signal(self) -> None:
        """One more signal came."""
        now = self._clock()
        if self._first is None:
            self._first = now
            self._on_first()
        elif now - self._first >= SAME:
            consequence = f"; {self.consequence}" if self.consequence else ""
            _leave(f"second signal: ended at once{consequence}.", AT_ONCE)

    def _on_first(self) -> None:
        if self.cut_after is not None:
            exit_after(self.cut_after, StageError.exit_code)
        if self.announce is not None:
            _aside(self.announce)


def _aside(said: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=said, name="said", daemon=True)
    thread.start()
    return thread


def _leave(said: str, code: int) -> None:
    """End the process at once, with a sentence if somebody reads it."""

    def say() -> None:
        with suppress(OSError):
            sys.stderr.write(f"winnow: {said}\n")
            sys.stderr.flush()

    _aside(say).join(SAYING)
    os._exit(code)


def _nothing(*_: object) -> None:
    """A handler that raised would lose messages already fetched, and without one the process would just end."""


def exit_after(seconds: float, code: int) -> None:
    """End the process then, unless it has ended before: closing a client may hang while its brokers are away."""
    said = (
        f"the shutdown has not ended within {seconds:g} s, perhaps because the brokers are away. "
        "What was not committed will be delivered again."
    )
    timer = threading.Timer(seconds, _leave, (said, code))
    timer.daemon = True
    timer.start()


def run(config: Path | None, assignments: list[str]) -> NoReturn:
    """Run a worker until it is told to stop, then end the process.

    Raises:
        Fatal: it cannot start.
    """
    stop = Stop()
    stop.install()
    threading.excepthook = _thread_died
    settings = load(config, assignments)
    stop.cut_after = settings.shutdown.drain_ms / 1000 + CLOSING_GRACE
    stop.consequence = "what is in flight will be delivered again"
    logs.configure(settings.logging)
    stop.announce = partial(log.info, "stopping")

    from worker.app import Worker

    worker = Worker(settings)
    _spare_the_collector()
    try:
        worker.run(stop)
    except BaseException as error:  # noqa: BLE001 - whatever ended it, the group must be left and the process end
        code = _code(error)
        exit_after(CLOSING_GRACE, code)
        worker.abandon()
        _end(code)
    _end(0)


def _spare_the_collector() -> None:
    """Look for cycles less often: messages are freed by their reference counts.

    By default the look among those in flight takes a twentieth of a fast worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """A worker without one of its threads is no worker: nothing unfinished has been committed, so end."""
    name = died.thread.name if died.thread is not None else "?"
    said = f"the thread {name} died of {died.exc_type.__name__}; nothing unfinished was committed."
    _leave(said, StageError.exit_code)


def _code(error: BaseException) -> int:
    """Say what went wrong. Returns the exit code."""
    if isinstance(error, Fatal):
        sys.stderr.write(f"winnow: {error}\n")
        return error.exit_code
    traceback.print_exception(error)
    return 1


def _end(code: int) -> NoReturn:
    """Leave without the interpreter's own end, in which a lane that still runs the model would abort the process."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
