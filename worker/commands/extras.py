"""What a command needs that a plain installation lacks."""

from __future__ import annotations

from importlib.util import find_spec

from worker.distribution import install
from worker.errors import ConfigError

_MODULES = {
    "evaluate": ("sklearn", "matplotlib"),
    "train": ("torch", "transformers", "sklearn", "matplotlib", "onnx", "safetensors"),
}


def need(command: str, extra: str) -> None:
    """Ask for an extra before anything of it is imported.

    Raises:
        ConfigError: a package of it is missing.
    """
    missing = [module for module in _MODULES[extra] if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"winnow {command} needs the extra [{extra}], of which {missing[0]} is missing: {install(extra)}."
        )
