"""A model for MLServer: texts through a graph in ONNX Runtime, with its default settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import StringCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]
from tokenizers import Tokenizer


class Classifier(MLModel):  # type: ignore[misc]
    """See `model-settings.json`, whose `uri` is the folder of the model."""

    async def load(self) -> bool:
        folder = Path(self.settings.parameters.uri)
        labels = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]
        self._labels = [labels[number] for number in sorted(labels, key=int)]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(512)
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        encodings = self._tokenizer.encode_batch(StringCodec.decode_input(payload.inputs[0]))
        feed = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
        }
        logits = self._session.run(None, feed)[0]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
        said = [self._labels[int(row.argmax())] for row in scores]
        shape = [len(said), 1]
        outputs = [
            ResponseOutput(name="label", shape=shape, datatype="BYTES", data=said),
            ResponseOutput(name="score", shape=shape, datatype="FP32", data=[float(row.max()) for row in scores]),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
