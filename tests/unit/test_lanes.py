"""The lanes: isolating culprits, stopping what hangs, telling of their own death. The clock is a fake."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.kit import ALL, FIRST, FakeClock, InlineLanes, StagedClassifier, StubClassifier, item, says
from worker.errors import StageError
from worker.lanes import Lanes
from worker.pipeline.batches import Batch, CloseReason, Item
from worker.pipeline.ledger import Ledger
from worker.pipeline.messages import Classification, Rejection, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.lanes import Completed
    from worker.pipeline.messages import Said

TIMEOUT = 30.0
PATIENCE = 20.0


def batch(*texts: str) -> Batch:
    ledger = Ledger()
    items = tuple(item(ledger, offset, 3, 0.0, text) for offset, text in enumerate(texts))
    return Batch(items, 3, CloseReason.DRAIN)


def refuse(*culprits: str) -> StubClassifier:
    def before(texts: list[str]) -> None:
        if set(texts) & set(culprits):
            raise RuntimeError("the model does not like it")

    return StubClassifier(before)


@pytest.fixture
def started() -> Iterator[Callable[..., Lanes]]:
    """`started(classifier, count=1)`: lanes that run; they are ended afterwards."""
    running: list[Lanes] = []

    def start(classifier: object, count: int = 1, clock: FakeClock | None = None, cores: Sequence[int] = ()) -> Lanes:
        lanes = Lanes(classifier, count, clock or FakeClock(), TIMEOUT, cores)
        running.append(lanes)
        lanes.start()
        return lanes

    yield start
    for lanes in running:
        lanes.close(PATIENCE)


def test_a_batch_comes_back_with_an_outcome_an_item_in_order(started):
    """Each item gets what the model says of it."""
    lanes = started(StubClassifier())
    todo = batch("a", "b", "c")
    lanes.submit(todo)
    (done,) = lanes.collect(PATIENCE)
    assert done.batch is todo
    assert done.outcomes == [Result(i.request, says(i.request.text), False, 3) for i in todo.items]


def test_the_queue_is_as_short_as_the_lanes_are_many(started):
    """As many batches as lanes may wait; room, idle and busy count what is not yet collected."""
    gate = threading.Event()
    lanes = started(StubClassifier(lambda texts: gate.wait(PATIENCE)), count=2)
    assert (lanes.idle, lanes.room, lanes.busy, lanes.pending) == (True, True, 0, 0)
    for _ in range(4):
        assert lanes.room
        lanes.submit(batch("a"))
    assert (lanes.idle, lanes.room, lanes.busy, lanes.pending) == (False, False, 2, 4)
    assert lanes.collect() == []
    gate.set()
    done = 0
    while done < 4:
        done += len(lanes.collect(PATIENCE))
    assert (lanes.idle, lanes.room, lanes.busy, lanes.pending) == (True, True, 0, 0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=33, unique=True), st.data())
def test_bisecting_finds_exactly_the_culprits(numbers: list[int], data: st.DataObject):
    """Every culprit, and nobody else, becomes a dead letter, whoever sits in the batch."""
    texts = [f"text {number}" for number in numbers]
    culprits = data.draw(st.sets(st.sampled_from(texts)))
    lanes = InlineLanes(refuse(*culprits), 1, FakeClock(), TIMEOUT)
    lanes.submit(batch(*texts))
    (done,) = lanes.collect()
    rejected = {
        one.request.text
        for one, outcome in zip(done.batch.items, done.outcomes, strict=True)
        if isinstance(outcome, Rejection)
    }
    assert rejected == culprits
    assert len(done.outcomes) == len(texts)


def test_a_single_culprit_costs_few_runs():
    """Of 32 rows, one bad one is found in at most 2·log2(32)+1 runs, and tried once more."""
    classifier = refuse("text 17")
    lanes = InlineLanes(classifier, 1, FakeClock(), TIMEOUT)
    lanes.submit(batch(*(f"text {number}" for number in range(32))))
    lanes.collect()
    assert len(classifier.runs) <= 12


def test_a_message_that_fails_by_chance_is_tried_once_more():
    """What fails in its batch and alone, and then works, has a result; what fails a third time is rejected."""
    for failures, wanted in ((1, Result), (2, Result), (3, Rejection)):
        seen: list[str] = []

        def before(texts: list[str], failures: int = failures, seen: list[str] = seen) -> None:
            if "shaky" in texts:
                seen.append("shaky")
                if len(seen) <= failures:
                    raise RuntimeError

        lanes = InlineLanes(StubClassifier(before), 1, FakeClock(), TIMEOUT)
        lanes.submit(batch("shaky", "firm"))
        (done,) = lanes.collect()
        assert [type(outcome) for outcome in done.outcomes] == [wanted, Result]


def test_texts_that_go_on_come_back_apart_with_their_states():
    """What is sure has its outcome; what is not comes back as items whose next run is of the other stage."""
    classifier = StagedClassifier(lambda text: text in {"b", "d"})
    lanes = InlineLanes(classifier, 1, FakeClock(), TIMEOUT)
    lanes.submit(batch("a", "b", "c", "d"))
    (done,) = lanes.collect()
    assert [one.request.text for one in done.items] == ["a", "c"]
    assert [outcome.classification.layer for outcome in done.outcomes] == [FIRST, FIRST]
    assert [one.request.text for one in done.unsure] == ["b", "d"]
    lanes.submit(Batch(tuple(done.unsure), 3, CloseReason.DRAIN))
    (rest,) = lanes.collect()
    assert rest.batch.rest
    assert [outcome.classification for outcome in rest.outcomes] == [says(t)._replace(layer=ALL) for t in ("b", "d")]
    assert rest.unsure == ()
    assert classifier.stages == ["early", "rest"]


def told_of(done: Completed) -> list[tuple[Item, Said]]:
    return list(zip(done.items, done.outcomes, strict=True))


@pytest.mark.parametrize("failing", ["early", "rest"])
def test_culprits_are_found_in_either_stage(failing: str):
    """A run that fails is bisected whether it is of the first stage or of the rest; nobody else is blamed."""

    def before(texts: list[str]) -> None:
        if classifier.stages[-1] == failing and "bad" in texts:
            raise RuntimeError

    classifier = StagedClassifier(before=before)
    lanes = InlineLanes(classifier, 1, FakeClock(), TIMEOUT)
    lanes.submit(batch("a", "bad", "b", "c"))
    (early,) = lanes.collect()
    lanes.submit(Batch(tuple(early.unsure), 3, CloseReason.DRAIN))
    (rest,) = lanes.collect()
    told = {one.request.text: type(said) for done in (early, rest) for one, said in told_of(done)}
    assert told == {"a": Result, "bad": Rejection, "b": Result, "c": Result}


def test_a_rejection_names_the_error_and_not_the_text():
    """What a dead letter says of a failed run is the error's class alone."""
    lanes = InlineLanes(refuse("secret words"), 1, FakeClock(), TIMEOUT)
    lanes.submit(batch("secret words", "b"))
    rejection = lanes.collect()[0].outcomes[0]
    assert rejection == Rejection(
        "infer", "model-error", "The model failed on this message (RuntimeError).", "RuntimeError"
    )


class Answers:
    """A classifier whose runs give what `answer` makes of the items."""

    def __init__(self, answer: Callable[[Sequence[Item]], list[Classification]]) -> None:
        self.answer = answer

    def lane(self) -> Answers:
        return self

    def __call__(self, items: Sequence[Item]) -> list[Classification]:
        return self.answer(items)

    def terminate(self) -> None: ...

    def check(self) -> None: ...


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_run_with_too_few_or_too_many_answers_is_a_failed_run(surplus: int):
    """An answer is never given to the wrong message: a wrong number of them fails the run."""

    def answer(items: Sequence[Item]) -> list[Classification]:
        said = [says(one.request.text) for one in items]
        return said if len(items) == 1 else (said[:-1] if surplus < 0 else [*said, said[0]])

    lanes = InlineLanes(Answers(answer), 1, FakeClock(), TIMEOUT)
    lanes.submit(batch("a", "b", "c"))
    assert [outcome.classification for outcome in lanes.collect()[0].outcomes] == [says("a"), says("b"), says("c")]


def test_all_rows_failing_is_the_messages_fault_while_a_good_text_still_works(started):
    """Where not one row comes through but the check does, the rows are dead letters and the lane goes on."""
    lanes = started(refuse("bad", "worse"))
    lanes.submit(batch("bad", "worse"))
    (done,) = lanes.collect(PATIENCE)
    assert all(isinstance(outcome, Rejection) for outcome in done.outcomes)
    lanes.submit(batch("good"))
    assert isinstance(lanes.collect(PATIENCE)[0].outcomes[0], Result)


def test_all_rows_failing_with_a_failing_check_is_the_models_fault(started):
    """Where a text that is known to work fails too, no message is blamed: the worker ends."""

    def before(texts: list[str]) -> None:
        raise MemoryError("nothing works any more")

    lanes = started(StubClassifier(before))
    lanes.submit(batch("a", "b"))
    with pytest.raises(StageError, match="MemoryError"):
        lanes.collect(PATIENCE)


def test_some_rows_failing_asks_for_no_check(started):
    """One result proves that the model works."""
    classifier = refuse("bad", "a text that is known to work")
    lanes = started(classifier)
    lanes.submit(batch("bad", "good"))
    (done,) = lanes.collect(PATIENCE)
    assert [type(outcome) for outcome in done.outcomes] == [Rejection, Result]


@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_death_of_a_lane_is_heard(started, death: type[BaseException]):
    """A lane that ends for any reason is reported by the next `collect`."""

    def before(texts: list[str]) -> None:
        raise death

    lanes = started(StubClassifier(before))
    lanes.submit(batch("a"))
    with pytest.raises(StageError, match=death.__name__):
        lanes.collect(PATIENCE)


class Hanging:
    """A model that hangs on texts that say so, `times` at most, until it is terminated (if it can be)."""

    def __init__(self, stoppable: bool = True, check_hangs: bool = False, times: int = 100) -> None:
        self.entered = threading.Semaphore(0)
        self.stop = threading.Semaphore(0)
        self.freed = threading.Event()
        self.stoppable = stoppable
        self.check_hangs = check_hangs
        self.times = times

    def lane(self) -> Hanging:
        return self

    def __call__(self, items: Sequence[Item]) -> list[Classification]:
        if self.times and any("hang" in one.request.text for one in items):
            self.times -= 1
            self.hang()
        return [says(one.request.text) for one in items]

    def hang(self) -> None:
        self.entered.release()
        if self.stoppable:
            assert self.stop.acquire(timeout=PATIENCE)
        else:
            self.freed.wait(PATIENCE)
        raise RuntimeError("terminated")

    def terminate(self) -> None:
        self.stop.release()

    def check(self) -> None:
        if self.check_hangs:
            self.hang()


def test_a_hanging_run_is_stopped_and_its_culprit_isolated(started):
    """A run beyond the timeout is terminated and bisected; the culprit, which hangs twice alone, is a dead letter."""
    clock, model = FakeClock(), Hanging()
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang", "fine"))
    for _ in range(3):  # the batch, then the culprit alone, and once more
        assert model.entered.acquire(timeout=PATIENCE)
        lanes.watch()
        assert lanes.collect() == []
        clock.advance(TIMEOUT + 1)
        lanes.watch()
    (done,) = lanes.collect(PATIENCE)
    assert [type(outcome) for outcome in done.outcomes] == [Rejection, Result]


def test_a_run_within_its_time_is_left_alone(started):
    """Up to the timeout, `watch` stops nothing, however often it looks."""
    clock, model = FakeClock(), Hanging()
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang", "fine"))
    assert model.entered.acquire(timeout=PATIENCE)
    clock.advance(TIMEOUT)
    lanes.watch()
    assert not model.stop.acquire(blocking=False)
    clock.advance(1)
    lanes.watch()
    assert model.entered.acquire(timeout=PATIENCE)
    lanes.watch()
    assert not model.stop.acquire(blocking=False), "the second run has its own time"
    clock.advance(TIMEOUT + 1)
    lanes.watch()
    assert model.entered.acquire(timeout=PATIENCE)
    lanes.watch()
    assert not model.stop.acquire(blocking=False), "and so has the third"
    clock.advance(TIMEOUT + 1)
    lanes.watch()
    assert lanes.collect(PATIENCE)


def test_a_run_that_cannot_be_stopped_ends_the_worker(started):
    """Where terminating has not helped for as long again, the worker gives up with a `StageError`."""
    clock, model = FakeClock(), Hanging(stoppable=False)
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang"))
    assert model.entered.acquire(timeout=PATIENCE)
    clock.advance(TIMEOUT + 1)
    lanes.watch()
    clock.advance(TIMEOUT)
    lanes.watch()
    clock.advance(1)
    with pytest.raises(StageError, match="62 s"):
        lanes.watch()
    model.freed.set()
    assert model.entered.acquire(timeout=0) is False


def test_a_process_that_was_frozen_loses_no_innocent_message(started):
    """After SIGSTOP and SIGCONT a run looks old at once; it is stopped, and its only message gets its result."""
    clock, model = FakeClock(), Hanging(times=1)
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang"))
    assert model.entered.acquire(timeout=PATIENCE)
    clock.advance(100 * TIMEOUT)
    lanes.watch()
    (done,) = lanes.collect(PATIENCE)
    assert [type(outcome) for outcome in done.outcomes] == [Result]


def test_a_single_message_that_hangs_is_stopped_twice_and_then_rejected(started):
    """A message alone in its batch has two runs; then it is a dead letter, and the lane goes on."""
    clock, model = FakeClock(), Hanging()
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang"))
    stops = 0
    while model.entered.acquire(timeout=PATIENCE if stops < 2 else 0):
        stops += 1
        clock.advance(TIMEOUT + 1)
        lanes.watch()
    (done,) = lanes.collect(PATIENCE)
    assert (stops, [type(outcome) for outcome in done.outcomes]) == (2, [Rejection])
    lanes.submit(batch("fine"))
    assert isinstance(lanes.collect(PATIENCE)[0].outcomes[0], Result)


def test_a_check_that_hangs_is_stopped_too(started):
    """The text that is known to work is under the watchdog like any run; stopped, it is the model's fault."""
    clock, model = FakeClock(), Hanging(check_hangs=True)
    lanes = started(model, clock=clock)
    lanes.submit(batch("hang"))
    for _ in range(3):  # the message, twice, then the check
        assert model.entered.acquire(timeout=PATIENCE)
        clock.advance(TIMEOUT + 1)
        lanes.watch()
    with pytest.raises(StageError, match="RuntimeError"):
        lanes.collect(PATIENCE)


def test_closing_lets_lanes_end_after_what_they_do():
    """`close` waits for the work at hand; its result can still be collected, and the threads are gone."""
    lanes = Lanes(StubClassifier(), 2, FakeClock(), TIMEOUT)
    lanes.start()
    lanes.submit(batch("a"))
    lanes.close(PATIENCE)
    assert len(lanes.collect()) == 1
    assert not [thread for thread in lanes._threads if thread.is_alive()]


def test_collect_measures_with_the_injected_clock():
    """Time in the queue is told by the clock that was given."""
    clock = FakeClock()
    lanes = InlineLanes(StubClassifier(), 1, clock, TIMEOUT)
    lanes.submit(batch("a"))
    clock.advance(3.0)
    assert lanes.collect()[0].queued == 3.0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="lanes are pinned where the platform can")
def test_a_lane_stays_on_its_core_and_the_rest_of_the_process_does_not(started):
    """Only the lane's own thread is bound; cores that are not there any more bind nobody."""
    mask, seen = os.sched_getaffinity(0), []
    for core, expected in ((max(mask), {max(mask)}), (10_000, mask)):
        lanes = started(StubClassifier(lambda _: seen.append(os.sched_getaffinity(0))), cores=[core])
        lanes.submit(batch("a"))
        lanes.collect(PATIENCE)
        assert seen.pop() == expected
        assert os.sched_getaffinity(0) == mask
