"""Token ids to logits: ONNX Runtime sessions, shared by all lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

Allocation: TypeAlias = Literal["patterns", "arena", "system"]
DTYPES: dict[str, type[np.integer]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
"""Of the inputs that can be fed, by ONNX Runtime's names."""
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_LOGITS, _STATES = "logits", "hidden"


def session_options(allocation: Allocation = "patterns") -> ort.SessionOptions:
    """One thread a run, no spinning: lanes bring the parallelism, and a waiting core is another process's.

    `allocation` is how runs get their memory: from ONNX Runtime's arena, by a plan that is kept for each shape of a
    batch (`patterns`) or without one (`arena`), or each time from the `system`.

    `SkipLayerNormalization` costs several times what `Add` and `LayerNormalization` cost on the CPU, so the
    optimizer must not fuse them again (`open_session`).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = allocation != "system"
    options.enable_mem_pattern = allocation == "patterns"
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def open_session(model: str | bytes, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    """A session over the path of a model, or over a serialized one."""
    return ort.InferenceSession(
        model,
        options or session_options(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


class OnnxModel:
    """Runs a classifier's graph, ours or one as others export it; safe to share between threads.

    Inputs are `input_ids`, and where the graph has them `attention_mask` and `token_type_ids` (all zero), each as
    int32 or int64. What is read is the output `logits`, or the first where none has that name.

    Raises:
        ValueError: the graph asks for an input of another name or type.
        Exception: whatever ONNX Runtime raises for a file it cannot load or a run that fails.
    """

    def __init__(self, path: str, pad_id: int, options: ort.SessionOptions | None = None) -> None:
        self._session = open_session(path, options)
        self._dtypes = _dtypes(self._session)
        outputs = [one.name for one in self._session.get_outputs()]
        self._output = "logits" if "logits" in outputs else outputs[0]
        self._pad_id = pad_id

    def __call__(self, ids: Sequence[Sequence[int]], options: ort.RunOptions | None = None) -> NDArray[np.float32]:
        """Logits of ragged token ids, which are padded to the longest row.

        Shape [rows, labels]; for token classification [rows, longest, labels], those of padding included.
        """
        return self._session.run([self._output], padded(self._dtypes, ids, self._pad_id), options)[0]  # type: ignore[no-any-return]


class StagedModel:
    """Runs a classifier of two graphs, the first layers and the rest; safe to share between threads.

    The first reads `input_ids` and `attention_mask` (int32 or int64 [rows, longest]) and gives `logits` (float32
    [rows, labels]), those of the head after its last layer, and `hidden` (float32 [rows, longest, size]), the states
    from which the second goes on, which reads those and the mask and gives `logits`.

    Raises:
        ValueError: a graph asks for an input of another name or type, or has its states by tokens first.
        Exception: whatever ONNX Runtime raises for a file it cannot load or a run that fails.
    """

    def __init__(self, early_path: str, rest_path: str, pad_id: int, options: ort.SessionOptions | None = None) -> None:
        self._early, self._rest = open_session(early_path, options), open_session(rest_path, options)
        self._ids = _dtypes(self._early)
        self._mask = _dtypes(self._rest, but={_STATES})["attention_mask"]
        if any(one.name == _STATES and one.shape[0] != "batch" for one in self._rest.get_inputs()):
            raise ValueError("its stages pass states on by tokens first, and not by texts: make the bundle again")
        self._pad_id = pad_id

    def __call__(self, ids: Sequence[Sequence[int]], options: ort.RunOptions | None = None) -> NDArray[np.float32]:
        """Logits [rows, labels] of all layers: both graphs on the same rows."""
        feeds = padded(self._ids, ids, self._pad_id)
        (hidden,) = self._early.run([_STATES], feeds, options)
        return self._going_on(hidden, feeds["attention_mask"], options)

    def early(
        self, ids: Sequence[Sequence[int]], options: ort.RunOptions | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the first layers say of ragged token ids: logits [rows, labels] and states [rows, longest, size]."""
        logits, hidden = self._early.run([_LOGITS, _STATES], padded(self._ids, ids, self._pad_id), options)
        return logits, hidden

    def rest(self, states: Sequence[NDArray[np.float32]], options: ort.RunOptions | None = None) -> NDArray[np.float32]:
        """Logits [rows, labels] of all layers, going on from the states of each row, [tokens, size] without padding."""
        longest, size = max(map(len, states)), states[0].shape[1]
        hidden = np.zeros((len(states), longest, size), np.float32)
        mask = np.zeros((len(states), longest), self._mask)
        for row, state in enumerate(states):
            hidden[row, : len(state)] = state
            mask[row, : len(state)] = 1
        return self._going_on(hidden, mask, options)

    def _going_on(
        self, hidden: NDArray[np.float32], mask: NDArray[Any], options: ort.RunOptions | None
    ) -> NDArray[np.float32]:
        feeds = {_STATES: hidden, "attention_mask": mask.astype(self._mask, copy=False)}
        return self._rest.run([_LOGITS], feeds, options)[0]  # type: ignore[no-any-return]


def _dtypes(session: ort.InferenceSession, but: Container[str] = ()) -> dict[str, type[np.integer]]:
    """The types of the inputs that token ids are made into."""
    inputs = [one for one in session.get_inputs() if one.name not in but]
    for one in inputs:
        if one.name not in _INPUTS or one.type not in DTYPES:
            raise ValueError(f"the graph asks for an input {one.name} of type {one.type}, which nobody can give it")
    return {one.name: DTYPES[one.type] for one in inputs}


def padded(
    dtypes: Mapping[str, type[np.integer]], rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None
) -> dict[str, NDArray[Any]]:
    """Ragged token ids as the inputs that `dtypes` names, padded to the longest row or to `length` tokens."""
    shape = (len(rows), length or max(map(len, rows)))
    dtype = dtypes.get("input_ids", np.int64)
    ids, mask = np.full(shape, pad_id, dtype), np.zeros(shape, dtype)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    arrays = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in dtypes:
        arrays["token_type_ids"] = np.zeros_like(mask)
    return {name: arrays[name].astype(kind, copy=False) for name, kind in dtypes.items()}
