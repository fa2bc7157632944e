"""`winnow` as the first process of a PID namespace, as in a container: the kernel drops what it does not handle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BLOCKED = ["env", "--block-signal=TERM"]
"""As in the Dockerfile's entry point."""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
SECONDS = 5.0
"""Far less than a grace period, and enough for whatever C code an import is in."""
TERMINATED = 128 + signal.SIGTERM
AFTER_MS = [0, 5, 10, 15, 20, 30, 45, 60, 90, 130, 200, 300]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, *BLOCKED, "true"], check=False).returncode != 0:
        pytest.skip("needs unshare, GNU env, and PID namespaces that this user may make")


@pytest.mark.parametrize("after", AFTER_MS)
def test_sigterm_ends_it_from_the_first_moment(after):
    """Whenever SIGTERM comes, while the interpreter starts or while it imports, the process ends by it."""
    command = [*NAMESPACE, *BLOCKED, sys.executable, "-m", "worker", "classify", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            first = wait_heard(process)
            time.sleep(after / 1000)  # the moment is what is tried
            os.kill(first, signal.SIGTERM)
            assert process.wait(SECONDS) == TERMINATED
        finally:
            process.kill()


def wait_heard(process: subprocess.Popen[bytes]) -> int:
    """Until a SIGTERM would no longer be dropped, less than a millisecond after `env` has begun; the process inside."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            # `unshare` blocks it, too, for a moment.
            if status(child, "Name") != "unshare" and heard(child):
                return int(child)
    raise AssertionError(f"SIGTERM is not blocked after {SECONDS:g} s; exit code {process.poll()}")


def heard(pid: str) -> bool:
    masks = (int(status(pid, name) or "0", 16) for name in ("SigBlk", "SigCgt"))
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


def status(pid: str, name: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:  # it has ended
        return ""
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")
