"""A peer's processes: started in groups of their own, watched, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers.peer import ROOT

if TYPE_CHECKING:
    from typing import Self

    from bench.peers.peer import Peer, Stage

GRACE_SECONDS = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """All processes of a peer on one stage; what they print goes into the stage's folder."""

    def __init__(self, peer: Peer, stage: Stage) -> None:
        self.log = stage.folder / "log.txt"
        variables = {**os.environ, **peer.environment(stage)}
        with self.log.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=stage.folder,
                    env=variables,
                    start_new_session=True,  # so that what it starts in turn is counted and ended with it
                )
                for command in peer.commands(stage)
            ]

    @property
    def alive(self) -> bool:
        """Whether all of them run."""
        return all(process.poll() is None for process in self._processes)

    def cpu_seconds(self) -> float:
        """What the processes, and those they started, have used of the CPU so far."""
        groups = {process.pid for process in self._processes}
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended meanwhile
                fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
                if int(fields[2]) in groups:
                    ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS

    def kill(self) -> None:
        """kill -9 of everything."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def stop(self) -> None:
        """End them as an operator would; those that do not listen are killed."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def why(self) -> str:
        """The last line that it printed, for a row that has no figures; folders of this machine left out."""
        lines = [line for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return (lines[-1] if lines else "it printed nothing").replace(str(ROOT), ".").strip()[:200]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
