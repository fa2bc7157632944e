"""A scene, looked at while time goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import FakeClock
from tests.scenes import Scene
from worker.watching import drift
from worker.watching.conditions import Probe
from worker.watching.history import History
from worker.watching.judging import judge
from worker.watching.snapshot import Snapshot
from worker.watching.view import View, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.watching.judging import Finding

UP = 3_600.0
"""Seconds for which the process has run when it is looked at first."""


class Looked:
    """A worker's metrics and somebody who looks at them; both on one clock."""

    def __init__(self, labels: Sequence[str] = ("ham", "spam"), up: float = UP, **options: object) -> None:
        self.clock = FakeClock(1_795_000_000.0)
        self.scene = Scene(labels, clock=self.clock, **options)
        self.metrics = getattr(self.scene, "metrics", None)
        self.history = History()
        self.started = self.clock() - up

    def look(self) -> View:
        """One look now."""
        snapshot = Snapshot.of(self.scene.registry.collect(), self.clock())
        samples = {**snapshot.samples, "process_start_time_seconds": {(): self.started}}
        self.history.add(Snapshot(snapshot.at, samples))
        return view(self.history, self.probe)

    def after(self, seconds: float) -> View:
        """One look, so much later; the loop goes on meanwhile."""
        self.clock.advance(seconds)
        self.scene.health.beat()
        return self.look()

    @property
    def probe(self) -> Probe:
        health = self.scene.health
        return Probe(health.alive, health.ready, health.obstacle, health.partitions)

    def findings(self) -> list[Finding]:
        """Of the last look."""
        return judge(self.history, self.probe, drift.latest(self.history))

    def alerts(self) -> list[str]:
        """Their names."""
        return [finding.alert for finding in self.findings()]
