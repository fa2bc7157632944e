"""`winnow top`: what running workers do, in a terminal."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import orjson
import typer
from rich.live import Live

from worker.commands import consoles
from worker.commands.run import Stop
from worker.errors import ConfigError
from worker.watching.reading import Unanswered, Worker
from worker.watching.terminal import overview, render
from worker.watching.words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from worker.watching.view import View

NAP = 0.1
"""Seconds between two looks at whether a signal came."""
MOST = 64
"""Workers at most; beyond, a dashboard is of more use."""


class Options(NamedTuple):
    addresses: Sequence[str]
    interval: float
    once: bool
    as_json: bool


class Seen(NamedTuple):
    """What is known of a worker."""

    url: str
    view: View | None
    """The last one."""
    why: str
    """Why there is no newer one; empty where there is."""
    at: float
    """When the view was had, in seconds since the epoch."""


def top(options: Options) -> None:
    """Show workers until Ctrl-C, or once.

    Raises:
        ConfigError: an address is none, or no worker answers at the beginning.
    """
    if len(options.addresses) > MOST:
        raise ConfigError(f"{len(options.addresses)} workers are too many to look at: {MOST} at most.")
    workers = [Worker(address, time.time) for address in options.addresses]
    console = consoles.console()
    with ThreadPoolExecutor(len(workers), thread_name_prefix="look") as pool:
        watching = Watching(workers, pool)
        seen = watching.look()
        if all(one.view is None for one in seen):
            whys = " ".join(one.why for one in seen)
            raise ConfigError(f"{whys} Is the worker running, and is `serving.port` that port?")
        if options.once or options.as_json or not console.is_terminal:
            time.sleep(options.interval)
            seen = watching.look()
            if options.as_json:
                typer.echo(orjson.dumps(document(seen), option=orjson.OPT_INDENT_2))
            else:
                console.print(picture(seen, console))
            return
        _watch(watching, seen, console, options.interval)


class Watching:
    """Looks at all workers at the same time."""

    def __init__(self, workers: Sequence[Worker], pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._workers = workers
        self._last = [Seen(worker.url, None, "", 0.0) for worker in workers]

    def look(self) -> list[Seen]:
        self._last = list(self._pool.map(_look, self._workers, self._last))
        return self._last


def _look(worker: Worker, last: Seen) -> Seen:
    try:
        view = worker.look()
    except Unanswered as error:
        return last._replace(why=str(error))
    return Seen(worker.url, view, "", view.at)


def _watch(watching: Watching, seen: list[Seen], console: Console, interval: float) -> None:
    stop = Stop()
    stop.install()
    with Live(picture(seen, console, console.height), console=console, screen=True, auto_refresh=False) as live:
        while not stop():
            due = time.monotonic() + interval
            while not stop() and time.monotonic() < due:
                time.sleep(NAP)
            if not stop():
                live.update(picture(watching.look(), console, console.height), refresh=True)


def picture(seen: Sequence[Seen], console: Console, height: int | None = None) -> RenderableType:
    """One worker in full, or as much of it as so many lines hold; several in a line each."""
    first = seen[0]
    if len(seen) == 1 and first.view is not None:
        gone = f"{first.why} It was heard last {duration(round(time.time() - first.at))} ago." if first.why else None
        return render(first.url, first.view, console.width, height, gone)
    return overview([(one.url, one.view, one.why) for one in seen])


def document(seen: Sequence[Seen]) -> dict[str, object]:
    """For programs: of each worker what its `/status` would say, or why it does not answer."""
    return {
        "workers": [{"url": one.url, "error": one.why or None, "status": None if one.why else one.view} for one in seen]
    }
