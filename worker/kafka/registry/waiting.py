"""Waiting for the registry in the thread that polls: never so long that the group takes its partitions away."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

READS = 64
"""As many as the loop does at most between two polls, which is its `POLL_LIMIT`."""


class Waits:
    """Lookups in any `READS` reads in a row take no more than `most` seconds. Used by one thread."""

    def __init__(self, most: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._reads = 0
        self._waits: deque[tuple[int, float]] = deque()
        """The reads in which something was looked up, and how long that took."""

    def read(self) -> None:
        """Count one."""
        self._reads += 1

    def run(self, call: Callable[[], T]) -> T:
        """What a lookup gives, or raises.

        Raises:
            TimeoutError: it takes longer than is left. It goes on in a thread that nobody waits for.
        """
        while self._waits and self._waits[0][0] <= self._reads - READS:
            self._waits.popleft()
        left = self._most - sum(seconds for _, seconds in self._waits)
        if left <= 0:
            raise TimeoutError
        began = self._clock()
        try:
            return _within(left, call)
        finally:
            self._waits.append((self._reads, self._clock() - began))


def _within(seconds: float, call: Callable[[], T]) -> T:
    """HTTP clients' timeouts are for each packet, and a name server's there is none: only a thread can be left."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, name="registry", daemon=True).start()
    return answer.result(seconds)
