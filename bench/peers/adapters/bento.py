"""Bento's `nlp_classify_text`, built from its published modules."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bench import kit
from bench.peers import environments, models
from bench.peers.peer import HOME, Peer
from worker.cpu import usable_cores

if TYPE_CHECKING:
    from bench.peers.peer import Stage

SOURCE = Path(__file__).parent.parent / "bento"
BINARY = HOME / "bento" / "bento"


class Bento(Peer):
    name = "Bento"
    what = "1.20.0, nlp_classify_text with its pure-Go backend, FP32 (INT8 is slower there), batches of 16 within 50 ms"
    warm_messages = 4  # each takes a second or so
    start_seconds = 120.0

    def set_up(self) -> None:
        if BINARY.exists() and BINARY.stat().st_mtime > (SOURCE / "go.sum").stat().st_mtime:
            return
        BINARY.parent.mkdir(parents=True, exist_ok=True)
        print("Building Bento: some minutes, once.", flush=True)
        variables = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
        environments.run(["go", "build", "-o", str(BINARY), "."], SOURCE, variables)

    def commands(self, stage: Stage) -> list[list[str]]:
        shutil.copyfile(SOURCE / "bento.yaml", stage.folder / "bento.yaml")
        return [[str(BINARY), "-c", "bento.yaml"]]

    def environment(self, stage: Stage) -> dict[str, str]:
        return {
            "BOOTSTRAP_SERVERS": stage.bootstrap_servers,
            "GROUP": stage.group,
            "INPUT_TOPIC": stage.input_topic,
            "OUTPUT_TOPIC": stage.output_topic,
            "MODEL": str(stage.models / models.BENTO),
            "PORT": str(kit.free_port()),
            "THREADS": str(usable_cores()),
        }
