"""The loop over memory: long texts in windows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kit import StubClassifier, TickingClock, bench, in_windows
from tests.unit.loops import P0, P1, Heard, fill, inline, message, offset, reason, turns
from worker.loop import POLL_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit import Bench


# Long texts


def runs_until(on: Bench, model: StubClassifier, done: Callable[[], bool]) -> int:
    """Turns the loop until then. Returns how many runs of the model that took."""
    before = len(model.runs)
    on.turn_until(done)
    return len(model.runs) - before


def test_a_text_of_twenty_pages_does_not_hold_up_short_messages():
    """Short messages that come while a long text is read have their results after a few runs, not after all its own."""
    model, windows = StubClassifier(), in_windows(longest=62, limit=4)
    on = bench(model, inline=True, clock=TickingClock(tick=1e-5), windows=windows, max_characters=100_000)
    on.log.append("in", 0, message("words " * 12_000))
    on.source.assign(P0, P1)
    on.turn_until(lambda: len(model.runs) >= 10)
    taken = []
    for _ in range(5):
        fill(on.log, 8, 1)
        expected = len(on.log.records[P1])
        taken.append(runs_until(on, model, lambda: len(on.sink.results) == expected))  # noqa: B023 - called at once
    assert max(taken) <= 12
    assert not [o for o in on.sink.results if o.source == P0]
    on.turn_until(lambda: on.log.committed == {P0: 1, P1: 40})
    (long,) = [json.loads(o.value or b"") for o in on.sink.results if o.source == P0]
    assert (long["tokens"], long["windows"], long["truncated"]) == (12_002, 215, False)


def test_long_texts_are_read_a_few_windows_at_a_time():
    """However many long texts wait, no more windows are out than the bound, so neither batches nor scores pile up."""
    windows = in_windows(limit=3)
    on = bench(inline=True, clock=TickingClock(), windows=windows)
    inline(on).held = True
    for _ in range(50):
        on.log.append("in", 0, message("words " * 300))
    on.source.assign(P0)
    turns(on)
    assert windows.out == 3
    assert len(on.batcher) + on.lanes.pending <= 3
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 50})
    assert windows.out == 0


def test_a_long_text_with_a_bad_window_is_one_dead_letter():
    """Whatever its other windows say, before or after: one dead letter, and its neighbours have results."""

    def before(texts: list[str]) -> None:
        if any(text.startswith("poison") for text in texts):
            raise RuntimeError

    on = bench(StubClassifier(before), inline=True, clock=TickingClock(), windows=in_windows())
    for text in ("word " * 100, "poison " * 100, "word " * 100, "short"):
        on.log.append("in", 0, message(text))
    on.source.assign(P0)
    on.turn_until(lambda: on.log.committed == {P0: 4})
    assert [(offset(o), reason(o)) for o in on.sink.dead_letters] == [(1, "model-error")]
    assert [offset(o) for o in on.sink.sent] == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["revoke", "lose"])
def test_a_long_text_whose_partition_has_gone_is_read_no_further(how: str):
    """Its windows leave the batcher, no more are fed, and those in the lanes count for nobody."""
    model, windows = StubClassifier(), in_windows(limit=4)
    on = bench(model, inline=True, clock=TickingClock(), windows=windows, revoke=0.01)
    inline(on).held = True
    on.log.append("in", 0, message("words " * 300))
    on.log.append("in", 1, message("words " * 300))
    on.source.assign(P0, P1)
    turns(on)
    getattr(on.source, how)(P0)
    turns(on, 1)
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P1: 1})
    assert len(model.runs) <= 4 + 12
    assert {o.source for o in on.sink.sent} == {P1}
    assert windows.out == 0


@pytest.mark.parametrize("how", ["revoke", "lose"])
def test_long_texts_of_partitions_that_have_gone_are_not_kept(how: str):
    """However often partitions come and go behind a long text that is still read, no more is held than is in flight."""
    windows = in_windows(limit=4)
    on = bench(inline=True, clock=TickingClock(), windows=windows, revoke=0.01)
    inline(on).held = True
    on.log.append("in", 0, message("words " * 300))
    on.source.assign(P0)
    turns(on)
    alone = windows.bytes
    for _ in range(20):
        on.log.append("in", 1, message("words " * 300))
    for _ in range(3):
        on.source.assign(P1)
        turns(on)
        assert windows.bytes == 21 * alone
        getattr(on.source, how)(P1)
        turns(on, 1)
        assert (on.ledger.in_flight, windows.bytes) == (1, alone)


def test_token_ids_of_long_texts_count_as_bytes_in_flight():
    """Texts of short words have more bytes of ids than of text; the bound is one on both."""
    windows = in_windows(limit=3)
    on = bench(inline=True, windows=windows, bytes_in_flight=100_000)
    inline(on).held = True
    value = message("w " * 300)
    for _ in range(500):
        on.log.append("in", 0, value)
    on.source.assign(P0)
    turns(on, 30)
    each = len(value) + 4 * 302
    assert 100_000 <= on.ledger.bytes_in_flight + windows.bytes < 100_000 + POLL_LIMIT * each
    inline(on).held = False
    on.turn_until(lambda: on.log.committed == {P0: 500})
    assert windows.bytes == 0


def test_a_long_text_is_the_same_again_after_a_restart():
    """Windows that finish in another order give the same bytes."""
    on = bench(inline=True, clock=TickingClock(), windows=in_windows(), lanes=3)
    inline(on).newest_first = True
    on.sink.acknowledging = False
    for words in (100, 3, 200, 57):
        on.log.append("in", 0, message("words " * words))
    on.source.assign(P0)
    on.turn_until(lambda: len(on.sink.sent) == 4)
    again = bench(inline=True, clock=TickingClock(), log=on.log, windows=in_windows(limit=1))
    again.source.assign(P0)
    again.turn_until(lambda: on.log.committed == {P0: 4})
    assert again.sink.sent == on.sink.sent


def test_long_texts_are_tokenized_a_few_at_a_time_and_the_lanes_go_on_meanwhile():
    """A poll of long texts does not keep the lanes waiting until all of them are tokenized."""
    heard = Heard()
    on = bench(inline=True, observer=heard, max_characters=100_000, windows=in_windows(longest=62))
    for _ in range(6):
        on.log.append("in", 0, message("short"))
        on.log.append("in", 0, message("words " * 5_000))
    on.source.assign(P0)
    turns(on, 1)
    assert [records for records, _ in heard.calls["tokenized"]] == [5, 4, 3]
    on.turn_until(lambda: on.log.committed == {P0: 12})
