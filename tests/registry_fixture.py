"""A real schema registry for tests: Apicurio Registry from its published artifact, with the Java runtime from PyPI.

It is fetched once, checked against the digest below and kept in the user's cache, like Apache Kafka's jars. Where it
cannot be had, the tests that need it are skipped by name with the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import maven
from worker.broker import artifacts, kraft, warden
from worker.broker.ports import LOOPBACK, free_port
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

COORDINATES = ("io.apicurio", "apicurio-registry-app")
VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
API = "apis/ccompat/v7"
_START_SECONDS = 90.0
_START_FILE = "quarkus-run.jar"


def obtain() -> Path:
    """The unpacked registry, from the cache or fetched into it.

    Raises:
        BrokerError: it cannot be had.
    """
    folder = artifacts.cache_folder() / f"apicurio-registry-{VERSION}-{SHA256[:12]}"
    if not (folder / _START_FILE).is_file():
        with artifacts.only_one(folder):
            if not (folder / _START_FILE).is_file():
                _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        component = artifacts.maven(draft / "repository").project(*COORDINATES).at_version(VERSION)
        archive = Path(component.artifact("all", "tar.gz").resolve())
        if artifacts.sha256(archive) != SHA256:
            raise BrokerError(f"{archive.name} from the Maven repository is not the file that is known.")
        maven.unpack(archive, draft / "app")
        (draft / "app").rename(folder)
    # requests' errors are OSErrors; jgo says RuntimeError when every repository answered no.
    except (OSError, RuntimeError, tarfile.TarError) as failed:
        raise BrokerError(f"Apicurio Registry {VERSION} cannot be had ({type(failed).__name__}).") from failed
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class Apicurio:
    """One registry on loopback, with its schemas in memory; it dies with the tests, however those end."""

    def __init__(self) -> None:
        self._app, self._java = obtain(), artifacts.java_runtime()
        self._folder = Path(tempfile.mkdtemp(prefix="winnow-registry-"))
        self._port = free_port()
        self._warden: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/{API}"

    def start(self) -> Apicurio:
        """Bring it up, empty, where it was before if it was."""
        log = self._folder / "registry.log"
        options = {
            "quarkus.http.host": LOOPBACK,
            "quarkus.http.port": self._port,
            # Its probes and metrics, which would take port 9000.
            "quarkus.management.host": LOOPBACK,
            "quarkus.management.port": free_port(),
            "java.io.tmpdir": self._folder,
        }
        command = [
            *(str(self._java), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
            *(f"-D{name}={value}" for name, value in options.items()),
            *("-jar", str(self._app / _START_FILE)),
        ]
        watch = [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), str(self._folder), str(log)]
        self._warden = subprocess.Popen(
            [*watch, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=self._folder,
            env=kraft.environment(),
        )
        with self._warden.stdout as announced:
            self._pid = int(announced.readline())
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._warden.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Apicurio did not come up:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.1)
        return self

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens; afterwards it is there again, empty."""
        self.halt()
        try:
            yield
        finally:
            self.start()

    def halt(self) -> None:
        """End it, for good or until `start()`."""
        if self._warden is not None:
            self._warden.terminate()
            self._warden.wait(30)
            self._warden = None

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def apicurio_or_skip() -> Iterator[Apicurio]:
    """A started registry of the test's own."""
    try:
        registry = Apicurio()
    except BrokerError as reason:
        pytest.skip(f"needs a real schema registry: {reason}")
    try:
        yield registry.start()
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def apicurio() -> Iterator[Apicurio]:
    """A real registry, one for the whole run: use subjects nobody else uses."""
    with apicurio_or_skip() as registry:
        yield registry
