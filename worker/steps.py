"""What the loop is made of: the parts of the way through, and how much of it at once and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from worker.lanes import Lanes
    from worker.pipeline.batcher import Batcher
    from worker.pipeline.decode import Decoder
    from worker.pipeline.encode import Encoder
    from worker.pipeline.ledger import Ledger
    from worker.pipeline.repeats import Repeats
    from worker.pipeline.tokenization import Tokenize
    from worker.pipeline.windows import Windows


class Bounds(NamedTuple):
    """How much, and for how long. Times in seconds."""

    in_flight: int
    """Messages taken in and not yet settled."""
    bytes_in_flight: int
    """Of their values, of the token ids of long texts that wait, and of the states of what waits to go on."""
    commit_interval: float
    drain: float
    """Budget for finishing what is in flight when the worker stops."""
    revoke: float
    """Budget for finishing what is in flight when partitions are revoked."""
    commit_interval_behind: float | None = None
    """Between commits while there is a backlog; None: the same."""


class Steps(NamedTuple):
    """The parts of the way through, in order."""

    decode: Decoder
    tokenize: Tokenize
    batcher: Batcher
    lanes: Lanes
    ledger: Ledger
    encode: Encoder
    windows: Windows
    repeats: Repeats | None = None
    """None where every text is classified, however often it comes."""
