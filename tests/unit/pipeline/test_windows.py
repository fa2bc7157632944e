"""Long texts as windows: where they lie, and what they say together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

from tests.kit import in_windows, item, record, says_of_window
from tests.unit import toys
from worker.pipeline.entities import STRATEGIES
from worker.pipeline.interpret import Entities
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Partial, Rejection, Request, Result
from worker.pipeline.tokenization import TextTokenizer
from worker.pipeline.windows import Cutter, JoinTexts, JoinTokens, Windows

if TYPE_CHECKING:
    from worker.pipeline.batches import Item
    from worker.pipeline.ledger import Slot

BAD = Rejection("infer", "model-error", "The model failed on this message (RuntimeError).", "RuntimeError")

cutters = st.builds(
    lambda room, share, before, after: Cutter(room + before + after, int(share * room), before, after),
    st.integers(1, 20), st.floats(0, 0.99), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip


@given(cutters, st.integers(1, 200))
def test_windows_cover_a_text(cutter: Cutter, content: int):
    """No token is left out; neighbours overlap as asked; all are of full length; special tokens are around each."""
    ids = [*[-1] * cutter.before, *range(content), *[-2] * cutter.after]
    starts = cutter.starts(len(ids))
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    for one, following in pairwise(starts):
        assert following + cutter.overlap <= one + cutter.room
    cut = [cutter.cut(ids, start) for start in starts]
    read = [window[cutter.before : len(window) - cutter.after] for window in cut]
    assert sorted({token for window in read for token in window}) == list(range(content))
    assert {len(window) for window in cut} == {min(len(ids), cutter.longest)}
    assert all(window[: cutter.before] == [-1] * cutter.before for window in cut)
    assert all(window[len(window) - cutter.after :] == [-2] * cutter.after for window in cut)
    least = -(-max(0, content - cutter.overlap) // (cutter.room - cutter.overlap))
    assert len(starts) == max(1, least)


class Text:
    """A text that was added, and what came of it."""

    def __init__(self, windows: Windows, ledger: Ledger, number: int, length: int) -> None:
        self.slot: Slot = ledger.open(record(number, topic=f"t{number}"), 0.0)
        self.ids = [1, *[7 + number * i for i in range(length)], 2]
        self.request = Request(str(number), "text", False)
        self.outcomes: list[Result | Rejection] = []
        windows.add(self.slot, self.request, self.ids, False)


def drive(lengths: list[int], limit: int, data: st.DataObject, failing: set[int], dropped: set[int]) -> list[Text]:
    """Feeds and answers in an order that is drawn; some windows fail, some texts are dropped on the way."""
    windows, ledger = in_windows(limit=limit), Ledger()
    texts = [Text(windows, ledger, number, length) for number, length in enumerate(lengths)]
    by_slot = {text.slot: number for number, text in enumerate(texts)}
    out: list[Item] = []
    fed = 0
    while True:
        news = windows.feed(float(fed))
        assert not any(item.slot.dropped for item in news)
        out += news
        fed += len(news)
        assert len(out) == windows.out <= limit
        if not out:
            return texts
        item = out.pop(data.draw(st.integers(0, len(out) - 1)))
        number = by_slot[item.slot]
        assert not isinstance(item.window, type(None))
        if number in dropped and item.window.number >= 1:
            ledger.drop([(f"t{number}", 0)])
        gone = item.slot.dropped
        if gone and data.draw(st.booleans()):
            windows.taken_back([item])
            continue
        failed = number in failing and item.window.number == number % len(item.window.text.starts)
        outcome = windows.back(item.window, BAD if failed else says_of_window(item.ids))
        if outcome is not None:
            assert not gone
            texts[number].outcomes.append(outcome)


@given(
    st.lists(st.integers(29, 200), min_size=1, max_size=5), st.integers(1, 5), st.sets(st.integers(0, 4)),
    st.sets(st.integers(0, 4)), st.data(),
)  # fmt: skip
def test_whatever_the_order_each_text_has_one_outcome(lengths, limit, failing, dropped, data):
    """Each text ends exactly once, as it does alone and in order; failed ones as one rejection, dropped ones never."""
    for text, number in zip(drive(lengths, limit, data, failing, dropped), range(len(lengths)), strict=True):
        if number in dropped:
            assert len(text.outcomes) <= 1
            if text.slot.dropped:
                continue
        (outcome,) = text.outcomes
        if number in failing:
            assert outcome == BAD
            continue
        cutter = Cutter(30, 4, 1, 1)
        parts = [says_of_window(cutter.cut(text.ids, start)).scores for start in cutter.starts(len(text.ids))]
        scores = np.mean(parts, axis=0).tolist()
        assert isinstance(outcome, Result)
        assert list(outcome.classification.scores.values()) == scores
        assert (outcome.request, outcome.tokens, outcome.windows) == (text.request, len(text.ids), len(parts))


def test_after_a_failure_nothing_more_is_fed():
    """A text that has its outcome costs no more runs."""
    windows, ledger = in_windows(limit=2), Ledger()
    Text(windows, ledger, 0, 1_000)
    first, second = windows.feed(0.0)
    assert windows.back(second.window, BAD) == BAD
    assert windows.feed(1.0) == []
    assert windows.back(first.window, says_of_window(first.ids)) is None
    assert windows.out == 0


def test_texts_whose_partitions_have_gone_are_forgotten_wherever_they_wait():
    """One text that is still read does not keep those behind it in memory."""
    windows, ledger = in_windows(limit=1), Ledger()
    live = Text(windows, ledger, 0, 1_000)
    windows.feed(0.0)
    for number in range(1, 20):
        Text(windows, ledger, number, 1_000)
    assert windows.bytes == 20 * 4 * len(live.ids)
    ledger.drop([(f"t{number}", 0) for number in range(1, 20)])
    windows.discard()
    assert windows.bytes == 4 * len(live.ids)


def test_ids_count_until_all_windows_are_fed():
    """What waits is what the loop bounds; a text that is only waited for holds no ids."""
    windows, ledger = in_windows(limit=100), Ledger()
    text = Text(windows, ledger, 0, 100)
    items = windows.feed(0.0)
    assert windows.bytes == 0
    outcomes = list(windows.outcomes(items, [says_of_window(item.ids) for item in items]))
    ((slot, outcome),) = outcomes
    assert isinstance(outcome, Result)
    assert (slot, outcome.tokens) == (text.slot, 102)


def test_a_batch_of_windows_and_whole_texts_brings_the_outcomes_of_both():
    """Of a whole text what the lane said, at once; of windows nothing until the last, or the first that failed."""
    windows, ledger = in_windows(limit=3), Ledger()
    text = Text(windows, ledger, 0, 100)
    whole = item(ledger, 1, 5, 0.0)
    said = Result(whole.request, Classification("ham", 1.0, {}), False, 5)
    assert list(windows.outcomes([whole], [said])) == [(whole.slot, said)]
    first, second, third = windows.feed(0.0)
    partial = says_of_window(first.ids)
    assert list(windows.outcomes([first, whole, second], [partial, said, BAD])) == [
        (whole.slot, said), (text.slot, BAD),
    ]  # fmt: skip
    assert list(windows.outcomes([third], [partial])) == []
    assert windows.out == 0


def test_windows_arrive_when_they_are_fed():
    """So that the batcher lets go first whatever came before."""
    windows = in_windows(limit=1)
    Text(windows, Ledger(), 0, 1_000)
    (first,) = windows.feed(1.0)
    windows.back(first.window, says_of_window(first.ids))
    (second,) = windows.feed(2.0)
    assert (first.arrived, second.arrived) == (1.0, 2.0)


@pytest.mark.parametrize(("combine", "wanted"), [("max", [0.9, 0.6]), ("mean", [0.5, 0.5])])
def test_scores_are_combined_label_by_label(combine: str, wanted: list[float]):
    """The highest, or the mean, over the windows."""
    join = JoinTexts(combine, lambda scores: scores)
    parts = [np.array(row) for row in ([0.9, 0.5], [0.2, 0.4], [0.4, 0.6])]
    assert join.whole(parts, Request("1", "text", False)) == pytest.approx(wanted)


def test_what_is_kept_shares_no_memory_with_the_batch():
    """A part does not keep the scores of a whole batch alive."""
    windows = in_windows(limit=1)
    Text(windows, Ledger(), 0, 100)
    (item,) = windows.feed(0.0)
    scores = np.zeros((8, 2))
    windows.back(item.window, Partial(scores[3]))
    assert item.window is not None
    assert not np.shares_memory(item.window.text.parts[0], scores)


def test_a_text_whose_windows_do_not_fit_is_a_rejection():
    """What fails while windows are joined is this text's fault alone, and names no text."""
    windows = in_windows(limit=9)
    text = Text(windows, Ledger(), 0, 60)
    outcomes = [windows.back(item.window, Partial(np.zeros(2 + i))) for i, item in enumerate(windows.feed(0.0))]
    (outcome,) = [one for one in outcomes if one is not None]
    assert isinstance(outcome, Rejection)
    assert (outcome.stage, outcome.reason, outcome.error) == ("infer", "model-error", "ValueError")
    assert text.request.text not in outcome.message


# Tokens

TOKENIZER = TextTokenizer(toys.tokenizer_json(), 12, whole=True, spans=True)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
words = st.lists(st.sampled_from([*toys.WORDS, "unknown", "👋"]), min_size=1, max_size=60)


@given(words, st.integers(1, 12), st.integers(0, 11), st.sampled_from(STRATEGIES), st.randoms())
def test_stitched_tokens_are_those_of_a_single_pass(words, room, overlap, strategy, random):
    """Where a token's scores depend on it alone, windows of any size, in any order, change nothing."""
    assume(overlap < room)
    text = " ".join(words)
    (whole,) = TOKENIZER([text])
    rng = np.random.default_rng(len(words))
    table = rng.dirichlet(np.ones(len(TAGS)), size=40)
    interpret = Entities(TOKENIZER.grouper(TAGS, strategy, None, 0.0), 1.0)
    cutter = Cutter(room + 2, overlap, 1, 1)
    windows = Windows(cutter, JoinTokens(cutter, TOKENIZER, interpret), limit=100)
    windows.add(Ledger().open(record(), 0.0), Request("1", text, False), whole.ids, False)
    items = windows.feed(0.0)
    random.shuffle(items)
    # Every token's place in the text decides, too, so that a row in the wrong place is found out.
    places = np.arange(len(whole.ids))[:, None]

    def scores(ids: list[int], first: int) -> np.ndarray:
        return table[ids] + np.sin(places[first : first + len(ids)]) / 10

    said = [
        windows.back(item.window, Partial(scores(item.ids, item.window.text.starts[item.window.number])))
        for item in items
    ]
    (result,) = [one for one in said if one is not None]
    assert isinstance(result, Result)
    assert result.classification == interpret.classify(scores(whole.ids, 0), TOKENIZER.spans(text), text)


@given(st.integers(13, 60), st.integers(0, 9))
def test_a_token_is_taken_from_the_window_where_it_is_farthest_from_an_edge(length: int, overlap: int):
    """Of the windows that have a token, the one with the most context around it decides; the earlier where they tie."""
    cutter = Cutter(12, overlap, 1, 1)
    join = JoinTokens(cutter, TOKENIZER, Entities(TOKENIZER.grouper(TAGS, "simple", None, 0.0), 1.0))
    windows = Windows(cutter, join, limit=100)
    windows.add(Ledger().open(record(), 0.0), Request("1", "", False), list(range(length + 2)), False)
    kept = [join.keep(np.full((len(item.ids), 1), item.window.number), item.window)[:, 0] for item in windows.feed(0.0)]
    starts = cutter.starts(length + 2)

    def context(token: int, start: int) -> float:
        left = token - start if start else np.inf
        right = start + cutter.room - 1 - token if start + cutter.room < length else np.inf
        return min(left, right) if start <= token < start + cutter.room else -1

    wanted = [max(range(len(starts)), key=lambda n: (context(token, starts[n]), -n)) for token in range(length)]
    assert np.concatenate(kept).tolist() == [0, *wanted, len(starts) - 1]
