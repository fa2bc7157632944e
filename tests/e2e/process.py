"""A worker in a process of its own, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READY_SECONDS = 40.0
EXIT_SECONDS = 40.0


def winnow(*arguments: str, stdin: bytes | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments], input=stdin, capture_output=True, timeout=timeout, check=False
    )


class WorkerProcess:
    """`winnow run` with settings; ready when the constructor returns, unless told not to wait."""

    def __init__(self, folder: Path, *, wait: bool = True, **settings: object) -> None:
        """Start it.

        Args:
            folder: for its log.
            wait: until it is ready.
            settings: `kafka__group_id=…` stands for `kafka.group_id`.
        """
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        settings = {"serving__host": "127.0.0.1", "serving__port": 0} | settings
        flags = [
            part for name, value in settings.items() for part in ("--set", f"{name.replace('__', '.', 1)}={value}")
        ]
        self._stderr = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "run", *flags], stderr=self._stderr, stdin=subprocess.DEVNULL
        )
        if wait:
            self.wait_ready()

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    def wait_ready(self) -> None:
        self.until(lambda: self.get("/readyz"))

    @property
    def port(self) -> int | None:
        """Where it serves; None until it does."""
        return _port(self.said)

    def get(self, path: str) -> str:
        """What it serves at a path; empty while it does not, or answers with an error."""
        port = self.port
        if port is None:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def metric(self, name: str) -> float:
        """The value of a metric without labels; 0 while it is not served."""
        return sum(float(line.split()[1]) for line in self.get("/metrics").splitlines() if line.startswith(f"{name} "))

    def until(self, done: Callable[[], object], seconds: float = READY_SECONDS) -> None:
        """Wait for a condition, which may as well do something; fails with the log."""
        deadline = time.monotonic() + seconds
        while not done():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def is_in(self, thread: str) -> bool:
        """Whether it has a thread of that name."""
        names = Path(f"/proc/{self.process.pid}/task").glob("*/comm")
        return any(name.read_text().strip() == thread for name in names)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; return when the process has taken it, so that the next one is not merged with it."""
        self.process.send_signal(number)
        self.until(lambda: not self._mask("ShdPnd") >> (number - 1) & 1)

    def catches(self, number: signal.Signals) -> bool:
        return bool(self._mask("SigCgt") >> (number - 1) & 1)

    def _mask(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith(f"{name}:")), 0)

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        code = self.process.wait(EXIT_SECONDS)
        self._stderr.close()
        return code

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def _port(log: str) -> int | None:
    _, found, rest = log.partition('"http_port": ')
    return int(rest.split(",")[0].split("}")[0]) if found else None
