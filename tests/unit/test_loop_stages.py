"""The loop over memory: a model in two stages, of which the first is not sure of every text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kit import ALL, FIRST, FakeClock, StagedClassifier, StubClassifier, TickingClock, bench, in_windows, says
from tests.unit.loops import P0, P1, Heard, fill, inline, message, offset, reason, turns
from worker.loop import POLL_LIMIT
from worker.memory import MemoryLog, MemoryTransactions

if TYPE_CHECKING:
    from worker.pipeline.messages import Outgoing


def odd(text: str) -> bool:
    """Of messages as `fill` writes them: those that the first stage is not sure of."""
    return int(text.split()[-1]) % 2 == 1


def layer(outgoing: Outgoing) -> int:
    return json.loads(outgoing.value or b"")["layer"]


def test_texts_go_as_far_as_they_have_to_and_come_out_in_order():
    """Each has the model's answer, at the layer where it was there, in the order of the messages."""
    model = StagedClassifier(odd)
    on = bench(model, inline=True)
    fill(on.log, 100)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 100})
    assert [offset(o) for o in on.sink.sent] == list(range(100))
    assert [layer(o) for o in on.sink.sent] == [FIRST, ALL] * 50
    for number, sent in enumerate(on.sink.sent):
        assert json.loads(sent.value or b"")["label"] == says(f"message {number}").label
    assert {"early", "rest"} == set(model.stages)


def test_texts_that_go_on_are_gathered():
    """What the batches of the first stage leave over goes on together, not each by itself."""
    model = StagedClassifier(lambda text: int(text.split()[-1]) % 8 == 0)
    on = bench(model, inline=True)
    fill(on.log, 200)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 200})
    runs = [size for size, stage in zip(model.runs, model.stages, strict=True) if stage == "rest"]
    assert sum(runs) == 25
    assert len(runs) <= 10


@pytest.mark.parametrize("stage", ["early", "rest"])
def test_a_culprit_of_either_stage_is_one_dead_letter(stage: str):
    """Whatever the stage in which a message fails, it alone is diverted, in its place."""

    def before(texts: list[str]) -> None:
        if model.stages[-1] == stage and "message 5" in texts:
            raise RuntimeError

    model = StagedClassifier(before=before)
    on = bench(model, inline=True)
    fill(on.log, 20)
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 20})
    assert [offset(o) for o in on.sink.sent] == list(range(20))
    assert [(offset(o), reason(o)) for o in on.sink.dead_letters] == [(5, "model-error")]


def test_a_drain_finishes_what_has_to_go_on():
    """What was taken in goes through both stages before the worker leaves."""
    on = bench(StagedClassifier(), inline=True, clock=TickingClock())
    fill(on.log, 50)
    on.source.assign(P0)
    turns(on, 1)
    on.loop.run(lambda: True)
    assert on.log.committed == {P0: 50}
    assert [layer(o) for o in on.sink.sent] == [ALL] * 50


@pytest.mark.parametrize("how", ["revoke", "lose"])
@pytest.mark.parametrize("held", [False, True])
def test_states_of_partitions_that_have_gone_are_forgotten(how: str, held: bool):
    """Whether they wait or come back from a lane later: nothing of them is kept, written or run any further."""
    ran: list[str] = []
    model = StagedClassifier(before=lambda texts: ran.extend(texts if model.stages[-1] == "rest" else ()))
    on = bench(model, inline=True, clock=TickingClock(), revoke=0.0)
    fill(on.log, 30, 0, "gone")
    on.source.assign(P0)
    inline(on).held = held
    turns(on, 2)
    assert not on.sink.sent
    getattr(on.source, how)(P0)
    in_lanes = 0 if held else 8 * on.lanes.pending
    on.loop.turn()
    inline(on).held = False
    fill(on.log, 30, 1)
    on.source.assign(P1)
    on.turn_until(lambda: on.log.committed == {P1: 30})
    assert {o.source for o in on.sink.sent} == {P1}
    assert on.batcher.bytes == len(on.batcher) == 0
    assert sum(text.startswith("gone") for text in ran) <= in_lanes


def test_states_that_wait_count_as_bytes_in_flight():
    """Where the states of texts that have to go on fill the bound, nothing more is taken in until they went."""
    on = bench(StagedClassifier(), inline=True, in_flight=100_000, bytes_in_flight=20_000)
    value = message("w " * 40)
    for _ in range(400):
        on.log.append("in", 0, value)
    on.source.assign(P0)
    most = 0
    while on.log.committed != {P0: 400}:
        on.loop.turn()
        most = max(most, on.ledger.bytes_in_flight + on.batcher.bytes)
    assert most < 20_000 + POLL_LIMIT * (len(value) + 42 * 3 * 4)


def test_nothing_is_taken_in_while_states_fill_the_bound():
    """They count as what is held: messages of a few bytes may have large states."""
    heard = Heard()
    on = bench(StagedClassifier(), inline=True, observer=heard, bytes_in_flight=10_000)
    fill(on.log, 5)
    on.source.assign(P0)
    on.batcher.bytes = 10_000
    turns(on)
    assert not heard.calls["consumed"]
    on.batcher.bytes = 9_999
    turns(on)
    assert heard.calls["consumed"] == [(5,)]


def test_what_comes_back_waits_for_company_anew():
    """Its first arrival is long ago under load: with that it would be overdue at once, and go on alone."""
    clock, came_back = FakeClock(), []
    on = bench(StagedClassifier(), inline=True, clock=clock)
    add = on.batcher.add
    on.batcher.add = lambda item: (came_back.append(item.arrived) if item.hidden is not None else None, add(item))  # type: ignore[method-assign]
    fill(on.log, 8)
    on.source.assign(P0)
    inline(on).held = True
    turns(on, 2)
    clock.advance(1.0)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 8})
    assert came_back == [clock()] * 8


def test_of_a_long_text_that_failed_nothing_goes_on():
    """Its outcome is known with the first window that fails: the states of the others are dropped."""

    def before(texts: list[str]) -> None:
        if model.stages[-1] == "rest" and any("words" in text for text in texts):
            raise RuntimeError

    model = StagedClassifier(before=before)
    windows = in_windows()
    on = bench(model, inline=True, clock=TickingClock(), windows=windows)
    on.log.append("in", 0, message("words " * 500))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 1})
    assert [reason(o) for o in on.sink.sent] == ["model-error"]
    ran = len([stage for stage in model.stages if stage == "rest"])
    turns(on, 50)
    assert len([stage for stage in model.stages if stage == "rest"]) == ran
    assert (windows.out, on.batcher.bytes, len(on.batcher)) == (0, 0, 0)


def test_windows_of_long_texts_go_through_all_layers():
    """Their scores are combined, so they are those that a model in one piece would give."""
    texts = ["words " * 100, "short", "words " * 57]
    sent = []
    for model in (StubClassifier(), StagedClassifier(lambda text: False)):
        windows = in_windows()
        on = bench(model, inline=True, clock=TickingClock(), windows=windows)
        for text in texts:
            on.log.append("in", 0, message(text))
        on.source.assign(P0)
        on.turn_until(lambda on=on: on.log.committed == {P0: 3})
        assert windows.out == 0
        sent.append([json.loads(o.value or b"") for o in on.sink.sent])
    plain, staged = sent
    assert staged[1].pop("layer") == FIRST
    assert staged == plain


@pytest.mark.parametrize("how", ["revoke", "lose"])
def test_windows_that_come_back_after_their_partition_has_gone_are_taken_back(how: str):
    """They are not fed to the second stage, and no longer count as out."""
    windows = in_windows(limit=4)
    on = bench(StagedClassifier(), inline=True, clock=TickingClock(), windows=windows, revoke=0.0)
    on.log.append("in", 0, message("words " * 300))
    on.source.assign(P0)
    inline(on).held = True
    turns(on, 2)
    getattr(on.source, how)(P0)
    on.loop.turn()
    inline(on).held = False
    turns(on)
    assert (windows.out, len(on.batcher), on.lanes.pending, on.sink.sent) == (0, 0, 0, [])


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_redelivered_message_gives_the_same_bytes(exactly_once: bool):
    """In whatever batches, in whatever order the lanes end, and however many there are."""
    seen = []
    for lanes, newest_first in ((1, False), (3, True)):
        log = MemoryLog()
        transactions = MemoryTransactions(log) if exactly_once else None
        on = bench(
            StagedClassifier(odd), inline=True, clock=TickingClock(), lanes=lanes, log=log, transactions=transactions
        )
        inline(on).newest_first = newest_first
        for number in range(60):
            on.log.append("in", 0, message("word " * (1 + number % 7) + str(number)))
        on.source.assign(P0)
        on.turn_until(lambda on=on: on.log.committed == {P0: 60})
        seen.append(transactions.visible if transactions is not None else on.sink.sent)
    assert seen[0] == seen[1]
