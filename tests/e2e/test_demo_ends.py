"""How the demo ends: whatever ends it, its worker and its broker end with it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 40.0


@pytest.fixture(autouse=True)
def hanging_up_is_heard() -> Iterator[None]:
    """Whoever runs the tests by nohup ignores SIGHUP, what they start inherits that, and a demo leaves it so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def running(part: str) -> list[int]:
    """Processes whose command line has a part; a zombie has none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = path.read_bytes().decode("utf-8", "replace")
        except OSError:  # it has ended meanwhile
            continue
        if part in said:
            found.append(int(path.parent.name))
    return found


def nobody(part: str) -> bool:
    deadline = time.monotonic() + SECONDS
    while running(part) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(part)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGHUP, 0), (signal.SIGTERM, 0)])
def test_no_worker_outlives_the_demo(number: signal.Signals, code: int):
    """Killed with -9 it cannot stop its worker, and a terminal that closes (SIGHUP) is no reason to leave one."""
    command = [sys.executable, "-m", "worker", "demo", "--broker", "mock", "--plain", "--rate", "5"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stderr is not None
            said = []
            for line in demo.stderr:
                said.append(line)
                if line.startswith("Ready"):
                    break
            address = re.search(r"127\.0\.0\.1:\d+", said[-1])
            assert address, said
            worker = f"kafka.bootstrap_servers={address[0]}"
            assert running(worker)
            demo.send_signal(number)
            demo.stderr.read()
            assert demo.wait(SECONDS) == code
            assert nobody(worker)
            assert nobody(f"mock_child.py\0{demo.pid}")
        finally:
            demo.kill()
