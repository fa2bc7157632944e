"""Where partitions stand of which nothing was read yet: of those the client knows neither position nor, often, end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer

    from worker.pipeline.messages import Partition

SECONDS = 0.2
"""How long the brokers are waited for: the poll thread asks. They answer in a millisecond or two."""
LEFT_OUT = 5
"""Questions that are not asked after one without an answer."""
_NOTHING = {"app_offset": 0}
EARLIEST, LATEST = -2, -1
"""In the place of a point in time, when brokers are asked for offsets."""


class Unread:
    """Asks the brokers, at most once a second: where each such partition begins once, where it ends each time."""

    def __init__(self, reset: str) -> None:
        """Make it; `reset` is the consumer's `auto.offset.reset`."""
        self._reset = LATEST if reset in ("latest", "largest", "end") else EARLIEST
        self._starts: dict[Partition, int] = {}
        self._left_out = 0

    def forget(self, partitions: Iterable[Partition]) -> None:
        """They belong to others now, who commit."""
        for partition in partitions:
            self._starts.pop(partition, None)

    def look(self, topics: Mapping[str, Any]) -> None:
        """The client's statistics, by topic.

        Offsets that were fetched and held no message, as the end of a transaction does, are no backlog.
        """
        for topic, number in self._starts:
            said = topics.get(topic, {}).get("partitions", {}).get(str(number), _NOTHING)
            if said["app_offset"] < 0 and said["fetchq_cnt"] == 0:
                self._starts[topic, number] = max(self._starts[topic, number], said["next_offset"])

    def starts(self, client: Consumer, partitions: set[Partition]) -> Mapping[Partition, int]:
        """The next offsets to be read: what the group has committed, else where it begins without."""
        self._starts = {p: start for p, start in self._starts.items() if p in partitions}
        unknown = partitions - self._starts.keys()
        if unknown:
            committed = self._asked(lambda: client.committed(_entries(unknown), timeout=SECONDS))
            if committed is not None:
                self._starts |= committed
                self._starts |= self._at(client, unknown - committed.keys(), self._reset)
        return dict(self._starts)

    def ends(self, client: Consumer, partitions: set[Partition]) -> Mapping[Partition, int]:
        """The next offsets to be written."""
        return self._at(client, partitions, LATEST)

    def _at(self, client: Consumer, partitions: set[Partition], when: int) -> Mapping[Partition, int]:
        if not partitions:
            return {}
        return self._asked(lambda: client.offsets_for_times(_entries(partitions, when), timeout=SECONDS)) or {}

    def _asked(self, call: Callable[[], list[TopicPartition]]) -> dict[Partition, int] | None:
        """Offsets of partitions that have one; None without an answer."""
        if self._left_out:
            self._left_out -= 1
            return None
        try:
            return {(each.topic, each.partition): each.offset for each in call() if each.offset >= 0}
        except KafkaException:
            self._left_out = LEFT_OUT
            return None


def _entries(partitions: set[Partition], offset: int | None = None) -> list[TopicPartition]:
    named = sorted(partitions)
    return [TopicPartition(t, n) if offset is None else TopicPartition(t, n, offset) for t, n in named]
