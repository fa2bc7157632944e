"""Where `winnow` begins: signals are heard before anything heavy is imported.

The kernel gives the first process of a container (PID 1) only signals that it handles: without a handler a SIGTERM is
dropped, and whoever sent it waits out the grace period. The image blocks SIGTERM before the interpreter starts, so that
one that comes meanwhile waits until it is unblocked here.
"""

from __future__ import annotations

import os
import signal

FIRST_PROCESS = 1


def main() -> None:
    """Run the command line; until a command handles signals itself, one ends the process at once with 128 + number."""
    if os.getpid() == FIRST_PROCESS and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # not where a shell started it in the background, which ignores it
        signal.signal(signal.SIGINT, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))

    from worker import cli

    signal.signal(signal.SIGINT, interrupt)
    cli.main()


def _end(number: int, _: object) -> None:
    os._exit(128 + number)
