"""Whether a worker is well, and if not why.

Each finding has the name of the alert that would fire if it went on, and where `docs/operations.md` says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from worker.watching import conditions
from worker.watching.conditions import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.watching.conditions import Probe, Said
    from worker.watching.drift import Drifts
    from worker.watching.history import History

Severity: TypeAlias = Literal["critical", "warning", "info"]
RUNBOOK = "docs/operations.md"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    alert: str
    severity: Severity
    title: str
    """A few words."""
    says: str
    """A sentence with the figures."""
    runbook: str
    """A page of the documentation and the heading on it."""


class Rule(NamedTuple):
    """An alert, and when it would fire of one worker."""

    alert: str
    severity: Severity
    anchor: str
    condition: Callable[[Case], Said | None]


RULES = (
    Rule("WinnowNotReady", "critical", "it-does-not-become-ready", conditions.dead_loop),
    Rule("WinnowBrokerDisconnected", "critical", "no-broker", conditions.no_broker),
    Rule("WinnowNoProgress", "critical", "lag-and-no-progress", conditions.no_progress),
    Rule("WinnowOffsetsReset", "critical", "messages-lost-to-retention", conditions.reset),
    Rule("WinnowNotReady", "warning", "it-does-not-become-ready", conditions.not_ready),
    Rule("WinnowPartitionStuck", "warning", "a-partition-stands-still", conditions.stuck),
    Rule("WinnowLagGrows", "warning", "lag-grows", conditions.lag_grows),
    Rule("WinnowDeadLetters", "warning", "dead-letters", conditions.dead_letters),
    Rule("WinnowLatency", "warning", "latency", conditions.late),
    Rule("WinnowMemory", "warning", "memory-grows", conditions.memory),
    Rule("WinnowNotCommitted", "warning", "nothing-is-committed", conditions.not_committed),
    Rule("WinnowPaused", "warning", "paused-while-lanes-are-idle", conditions.paused),
    Rule("WinnowTransactionsAborted", "warning", "aborted-transactions", conditions.aborted),
    Rule("WinnowRebalances", "warning", "rebalances", conditions.rebalances),
    Rule("WinnowRewound", "warning", "offsets-that-go-backwards", conditions.rewound),
    Rule("WinnowScoreDrift", "warning", "other-labels-than-before", conditions.drifted),
    Rule("WinnowTruncated", "info", "truncated-texts", conditions.truncated),
    Rule("WinnowUnassigned", "info", "no-worker-has-a-partition", conditions.stands_by),
)


def judge(history: History, probe: Probe, drifts: Drifts) -> list[Finding]:
    """What is wrong, the worst first.

    Args:
        history: at least one snapshot, with the metrics of a worker in it.
        probe: what its probes say.
        drifts: how far scores have moved.
    """
    case = Case(history, probe, drifts)
    return sorted(_found(case), key=lambda one: ("critical", "warning", "info").index(one.severity))


def _found(case: Case) -> Iterator[Finding]:
    for rule in RULES:
        if (said := rule.condition(case)) is not None:
            severity = "warning" if said.early else rule.severity
            yield Finding(rule.alert, severity, said.title, said.sentence, f"{RUNBOOK}#{rule.anchor}")
