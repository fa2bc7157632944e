"""Fault 23: runs of the model that raise or hang, and lanes that die."""

from __future__ import annotations

import orjson
import pytest

from tests.faults import reading
from tests.faults.size import pick
from tests.faults.stub_worker import HANGS, KILLS_ITS_LANE, RAISES
from worker.errors import StageError

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

NEIGHBOURS = 20


def saying(number: int, what: str) -> bytes:
    return orjson.dumps({"id": f"culprit-{number}", "text": f"number {number}: {what}"})


@pytest.mark.parametrize(("what", "name"), [(RAISES, "throws"), (HANGS, "hangs")])
def test_runs_that_fail(row, stage, what, name):
    """The culprit becomes a dead letter, once; the others of its batch have results."""
    culprits = pick(reduced=3, full=20)
    figures = row(23, f"run of the model {name}")
    play = stage(figures, model__run_timeout_ms=300)
    for number in range(culprits):
        play.feeder.send(saying(number, what))
        play.feeder.feed(NEIGHBOURS)
    worker = play.worker()
    play.all_seen()
    assert worker.terminate() == 0
    figures.runs = culprits
    assert play.settle().doubled == 0
    letters = list(reading.messages(play.broker.bootstrap_servers, {play.dead: 1}))
    assert sorted(orjson.loads(letter.value())["id"] for letter in letters) == sorted(
        f"culprit-{number}" for number in range(culprits)
    )
    assert {dict(letter.headers())["winnow.errors.reason"] for letter in letters} == {b"model-error"}


def test_lanes_that_die(row, stage):
    """Without one of its lanes the worker ends, with a code and a sentence; nothing unfinished was committed."""
    deaths = pick(reduced=2, full=20)
    figures = row(23, "lane thread dies")
    play = stage(figures)
    for death in range(deaths):
        play.feeder.feed(NEIGHBOURS)
        play.feeder.send(saying(death, KILLS_ITS_LANE))
        play.feeder.feed(NEIGHBOURS)
        mortal = play.worker("--slow", "5", env={"STUB_LANES_DIE": "1"}, wait=False)
        assert mortal.ended() == StageError.exit_code, mortal.said
        assert "lane died" in mortal.said
        figures.runs += 1
        successor = play.worker()
        play.all_seen()
        assert successor.terminate() == 0
    play.settle()
