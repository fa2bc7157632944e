"""All that is shown of a worker at a moment. As JSON it is what `/status` answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from worker.watching import drift, figures
from worker.watching.conditions import Probe
from worker.watching.judging import judge

if TYPE_CHECKING:
    from worker.watching.drift import Drifts
    from worker.watching.figures import Batches, Cache, DeadLetters, Lag, Latency, Load, Rate, Share
    from worker.watching.history import History, Point
    from worker.watching.judging import Finding
    from worker.watching.snapshot import Snapshot

__all__ = ["Probe", "View", "view"]

VERSION = 1
"""Of the JSON: it grows when a field goes away or means something else."""
WINDOW = 60.0
"""Seconds over which figures are shown."""
NOW = 10.0
"""Seconds over which the present rate is."""
EVENTS = (
    "consumed", "delivered", "tombstones", "truncated", "windowed", "windows", "abstained", "rebalances", "given_up",
    "commits", "transactions_aborted", "offset_resets", "rewinds",
)  # fmt: skip
"""Counters that are shown since the start, `winnow_…_total`."""

State: TypeAlias = Literal["well", "look", "not-well", "starting", "stopping"]


@dataclass(frozen=True)
class Verdict:
    state: State
    title: str
    says: str
    findings: list[Finding]
    """The worst first; `info` ones do not count against a worker that is well."""
    watched: float
    """For how many seconds somebody has looked; what alerts judge over minutes is judged over these."""


@dataclass(frozen=True)
class Worker:
    version: str | None
    python: str | None
    group: str | None
    member: str | None
    delivery: str | None
    model: str | None
    digest: str | None
    started: float | None
    """Seconds since the epoch."""
    uptime: float | None
    """Seconds."""
    ready: bool
    partitions: int


@dataclass(frozen=True)
class Window:
    """What figures are of."""

    seconds: float | None
    since_start: bool


@dataclass(frozen=True)
class View:
    version: int
    at: float
    """Seconds since the epoch."""
    verdict: Verdict
    worker: Worker
    window: Window
    rate: Rate
    course: list[Point]
    """Of the rate of acknowledged messages, while somebody looked."""
    labels: list[Share]
    entities: list[Share]
    actions: list[Share]
    exits: list[Share]
    """Results by the layers they took."""
    end_to_end: Latency
    inside: Latency
    """From poll to acknowledgement."""
    stages: dict[str, Latency]
    batches: Batches
    cache: Cache
    lag: Lag
    dead_letters: DeadLetters
    drift: Drifts
    load: Load
    since_start: dict[str, float]


def view(history: History, probe: Probe) -> View:
    """What is shown of a worker.

    Args:
        history: at least one snapshot.
        probe: what its probes say.
    """
    between, now = history.over(WINDOW), history.over(0).later
    drifts = drift.latest(history)
    return View(
        VERSION,
        now.at,
        _verdict(history, now, probe, drifts),
        _worker(now, probe),
        Window(between.seconds, between.earlier is None),
        figures.rate(history.over(NOW)),
        history.points,
        figures.mix(between, "winnow_results_total", "label"),
        figures.mix(between, "winnow_entities_total", "type"),
        figures.mix(between, "winnow_actions_total", "action"),
        figures.mix(between, "winnow_exits_total", "layer"),
        figures.latency(between.histogram("winnow_end_to_end_seconds")),
        figures.latency(between.histogram("winnow_worker_seconds")),
        figures.stages(between),
        figures.batches(between),
        figures.cache(between),
        figures.lag(between),
        figures.dead_letters(between),
        drifts,
        figures.load(between),
        {name: now.value(f"winnow_{name}_total") or 0.0 for name in EVENTS},
    )


def _worker(now: Snapshot, probe: Probe) -> Worker:
    version, python = _info(now, "winnow_build_info", "version", "python")
    group, member, delivery = _info(now, "winnow_worker_info", "group", "member", "delivery")
    name, digest = _info(now, "winnow_model_info", "name", "digest")
    uptime = None if now.started is None else max(0.0, now.at - now.started)
    return Worker(
        version, python, group, member, delivery, name, digest, now.started, uptime, probe.ready, probe.partitions
    )


def _info(now: Snapshot, name: str, *labels: str) -> tuple[str | None, ...]:
    """The labels of an info metric; those that are empty or not there are None."""
    series = next(iter(now.by(name, *labels)), ("",) * len(labels))
    return tuple(value or None for value in series)


def _verdict(history: History, now: Snapshot, probe: Probe, drifts: Drifts) -> Verdict:
    findings = judge(history, probe, drifts) if now.complete else []
    worst = findings[0] if findings else None
    if worst is not None and worst.severity != "info":
        state: State = "not-well" if worst.severity == "critical" else "look"
        return Verdict(state, worst.title, worst.says, findings, history.watched)
    state, title, says = _plain(now, probe)
    return Verdict(state, title, says, findings, history.watched)


def _plain(now: Snapshot, probe: Probe) -> tuple[State, str, str]:
    """Without a finding."""
    if not now.complete:
        return "starting", "Starting.", "The model is being loaded and its probes are run."
    if probe.ready:
        return "well", "Well.", "Nothing that would raise an alert."
    if probe.obstacle == "draining":
        return "stopping", "Stopping.", "It finishes what is in flight, commits, and leaves the group."
    return "starting", "Starting.", "It waits for the group to give it partitions."
