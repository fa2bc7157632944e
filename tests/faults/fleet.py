"""Workers in processes of their own: the stub, or the whole of `winnow run`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

STARTED_SECONDS = 90.0
"""Several start at once, on a machine that has other things to do."""


class FaultyWorker(WorkerProcess):
    """A worker that may be told to fail; see `stub_worker` for the flags."""

    def __init__(self, folder: Path, flags: list[str], settings: dict[str, object], env: dict[str, str]) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        self._stderr = self.log.open("wb")
        sets = [part for name, value in settings.items() for part in ("--set", f"{name.replace('__', '.', 1)}={value}")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stub_worker", *flags, *sets],
            stderr=self._stderr,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env=env,
        )

    def until(self, done: Callable[[], object], seconds: float = STARTED_SECONDS) -> None:
        try:
            super().until(done, seconds)
        except AssertionError:
            raise AssertionError(self.explained()) from None

    @property
    def partitions(self) -> int:
        return int(self.metric("winnow_partitions_assigned"))

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_assigned(self, least: int = 1) -> None:
        self.until(lambda: self.partitions >= least)

    def ended(self, seconds: float = STARTED_SECONDS) -> int:
        """Its exit code, which it is to have in that time by itself."""
        code = self.process.wait(seconds)
        self._stderr.close()
        return code

    def explained(self) -> str:
        """What it said, what it counted and what its threads are doing, for a test that fails."""
        counted = ""
        if self.running:
            wanted = ("winnow_in_flight_messages ", "winnow_partitions_assigned ", "winnow_consumed_total ")
            counted = "\n".join(line for line in self.get("/metrics").splitlines() if line.startswith(wanted))
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)  # it writes its stacks; nothing tells when it has
        return f"--- {self.log.name}, exit {self.process.poll()}\n{counted}\n{self.said[-6_000:]}"

    @property
    def stopped(self) -> bool:
        """Whether a SIGSTOP has taken hold."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def wait_stopped(self) -> None:
        self.until(lambda: self.stopped)
