"""Looks at a worker from outside, by its `/metrics` and `/readyz`."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from worker.errors import ConfigError
from worker.watching.conditions import Probe
from worker.watching.history import History
from worker.watching.snapshot import Snapshot
from worker.watching.view import View, view
from worker.watching.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.watching.snapshot import Labels

PATIENCE = 5.0
"""Seconds for an answer."""
MOST_BYTES = 64 << 20
"""Of an answer; a worker with 250 labels and 200 partitions gives less than one MiB."""
STALLED = "the loop has not turned for a while"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Unanswered(Exception):
    """Nothing answers there, or not a worker. A sentence."""


class Worker:
    """A worker that is looked at, and what is remembered of earlier looks."""

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        """Look at nothing yet.

        Args:
            address: where it serves, with or without `http://` and `/metrics`.
            clock: seconds since the epoch.

        Raises:
            ConfigError: the address is none.
        """
        self.url = base(address)
        self._clock = clock
        self._history = History()
        self._known: dict[Labels, Labels] = {}

    def look(self) -> View:
        """What is to be said of it now.

        Raises:
            Unanswered: it cannot be said.
        """
        status, metrics = self._get("/metrics")
        ready, obstacle = self._get("/readyz")
        if status != 200:
            raise Unanswered(f"What answers at {self.url} is no Winnow worker: its /metrics has status {status}.")
        snapshot = self._snapshot(metrics)
        probe = _probe(ready, obstacle)
        if probe is None or not (snapshot.complete or probe.obstacle):
            raise Unanswered(f"What answers at {self.url} is no Winnow worker.")
        self._history.add(snapshot)
        return view(self._history, probe._replace(partitions=int(snapshot.value("winnow_partitions_assigned") or 0)))

    def _snapshot(self, metrics: str) -> Snapshot:
        now = self._clock()
        try:
            return Snapshot.of(text_string_to_metric_families(metrics), now, self._known)
        except ValueError:
            raise Unanswered(f"What answers at {self.url} is no Winnow worker: its /metrics cannot be read.") from None

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with _OPENER.open(self.url + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read(MOST_BYTES).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(MOST_BYTES).decode("utf-8", "replace")
        except urllib.error.URLError as error:
            raise Unanswered(self._nothing(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(self._nothing(error)) from None

    def _nothing(self, reason: object) -> str:
        if isinstance(reason, TimeoutError):
            return f"{self.url} has not answered within {PATIENCE:g} s."
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return f"Nothing answers at {self.url} ({shown(why)})."


def base(address: str) -> str:
    """An address as it is asked: scheme, host and port, and a path where there is a proxy.

    Raises:
        ConfigError: it has no host, or another scheme than http and https.
    """
    url = (address if "://" in address else f"http://{address}").removesuffix("/").removesuffix("/metrics")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(not 32 < ord(character) < 127 for character in url):
        raise ConfigError(f"{address!r} is no address of a worker: give one like http://127.0.0.1:9464.")
    return url


def _probe(status: int, said: str) -> Probe | None:
    """What `/readyz` said; None where it is not that of a worker."""
    said = shown(said.strip())
    if status == 200 and said.startswith("ready, "):
        return Probe(True, True, "", 0)
    if status == 503 and said.startswith("not ready: "):
        obstacle = said.removeprefix("not ready: ")
        return Probe(obstacle != STALLED, False, obstacle, 0)
    return None
