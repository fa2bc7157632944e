"""Apache Maven from its published artifact, fetched as the broker's jars are, for commands that need `mvn`."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from worker.broker import artifacts
from worker.errors import BrokerError

VERSION, SHA256 = "3.9.11", "4b7195b6a4f5c81af4c0212677a32ee8143643401bc6e1e8412e6b06ea82beac"


def obtain(folder: Path) -> Path:
    """The program `mvn`, unpacked into a folder.

    Raises:
        BrokerError: it cannot be had.
    """
    try:
        found = artifacts.maven(folder).project("org.apache.maven", "apache-maven").at_version(VERSION)
        archive = Path(found.artifact("bin", "tar.gz").resolve())
    except (OSError, RuntimeError) as failed:
        raise BrokerError(f"Apache Maven {VERSION} cannot be had ({type(failed).__name__}).") from failed
    if artifacts.sha256(archive) != SHA256:
        raise BrokerError(f"{archive.name} from the Maven repository is not the file that is known.")
    unpack(archive, folder)
    return folder / f"apache-maven-{VERSION}" / "bin" / "mvn"


def unpack(archive: Path, folder: Path) -> None:
    """With the filter for archives of others where this Python has it, which 3.11.0 to 3.11.3 have not."""
    with tarfile.open(archive) as opened:
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        opened.extractall(folder)


def obtained_or_skip(folder: Path) -> Path:
    """The same for a test: it is skipped, with the reason, where Maven cannot be had."""
    try:
        return obtain(folder)
    except BrokerError as missing:
        pytest.skip(str(missing))


def environment() -> dict[str, str]:
    """Which Java runs it: an installed one knows the certificates of this machine; else the broker's."""
    installed = shutil.which("java")
    java = Path(installed).resolve() if installed else artifacts.java_runtime()
    return {"JAVA_HOME": str(java.parents[1])}
