"""Where `winnow` begins: what a signal does before a command handles it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HEAVY = ("typer", "rich", "pydantic", "structlog", "numpy", "onnxruntime", "confluent_kafka")
# In place of the command line: says how signals are handled there, and waits for one.
COMMAND_LINE = """
import os, signal, sys, types
{before}
cli = types.ModuleType("worker.cli")
def main():
    handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    print(*map(repr, handlers), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    {then}
cli.main = main
import worker, worker.entry
print(sorted(set({heavy!r}) & set(sys.modules)))
sys.modules["worker.cli"] = worker.cli = cli
worker.entry.main()
"""


def run(before: str = "", then: str = "") -> subprocess.CompletedProcess[str]:
    code = COMMAND_LINE.format(before=before, then=then, heavy=HEAVY)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


def test_nothing_heavy_comes_before_the_handlers():
    """When signals are heard, neither the command line's libraries nor the model's have been imported."""
    assert run().stdout.splitlines()[0] == "[]"


def test_sigterm_is_left_alone_in_an_ordinary_process():
    """Where the kernel ends a process by itself there is no handler, and an interrupt raises as Python has it."""
    done = run()
    assert done.stdout.splitlines()[1].startswith("<Handlers.SIG_DFL: 0> <built-in function default_int_handler> set()")
    assert run(then="os.kill(os.getpid(), signal.SIGTERM)").returncode == -signal.SIGTERM


def test_sigterm_ends_the_first_process():
    """Process 1 of a container handles SIGTERM itself, because the kernel would drop it."""
    done = run(before="os.getpid = lambda: 1", then="signal.raise_signal(signal.SIGTERM)")
    assert done.returncode == 128 + signal.SIGTERM


def test_sigterm_that_came_while_it_was_blocked_is_heard():
    """What came before the interpreter could handle anything ends the process as soon as it can."""
    before = (
        "os.getpid = lambda: 1; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); signal.raise_signal(15)"
    )
    done = run(before=before, then="print('too late')")
    assert (done.returncode, "too late" in done.stdout) == (128 + signal.SIGTERM, False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_ignored_stays_ignored(number):
    """Who starts it with a signal ignored, as shells do in the background, has it ignored."""
    before = f"os.getpid = lambda: 1; signal.signal({int(number)}, signal.SIG_IGN)"
    done = run(before=before, then=f"signal.raise_signal({int(number)})")
    assert done.returncode == 0, done.stderr
    assert "SIG_IGN" in done.stdout
