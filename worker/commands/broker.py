"""`winnow broker`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import typer

from worker.broker import open_broker
from worker.commands.run import Stop
from worker.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from worker.broker import Preference

WATCH_EVERY = 0.5


def broker(kind: Preference, port: int, topics: list[str]) -> None:
    """Run a broker until Ctrl-C or SIGTERM."""
    stop = Stop()
    stop.install()
    with open_broker(kind, _say, topics=dict(map(_topic, topics)), port=port or None) as running:
        typer.echo(f"{running.kind} listens on {running.bootstrap_servers}; Ctrl-C ends it.")
        if port and not running.bootstrap_servers.endswith(f":{port}"):
            typer.echo(f"  note: it takes free ports of its own; --port {port} has no effect on it")
        for limit in running.limits:
            typer.echo(f"  note: {limit}")
        waiting = threading.Event()
        while not stop():
            waiting.wait(WATCH_EVERY)
            if not running.alive:
                raise BrokerError(f"{running.kind} ended by itself.")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _topic(argument: str) -> tuple[str, int]:
    name, colon, partitions = argument.rpartition(":")
    if not colon:
        return argument, 1
    if not partitions.isdigit() or int(partitions) < 1:
        raise ConfigError(f"{argument!r} is no topic; write NAME or NAME:PARTITIONS.")
    return name, int(partitions)
