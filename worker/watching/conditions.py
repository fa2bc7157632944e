"""When a worker is not well: the conditions of the alerts, for one worker, without their waiting time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from worker.watching import figures
from worker.watching.history import DELIVERED
from worker.watching.words import duration, number, plural, share

if TYPE_CHECKING:
    from worker.watching.drift import Drifts
    from worker.watching.history import History
    from worker.watching.snapshot import Between, Snapshot

STALLS = 30.0
"""Seconds without an acknowledgement after which it is worth a look, before the alert's own time."""
NO_PROGRESS = 300.0
STUCK = 300.0
BEHIND = 600.0
"""Seconds that the lag would take at the present rate."""
GROWS_FOR = 60.0
"""Seconds that must have been watched before a lag counts as growing."""
NOT_READY = 300.0
PAUSED = IDLE = 0.5
MOVES = 3
"""Rebalances in ten minutes; the alert wants one in each ten minutes of half an hour."""
ABORTED = 0.05
MEMORY = 0.9
DEAD_SHARE, DEAD_COUNT = 0.02, 5
LATE, LATE_COUNT = 5.0, 30
DRIFT = 0.2
TRUNCATED, TRUNCATED_COUNT = 0.1, 25


class Probe(NamedTuple):
    """What a worker's probes say."""

    alive: bool
    ready: bool
    obstacle: str
    """Why it is not ready; means nothing where it is."""
    partitions: int


class Case(NamedTuple):
    """What a rule looks at."""

    history: History
    probe: Probe
    drifts: Drifts

    @property
    def now(self) -> Snapshot:
        return self.history.over(0).later

    def value(self, name: str) -> float:
        return self.now.value(name) or 0.0

    def last(self, seconds: float) -> Between | None:
        """What happened in about so many seconds, or as long as somebody has looked.

        None where only the figures of a much longer time are known.
        """
        between = self.history.over(seconds)
        known = between.seconds
        if known is None or (between.earlier is None and known > 1.5 * seconds):
            return None
        return between


class Said(NamedTuple):
    """What a rule says where it holds."""

    title: str
    sentence: str
    early: bool = False
    """Whether it holds, but not yet as its alert has it: then it is no more than a warning."""


def dead_loop(case: Case) -> Said | None:
    if case.probe.alive:
        return None
    return Said(
        "The loop stands still.", "The poll thread has not turned for a while; the liveness probe ends the worker."
    )


def no_broker(case: Case) -> Said | None:
    if case.now.value("winnow_broker_connected") != 0:
        return None
    return Said(
        "No broker is there.", "The worker reaches no Kafka broker. It waits, commits nothing, and goes on by itself."
    )


def not_ready(case: Case) -> Said | None:
    started = case.now.started
    uptime = 0.0 if started is None else case.now.at - started
    if case.probe.ready or not case.probe.alive or no_broker(case) or uptime < NOT_READY:
        return None
    return Said("It is not ready.", f"Not ready: {case.probe.obstacle}. The process runs since {duration(uptime)}.")


def _stalled(case: Case) -> float:
    """Seconds since the last acknowledgement, or since the start."""
    return case.now.at - case.value("winnow_last_progress_timestamp_seconds")


def no_progress(case: Case) -> Said | None:
    waiting, stalled = case.value("winnow_lag_messages"), _stalled(case)
    if stalled < STALLS or not waiting or not case.value("winnow_partitions_assigned") or no_broker(case):
        return None
    between = case.last(STALLS)
    if between is not None and between.count(DELIVERED) + between.count("winnow_tombstones_total"):
        return None
    said = f"{plural(waiting, 'message')} wait, and the last acknowledgement came {duration(stalled)} ago."
    return Said("Messages wait and nothing is acknowledged.", said, stalled < NO_PROGRESS)


def stuck(case: Case) -> Said | None:
    ages = case.now.by("winnow_in_flight_seconds", "topic", "partition")
    old = {where: age for where, age in ages.items() if age > STUCK}
    if not old:
        return None
    topic, partition = max(old, key=lambda where: old[where])
    others = f" {plural(len(old) - 1, 'more partition')} likewise." if len(old) > 1 else ""
    ago = duration(old[topic, partition])
    said = f"In partition {partition} of {topic} a message was read {ago} ago and has no answer yet.{others}"
    return Said("A partition stands still.", said)


def lag_grows(case: Case) -> Said | None:
    between = case.last(900)
    if between is None or between.earlier is None or (between.seconds or 0.0) < GROWS_FOR or no_broker(case):
        return None
    lag, rate = figures.lag(between), between.rate(DELIVERED) or 0.0
    if lag.messages is None or not lag.growth or lag.growth < 0 or lag.messages <= BEHIND * rate:
        return None
    time = f"would take {duration(lag.messages / rate)} at the present rate" if rate else "are not worked off"
    said = f"{plural(lag.messages, 'message')} wait and {time}; {number(lag.growth)} more a second."
    return Said("More comes than goes.", said)


def not_committed(case: Case) -> Said | None:
    between = case.last(300)
    if between is None or (between.seconds or 0.0) < 240 or between.count("winnow_commits_total") or no_broker(case):
        return None
    waiting = case.value("winnow_lag_committed_messages") - case.value("winnow_lag_messages")
    if waiting <= 0:
        return None
    return Said(
        "No offset is committed.", f"{plural(waiting, 'message')} are done and not committed; no commit for minutes."
    )


def paused(case: Case) -> Said | None:
    between = case.last(180)
    paused = None if between is None else figures.load(between).paused_share
    if (paused or 0.0) <= PAUSED or case.value("winnow_lanes_busy") >= IDLE * case.value("winnow_lanes"):
        return None
    said = f"Partitions were paused {share(paused or 0.0)} of the time, with lanes idle: acknowledgements are missing."
    return Said("Paused although the model has time.", said)


def rebalances(case: Case) -> Said | None:
    between = case.last(600)
    moved = {} if between is None else between.by("winnow_rebalances_total", "kind")
    times = sum(count for (kind,), count in moved.items() if kind != "assigned")
    if times < MOVES:
        return None
    return Said(
        "The group keeps moving.", f"Partitions were taken from this worker {number(times)} times within minutes."
    )


def aborted(case: Case) -> Said | None:
    between = case.last(300)
    if between is None:
        return None
    aborted, commits = between.count("winnow_transactions_aborted_total"), between.count("winnow_commits_total")
    if not aborted or aborted / (aborted + commits) <= ABORTED:
        return None
    part = share(aborted / (aborted + commits))
    return Said("Transactions are aborted.", f"{part} of the transactions were aborted and written again.")


def memory(case: Case) -> Said | None:
    used, limit = case.value("process_resident_memory_bytes"), case.value("winnow_memory_limit_bytes")
    if not limit or used / limit <= MEMORY:
        return None
    return Said(
        "Memory is nearly used up.", f"It has {share(used / limit)} of what it may have; beyond, the kernel ends it."
    )


def dead_letters(case: Case) -> Said | None:
    between = case.last(300)
    if between is None:
        return None
    consumed = between.count("winnow_consumed_total")
    found = [
        one
        for one in figures.dead_letters(between).reasons
        if one.count > DEAD_COUNT and consumed and one.count / consumed > DEAD_SHARE
    ]
    if not found:
        return None
    parts = (f"{share(min(1.0, one.count / consumed))} {one.reason} ({one.stage})" for one in found[:3])
    return Said("Many messages are refused.", f"Of what is read become dead letters: {', '.join(parts)}.")


def late(case: Case) -> Said | None:
    between = case.last(180)
    told = None if between is None else between.histogram("winnow_end_to_end_seconds")
    p99 = None if told is None or told.count <= LATE_COUNT else told.quantile(0.99)
    if p99 is None or p99.value <= LATE:
        return None
    time = f"longer than {duration(p99.value)}" if p99.beyond else f"{duration(p99.value)} or longer"
    return Said("Results come late.", f"One message of a hundred waits {time} for its result.")


def reset(case: Case) -> Said | None:
    between = case.last(900)
    times = 0.0 if between is None else between.count("winnow_offset_resets_total")
    if not times:
        return None
    return Said(
        "Messages were lost to retention.",
        f"What was to be read next was not stored any more, {plural(times, 'time')}.",
    )


def rewound(case: Case) -> Said | None:
    between = case.last(900)
    times = 0.0 if between is None else between.count("winnow_rewinds_total")
    if not times:
        return None
    return Said(
        "Offsets went backwards.", f"{plural(times, 'time')} a partition went back; its messages are classified again."
    )


def drifted(case: Case) -> Said | None:
    moved = [one for one in case.drifts.labels if one.enough and one.distance > DRIFT]
    if not moved:
        return None
    names = ", ".join(f"{one.label} ({share(one.distance)} lie elsewhere)" for one in moved[:3])
    others = f" and {plural(len(moved) - 3, 'more label')}" if len(moved) > 3 else ""
    return Said("Scores are not what they were.", f"They differ from the bundle's reference texts: {names}{others}.")


def truncated(case: Case) -> Said | None:
    between = case.last(900)
    if between is None or (told := between.count(DELIVERED)) <= TRUNCATED_COUNT:
        return None
    cut = between.count("winnow_truncated_total") / told
    return Said("Many texts are cut.", f"{share(cut)} are longer than the model reads.") if cut > TRUNCATED else None


def stands_by(case: Case) -> Said | None:
    if not case.probe.ready or case.value("winnow_partitions_assigned"):
        return None
    return Said(
        "It stands by.", "It has no partitions: others of its group have them all, or the group has just moved."
    )
