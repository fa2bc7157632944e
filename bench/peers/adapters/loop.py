"""The loop that most people write."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.peers import models
from bench.peers.peer import PROGRAMS, Peer

if TYPE_CHECKING:
    from bench.peers.peer import Stage


class Loop(Peer):
    name = "hand-written loop"
    what = "consume 32, pad to the longest, exported + quantize_dynamic, ONNX Runtime's default threads, flush, commit"

    def set_up(self) -> None:
        """The packages are Winnow's own."""

    def commands(self, stage: Stage) -> list[list[str]]:
        program = PROGRAMS / "loop.py"
        topics = [stage.bootstrap_servers, stage.group, stage.input_topic, stage.output_topic]
        return [[sys.executable, str(program), *topics, str(stage.models / models.INT8)]]
