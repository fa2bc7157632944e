"""What the worker serves to whoever looks at it: the page, the view behind it, and the model card.

Nothing is done unless somebody asks: snapshots of the metrics are taken by requests, and kept for the next.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.watching.history import History
from worker.watching.snapshot import Labels, Snapshot
from worker.watching.view import view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.watching.snapshot import Family
    from worker.watching.view import Probe

DISTANCE = 1.0
"""Seconds at least between two snapshots; who asks sooner is told the same again."""
JSON = "application/json"
HTML = "text/html; charset=utf-8"


class Answer(NamedTuple):
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    """Beyond those of every answer."""


class Site:
    """Answers of one worker; asked by several threads."""

    def __init__(
        self,
        collect: Callable[[], Iterable[Family]],
        probe: Callable[[], Probe],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take nothing yet.

        Args:
            collect: the worker's metrics as they are.
            probe: what its probes say.
            clock: seconds since the epoch.
        """
        self._collect = collect
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._history = History()
        self._known: dict[Labels, Labels] = {}
        self._status = b""
        self._card: Mapping[str, Any] | None = None

    def describe(self, card: Mapping[str, Any]) -> None:
        """Say which model it is, once that is open."""
        self._card = card

    def answer(self, path: str) -> Answer | None:
        """What is at a path; None where there is nothing."""
        if path == "/":
            return page()
        if path == "/status":
            return Answer(JSON, self.status(), {})
        if path == "/model":
            return Answer(JSON, orjson.dumps(self._card), {})
        return None

    def status(self) -> bytes:
        """The view as JSON, at most `DISTANCE` old."""
        with self._lock:
            now = self._clock()
            last = self._history.last
            if last is None or not 0 <= now - last.at < DISTANCE:
                self._history.add(Snapshot.of(self._collect(), now, self._known))
                self._status = orjson.dumps(view(self._history, self._probe()))
            return self._status


@cache
def page() -> Answer:
    """The page: one document with style and script in it, which its policy names by their digests."""
    folder = resources.files(__package__) / "page"
    text, style, script = (folder.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    filled = re.sub(r"\{\{(style|script)\}\}", lambda found: {"style": style, "script": script}[found[1]], text)
    return Answer(HTML, filled.encode(), {"Content-Security-Policy": policy})


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
