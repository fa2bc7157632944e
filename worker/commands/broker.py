"""`winnow broker`."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import typer

from worker.broker import open_broker
from worker.commands.run import Stop
from worker.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from worker.broker import Preference

WATCH_EVERY = 0.5
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""As the brokers have it."""


def broker(kind: Preference, port: int, topics: list[str]) -> None:
    """Run a broker until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: a topic's name is none.
        BrokerError: the broker cannot be had, or ended by itself.
    """
    wanted = dict(map(_topic, topics))
    stop = Stop()
    stop.install()
    with open_broker(kind, _say, topics=wanted, port=port or None) as running:
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
    name, _, partitions = argument.partition(":")
    count = partitions if ":" in argument else "1"
    if not (count.isascii() and count.isdigit() and len(count) < 7 and int(count)):
        raise ConfigError(f"--topic {argument!r} is no topic; write NAME or NAME:PARTITIONS.")
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(f"--topic {name!r} is no name of a topic: up to 249 of A-Z, a-z, 0-9, '.', '_' and '-'.")
    return name, int(count)
