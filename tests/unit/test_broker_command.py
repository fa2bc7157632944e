"""`winnow broker`: what is said of the broker that runs."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from worker.commands import broker as command
from worker.errors import ConfigError


@pytest.mark.parametrize(("port", "listens", "told"), [(9099, 40001, True), (0, 40001, False), (9099, 9099, False)])
def test_a_port_that_is_not_taken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: int, listens: int, told: bool
):
    """The mock cluster takes ports of its own; who asked for one learns it."""
    running = SimpleNamespace(kind="mock", bootstrap_servers=f"127.0.0.1:{listens}", limits=(), alive=True)
    monkeypatch.setattr(command, "open_broker", lambda *_, **__: nullcontext(running))
    monkeypatch.setattr(command.Stop, "install", lambda _: None)
    monkeypatch.setattr(command.Stop, "__call__", lambda _: True)
    command.broker("mock", port, [])
    assert (f"--port {port} has no effect" in capsys.readouterr().out) == told


@pytest.mark.parametrize("topic", ["bad name", "bad name:3", "", ":3", "..", "a" * 250, "in:0", "in:", "in:x", "a:b:1"])
def test_what_is_no_topic_is_refused_before_a_broker_starts(monkeypatch: pytest.MonkeyPatch, topic: str):
    """A mistake of the command line: exit code 2, and no broker of another kind instead."""
    monkeypatch.setattr(command, "open_broker", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ConfigError, match="--topic"):
        command.broker("auto", 0, [topic])
