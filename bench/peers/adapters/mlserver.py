"""MLServer's Kafka server around ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from bench import kit
from bench.peers import environments, models
from bench.peers.peer import PROGRAMS, Peer

if TYPE_CHECKING:
    from bench.peers.peer import Stage

NAME = "mlserver"
MODEL = "classifier"


class MLServer(Peer):
    name = "MLServer"
    what = "1.7.1, a runtime of our own, exported + quantize_dynamic, batches of 32 within 50 ms, no worker processes"
    most_messages = 3000  # it takes in a whole backlog at once, a task each, before it answers
    headers = (("mlserver-model", MODEL),)

    def set_up(self) -> None:
        environments.python(NAME)

    def commands(self, stage: Stage) -> list[list[str]]:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": kit.free_port(),
            "grpc_port": kit.free_port(),
            "metrics_port": kit.free_port(),
            "parallel_workers": 0,
            "kafka_enabled": True,
            "kafka_servers": stage.bootstrap_servers,
            "kafka_topic_input": stage.input_topic,
            "kafka_topic_output": stage.output_topic,
        }
        model = {
            "name": MODEL,
            "implementation": "mlserver_runtime.Classifier",
            "max_batch_size": 32,
            "max_batch_time": 0.05,
            "parameters": {"uri": str(stage.models / models.INT8), "version": "v1"},
        }
        (stage.folder / "settings.json").write_bytes(orjson.dumps(settings))
        (stage.folder / "model-settings.json").write_bytes(orjson.dumps(model))
        return [[str(environments.python(NAME).with_name("mlserver")), "start", str(stage.folder)]]

    def environment(self, stage: Stage) -> dict[str, str]:  # noqa: ARG002
        return {"PYTHONPATH": str(PROGRAMS)}

    def message(self, identity: str, text: str) -> bytes:
        """An inference request of version 2 of the open protocol."""
        content = {"parameters": {"content_type": "str"}, "data": [text]}
        one = {"name": "text", "shape": [1, 1], "datatype": "BYTES", **content}
        return orjson.dumps({"id": identity, "inputs": [one]})
