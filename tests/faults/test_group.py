"""Faults 9 to 11: groups that grow and shrink, that take away what is at work, and members with one name."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.size import pick, protocols
from worker.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

OWNED_WITHIN = 30.0


@pytest.mark.parametrize("protocol", protocols("consumer"))
def test_one_to_four_to_one(row, stage, protocol):
    """Under load three workers join and leave, half of them killed: every partition is soon owned, nothing is lost."""
    cycles = pick(reduced=1, full=10)
    figures = row(9, "1 → 4 → 1 workers under load", protocol=protocol)
    play = stage(figures, partitions=8)
    first = play.worker("--slow", "10")
    play.feeder.begin(rate=400)
    for _ in range(cycles):
        joining = [play.worker("--slow", "10", wait=False) for _ in range(3)]
        for worker in joining:
            worker.wait_ready()
        began = time.monotonic()
        four = [first, *joining]
        first.until(lambda: [worker.partitions for worker in four] == [2] * 4)  # noqa: B023
        owned = time.monotonic() - began
        joining.pop().kill()
        at = time.time()
        for worker in joining:
            assert worker.terminate() == 0, worker.said
        first.until(lambda: first.partitions == play.partitions)
        owned = max(owned, time.time() - at)
        assert owned <= OWNED_WITHIN
        play.recovered(at)
        figures.runs += 1
    play.feeder.end()
    play.all_seen()
    assert first.terminate() == 0
    play.settle()


@pytest.mark.parametrize("protocol", protocols("classic"))
def test_revoked_with_a_batch_in_flight(row, stage, tmp_path, protocol):
    """What a revoke took away unfinished is never committed by the one who had it."""
    revokes = pick(reduced=3, full=100)
    figures = row(10, "revoke with a batch in flight", protocol=protocol)
    play = stage(figures, shutdown__revoke_ms=50, batching__max_messages=4)
    play.feeder.begin(rate=15)  # no more than it can do
    journal = tmp_path / "journal"
    staying = play.worker("--slow", "400", "--journal", str(journal))
    while figures.runs < revokes:
        before = staying.metric("winnow_given_up_total")
        joining = play.worker("--slow", "400")
        staying.until(lambda: staying.partitions == play.partitions // 2)
        # Others are revoked from it, with nothing in flight to lose.
        figures.runs += staying.metric("winnow_given_up_total") > before
        assert joining.terminate() == 0, joining.said
        staying.until(lambda: staying.partitions == play.partitions)
        assert len(play.workers) < 5 * revokes, "hardly a revoke meets a batch in flight"
    play.feeder.end()
    play.all_seen()
    assert staying.terminate() == 0
    assert committed_without_owning(journal) == []
    play.settle()


def committed_without_owning(journal: Path) -> list[dict]:
    """Commits of partitions that the worker did not have then."""
    owned: set[int] = set()
    wrong = []
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        partitions = {partition for _, partition, _ in event["partitions"]}
        if event["what"] == "on_assign begins":
            owned |= partitions
        elif event["what"] in ("on_revoke", "on_lost begins"):
            owned -= partitions
        elif event["what"] == "commit" and not partitions <= owned:
            wrong.append(event)
    return wrong


@pytest.mark.parametrize("protocol", protocols("classic", "consumer"))
def test_two_members_with_one_name(row, stage, protocol):
    """Of two workers with one `group_instance_id` one goes on; the other ends, with a code and a sentence."""
    twice = pick(reduced=1, full=5)
    figures = row(11, "duplicate group.instance.id", protocol=protocol)
    play = stage(figures, kafka__group_instance_id="the-same")
    one = play.worker("--slow", "10")
    play.feeder.begin(rate=200)
    for _ in range(twice):
        one.until(lambda: one.metric("winnow_delivered_total") > 0)  # noqa: B023
        other = play.worker("--slow", "10", wait=False)
        one.until(lambda: not (one.running and other.running) or other.process.poll() is not None)  # noqa: B023
        fenced, one = (one, other) if other.running else (other, one)
        assert fenced.ended() == BrokerError.exit_code, fenced.said
        assert "kafka.group_instance_id" in fenced.said
        figures.runs += 1
    one.wait_ready()
    play.feeder.end()
    play.all_seen()
    assert one.terminate() == 0
    play.settle()
