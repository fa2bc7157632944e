"""arroyo with Winnow's classifier as a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import environments, models
from bench.peers.peer import PROGRAMS, ROOT, Peer
from worker.cpu import usable_cores

if TYPE_CHECKING:
    from bench.peers.peer import Stage

NAME = "arroyo"
BATCH = 32


class Arroyo(Peer):
    name = "arroyo"
    what = f"2.48.0, Winnow's graph as a function of {BATCH} messages (BatchStep, 50 ms), a process a core"

    def set_up(self) -> None:
        environments.python(NAME)

    def commands(self, stage: Stage) -> list[list[str]]:
        return [command(stage, str(stage.models / models.BUNDLE), BATCH)] * usable_cores()

    def environment(self, stage: Stage) -> dict[str, str]:  # noqa: ARG002
        return {"PYTHONPATH": str(ROOT)}  # for the pure part of Winnow


def command(stage: Stage, bundle: str, batch: int) -> list[str]:
    """One process; `bundle` may be `stub`, a classifier that costs nothing; a `batch` of 1 gathers nothing."""
    topics = [stage.bootstrap_servers, stage.group, stage.input_topic, stage.output_topic]
    return [str(environments.python(NAME)), str(PROGRAMS / "arroyo_task.py"), *topics, bundle, str(batch)]
