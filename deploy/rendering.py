"""The chart as `helm template` renders it, for deploy/generate.py and the tests."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "helm" / "winnow"
WORK = Path(os.environ.get("KUBE_WORK") or Path(tempfile.gettempdir()) / "winnow-kube")
"""Where tests/kube/cluster builds and keeps things."""


class RefusedError(Exception):
    """Helm does not take the values; the text is what it says."""


def tool(name: str) -> Path | None:
    """A program on the PATH, or among those that tests/kube/cluster builds in `KUBE_WORK`; None where it is nowhere."""
    found = shutil.which(name) or (shutil.which(name, path=WORK / "bin") if _own(WORK) else None)
    return Path(found) if found else None


def _own(folder: Path) -> bool:
    """Whether it is this user's and no link: its place is known to everybody, and what lies there is run."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def helm(*arguments: str | Path, values: dict[str, Any] | None = None) -> str:
    """What helm says on stdout; `values` go behind files of them among the arguments.

    Raises:
        RefusedError: it ends with an error.
        FileNotFoundError: there is no helm.
    """
    program = tool("helm")
    if program is None:
        raise FileNotFoundError("helm is needed: on the PATH, or where tests/kube/cluster has built it")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(values or {}, file)
        file.flush()
        more = ["--values", file.name] if values is not None else []
        command = [program, *arguments, *more]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ran.returncode:
        raise RefusedError(ran.stderr + ran.stdout)
    return ran.stdout


def template(*arguments: str | Path, values: dict[str, Any] | None = None) -> str:
    """The chart's manifests."""
    return helm("template", "winnow", CHART, *arguments, values=values)


def objects(manifests: str) -> list[dict[str, Any]]:
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(manifests) if document]
