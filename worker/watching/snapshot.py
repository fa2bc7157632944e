"""The samples of a worker's metrics at a moment, and what happened between two moments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from worker.watching.histogram import Histogram
from worker.watching.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names; values as they may be shown."""
PREFIXES = ("winnow_", "process_")
GROWS = ("_total", "_bucket", "_count")
"""How samples end that fall only when the process is another one."""
STARTED = "process_start_time_seconds"
WINNOWS = "winnow_consumed_total"
"""Every worker has it from the moment at which its model is open."""


class Sample(Protocol):
    """As prometheus_client has them."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...


class Family(Protocol):
    """Samples of one metric: what a registry collects, and what the parser of its text gives."""

    @property
    def samples(self) -> Sequence[Sample]: ...


@dataclass(frozen=True)
class Snapshot:
    """Samples by name and labels, at a time in seconds since the epoch."""

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def of(cls, families: Iterable[Family], at: float, known: dict[Labels, Labels] | None = None) -> Snapshot:
        """What belongs to the worker, of all that there is.

        Args:
            families: the metrics.
            at: seconds since the epoch.
            known: labels of snapshots that are kept, as they came and as they are shown, so that equal ones take room
                once; it is added to.
        """
        known = {} if known is None else known
        found: dict[str, dict[Labels, float]] = defaultdict(dict)
        for family in families:
            for sample in family.samples:
                if sample.name.startswith(PREFIXES) and not sample.name.endswith("_created"):
                    labels = tuple(sorted(sample.labels.items()))
                    if labels not in known:
                        known[labels] = tuple((name, shown(value)) for name, value in labels)
                    found[sample.name][known[labels]] = sample.value
        return cls(at, dict(found))

    @property
    def complete(self) -> bool:
        """Whether the metrics of a worker are there, and not only those of its process."""
        return WINNOWS in self.samples

    @property
    def started(self) -> float | None:
        """When the process began, in seconds since the epoch, where the machine tells."""
        return self.value(STARTED)

    def value(self, name: str) -> float | None:
        """A metric without labels, or the sum of its series; None where there is none."""
        series = self.samples.get(name)
        return sum(series.values()) if series else None

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """A metric by some of its labels; what differs in others is added up."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for key, value in self.samples.get(name, {}).items():
            named = dict(key)
            found[tuple(named.get(label, "") for label in labels)] += value
        return dict(found)

    def follows(self, earlier: Snapshot) -> bool:
        """Whether it is later, and of the same process: nothing has fallen that only grows."""
        if self.at <= earlier.at or self.started != earlier.started:
            return False
        for name, series in earlier.samples.items():
            if name.endswith(GROWS):
                later = self.samples.get(name, {})
                if any(later.get(labels, 0.0) < value for labels, value in series.items()):
                    return False
        return True


@dataclass(frozen=True)
class Between:
    """What happened between two snapshots of the same process, or since it began."""

    earlier: Snapshot | None
    """None: since the process began."""
    later: Snapshot

    @property
    def seconds(self) -> float | None:
        """How long that was; None where it is not known when the process began."""
        began = self.later.started if self.earlier is None else self.earlier.at
        return None if began is None else max(0.0, self.later.at - began)

    def count(self, name: str) -> float:
        """By how much a counter grew, all its series together."""
        return sum(self.by(name).values())

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """By how much the series of a counter grew, by some of its labels."""
        later = self.later.by(name, *labels)
        earlier = {} if self.earlier is None else self.earlier.by(name, *labels)
        return {key: value - earlier.get(key, 0.0) for key, value in later.items()}

    def rate(self, name: str) -> float | None:
        """The same a second."""
        return self.count(name) / self.seconds if self.seconds else None

    def histogram(self, name: str) -> Histogram:
        """What a histogram without labels was told."""
        return self.histograms(name).get((), Histogram())

    def histograms(self, name: str, *labels: str) -> dict[tuple[str, ...], Histogram]:
        """What a histogram was told, by some of its labels."""
        buckets: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
        for (*key, bound), value in self.by(f"{name}_bucket", *labels, "le").items():
            buckets[tuple(key)].append((float(bound), value))
        sums = self.by(f"{name}_sum", *labels)
        return {key: Histogram.of(found, sums.get(key, 0.0)) for key, found in buckets.items()}
