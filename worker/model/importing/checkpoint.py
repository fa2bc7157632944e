"""A Hugging Face checkpoint as files: its JSON documents and its tensors, read without executing anything in them.

Tensors come from safetensors alone, which is a table of numbers. Pickles are programs, and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from safetensors import SafetensorError, safe_open

from worker.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHER_FRAMEWORKS = (".h5", ".msgpack", ".tflite", ".pb")
# Tensors that a classifier's checkpoint may hold beside its network, by a part of their names: buffers, and the heads
# that the encoder was trained with before.
_UNUSED = (
    "position_ids", "token_type_ids", "inv_freq", "pooler.", "cls.", "lm_head.", "vocab_", "mlm_", "generator_",
    "discriminator_", "num_batches_tracked", "loss_fct", "sop_classifier", "qa_outputs",
)  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        BundleError: it is missing, or holds no JSON object.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{path} is missing: name a folder that has it.") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except orjson.JSONDecodeError as error:
        raise BundleError(f"{path} is not JSON (line {error.lineno}): download it again.") from None
    if not isinstance(document, dict):
        raise BundleError(f"{path} holds no JSON object: download it again.")
    return document


def optional_json(path: Path) -> dict[str, Any]:
    """The same; empty where there is no such file."""
    return read_json(path) if path.exists() else {}


def unreadable(path: Path, error: OSError) -> BundleError:
    """What is said of a file that is there and may not be read."""
    return BundleError(f"{path} cannot be read ({error.strerror or error}): change its permissions, or name another.")


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one or more safetensors files, each read from the mapped file when it is asked for.

    Close it, or use it as a context; `unread` then tells what the network had no use for.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._open = ExitStack()
        self._holding: dict[str, Any] = {}
        self.unread: set[str] = set()
        for path in files:
            try:
                # The library takes a file that may not be read for one that is not there.
                path.open("rb").close()
                file = self._open.enter_context(safe_open(path, framework="numpy"))
            except OSError as error:
                self._open.close()
                raise unreadable(path, error) from None
            except SafetensorError as error:
                self._open.close()
                raise BundleError(f"{path} is no complete safetensors file ({error}): download it again.") from None
            self._holding |= dict.fromkeys(file.keys(), file)
        self.unread = set(self._holding)

    def __getitem__(self, name: str) -> np.ndarray:
        file = self._holding[name]
        self.unread.discard(name)
        return np.asarray(file.get_tensor(name))

    def __contains__(self, name: object) -> bool:
        return name in self._holding

    def __iter__(self) -> Iterator[str]:
        return iter(self._holding)

    def __len__(self) -> int:
        return len(self._holding)

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._holding = {}
        self._open.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the numbers."""
        return tuple(self._holding[name].get_slice(name).get_shape())


def open_tensors(folder: Path) -> Tensors:
    """The tensors of `model.safetensors`, or of the shards that its index names.

    Raises:
        BundleError: there are none, a shard is missing, or a file is damaged.
    """
    index = folder / INDEX
    if (folder / SINGLE).exists() or not index.exists():
        return Tensors([folder / SINGLE])
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise BundleError(f"{index} has no weight_map that names the shards: download it again.")
    shards = sorted(set(weight_map.values()))
    for name in shards:
        if "/" in name or "\\" in name or name.startswith("."):
            raise BundleError(f"{index} names the shard {name!r}, which is outside of the folder: it is not read.")
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name} is missing, which {INDEX} names: download the whole checkpoint.")
    tensors = Tensors(folder / name for name in shards)
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        tensors.close()
        raise BundleError(f"{index} promises the tensor {missing[0]!r}, which no shard has: download it again.")
    return tensors


def check_all_used(unread: Iterable[str]) -> None:
    """See that the network that config.json describes left no weights over: a layer too few is another model.

    Raises:
        BundleError: weights were left over.
    """
    left = sorted(name for name in unread if not any(word in name for word in _UNUSED))
    if left:
        raise BundleError(
            f"model.safetensors has {len(left)} tensors that the network of config.json has no place for, "
            f"{left[0]!r} among them: they do not belong together; take both from the same checkpoint."
        )


def has_weights(folder: Path) -> bool:
    """Whether there are safetensors under the names that Hugging Face gives them."""
    return (folder / SINGLE).exists() or (folder / INDEX).exists()


def refuse_other_formats(paths: Iterable[Path]) -> None:
    """Say why weights in other formats are not read, and how to convert them.

    Raises:
        BundleError: one of `paths` is such a file.
    """
    names = sorted(paths)
    for path in names:
        if path.suffix.lower() in PICKLES and path.name != "training_args.bin":
            raise BundleError(
                f"{path} is a pickle, a program that runs when it is read, so it is refused. If you trust it, convert "
                f"it once where torch and transformers are installed: {conversion(path.parent)}"
            )
    for path in names:
        if path.suffix.lower() in OTHER_FRAMEWORKS:
            raise BundleError(
                f"{path} holds the weights of another framework, which are not read: load it with its own library "
                "and save it as model.safetensors or ONNX."
            )


def conversion(folder: Path) -> str:
    """The one line that turns a checkpoint's pickle into safetensors."""
    named = (optional_json(folder / "config.json").get("architectures") or [""])[0]
    task = "TokenClassification" if "TokenClassification" in str(named) else "SequenceClassification"
    return (
        f"python -c \"from transformers import AutoModelFor{task} as M, AutoTokenizer as T; f='{folder}'; "
        "M.from_pretrained(f).save_pretrained('converted'); T.from_pretrained(f).save_pretrained('converted')\""
    )
