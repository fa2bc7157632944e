"""What every peer is to the comparison: an environment, commands that run it, and the form its messages take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.kafka.tools import Header

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".peers"
"""What is made on this machine: environments, jars, binaries, models."""
PROGRAMS = Path(__file__).parent / "programs"
MAX_LENGTH = 512


class UnavailableError(Exception):
    """A peer cannot be made to run here; says in one line why."""


@dataclass(frozen=True)
class Stage:
    """Where one run of a peer happens: its topics, its group, the models, and a folder for its files."""

    bootstrap_servers: str
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    group: str
    folder: Path
    models: Path


class Peer(ABC):
    """One candidate. What it writes to the output topic bears the key of the message it answers."""

    name: ClassVar[str]
    what: ClassVar[str]
    """Version and settings, in one line; goes beside the figures."""
    headers: ClassVar[Sequence[Header]] = ()
    warm_messages: ClassVar[int] = 32
    """How many messages warm it."""
    most_messages: ClassVar[int | None] = None
    """The longest backlog that is fair to it."""
    start_seconds: ClassVar[float] = 60.0
    """How long the first result may take."""

    @abstractmethod
    def set_up(self) -> None:
        """Make what it needs under `HOME`; cheap when it is there.

        Raises:
            UnavailableError: it cannot be had.
        """

    @abstractmethod
    def commands(self, stage: Stage) -> list[list[str]]:
        """One command line a process; files they need are written into the stage's folder."""

    def environment(self, stage: Stage) -> dict[str, str]:  # noqa: ARG002 - most need none
        """Variables of the processes, over this one's own."""
        return {}

    def message(self, identity: str, text: str) -> bytes:
        """The value of a message."""
        return orjson.dumps({"id": identity, "text": text})

    def answered(self, value: bytes | None) -> bool:
        """Whether a record of the output topic is a result, and not a text that was passed on as it came."""
        return value is not None and b"score" in value.lower()
