"""Signals to a command that runs until it is told to stop; time is injected."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from tests.kit import FakeClock
from worker.commands import run
from worker.commands.run import SAME, Stop


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes that the process would have ended with."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_the_first_signal_asks_and_the_second_ends(ended: list[int], capsys: pytest.CaptureFixture[str]):
    """The first signal asks to stop and raises nothing; the second ends the process at once with 130, and says so."""
    clock = FakeClock()
    stop = Stop(clock)
    stop.consequence = "what is in flight will be delivered again"
    assert not stop()
    stop.on_signal()
    assert stop()
    assert ended == []
    clock.advance(SAME)
    stop.on_signal()
    assert ended == [130]
    said = "winnow: second signal: ended at once; what is in flight will be delivered again.\n"
    assert capsys.readouterr().err == said


def test_a_signal_sent_twice_is_one(ended: list[int], capsys: pytest.CaptureFixture[str]):
    """Supervisors signal a process and its group: what comes within half a second of the first signal ends nothing."""
    clock = FakeClock()
    stop = Stop(clock)
    for _ in range(4):
        stop.on_signal()
        clock.advance(SAME / 4)
    assert (ended, capsys.readouterr().err) == ([], "")
    stop.on_signal()
    assert ended == [130]
    assert capsys.readouterr().err == "winnow: second signal: ended at once.\n"


def test_the_first_signal_is_announced_once():
    """Signals go on being heard while nobody reads the log that the first one is announced in."""
    stop, read, said = Stop(FakeClock()), threading.Event(), []

    def announce() -> None:
        read.wait(10)
        said.append("stopping")

    stop.announce = announce
    stop.on_signal()
    stop.on_signal()
    assert (stop(), said) == (True, [])
    read.set()
    for thread in threading.enumerate():
        if thread.name == "said":
            thread.join(10)
    assert said == ["stopping"]


def test_a_shutdown_that_hangs_says_so_and_ends(ended: list[int], capsys: pytest.CaptureFixture[str]):
    """The sentence names the time that was given and what becomes of the messages; the code is the one asked for."""
    run.exit_after(0.0, 7)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)
    assert ended == [7]
    assert capsys.readouterr().err == (
        "winnow: the shutdown has not ended within 0 s, perhaps because the brokers are away. "
        "What was not committed will be delivered again.\n"
    )


def test_a_closed_log_does_not_keep_the_process(ended: list[int], monkeypatch: pytest.MonkeyPatch):
    """It ends with its code though the last sentence cannot be written."""
    with open(os.devnull) as unwritable:
        monkeypatch.setattr(sys, "stderr", unwritable)
        run._leave("one sentence.", 7)
    assert ended == [7]


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes_asks_to_stop_unless_nohup_says_no(monkeypatch: pytest.MonkeyPatch, ignored: bool):
    """SIGHUP is one of the signals that are handled; where it was ignored before, it stays so."""
    handled: list[int] = []
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda _: -1)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN if ignored else signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", lambda number, _: handled.append(number))
    monkeypatch.setattr(Stop, "_listen", lambda *_: None)
    Stop().install()
    assert handled == [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]
