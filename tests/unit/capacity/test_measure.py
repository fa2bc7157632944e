"""The measuring itself: what is counted, and over which time."""

from __future__ import annotations

import _thread
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit import FakeClock
from worker.capacity import measure
from worker.capacity.machine import cpu
from worker.capacity.measure import Watch
from worker.capacity.rounds import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlowGraph:
    """Each run takes `seconds` of a clock."""

    def __init__(self, seconds: float) -> None:
        self.clock = FakeClock()
        self.seconds = seconds
        self.runs = 0
        self._lock = threading.Lock()

    def __call__(self, rows: Sequence[Sequence[int]]) -> None:
        with self._lock:
            self.runs += 1
            self.clock.advance(self.seconds)


def test_a_lane_runs_until_the_time_is_over():
    """Messages a second, and the seconds of each run."""
    run = SlowGraph(0.25)
    visit = measure.on_lanes(run, [[1]] * 4, 1, 1.0, run.clock)
    assert visit.seconds == (0.25,) * 4
    assert visit.rate == 16.0


def test_a_lane_runs_once_however_little_time_there_is():
    """A run that takes longer than its time is measured all the same."""
    run = SlowGraph(100.0)
    assert measure.on_lanes(run, [[1]], 1, 0.0, run.clock).seconds == (100.0,)


def test_every_lane_runs():
    """As many threads as lanes, at the same time."""
    together = threading.Barrier(3)
    assert len(measure.on_lanes(lambda rows: together.wait(10), [[1]], 3, 0.0).seconds) == 3


def test_what_a_run_raises_is_raised():
    """A lane that fails does not vanish in its thread."""

    def broken(rows: Sequence[Sequence[int]]) -> None:
        raise ValueError("no such shape")

    with pytest.raises(ValueError, match="no such shape"):
        measure.on_lanes(broken, [[1]], 2, 0.0)


def test_batches_are_of_real_tokens_between_the_special_ones():
    """Every row has the length asked for, its ends are those of a text, and rows differ."""
    rows = measure.batch([[101, 7, 8, 9, 102], [101, 5, 102]], Shape(3, 6))
    assert rows == [[101, 7, 8, 9, 5, 102], [101, 7, 8, 9, 5, 102], [101, 7, 8, 9, 5, 102]]
    assert measure.batch([[101, 7, 8, 102]], Shape(2, 3)) == [[101, 7, 102], [101, 8, 102]]


def test_texts_without_words_make_batches_too():
    """Special tokens alone, and fewer tokens than special ones."""
    assert measure.batch([[101, 102]], Shape(1, 4)) == [[101, 101, 101, 102]]
    assert measure.batch([[101, 102]], Shape(1, 1)) == [[101]]


class Progress:
    """Messages done, and clocks that a test moves."""

    def __init__(self, count: int, seconds: float) -> None:
        self.done = 0
        self.clock, self.cpu = FakeClock(), FakeClock(0.0)
        self.watch = Watch(lambda: self.done, count, seconds, self.clock, self.cpu)

    def turn(self, messages: int, seconds: float, cpu: float = 0.0) -> bool:
        self.done += messages
        self.clock.advance(seconds)
        self.cpu.advance(cpu)
        return self.watch()


def test_the_beginning_does_not_count():
    """The rate is that between the end of the warm-up and the last message that was done in time."""
    progress = Progress(1_000_000, 10.0)
    assert not progress.turn(5, 1.0, 1.0)
    assert not progress.turn(5, 1.0, 1.0)  # a fifth of the time: from here on
    assert not progress.turn(100, 1.0, 0.5)
    assert not progress.turn(100, 1.0, 0.5)
    assert progress.turn(0, 6.0, 3.0)
    found = progress.watch.found()
    assert (found.messages, found.rate, found.cpu) == (200, 100.0, 0.005)


def test_it_ends_with_the_last_message():
    """Where all are done before the time is over, nothing more is awaited."""
    progress = Progress(100, 10.0)
    assert not progress.turn(20, 0.1)
    assert progress.turn(80, 0.1)
    assert progress.watch.found().rate == pytest.approx(800.0)


def test_what_is_done_at_once_counts_from_the_beginning():
    """So few messages that none is left after the warm-up are measured with it."""
    progress = Progress(100, 10.0)
    assert progress.turn(100, 0.5, 0.2)
    assert progress.watch.found() == (200.0, 0.002, 100)


def test_a_slow_model_is_waited_for():
    """Until two batches are done nothing is known, so the time is exceeded rather than nothing said."""
    progress = Progress(100, 1.0)
    assert not progress.turn(0, 5.0)
    assert not progress.turn(4, 5.0)
    assert progress.turn(4, 5.0)
    assert progress.watch.found().rate == 0.8


def test_nothing_measured_is_no_rate():
    """A loop that ended at once has no figures."""
    with pytest.raises(RuntimeError, match="ended before"):
        Progress(10, 1.0).watch.found()


def test_the_cpu_is_named_with_what_int8_depends_on(tmp_path: Path):
    """By /proc/cpuinfo; without one the platform's name, and no instruction sets."""
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: A CPU\nflags\t\t: fpu avx2 avx512_vnni\n" * 2)
    assert cpu(info) == ("A CPU", ("avx2", "avx512_vnni"))
    assert cpu(Path("/nowhere")).instruction_sets == ()


def test_whoever_interrupts_leaves_no_lane_at_work():
    """Ctrl-C comes to the thread that waits: the lanes end first, those that wait for each other, too."""
    before = set(threading.enumerate())
    once = threading.Lock()

    def run(rows: Sequence[Sequence[int]]) -> None:
        if once.acquire(blocking=False):
            _thread.interrupt_main()

    # What is started in the background may ignore the signal.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            measure.on_lanes(run, [[1]], 2, 100.0)
    finally:
        signal.signal(signal.SIGINT, handler)
    lanes = set(threading.enumerate()) - before
    for thread in lanes:
        thread.join(20)
    assert not any(thread.is_alive() for thread in lanes)
