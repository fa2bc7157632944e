"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.audit.accounts import SHOWN, Figures, Partition

if TYPE_CHECKING:
    from worker.pipeline.encode import ModelIdentity

MOST_EXAMPLES = 10
FAULTS = ("missing", "differing", "out_of_order", "unknown", "wrong")
"""Figures that must be 0, whatever the settings promise."""
SAID = {
    "missing": "without an answer",
    "doubled": "answered more than once",
    "differing": "answered differently",
    "out_of_order": "out of order",
    "unknown": "answered that never were",
    "wrong": "answered as settings and bundle do not answer today",
    "lost_tombstones": "tombstones that were not forwarded",
}


@dataclass(frozen=True)
class Report:
    """The figures of each input partition, and what belongs to none."""

    partitions: tuple[Partition, ...]
    group: str | None
    """Whose committed offsets say what has been processed; None where all messages had to be."""
    committed: bool
    """Whether the group has committed anything; where it has not, all messages had to be processed, too."""
    doubles_allowed: bool
    """Whether answers may come more than once, as long as they are equal."""
    bundle: ModelIdentity | None = None
    """That answers were compared with; None where they were not."""
    bundles: dict[str, int] = field(default_factory=dict)
    """Results by the digest of their bundle, copies included; of audited messages alone."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Dead letters by reason, likewise."""
    forwarded_due: int = 0
    """Tombstones that had to be forwarded."""
    forwarded: int = 0
    """Tombstones on the output."""
    elsewhere: int = 0
    """Answers to messages of topics that are not audited."""
    foreign: int = 0
    """Records of the output and of the dead letters that are none of Winnow's."""
    held_back: dict[str, int] = field(default_factory=dict)
    """By `topic/partition`, offsets that a transaction still open keeps from readers."""
    begins: dict[str, int] = field(default_factory=dict)
    """By `topic/partition` of output and dead letters, the first stored offset where it is not 0: what was before is
    gone, and the messages it answered may count as missing."""

    @property
    def total(self) -> Figures:
        return sum((one.figures for one in self.partitions), Figures())

    @property
    def lost_tombstones(self) -> int:
        return max(0, self.forwarded_due - self.forwarded)

    @property
    def faults(self) -> dict[str, int]:
        """What should not be, by name; empty where all is well."""
        total = self.total
        found = {name: int(getattr(total, name)) for name in FAULTS} | {"lost_tombstones": self.lost_tombstones}
        if not self.doubles_allowed:
            found["doubled"] = total.doubled
        return {name: count for name, count in found.items() if count}

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def examples(self) -> dict[str, list[str]]:
        """By the name of a figure, the first few messages as `topic/partition/offset`."""
        found: dict[str, list[str]] = {}
        for one in self.partitions:
            for name, offsets in one.examples.items():
                found.setdefault(name, []).extend(f"{one.topic}/{one.partition}/{offset}" for offset in offsets)
        return {name: found[name][:MOST_EXAMPLES] for name in SHOWN if name in found}

    def verdict(self) -> str:
        """In one sentence."""
        if self.ok:
            return "All is well."
        said = [f"{count} {SAID[name]}" for name, count in self.faults.items()]
        return f"The audit found messages that should not be: {', '.join(said)}."

    def document(self) -> dict[str, Any]:
        """For programs."""
        bundle = None if self.bundle is None else {"name": self.bundle.name, "digest": self.bundle.digest}
        return {
            "ok": self.ok,
            "faults": self.faults,
            "total": vars(self.total),
            "partitions": [_document(one) for one in self.partitions],
            "examples": self.examples,
            "group": self.group,
            "committed": self.committed,
            "doubles_allowed": self.doubles_allowed,
            "bundle": bundle,
            "bundles": self.bundles,
            "reasons": self.reasons,
            "tombstones": {"due": self.forwarded_due, "forwarded": self.forwarded},
            "elsewhere": self.elsewhere,
            "foreign": self.foreign,
            "held_back": self.held_back,
            "begins": self.begins,
        }


def _document(one: Partition) -> dict[str, Any]:
    return {
        "topic": one.topic,
        "partition": one.partition,
        "offsets": one.bounds._asdict(),
        **vars(one.figures),
    }
