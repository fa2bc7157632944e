"""Winnow as a user starts it, with its defaults but for the cache."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench import kit
from bench.peers import models
from bench.peers.peer import Peer

if TYPE_CHECKING:
    from bench.peers.peer import Stage


class Winnow(Peer):
    name = "winnow"
    what = "own graph, static INT8, all settings as they come but for cache.max_bytes = 0"

    def set_up(self) -> None:
        """It is what runs this."""

    def commands(self, stage: Stage) -> list[list[str]]:
        settings = {
            "kafka.bootstrap_servers": stage.bootstrap_servers,
            "kafka.group_id": stage.group,
            "kafka.input_topics": stage.input_topic,
            "kafka.output_topic": stage.output_topic,
            "kafka.dead_letter_topic": stage.dead_letter_topic,
            "model.bundle": stage.models / models.BUNDLE,
            "cache.max_bytes": 0,  # texts come again in a benchmark, and no other has a cache
            "serving.host": "127.0.0.1",
            "serving.port": kit.free_port(),
            "logging.level": "warning",
        }
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return [[sys.executable, "-m", "worker", "run", *flags]]
