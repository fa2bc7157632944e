"""Runs one command and outlives its parent just long enough to end it: `warden.py PARENT FOLDER LOG COMMAND…`.

Why a process of its own: a broker or a worker must not outlive the program that started it, not even when that program
is killed with -9. The kernel's parent-death signal alone cannot promise it: it follows the *thread* that forked, and
setting it needs code between fork and exec, which is unsafe in a program with threads. This process has one thread, so
both are sound here: the command dies with the warden by that signal, and the warden watches its parent.

Contract: prints the command's process id on standard output, sends both output streams of the command to LOG, passes
SIGTERM on, exits with the command's code. When the parent is gone it kills the command and removes FOLDER. For FOLDER
and LOG `-` stands for none, and for the own standard error.
Standard library only, started by path: it is up in some 30 ms.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = "-"
_WATCH_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parent, folder, log, *command = arguments
    with open(2 if log == NONE else log, "ab", closefd=log != NONE) as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_death_signal()
        )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    _announce(child.pid)
    while child.poll() is None and os.getppid() == int(parent):
        time.sleep(_WATCH_SECONDS)
    if os.getppid() != int(parent):
        child.kill()
        child.wait()
        if folder != NONE:
            shutil.rmtree(folder, ignore_errors=True)
    return child.wait()


def _death_signal() -> Callable[[], None] | None:
    """What the child runs on its way to the command, to die with this process; None without such a signal."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    warden = os.getpid()

    def die_with_the_warden() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != warden:  # it died between fork and prctl
            os._exit(1)

    return die_with_the_warden


def _announce(pid: int) -> None:
    try:
        os.write(1, f"{pid}\n".encode())
        os.close(1)
    except BrokenPipeError:  # the parent is gone already: the loop sees it next
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
