"""The jars of Spark NLP: fetched once from Maven Central, checked against the digests of `spark/jars.lock`.

`python -m bench.peers.jars LIST FOLDER` writes the lock anew, from what `mvn dependency:list` and
`mvn dependency:copy-dependencies` made of `spark/pom.xml`; see `docs/peers.md`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.peers.peer import HOME, UnavailableError
from worker.broker.artifacts import Jar

LOCK = Path(__file__).parent / "spark" / "jars.lock"
FOLDER = HOME / "spark-jars"
OPENVINO = (
    "CompiledModel", "Core", "Dimension", "InferRequest", "Model", "Openvino", "Output", "PartialShape", "Tensor",
)  # fmt: skip
DOWNLOADS_AT_ONCE = 8


def obtain() -> list[Path]:
    """All jars, in the order of the lock; made once.

    Raises:
        UnavailableError: one cannot be had, or is not the one that was locked.
    """
    wanted = [Jar(*line.split()) for line in LOCK.read_text("ascii").splitlines() if line[:1] != "#"]
    if not FOLDER.exists():
        print(f"Fetching {len(wanted)} jars of Spark NLP: 300 MB, once.", flush=True)
        draft = FOLDER.with_name("spark-jars.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda jar: _fetch(jar, draft), wanted))
        shutil.rmtree(draft / "repository")
        _openvino(draft / "openvino.jar")
        draft.rename(FOLDER)
    return sorted(FOLDER.glob("*.jar"))


def _fetch(jar: Jar, folder: Path) -> None:
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    group, name, version = jar.coordinate.split(":")
    context = MavenContext(repo_cache=folder / "repository", remote_repos={"central": MAVEN_CENTRAL_URL})
    try:
        path = Path(context.project(group, name).at_version(version).artifact().resolve())
    except (OSError, RuntimeError) as failed:
        raise UnavailableError(f"Maven Central does not give {jar.coordinate} ({type(failed).__name__})") from None
    if _sha256(path) != jar.sha256:
        raise UnavailableError(f"{jar.coordinate} is not the file that jars.lock names")
    path.rename(folder / jar.file_name)


def _openvino(path: Path) -> None:
    """Empty classes in the place of `jsl-openvino-cpu_2.12`, which Maven Central does not have; none is ever used."""
    with zipfile.ZipFile(path, "w") as jar:
        for name in OPENVINO:
            jar.writestr(f"org/intel/openvino/{name}.class", empty_class(f"org/intel/openvino/{name}"))


def empty_class(name: str) -> bytes:
    """The class file, for Java 8 and newer, of a public class that has nothing in it."""

    def text(value: str) -> bytes:
        return struct.pack(">BH", 1, len(value)) + value.encode("ascii")

    constants = struct.pack(">BH", 7, 2) + text(name) + struct.pack(">BH", 7, 4) + text("java/lang/Object")
    public, itself, its_parent = 0x0021, 1, 3
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, 52, 5)
    return head + constants + struct.pack(">7H", public, itself, its_parent, 0, 0, 0, 0)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(listed: str, folder: Path) -> str:
    """The text of the lock from Maven's list and the folder of its copies."""
    found = re.findall(r"([\w.-]+):([\w.-]+):jar:([\w.-]+):(?:compile|runtime)", listed)
    jars = [Jar(":".join(parts), "") for parts in found]
    lines = sorted(f"{jar.coordinate} {_sha256(folder / jar.file_name)}" for jar in jars)
    return "\n".join(["# Maven coordinates with SHA-256; made from pom.xml, see docs/peers.md.", *lines]) + "\n"


if __name__ == "__main__":
    LOCK.write_text(lock(Path(sys.argv[1]).read_text("utf-8"), Path(sys.argv[2])), "ascii")
