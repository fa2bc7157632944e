"""`winnow train`: labelled texts and an encoder to a Hugging Face folder, a bundle and a report."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from worker.commands import consoles
from worker.commands.evaluate import show_figures, show_notes
from worker.commands.extras import need

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from rich.progress import TaskID

    from worker.model.data import Fields

STOPPED = 130


def train(wanted: dict[str, Any], fields: Fields) -> None:
    """Train as `wanted` says, the fields of `worker.model.training.run.Options` by name, and show the figures."""
    begun = time.monotonic()
    need("train", "train")
    console = Console(stderr=True)
    # Seconds on a fast machine, and half a minute on one that reads it from a slow disk.
    with console.status("loading torch and transformers"):
        _tell(console, "loading torch and transformers")
        from worker.model.training.fitting import Stopped
        from worker.model.training.run import Options, train

    options = Options(**wanted, fields=fields)
    try:
        with Live(console) as live:
            trained = train(options, live, begun)
    except (Stopped, KeyboardInterrupt):
        typer.echo(_stopped(options.out), err=True)
        raise typer.Exit(STOPPED) from None
    from worker.model.training.run import BUNDLE, HF, REPORT

    whole = trained.whole if trained.answers.left is not None else None
    to = consoles.console(highlight=True)
    show_figures(to, trained.answers, f"{trained.bundle.manifest.name} on {trained.measured_on}", whole)
    show_notes(to, trained.answers)
    _say_where(options.out, (HF, BUNDLE, REPORT))


def _tell(console: Console, what: str) -> None:
    """A line of its own where nothing on the screen moves, as in a log."""
    if not console.is_terminal:
        console.print(f"{what} …", highlight=False)


def _stopped(out: Path) -> str:
    """After a second Ctrl-C too: what the last epoch left is there then."""
    from worker.model.training.run import KEPT

    if (out / KEPT).exists():
        return f"winnow: stopped; the same command with --resume goes on from what {out} holds."
    return "winnow: stopped before anything was learnt; the same command begins anew."


def _say_where(out: Path, names: tuple[str, ...]) -> None:
    for name, what in zip(names, ("for transformers", "for winnow run", "the report"), strict=True):
        typer.echo(f"{out / name}: {what}")


class Live:
    """Shows a training on the terminal, and hears Ctrl-C; a second one ends the process at once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stopping = False
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Live:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._stop)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def phase(self, name: str, total: int) -> None:
        _tell(self._console, name)
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total or None, said="")

    def step(self, done: int, text: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=done)
        if self._task is not None and text:
            self._progress.update(self._task, said=text)

    def epoch(self, entry: dict[str, Any]) -> None:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in entry.items() if name != "epoch")
        self._console.print(f"epoch {entry['epoch']}: {figures}", highlight=False)

    def stopping(self) -> bool:
        return self._stopping

    def _stop(self, _: int, __: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        self._console.print("Stopping after this step; Ctrl-C again ends at once.")
