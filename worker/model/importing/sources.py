"""Where an import comes from: a folder, a file in one, or a model of the Hugging Face hub."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from worker.distribution import install
from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.importing import checkpoint, foreign

if TYPE_CHECKING:
    from collections.abc import Sequence

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
_WORDS = ("*.json", "*.txt", "README.md")
_PATIENCE = 10.0
"""Seconds until a hub that does not answer is taken to be out of reach."""
# What is meant as a file where there is none; a model's name may have a dot, too (`bert-v1.5`).
_FILES = {".onnx", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".zip"}


def locate(source: str, onnx_file: str | None = None, *, rebuild: bool = False) -> tuple[Path, str | None]:
    """The folder of a source on this machine, and the graph in it that is meant, if one is.

    `rebuild`: a graph is needed, even where there are weights without one.

    Raises:
        ConfigError: there is no such folder, and the hub cannot be asked or does not know it; or it is a bundle.
        BundleError: it is a file that cannot be imported.
    """
    path = Path(source).expanduser()
    try:
        if path.is_dir() or path.is_file():
            _refuse_bundle(path if path.is_dir() else path.parent)
        if path.is_dir():
            return path, onnx_file
        if path.is_file():
            return path.parent, onnx_file or _of_file(path)
    except OSError as error:
        raise ConfigError(f"{source} cannot be looked at ({error.strerror}): name a folder that can be read.") from None
    if not _HUB_ID.match(source) or path.suffix in _FILES:
        raise ConfigError(f"{source} is neither a folder nor the name of a model on the hub: name one of them.")
    return _download(source, onnx_file, rebuild), onnx_file


def _refuse_bundle(folder: Path) -> None:
    if (folder / bundle.MANIFEST).is_file():
        raise ConfigError(
            f"{folder} is a bundle already, with nothing to import: serve it with `--set model.bundle={folder}`."
        )


def _of_file(path: Path) -> str | None:
    checkpoint.refuse_other_formats([path])
    if path.suffix == ".onnx" or path.name.endswith("_onnx"):
        return path.name
    if path.suffix == ".safetensors":
        return None
    raise BundleError(f"{path} is no model: name the folder that holds config.json, the weights and the tokenizer.")


def refuse_without_model(folder: Path) -> None:
    """Say what a folder has instead of a model that can be imported.

    Raises:
        BundleError: always.
    """
    checkpoint.refuse_other_formats(path for path in folder.iterdir() if path.is_file())
    raise BundleError(
        f"{folder} has no model: neither {checkpoint.SINGLE} nor an ONNX graph ({', '.join(foreign.EXACT)}, "
        "model_quantized.onnx or *_onnx)."
    )


def refuse_rebuild(where: str) -> NoReturn:
    """Say that a model has nothing to rebuild.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        f"--rebuild takes the weights of an ONNX graph, and {where} has safetensors without one: leave it out, and the "
        "bundle is made of these."
    )


def _download(name: str, onnx_file: str | None, rebuild: bool) -> Path:
    """A snapshot of the files that an import reads, in the hub's own cache."""
    try:
        import huggingface_hub
        import huggingface_hub.utils.logging as hub_log
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ModuleNotFoundError:
        raise ConfigError(
            f"{name} is no folder here, and without the package huggingface_hub no model can be fetched: install it "
            f"with `{install('import')}`, or download the model and name its folder."
        ) from None
    hub_log.set_verbosity(logging.ERROR)
    try:
        # The one question that is not asked again and again where nobody answers.
        held = huggingface_hub.HfApi().model_info(name, timeout=_PATIENCE).siblings or ()
        files = [file.rfilename for file in held]
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=[*_WORDS, *_wanted(name, files, onnx_file, rebuild)]
        )
    except (BundleError, ConfigError):
        raise
    except GatedRepoError:
        raise ConfigError(f"The hub gives {name} only to those it knows: log in with `hf auth login`.") from None
    except RepositoryNotFoundError:
        raise ConfigError(f"{name} is no folder here, and the hub knows no model of that name.") from None
    except Exception as error:  # noqa: BLE001 - what fails between here and the hub has many types
        raise ConfigError(
            f"{name} is no folder here, and the hub cannot be asked for it ({type(error).__name__}): download the "
            "model elsewhere and name its folder."
        ) from None
    return Path(folder)


def _wanted(name: str, files: Sequence[str], onnx_file: str | None, rebuild: bool) -> list[str]:
    """Which weights of a repository to fetch: safetensors, else a graph and its FP32 form; never a pickle."""
    tensors = [file for file in files if file.endswith(".safetensors") and "/" not in file]
    if tensors and onnx_file is None and not rebuild:
        return tensors
    graph = onnx_file or foreign.choose(files, name, fp32=rebuild)
    if graph is None and tensors:
        refuse_rebuild(name)
    if graph is None:
        checkpoint.refuse_other_formats(Path(name) / file for file in files)
        return []
    exact = () if rebuild or graph in foreign.EXACT else [file for file in foreign.EXACT if file in files][:1]
    return [each for path in (graph, *exact) for each in (path, *_data(path, files))]


def _data(graph: str, files: Sequence[str]) -> list[str]:
    """Where exporters keep the weights of a graph that are not in it."""
    return [file for file in files if file.startswith((f"{graph}_data", f"{graph}.data"))]
