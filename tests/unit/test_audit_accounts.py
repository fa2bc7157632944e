"""What became of the messages of one partition, counted against a plain recount, and against workers that crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.audit.accounts import MOST_EXAMPLES, MOST_NAMES, PAGE, Account, Answer, Bounds, Figures, Names, Today

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.audit.accounts import Partition

END = 3 * PAGE
OFFSETS = [*range(10), PAGE - 1, PAGE, PAGE + 5, 2 * PAGE + 1]
RESULT = Answer(False, 11, "bundle")
LETTER = Answer(True, 22, "invalid-json")

offsets = st.sampled_from(OFFSETS)
answers = st.builds(Answer, st.booleans(), st.integers(0, 2), st.sampled_from(["one", "two"]))
places = st.lists(st.lists(st.tuples(offsets, answers), max_size=12), max_size=3)
"""Per output partition what it holds, in order."""


def account(processed: int = END, first: int = 0, stored: int = 0, compacted: bool = False) -> Account:
    return Account("in", 0, Bounds(stored, first, processed, END), Names(), compacted=compacted)


def closed(
    written: Iterable[Iterable[tuple[int, Answer]]], held: Mapping[int, bool], mine: Account | None = None
) -> Partition:
    """The account of what was written, per output partition, and of what the input holds: offset and whether due."""
    mine = mine or account()
    for place, records in enumerate(written):
        for offset, answer in records:
            mine.written(place, offset, answer)
    for offset, due in held.items():
        mine.stored(offset, due=due)
    return mine.close()


def in_order(*numbers: int, answer: Answer = RESULT) -> list[tuple[int, Answer]]:
    return [(number, answer) for number in numbers]


class Recount(NamedTuple):
    """The same figures, the slow way."""

    written: list[list[tuple[int, Answer]]]
    held: dict[int, bool]
    processed: int

    def copies(self, offset: int) -> list[Answer]:
        return [answer for records in self.written for at, answer in records if at == offset]

    def figures(self) -> Figures:
        known = {offset: self.copies(offset) for offset in OFFSETS}
        answered = {offset for offset, copies in known.items() if copies}
        open_ = {offset for offset, due in self.held.items() if due} - answered
        return Figures(
            messages=len(self.held),
            results=sum(any(not one.is_letter for one in known[offset]) for offset in self.held),
            dead_letters=sum(any(one.is_letter for one in known[offset]) for offset in self.held),
            skipped=sum(not due and offset not in answered for offset, due in self.held.items()),
            waiting=sum(offset >= self.processed for offset in open_),
            missing=sum(offset < self.processed for offset in open_),
            doubled=sum(len(copies) > 1 for copies in known.values()),
            copies=sum(max(0, len(copies) - 1) for copies in known.values()),
            differing=sum(any(differ(copies, n) for n in range(1, len(copies))) for copies in known.values()),
            out_of_order=len(self.late()),
            redeliveries=sum(map(redeliveries, self.written)),
            unknown=len(answered - self.held.keys()),
        )

    def late(self) -> set[int]:
        found = set()
        for records in self.written:
            numbers = [offset for offset, _ in records]
            found |= {at for n, at in enumerate(numbers) if at not in numbers[:n] and at < max(numbers[:n], default=-1)}
        return {at for at in found if sum(at in [offset for offset, _ in records] for records in self.written) == 1}


def differ(copies: list[Answer], number: int) -> bool:
    """A copy against the first: another kind than all before it, or other bytes where no other bundle explains it."""
    first, copy = copies[0], copies[number]
    if copy.is_letter not in {one.is_letter for one in copies[:number]}:
        return True
    return copy.digest != first.digest and (copy.is_letter or copy.name == first.name)


def redeliveries(records: list[tuple[int, Answer]]) -> int:
    numbers = [offset for offset, _ in records]
    return sum(
        at in numbers[:n] and at <= numbers[n - 1] and at <= max(numbers[:n]) for n, at in enumerate(numbers) if n
    )


@given(places, st.dictionaries(offsets, st.booleans()), st.sampled_from([0, 5, PAGE, END]))
def test_every_figure_is_what_a_plain_recount_says(
    written: list[list[tuple[int, Answer]]], held: dict[int, bool], processed: int
):
    """Whatever was written and whatever the input holds: the compact account equals the slow one."""
    found = closed(written, held, account(processed)).figures
    assert found == Recount(written, held, processed).figures()
    assert found.messages == found.skipped + found.waiting + found.missing + len(
        {offset for offset in held if any(offset == at for records in written for at, _ in records)}
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, Answer]]]]:
    """What a worker writes that is killed now and then: each time it goes on from what it had committed."""
    count = draw(st.integers(1, 30))
    kinds = draw(st.lists(st.sampled_from([RESULT, LETTER]), min_size=count, max_size=count))
    keys = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    written: list[list[tuple[int, Answer]]] = [[], [], []]
    committed = 0
    for _ in range(draw(st.integers(0, 4))):
        reached = draw(st.integers(committed, count))
        for offset in range(committed, reached):
            written[keys[offset]].append((offset, kinds[offset]))
        committed = draw(st.integers(committed, reached))
    for offset in range(committed, count):
        written[keys[offset]].append((offset, kinds[offset]))
    return count, written


@given(histories())
def test_a_worker_that_is_killed_loses_nothing_and_disorders_nothing(
    history: tuple[int, list[list[tuple[int, Answer]]]],
):
    """Redeliveries are doubles that do not differ, and neither disorder nor loss."""
    count, written = history
    found = closed(written, dict.fromkeys(range(count), True)).figures
    assert (found.missing, found.differing, found.out_of_order, found.unknown) == (0, 0, 0, 0)
    assert found.results + found.dead_letters == count
    assert found.copies == sum(map(len, written)) - count


@given(histories(), st.data())
def test_one_answer_less_is_one_message_missing(
    history: tuple[int, list[list[tuple[int, Answer]]]], data: st.DataObject
):
    """Take all copies of one message away: exactly it is missing, and named."""
    count, written = history
    gone = data.draw(st.integers(0, count - 1))
    left = [[(offset, answer) for offset, answer in records if offset != gone] for records in written]
    found = closed(left, dict.fromkeys(range(count), True))
    assert found.figures.missing == 1
    assert found.examples["missing"] == [gone]


@given(st.integers(2, 20), st.data())
def test_two_neighbours_that_change_places_are_out_of_order(count: int, data: st.DataObject):
    """Without any redelivery, a swap is seen, whatever follows."""
    at = data.draw(st.integers(0, count - 2))
    numbers = list(range(count))
    numbers[at], numbers[at + 1] = numbers[at + 1], numbers[at]
    found = closed([in_order(*numbers)], dict.fromkeys(range(count), True))
    assert found.figures.out_of_order == 1
    assert found.examples["out_of_order"] == [at]


def test_going_back_to_what_is_there_is_a_redelivery_and_to_what_is_not_is_disorder():
    """1 2 3, then 2 3 4: a redelivery. 1 3 2: disorder."""
    again = closed([in_order(1, 2, 3, 2, 3, 4)], dict.fromkeys(range(1, 5), True)).figures
    assert (again.redeliveries, again.out_of_order, again.doubled, again.copies) == (1, 0, 2, 2)
    late = closed([in_order(1, 3, 2)], dict.fromkeys(range(1, 4), True)).figures
    assert (late.redeliveries, late.out_of_order, late.doubled) == (0, 1, 0)


def test_a_message_without_a_key_may_be_written_again_elsewhere():
    """Its copies are in two output partitions: what looks like disorder in one of them is a redelivery."""
    found = closed([in_order(1, 3, 5), in_order(2, 4, 3, 6)], dict.fromkeys(range(1, 7), True)).figures
    assert (found.out_of_order, found.doubled) == (0, 1)


def test_each_output_partition_has_an_order_of_its_own():
    """Messages of one partition that are spread over several are judged within each."""
    assert closed([in_order(4, 5, 6), in_order(1, 2, 3)], dict.fromkeys(range(1, 7), True)).figures.out_of_order == 0


def test_copies_of_two_bundles_are_doubled_and_do_not_differ():
    """Between two deliveries a new bundle was rolled out; within one bundle other bytes are a difference."""
    other = Answer(False, 99, "other bundle")
    assert closed([[(1, RESULT), (1, other)]], {1: True}).figures.differing == 0
    assert closed([[(1, RESULT), (1, RESULT._replace(digest=99))]], {1: True}).figures.differing == 1
    assert closed([[(1, RESULT), (1, LETTER)]], {1: True}).figures.differing == 1


def test_what_lies_outside():
    """Before the stored ones: expired. Before the audited ones: nobody's business. Beyond the end: unknown."""
    mine = account(stored=5, first=10)
    found = closed([in_order(3, 7, 10, END, END + 1)], {10: True}, mine)
    assert (found.figures.expired, found.figures.unknown, found.figures.results) == (1, 2, 1)
    assert found.examples["unknown"] == [END, END + 1]


def test_what_the_input_lost_while_it_was_read_is_expired():
    """Retention went on: an answer without a message before the new beginning accuses nobody."""
    mine = account()
    mine.written(0, 3, RESULT)
    mine.written(0, 8, RESULT)
    mine.begins(5)
    found = mine.close().figures
    assert (found.expired, found.unknown) == (1, 1)


def test_gaps_of_a_compacted_input_prove_nothing():
    """Its brokers remove messages in between, so their answers are expired; elsewhere they are unknown."""
    assert closed([in_order(3)], {}, account(compacted=True)).figures.expired == 1
    assert closed([in_order(3)], {}).figures.unknown == 1


def test_gaps_without_an_answer_are_not_missing():
    """Offsets of compaction and of transaction markers hold no message."""
    assert closed([in_order(0, 4)], {0: True, 4: True}).figures.missing == 0


# Compared with today


def compared(answer: Answer, today: Today, bundle: str = "bundle") -> Figures:
    mine = account()
    mine.written(0, 1, answer)
    mine.stored(1, due=True)
    if mine.comparable(1, bundle):
        mine.compare(1, today, frozenset({"model-error"}))
    return mine.close().figures


@pytest.mark.parametrize(
    ("answer", "today", "figures"),
    [
        (RESULT, Today(11, None), {"checked": 1}),
        (RESULT, Today(12, None), {"checked": 1, "wrong": 1}),
        (RESULT, Today(None, "invalid-json"), {"checked": 1, "wrong": 1}),
        (RESULT, Today(None, "model-error"), {"checked": 1}),
        (RESULT, Today(None, None), {"checked": 1, "wrong": 1}),
        (LETTER, Today(None, "invalid-json"), {"checked": 1}),
        (LETTER, Today(None, "missing-field"), {"checked": 1, "wrong": 1}),
        (LETTER, Today(11, None), {"checked": 1, "wrong": 1}),
        (LETTER._replace(name="model-error"), Today(11, None), {"checked": 1, "curable": 1}),
        (LETTER._replace(name="model-error"), Today(None, "model-error"), {"checked": 1}),
        (RESULT._replace(name="another"), Today(11, None), {"other_bundle": 1}),
    ],
)
def test_answers_are_held_to_what_is_given_today(answer: Answer, today: Today, figures: dict[str, int]):
    """Bytes of results, reasons of dead letters; not what another bundle said, nor what may pass."""
    found = compared(answer, today)
    assert {name: getattr(found, name) for name in ("checked", "wrong", "curable", "other_bundle")} == {
        "checked": 0, "wrong": 0, "curable": 0, "other_bundle": 0, **figures,
    }  # fmt: skip


def test_a_message_with_a_result_and_a_dead_letter_is_not_compared():
    """It differs already; which of the two would be right is not asked."""
    mine = account()
    mine.written(0, 1, RESULT)
    mine.written(1, 1, LETTER)
    assert not mine.comparable(1, "bundle")


def test_many_names_share_a_number_rather_than_fail():
    """Reasons come from headers that anybody may write."""
    names = Names()
    numbers = [names.number(f"reason {n}") for n in range(2 * MOST_NAMES)]
    assert numbers[: MOST_NAMES - 1] == list(range(1, MOST_NAMES))
    assert set(numbers[MOST_NAMES - 1 :]) == {MOST_NAMES}


def test_examples_are_few():
    """However much is missing, a handful is named."""
    assert closed([], dict.fromkeys(range(100), True)).examples["missing"] == list(range(MOST_EXAMPLES))


def test_state_is_a_few_bytes_an_offset():
    """A million messages in a row take about 12 MB, a million far apart a page each and no more."""
    mine = Account("in", 0, Bounds(0, 0, 10**9, 10**9), Names())
    for offset in (0, 10**8, 10**9 - 1):
        mine.written(0, offset, RESULT)
    assert len(mine._pages) == 3
    page = mine._pages[0]
    assert (
        sum(len(memoryview(one).cast("B")) for one in (page.states, page.names, page.places, page.digests)) == 12 * PAGE
    )
