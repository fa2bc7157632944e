"""A worker in a process of its own, as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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
        deadline = time.monotonic() + READY_SECONDS
        while not self.get("/readyz"):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def get(self, path: str) -> str:
        """What it serves at a path; empty while it does not, or answers with an error."""
        port = _port(self.said)
        if port is None:
            return ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

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
