"""Protobuf schemas that are text, by the compiler: a process and a folder of its own, and none of its troubles ours."""

from __future__ import annotations

import errno
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from worker.distribution import install
from worker.errors import ConfigError, InvalidMessage, SetupError
from worker.kafka.registry.client import NotNow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SECONDS = 20
_NAME = re.compile(r"[\w.+@-]+(/[\w.+@-]+)*")
_NAME_BYTES = 200
_OUTPUT = "made"
_KNOWN = "known"
_SOURCES = "sources"
_BY_THE_SCHEMA = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL)
_CRASHES = (signal.SIGSEGV, signal.SIGABRT)
_MESSAGE_CHARACTERS = 300


def check_names(names: Collection[str]) -> None:
    """Raises InvalidMessage where files that import each other by these names could not be in a folder together."""
    for name in names:
        path = PurePosixPath(name)
        is_name = _NAME.fullmatch(name) and len(name.encode()) <= _NAME_BYTES and not {".", ".."} & {*name.split("/")}
        if not is_name or any(str(folder) in names for folder in path.parents):
            raise InvalidMessage("unknown-schema", "It imports a file by a name that cannot be one.")


def compile_files(
    texts: Mapping[str, str], files: Sequence[FileDescriptorProto], root: str, where: str
) -> list[FileDescriptorProto]:
    """All that the root needs, each after what it imports.

    Args:
        texts: by the checked names that they import each other by.
        files: those that are descriptors already.
        root: which of the texts is the schema.
        where: the registry and the schema, for the error.

    Raises:
        InvalidMessage: the compiler does not take them.
        NotNow: it crashed.
        ConfigError: it is not installed, or there is no folder for it.
        SetupError: it was killed, or has not ended.
    """
    if importlib.util.find_spec("grpc_tools") is None:
        raise ConfigError(
            f"A Protobuf schema at {where} is there as text, and grpc_tools is missing, which has the compiler. "
            f"Install it: {install('registry')}."
        )
    try:
        with tempfile.TemporaryDirectory(prefix="winnow-proto-") as folder:
            for name, text in texts.items():
                path = Path(folder, _SOURCES, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            Path(folder, _KNOWN).write_bytes(FileDescriptorSet(file=files).SerializeToString())
            _run(folder, root)
            return list(FileDescriptorSet.FromString(Path(folder, _OUTPUT).read_bytes()).file)
    except OSError as failed:
        if failed.errno in _BY_THE_SCHEMA:
            raise InvalidMessage("unknown-schema", f"Its files cannot be written ({failed.strerror}).") from None
        raise ConfigError(
            f"The Protobuf compiler could not run ({failed}): it needs a folder for temporary files, with room."
        ) from failed


def _run(folder: str, root: str) -> None:
    sources = f"{folder}/{_SOURCES}"
    options = [f"-I{sources}", f"--descriptor_set_in={folder}/{_KNOWN}", "--include_imports"]
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "grpc_tools.protoc",
                *options,
                f"--descriptor_set_out={folder}/{_OUTPUT}",
                root,
            ],
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(
            f"The Protobuf compiler has not ended in {SECONDS} s. The message is read again after the next start: is "
            "there CPU for it?"
        ) from None
    if done.returncode:
        raise _failure(done.returncode, done.stderr.decode("utf-8", "replace").replace(f"{sources}/", "").strip())


def _failure(code: int, said: str) -> InvalidMessage | SetupError:
    if -code in _CRASHES:
        return NotNow("The Protobuf compiler crashes on it.")
    # Without its parts Python ends with 1, as the compiler does for a schema that is wrong.
    if code < 0 or said.startswith("Traceback (most recent call last)"):
        end = f"signal {-code}" if code < 0 else said.rpartition("\n")[2][:_MESSAGE_CHARACTERS]
        return SetupError(
            f"The Protobuf compiler was ended ({end}). The message is read again after the next start: has the worker "
            "memory for it, and is grpcio-tools whole?"
        )
    return InvalidMessage("unknown-schema", f"The Protobuf compiler does not take it: {said[:_MESSAGE_CHARACTERS]}")
