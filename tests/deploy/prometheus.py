"""A real Prometheus of a test's own."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.deploy.monitoring import ALERTS, tool_or_skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: files
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
"""
READY_SECONDS = 30.0


class TooLong(AssertionError):
    """What was waited for did not come."""


class Prometheus:
    """Scrapes what it is told every second, and evaluates the alerts as often; a context."""

    def __init__(self, folder: Path) -> None:
        program = tool_or_skip("prometheus")
        self._targets: list[dict[str, Any]] = []
        self._file = folder / "targets.json"
        self._write()
        settings = folder / "prometheus.yaml"
        settings.write_text(CONFIGURATION.format(rules=ALERTS, targets=self._file), "utf-8")
        self._log = folder / "prometheus.log"
        self._stderr = self._log.open("wb")
        self._process = subprocess.Popen(
            [
                program, f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stderr=self._stderr,
        )  # fmt: skip
        self._address, self.began = "", time.time()

    def __enter__(self) -> Prometheus:
        try:
            self.until(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        self.began = time.time()
        return self

    def scrape(self, port: int, **labels: str) -> None:
        """From now on, with these labels; returns once there is an answer."""
        self._targets.append({"targets": [f"127.0.0.1:{port}"], "labels": labels})
        self._write()
        self.until(lambda: len(self.get("query", query="up == 1")["result"]) == len(self._targets))

    def values(self, expression: str) -> set[float]:
        """What a graph of all the time since the start shows."""
        found = self.get("query_range", query=expression, start=f"{self.began}", end=f"{time.time()}", step="1")
        values = {float(value) for series in found["result"] for _, value in series["values"]}
        return {value for value in values if math.isfinite(value)}

    def firing(self) -> list[dict[str, str]]:
        """The labels of alerts that fire."""
        return [alert["labels"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]

    def rules(self) -> Iterable[dict[str, Any]]:
        """How each rule fares."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def get(self, what: str, **parameters: str) -> Any:
        """An answer of its API; fails with what it says of a mistake."""
        url = f"http://{self._address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def until(self, done: Callable[[], object], seconds: float = READY_SECONDS) -> None:
        """Wait for a condition; fails with the log."""
        deadline = time.monotonic() + seconds
        while not done():
            said = self._log.read_text("utf-8")
            assert self._process.poll() is None, said
            if time.monotonic() > deadline:
                raise TooLong(said)
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        found = re.search(r'msg="Listening on" address=(\S+)', self._log.read_text("utf-8"))
        if found is None:
            return False
        self._address = found[1]
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._targets), "utf-8")
        fresh.rename(self._file)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._stderr.close()
