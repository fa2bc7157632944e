"""What the loop tells of its clients and its progress, most of it once a second: to metrics, health and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from worker.pipeline.lag import lags

if TYPE_CHECKING:
    from worker.health import Health
    from worker.pipeline.ledger import Ledger
    from worker.ports import Observer, Source

log = structlog.get_logger("loop")
LAG_EVERY = 1.0


class Reporter:
    """Looks at what has changed since it looked last."""

    def __init__(self, source: Source, ledger: Ledger, observer: Observer, health: Health, now: float) -> None:
        self._source = source
        self._ledger = ledger
        self._observer = observer
        self._health = health
        self._last = now
        self._rewinds = 0
        self._resets = 0

    def turn(self, now: float) -> None:
        """The loop made a turn; `now` in seconds, monotonic."""
        self._note_rewinds()
        if now - self._last >= LAG_EVERY:
            self._last = now
            source = self._source
            self._observer.lag(lags(self._ledger.progress(), source.ends(), source.positions(), now))
            self._note_connection()
            self._note_resets()

    def _note_rewinds(self) -> None:
        if new := self._ledger.rewinds - self._rewinds:
            self._rewinds += new
            self._observer.rewound(new)
            log.warning("offsets went backwards: a topic was made anew, or is read again", times=new)

    def _note_connection(self) -> None:
        connected = self._source.connected
        self._observer.connected(connected)
        if connected != self._health.connected:
            self._health.connected = connected
            log.warning("the brokers are there again" if connected else "no broker is there; waiting for them")

    def _note_resets(self) -> None:
        if new := self._source.resets - self._resets:
            self._resets += new
            self._observer.reset(new)
            log.warning(
                "what was to be read next is not stored: retention deleted it, or the topic was made anew; going on as "
                "auto.offset.reset says",
                times=new,
            )
