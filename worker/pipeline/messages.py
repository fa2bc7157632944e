"""The values that travel through the pipeline. The source position rides along with the data.

Named tuples, because one of each is made per message: they cost a third of a frozen dataclass.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.pipeline.entities import Entity

Headers: TypeAlias = "list[tuple[str, bytes | None]]"
Partition: TypeAlias = "tuple[str, int]"
"""A topic and a partition number."""


class Record(NamedTuple):
    """A message as it came from the source."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    """None for a tombstone."""
    headers: Headers
    timestamp: int | None
    """Milliseconds since the epoch as the broker has it; None where it has none."""
    headers_unreadable: bool = False
    """The client could not read the headers; such a record becomes a dead letter without them."""
    log_append_time: bool = False
    """The timestamp is the broker's, of when it stored the message; else its producer's."""


class Request(NamedTuple):
    """What is to be classified."""

    id: str
    text: str
    truncated: bool
    """Whether the text was cut to the bound on characters."""
    metadata: dict[str, str] | None = None
    """Headers that the result repeats; None where none are asked for, or there."""


class Classification(NamedTuple):
    """What the model says of one request."""

    label: str | None
    """The chosen label, or the fallback where the model abstains; None where there is neither, and for entities."""
    score: float | None
    """Of the best label, be it chosen or not; for a regression the value; None for entities."""
    scores: dict[str, float]
    """Every label's score, in the order of the label ids; empty for entities."""
    labels: tuple[tuple[str, float], ...] | None = None
    """Multi-label: those that reached their thresholds, best first."""
    entities: tuple[Entity, ...] | None = None
    """Token classification: what was found, in the order of the text."""
    action: str | None = None
    """`accept`, `review` or `reject`, where the settings ask for it."""
    abstained: bool = False
    """No score was high enough for a label."""
    layer: int | None = None
    """After how many layers it was decided, of models with an early exit."""


class Partial(NamedTuple):
    """What the model says of one window of a text: not yet an outcome."""

    scores: NDArray[np.float64]
    """Shape [labels], or [tokens, labels] for token classification."""


class Unsure(NamedTuple):
    """What the first stage of a model with an early exit makes of a text that has to go on: not yet an outcome."""

    hidden: NDArray[np.float32]
    """Shape [tokens, size]; shares no memory with other texts."""


class Result(NamedTuple):
    """A classified request, ready to be encoded."""

    request: Request
    classification: Classification
    truncated: bool
    tokens: int
    """Of the text, special ones included; overlaps of windows count once."""
    windows: int = 1
    """Runs of the model that the text took."""


class Rejection(NamedTuple):
    """Why a record becomes a dead letter."""

    stage: str
    """`decode`, `tokenize`, `infer` or `encode`."""
    reason: str
    message: str
    error: str
    """The class of the error."""


Said: TypeAlias = "Result | Rejection | Partial"
"""Of a text by a lane, or of a window of one."""


class Skip(NamedTuple):
    """The record leaves nothing behind: its offset may pass."""


class Forward(NamedTuple):
    """A tombstone that is passed on as it is."""


Outcome: TypeAlias = "Result | Rejection | Skip | Forward"
"""Of a record."""


class Destination(StrEnum):
    """What an outgoing record is."""

    OUTPUT = "output"
    DEAD_LETTER = "dead-letter"


class Outgoing(NamedTuple):
    """A record to be written."""

    destination: Destination
    topic: str
    """Where it goes."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    source: Partition
