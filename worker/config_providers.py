"""Kafka's config providers (KIP-297): values of properties that stand elsewhere, for what a file must not hold.

| reference | Kafka's class | value |
|---|---|---|
| `${env:NAME}` | EnvVarConfigProvider | of the environment variable |
| `${directory:DIR:FILE}` | DirectoryConfigProvider | the file's content, without a newline at its end |
| `${file:PATH:KEY}` | FileConfigProvider | of the key in a Java properties file |

As in Kafka a value may hold several, and text around them; what a reference stands for is taken as it is, so a value
that looks like one can be put behind one. `${word:…}` is a reference, all else is text. Unlike Kafka, one that leads
nowhere is refused, and so is one to another provider: left alone, it would be sent as the password.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from worker import java_properties
from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
PROVIDERS = ("env", "directory", "file")
REFERENCE = re.compile(r"\$\{([A-Za-z][\w.-]*):(?:([^}]*?):)?([^}]*?)\}")


def is_reference(value: object) -> bool:
    """Whether a value says only where it is to be found, and so tells nothing itself."""
    if not isinstance(value, str) or not value or REFERENCE.sub("", value):
        return False
    return all(reference[1] in PROVIDERS for reference in REFERENCE.finditer(value))


def resolve(properties: Mapping[str, T], environment: Mapping[str, str]) -> dict[str, T]:
    """The properties with what their references stand for.

    Raises:
        ConfigError: naming the property and the reference, where there is nothing that it stands for.
    """
    return {name: _resolved(name, value, environment) for name, value in properties.items()}  # type: ignore[misc]


def _resolved(name: str, value: object, environment: Mapping[str, str]) -> object:
    if not isinstance(value, str):
        return value

    def found(reference: re.Match[str]) -> str:
        if reference[1] not in PROVIDERS:  # what follows may be a secret after all
            raise ConfigError(
                f"The property {name!r} is a reference, but there is no provider {reference[1]!r}; "
                f"there are {', '.join(PROVIDERS)}."
            )
        try:
            return _look_up(reference[1], reference[2] or "", reference[3], environment)
        except _NothingThereError as reason:
            raise ConfigError(f"The property {name!r} is {reference[0]}, but {reason}.") from None

    return REFERENCE.sub(found, value)


class _NothingThereError(Exception):
    """Why a reference leads nowhere."""


def _look_up(provider: str, path: str, key: str, environment: Mapping[str, str]) -> str:
    if provider == "env":
        return _of_environment(path, key, environment)
    if not path:
        raise _NothingThereError(f"{provider!r} needs a path and a key: ${{{provider}:PATH:KEY}}")
    return _of_directory(path, key) if provider == "directory" else _of_file(path, key)


def _of_environment(path: str, name: str, environment: Mapping[str, str]) -> str:
    if path:
        raise _NothingThereError("'env' takes a name alone: ${env:NAME}")
    try:
        return environment[name]
    except KeyError:
        raise _NothingThereError(f"there is no environment variable {name!r}") from None


def _of_directory(folder: str, name: str) -> str:
    if Path(name).name != name:
        raise _NothingThereError(f"{name!r} is no name of a file: put its folder before the colon")
    return _text(Path(folder) / name).removesuffix("\n").removesuffix("\r")


def _of_file(path: str, key: str) -> str:
    try:
        return java_properties.parse(_text(Path(path)))[key]
    except KeyError:
        raise _NothingThereError(f"there is no key {key!r} in {path}") from None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _NothingThereError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _NothingThereError(f"{path} is not UTF-8") from None
