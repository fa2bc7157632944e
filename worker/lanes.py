"""Threads around the model: each lane runs whole batches, one at a time.

A run that fails is bisected until the culprit is alone. A run that hangs is stopped by the watchdog and
bisected the same way. A lane that dies is reported by the next `collect`, and ends the process.
"""

from __future__ import annotations

import os
import queue
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from worker.errors import StageError
from worker.pipeline.messages import Classification, Rejection, Result, Unsure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.pipeline.batches import Batch, Item
    from worker.pipeline.messages import Said
    from worker.ports import Classifier, Clock, Run

SWITCH_INTERVAL = 0.0005
"""Seconds, for `sys.setswitchinterval` where lanes work: one that ends a run must get the interpreter back soon, or it
stands idle. The default is 5 ms."""


class Completed(NamedTuple):
    """A batch that went through a lane."""

    batch: Batch
    items: Sequence[Item]
    """Those that are done with, in order."""
    outcomes: Sequence[Said]
    """Of each of these."""
    unsure: Sequence[Item]
    """Those that have to go on, with the states from which they do."""
    queued: float
    """Seconds between submission and start."""
    seconds: float
    failed_runs: int = 0
    """Runs that failed before each item had its outcome."""


class _Lane:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.started: float | None = None
        self.stopped: float | None = None
        self.failed_runs = 0
        # Held while one of them is looked at and acted on, so that no run is stopped in place of the one before.
        self.lock = threading.Lock()

    @contextmanager
    def timed(self, clock: Clock) -> Iterator[None]:
        """What runs within is under the eyes of the watchdog."""
        with self.lock:
            self.started, self.stopped = clock(), None
        try:
            yield
        finally:
            with self.lock:
                self.started = None

    def watch(self, now: float, timeout: float) -> None:
        """Stop a run that takes longer than `timeout`; raise StageError where that has not helped as long again."""
        with self.lock:
            if self.started is None or now - self.started <= timeout:
                return
            if self.stopped is None:
                self.stopped = now
            elif now - self.stopped > timeout:
                raise StageError(
                    f"A run of the model has not ended after {now - self.started:.0f} s and cannot be stopped."
                )
            self.run.terminate()


class Lanes:
    """A fixed number of lanes over one classifier, with a short queue before them.

    Args:
        classifier: shared by all lanes.
        count: lanes; as many batches again may wait.
        clock: seconds, monotonic.
        run_timeout: seconds after which a run is stopped; after twice as long the worker gives up.
        cores: on which each lane stays; empty for any.
    """

    def __init__(
        self, classifier: Classifier, count: int, clock: Clock, run_timeout: float, cores: Sequence[int] = ()
    ) -> None:
        self._clock = clock
        self._run_timeout = run_timeout
        self._todo: queue.SimpleQueue[tuple[float, Batch] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Completed | BaseException] = queue.SimpleQueue()
        self._lanes = [_Lane(classifier.lane()) for _ in range(count)]
        self._pending = 0
        self._threads = [
            threading.Thread(target=self._work, args=(lane, cores[i : i + 1]), name=f"lane-{i}", daemon=True)
            for i, lane in enumerate(self._lanes)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Batches submitted and not yet collected."""
        return self._pending

    @property
    def busy(self) -> int:
        """Lanes at work."""
        return min(self._pending, len(self._lanes))

    @property
    def idle(self) -> bool:
        """Whether a lane stands idle."""
        return self._pending < len(self._lanes)

    @property
    def room(self) -> bool:
        """Whether another batch may be submitted."""
        return self._pending < 2 * len(self._lanes)

    def submit(self, batch: Batch) -> None:
        self._pending += 1
        self._todo.put((self._clock(), batch))

    def collect(self, timeout: float = 0.0) -> list[Completed]:
        """Completed batches; waits up to `timeout` seconds for the first.

        Raises:
            StageError: a lane died.
        """
        completed = []
        try:
            item = self._done.get(block=timeout > 0, timeout=timeout or None)
            while True:
                if isinstance(item, BaseException):
                    raise StageError(
                        f"A lane died of {type(item).__name__}; nothing unfinished was committed."
                    ) from item
                self._pending -= 1
                completed.append(item)
                item = self._done.get_nowait()
        except queue.Empty:
            return completed

    def watch(self) -> None:
        """Stop runs that take too long.

        Raises:
            StageError: a run goes on although it was stopped.
        """
        now = self._clock()
        for lane in self._lanes:
            lane.watch(now, self._run_timeout)

    def close(self, timeout: float) -> None:
        """Let the lanes end after what they are doing; wait up to `timeout` seconds for each."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(timeout)

    def _work(self, lane: _Lane, cores: Sequence[int] = ()) -> None:
        if cores:
            _stay(cores)
        try:
            while (job := self._todo.get()) is not None:
                submitted, batch = job
                self._done.put(self._completed(lane, batch, submitted))
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread must end the process
            self._done.put(error)

    def _completed(self, lane: _Lane, batch: Batch, submitted: float) -> Completed:
        started = self._clock()
        lane.failed_runs = 0
        said = self._outcomes(lane, batch.items)
        seconds = self._clock() - started
        return Completed(batch, *_parted(batch.items, said), started - submitted, seconds, lane.failed_runs)

    def _outcomes(self, lane: _Lane, items: Sequence[Item]) -> list[Said | Unsure]:
        outcomes = self._bisect(lane, items)
        if all(isinstance(outcome, Rejection) for outcome in outcomes):
            # Not one row came through: if a known good text fails too, the messages are not to blame.
            with lane.timed(self._clock):
                lane.run.check()
        return outcomes

    def _bisect(self, lane: _Lane, items: Sequence[Item]) -> list[Said | Unsure]:
        try:
            return self._run(lane, items)
        except Exception as error:  # noqa: BLE001 - any failure of a run is isolated to its culprit
            lane.failed_runs += 1
            if len(items) == 1:
                return [self._alone(lane, items, type(error).__name__)]
        half = len(items) // 2
        return self._bisect(lane, items[:half]) + self._bisect(lane, items[half:])

    def _alone(self, lane: _Lane, items: Sequence[Item], kind: str) -> Said | Unsure:
        """One more try: a run that was stopped while the whole process stood still says nothing of its message."""
        try:
            return self._run(lane, items)[0]
        except Exception:  # noqa: BLE001 - as above
            lane.failed_runs += 1
            return Rejection("infer", "model-error", f"The model failed on this message ({kind}).", kind)

    def _run(self, lane: _Lane, items: Sequence[Item]) -> list[Said | Unsure]:
        with lane.timed(self._clock):
            said = lane.run(items)
        return [
            Result(item.request, one, item.truncated, len(item.ids)) if isinstance(one, Classification) else one
            for item, one in zip(items, said, strict=True)
        ]


def _stay(cores: Sequence[int]) -> None:
    """Keep this thread on these cores; where they were taken away since they were counted, it runs where it may."""
    with suppress(OSError):
        os.sched_setaffinity(0, cores)


def _parted(items: Sequence[Item], said: list[Said | Unsure]) -> tuple[Sequence[Item], Sequence[Said], Sequence[Item]]:
    """The items that are done with, what is said of them, and those that go on."""
    unsure = [
        item._replace(hidden=one.hidden) for item, one in zip(items, said, strict=True) if isinstance(one, Unsure)
    ]
    if not unsure:
        return items, cast("list[Said]", said), ()
    done = [(item, one) for item, one in zip(items, said, strict=True) if not isinstance(one, Unsure)]
    return [item for item, _ in done], [one for _, one in done], unsure
