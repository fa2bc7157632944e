"""What was said of the latest texts: bounded, the longest unused goes first, and what is counted is what it takes."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from worker.pipeline.entities import Entity
from worker.pipeline.interpret import MultiLabel, Regression, SingleLabel
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Record, Rejection, Request, Result
from worker.pipeline.repeats import LARGEST_SHARE, Repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.interpret import OfTexts
    from worker.pipeline.ledger import Slot

ROOM = 100_000
texts = st.text(st.sampled_from("aé👋 "), min_size=1, max_size=20)


def request(text: str, id_: str = "1", truncated: bool = False) -> Request:
    return Request(id_, text, truncated)


def result(text: str, **more) -> Result:
    said = Classification("ham", 0.9, {"ham": 0.9, "spam": 0.1})
    return Result(request(text), said, more.get("truncated", False), more.get("tokens", 3), more.get("windows", 1))


def test_a_known_text_has_the_result_it_had_under_its_own_id():
    """All that the model and the tokenizer said of it, and nothing of the message that it came with."""
    repeats, said = Repeats(ROOM), result("a text", truncated=True, tokens=512, windows=3)
    repeats.keep(said)
    assert repeats.find(request("a text", "another")) == said._replace(request=request("a text", "another"))
    assert repeats.find(request("a tex")) is None
    assert (repeats.hits, repeats.misses) == (1, 0)


def test_a_text_that_was_cut_is_another_text():
    """Its beginning may be a whole text of another message, whose result says that nothing is missing."""
    repeats = Repeats(ROOM)
    repeats.keep(Result(request("begin", truncated=True), result("begin").classification, True, 3))
    assert repeats.find(request("begin")) is None
    repeats.keep(result("begin"))
    assert repeats.find(request("begin", truncated=True)) is None
    assert repeats.find(request("begin")) == result("begin")


def test_what_was_longest_not_asked_for_goes_first():
    """A text that is asked for stays, however old it is."""
    repeats = Repeats(ROOM)
    repeats.keep(result("asked for"))
    for number in range(1_000):
        repeats.keep(result(str(number)))
        assert repeats.find(request("asked for")) is not None
    assert repeats.find(request("0")) is None
    assert repeats.find(request("999")) is not None


def test_a_text_that_would_push_out_many_is_not_kept():
    """One that takes a large part of the room is classified each time."""
    repeats = Repeats(ROOM)
    repeats.keep(result("x" * (ROOM // LARGEST_SHARE)))
    assert (len(repeats), repeats.bytes) == (0, 0)


def test_a_text_that_is_kept_twice_counts_once():
    """As when it came again while it was still in a lane."""
    repeats = Repeats(ROOM)
    repeats.keep(result("twice"))
    once = repeats.bytes
    repeats.keep(result("twice"))
    assert (len(repeats), repeats.bytes) == (1, once)


@given(st.lists(st.tuples(texts, st.booleans()), max_size=100))
def test_it_is_a_bounded_memory_of_the_latest(steps: list[tuple[str, bool]]):
    """Beside a list of texts by last use: those are kept that there is room for, and no others."""
    sizes: dict[str, int] = {}
    room = LARGEST_SHARE * weight("👋" * 20, sizes)
    # Nothing that takes more than its share is kept, so it is full to begin with.
    repeats, order = Repeats(room), [f"{number:05}" for number in range(2 * LARGEST_SHARE)]
    for text in order:
        repeats.keep(result(text))
    order = kept(order, room, sizes)
    assert len(order) == len(repeats)
    for text, asks in steps:
        if asks:
            assert (repeats.find(request(text)) is not None) == (text in order)
            order = [one for one in order if one != text] + [text] * (text in order)
        else:
            repeats.keep(result(text))
            order = kept(order if text in order else [*order, text], room, sizes)
        assert repeats.bytes == sum(weight(one, sizes) for one in order) <= room


def weight(text: str, sizes: dict[str, int]) -> int:
    if text not in sizes:
        alone = Repeats(1 << 20)
        alone.keep(result(text))
        sizes[text] = alone.bytes
    return sizes[text]


def kept(order: list[str], room: int, sizes: dict[str, int]) -> list[str]:
    """Of texts by last use, the latest that there is room for."""
    while sum(weight(text, sizes) for text in order) > room:
        order = order[1:]
    return order


ONE, MANY, VALUE = (
    SingleLabel(["ham", "spam"], 1.0, {}),
    MultiLabel([f"label {number}" for number in range(40)], 1.0, {}),
    Regression("stars"),
)


def of(task: OfTexts, labels: int) -> Callable[[float], Classification]:
    return lambda number: task(np.array([[number, *[0.5] * (labels - 1)]], np.float32))[0]


def entities(number: float) -> Classification:
    found = tuple(Entity("PER", number + i, f"word {number} {i}", int(1e4 * number), 10_000 + i) for i in range(10))
    return Classification(None, None, {}, entities=found)


@pytest.mark.parametrize("say", [of(ONE, 2), of(MANY, 40), of(VALUE, 1), entities])
def test_what_is_counted_is_what_it_takes(say: Callable[[float], Classification]):
    """Never less than the interpreter says that it takes, and not much more."""
    chance = random.Random(1)
    repeats = Repeats(1 << 30)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2_000):
            text = "".join(chr(chance.randrange(97, 123)) for _ in range(100))
            repeats.keep(Result(Request(str(number), text, False), say(chance.random()), False, 300 + number))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken <= repeats.bytes <= 1.5 * taken


FAILED = Rejection("infer", "model-error", "The model failed.", "RuntimeError")


@pytest.fixture
def slot() -> Callable[..., Slot]:
    """`slot(partition=0)`: the next one of a partition."""
    ledger, offsets = Ledger(), iter(range(1_000))

    def opened(partition: int = 0) -> Slot:
        return ledger.open(Record("in", partition, next(offsets), None, b"{}", [], None), 0.0)

    opened.drop = lambda partition: ledger.drop([("in", partition)])  # type: ignore[attr-defined]
    return opened


def test_a_text_in_work_is_waited_for(slot):
    """One classification answers all who asked meanwhile, each under its own id; those who ask later find it kept."""
    repeats, (first, second, third) = Repeats(ROOM), (slot(), slot(1), slot())
    assert not repeats.waits(first, request("a text", "1"))
    assert repeats.waits(second, request("a text", "2"))
    assert repeats.waits(third, request("a text", "3"))
    assert repeats.find(request("a text")) is None
    said = result("a text")
    assert repeats.answered(first, said) == [
        (second, said._replace(request=request("a text", "2"))),
        (third, said._replace(request=request("a text", "3"))),
    ]
    assert repeats.answered(first, said) == ()
    assert repeats.find(request("a text", "4")) == said._replace(request=request("a text", "4"))
    assert (repeats.hits, repeats.misses) == (3, 1)


def test_nobody_waits_for_a_text_that_was_cut(slot):
    """Nor does such a text wait: what it is the beginning of is not known."""
    repeats = Repeats(ROOM)
    assert not repeats.waits(slot(), request("begin", truncated=True))
    assert not repeats.waits(slot(), request("begin"))
    assert not repeats.waits(slot(), request("begin", truncated=True))
    assert (repeats.hits, repeats.misses) == (0, 3)


def test_a_failure_says_nothing_of_those_who_waited(slot):
    """They are to be classified themselves, once each, but for those whose partition has gone."""
    repeats, (first, second, gone) = Repeats(ROOM), (slot(), slot(), slot(1))
    asking = request("a text", "2")
    assert [repeats.waits(each, asking) for each in (first, second, gone)] == [False, True, True]
    slot.drop(1)
    assert repeats.answered(first, FAILED) == ()
    assert repeats.left(10) == [(second, asking, None)]
    assert repeats.left(10) == []
    assert (repeats.hits, repeats.misses, repeats.waiting) == (0, 2, 0)
    assert not repeats.waits(slot(), asking)


def test_those_who_are_left_are_taken_up_a_few_at_a_time(slot):
    """By then the first of them may have been classified, and answers the others."""
    repeats, asking = Repeats(ROOM), request("a text", "2")
    slots = [slot() for _ in range(5)]
    for each in slots:
        repeats.waits(each, asking)
    repeats.answered(slots[0], FAILED)
    assert [found for found, _, said in repeats.left(2) if said is None] == slots[1:3]
    assert repeats.waiting == 2
    repeats.keep(result("a text"))
    answer = result("a text")._replace(request=asking)
    assert repeats.left(2) == [(slots[3], asking, answer), (slots[4], asking, answer)]
    assert (repeats.hits, repeats.misses) == (2, 3)


def test_nobody_waits_for_what_was_dropped(slot):
    """A partition goes with its text in work: those of others that waited are to be classified themselves."""
    repeats, (gone, second, other) = Repeats(ROOM), (slot(1), slot(), slot())
    repeats.waits(gone, request("a text"))
    repeats.waits(second, request("a text", "2"))
    repeats.waits(other, request("another"))
    slot.drop(1)
    repeats.dropped()
    assert repeats.left(10) == [(second, request("a text", "2"), None)]
    assert repeats.waits(slot(), request("another"))
    assert not repeats.waits(slot(), request("a text"))
    assert repeats.answered(gone, result("a text")) == (), "the answer that comes too late is kept, and no more"
    assert repeats.find(request("a text")) is not None
