"""The loop over memory: texts that were classified before are answered without tokenizer and model."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.kit import StagedClassifier, StubClassifier, TickingClock, bench, in_windows
from tests.unit.loops import P0, P1, Heard, inline, message, offset, turns
from worker.memory import MemoryLog, MemoryTransactions
from worker.pipeline.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit import Bench
    from worker.pipeline.messages import Outgoing

ROOM = 1 << 20
TEXTS = [
    "a",
    "b c",
    "poison",
    "words " * 100,
    "UNTOKENIZABLE",
    "NOTHING",
    "x" * 3_000,
    *(f"text {n}" for n in range(9)),
]


def failing(texts: list[str]) -> None:
    if any("poison" in text for text in texts):
        raise RuntimeError


def log_of(texts: list[str]) -> MemoryLog:
    log = MemoryLog()
    for number, text in enumerate(texts):
        log.append("in", number % 2, message(text))
    return log


def written(texts: list[str], repeats: Repeats | None, model: StubClassifier, exactly_once: bool) -> list[Outgoing]:
    """What becomes of these texts, by partition and offset."""
    log = log_of(texts)
    transactions = MemoryTransactions(log) if exactly_once else None
    on = bench(
        model, inline=True, clock=TickingClock(), log=log, transactions=transactions, windows=in_windows(),
        repeats=repeats,
    )  # fmt: skip
    on.source.assign(P0, P1)
    on.turn_until(lambda: on.log.committed == {P0: len(log.records[P0]), P1: len(log.records[P1])})
    sent = on.sink.sent if transactions is None else transactions.visible
    return sorted(sent, key=lambda one: (one.source, offset(one)))


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize(
    "kind", [StubClassifier, lambda before: StagedClassifier(lambda text: len(text) % 2 > 0, before)]
)
def test_what_is_kept_is_what_the_model_would_say_to_the_byte(kind: Callable, exactly_once: bool):
    """Labels, scores, windows, layers, cut texts and dead letters: the output is that of a worker without a memory."""
    chance = random.Random(7)
    texts = [chance.choice(TEXTS) for _ in range(600)]
    forgetful, knowing = kind(failing), kind(failing)
    repeats = Repeats(ROOM)
    assert written(texts, repeats, knowing, exactly_once) == written(texts, None, forgetful, exactly_once)
    assert repeats.hits > 200
    assert sum(knowing.runs) < sum(forgetful.runs)


def test_a_small_memory_changes_nothing_but_the_work():
    """What had to be forgotten is classified again, and says the same."""
    texts = [f"text {number % 50}" for number in range(500)]
    repeats = Repeats(64 * 700)
    assert written(texts, repeats, StubClassifier(), False) == written(texts, None, StubClassifier(), False)
    assert 0 < repeats.bytes <= 64 * 700


def on_one(model: StubClassifier, **more) -> Bench:
    on = bench(model, inline=True, repeats=Repeats(ROOM), **more)
    on.source.assign(P0)
    return on


def test_a_repeat_costs_neither_tokenizer_nor_model():
    """It has its result in the turn in which it came."""
    heard, model = Heard(), StubClassifier()
    on = on_one(model, observer=heard)
    on.log.append("in", 0, message("a text"))
    on.turn_until(lambda: on.log.committed == {P0: 1})
    for _ in range(5):
        on.log.append("in", 0, message("a text"))
    turns(on, 1)
    assert len(on.sink.results) == 6
    assert model.runs == [1]
    assert len(heard.calls["tokenized"]) == 1
    assert heard.calls["cache"][-1][:2] == (5, 1)


def test_a_repeat_waits_for_those_before_it():
    """A result that is there at once does not overtake a message that still runs."""
    on = on_one(StubClassifier())
    on.log.append("in", 0, message("known"))
    on.turn_until(lambda: on.log.committed == {P0: 1})
    inline(on).held = True
    for text in ("new", "known"):
        on.log.append("in", 0, message(text))
    turns(on)
    assert len(on.sink.sent) == 1
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 3})
    assert [offset(o) for o in on.sink.sent] == [0, 1, 2]


def test_a_message_that_the_model_failed_on_is_tried_again():
    """A rejection is not kept: the machine may have been to blame."""
    broken = True

    def before(texts: list[str]) -> None:
        if broken and "shaky" in texts:
            raise RuntimeError

    on = on_one(StubClassifier(before))
    for text in ("shaky", "firm"):
        on.log.append("in", 0, message(text))
    on.turn_until(lambda: on.log.committed == {P0: 2})
    broken = False
    on.log.append("in", 0, message("shaky"))
    on.turn_until(lambda: on.log.committed == {P0: 3})
    assert [offset(o) for o in on.sink.dead_letters] == [0]
    assert [offset(o) for o in on.sink.results] == [1, 2]


def test_a_burst_of_one_text_is_classified_once():
    """Those that come while the first is in work wait for its answer, whatever partition they are of."""
    model = StubClassifier()
    on = bench(model, inline=True, repeats=Repeats(ROOM))
    on.source.assign(P0, P1)
    inline(on).held = True
    for number in range(6):
        on.log.append("in", number % 2, message("a burst"))
    turns(on)
    assert not on.sink.sent
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 3, P1: 3})
    assert model.runs == [1]
    assert sorted((o.source, offset(o)) for o in on.sink.results) == [(p, n) for p in (P0, P1) for n in range(3)]


@pytest.mark.parametrize("how", ["lose", "revoke"])
def test_who_waits_for_a_partition_that_goes_is_classified_itself(how: str):
    """The text of a partition that stays is not forgotten with the one that it waited for."""
    model = StubClassifier()
    on = bench(model, inline=True, repeats=Repeats(ROOM), revoke=0.0)
    on.source.assign(P0, P1)
    inline(on).held = True
    for partition, text in (
        (1, "keeps a lane"),
        (1, "fills the queue"),
        (0, "a burst"),
        (1, "a burst"),
        (1, "a burst"),
    ):
        on.log.append("in", partition, message(text))
        turns(on, 1)
    getattr(on.source, how)(P0)
    turns(on, 2)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed.get(P1) == 4)
    assert [(o.source, offset(o)) for o in on.sink.results] == [(P1, n) for n in range(4)]


def test_what_the_model_fails_on_is_tried_for_each_that_waited():
    """A burst of a text that breaks the model is a dead letter each, and nothing waits for ever."""
    on = bench(StubClassifier(failing), inline=True, repeats=Repeats(ROOM))
    on.source.assign(P0)
    inline(on).held = True
    for text in ("poison", "poison", "fine", "poison", "UNTOKENIZABLE", "UNTOKENIZABLE"):
        on.log.append("in", 0, message(text))
    turns(on)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 6})
    assert [offset(o) for o in on.sink.dead_letters] == [0, 1, 3, 4, 5]
    assert [offset(o) for o in on.sink.results] == [2]
