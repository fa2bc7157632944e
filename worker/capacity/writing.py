"""Settings into the files that hold them, and nothing else of those files changed."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from typing import TYPE_CHECKING, Any, TypeAlias

from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Changes: TypeAlias = Mapping[str, Mapping[str, int | str]]
    """Numbers and words by section and name."""

MARK = "# Written by `winnow bench`"


def lines(changes: Changes) -> str:
    """The settings as a settings file has them."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())
        for section, values in changes.items()
    )


def write_settings(path: Path, changes: Changes) -> None:
    """Set values by section and name in a settings file, made if there is none; comments and all else stay.

    Raises:
        ConfigError: as `edited`, or the file cannot be written; it is as it was.
    """
    replace(path, edited(path, changes))


def edited(path: Path, changes: Changes) -> str:
    """What the file would hold with the changes.

    Raises:
        ConfigError: the file cannot be read, is not TOML, has its sections in a form (inline or dotted) in which this
            cannot change them, or is in no folder.
    """
    check_folder(path)
    old = new = _read(path)
    try:
        before = tomllib.loads(old)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {path} is not TOML: {error}.") from None
    for section, values in changes.items():
        for name, value in values.items():
            new = _with(new, section, name, _toml(value))
    if not _is_merged(new, before, changes):
        raise ConfigError(
            f"{path} has {' or '.join(changes)} in a form that cannot be changed safely. Set this in it:\n\n"
            f"{lines(changes)}"
        )
    return new


def write_keda(path: Path, lag_threshold: int, why: str) -> None:
    """A fragment of Helm values with the lag threshold; `why` is a comment of one line.

    A string, because Helm reads large numbers of values as floating-point ones and would write 1e+06.

    Raises:
        ConfigError: as `check_keda`, or the file cannot be written.
    """
    check_keda(path)
    replace(path, f'{MARK}: {why}\nautoscaling:\n  lagThreshold: "{lag_threshold}"\n')


def check_keda(path: Path) -> None:
    """See that a fragment may be written there.

    Raises:
        ConfigError: the file holds something else, or is in no folder.
    """
    check_folder(path)
    if path.exists() and not _read(path).startswith(MARK):
        raise ConfigError(f"{path} was not written by winnow bench: name another file, and pass it with --values.")


def check_folder(path: Path) -> None:
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}. Make it, or name another one.")


def replace(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; it keeps its permissions, and a link stays one.

    Raises:
        ConfigError: it cannot be written.
    """
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=".winnow-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(scratch, mode)
            os.replace(scratch, target)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def _toml(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _with(text: str, section: str, name: str, value: str) -> str:
    """The text with `name = value` in the table `[section]`, which is appended where there is none."""
    parts = text.splitlines(keepends=True)
    head = re.compile(rf"\s*\[\s*{section}\s*\]\s*(#.*)?$")
    start = next((i for i, line in enumerate(parts) if head.match(line.rstrip("\r\n"))), None)
    if start is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{section}]\n{name} = {value}\n"
    end = next((i for i in range(start + 1, len(parts)) if parts[i].lstrip().startswith("[")), len(parts))
    setting = re.compile(rf"(\s*{name}\s*=\s*)([^#\r\n]*?)(\s*(#[^\r\n]*)?[\r\n]*)$")
    for i in range(start + 1, end):
        if found := setting.match(parts[i]):
            parts[i] = f"{found.group(1)}{value}{found.group(3)}"
            return "".join(parts)
    head_line = parts[start]
    end_of_line = head_line[len(head_line.rstrip("\r\n")) :] or "\n"
    parts[start] = head_line.rstrip("\r\n") + end_of_line
    parts.insert(start + 1, f"{name} = {value}{end_of_line}")
    return "".join(parts)


def _is_merged(text: str, before: Mapping[str, Any], changes: Changes) -> bool:
    """Whether the text says what was said before and the changes, and nothing else."""
    if not all(isinstance(before.get(section, {}), dict) for section in changes):
        return False
    sections = {section: {**before.get(section, {}), **values} for section, values in changes.items()}
    try:
        return tomllib.loads(text) == {**before, **sections}
    except tomllib.TOMLDecodeError:
        return False


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8.") from None
