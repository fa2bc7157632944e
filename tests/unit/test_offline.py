"""Classifying without a broker: the same steps, in order, a bounded number at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

import worker.offline
from tests.kit import LABELS, MODEL, StubClassifier, says, tokenize
from worker.app import Model
from worker.config import BatchingSettings
from worker.offline import IN_FLIGHT, PART, SLOW, Offline
from worker.pipeline.messages import Rejection, Request, Result
from worker.pipeline.tokenization import PORTION_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.pipeline.tokenization import Encoded
    from worker.ports import Clock


@pytest.fixture
def offline() -> Iterator[Callable[..., Offline]]:
    made: list[Offline] = []

    def create(classifier: StubClassifier, tokenizer: object = tokenize, clock: Clock = time.monotonic) -> Offline:
        model = Model(MODEL, LABELS, tokenizer, classifier, 512, 2)
        made.append(Offline(model, BatchingSettings(), clock))
        return made[-1]

    yield create
    for one in made:
        one.close()


def requests(count: int) -> list[Request]:
    return [Request(str(number), "word " * (1 + number % 19) + str(number), False) for number in range(count)]


def test_outcomes_come_in_the_order_of_the_requests(offline):
    """One outcome a request, in order, whatever the batches, more than are held at a time."""
    asked = requests(IN_FLIGHT + 100)
    outcomes = list(offline(StubClassifier())(asked))
    assert [o.request for o in outcomes if isinstance(o, Result)] == asked
    assert all(o.classification == says(o.request.text) for o in outcomes if isinstance(o, Result))


def test_a_failing_text_is_a_rejection_in_its_place(offline):
    """What the model cannot do is told where it belongs; the others are classified."""

    def before(texts: list[str]) -> None:
        if "poison" in texts:
            raise RuntimeError

    asked = [*requests(5), Request("p", "poison", False), *requests(3)]
    outcomes = list(offline(StubClassifier(before))(asked))
    assert [type(o) for o in outcomes] == [Result] * 5 + [Rejection] + [Result] * 3


def test_what_was_refused_before_comes_out_in_its_place(offline):
    asked: list[Request | Rejection] = list(requests(200))
    refused = Rejection("decode", "no-text", "There is no text.", "InvalidMessage")
    for place in (0, 3, 70, 199):
        asked[place] = refused
    outcomes = list(offline(StubClassifier())(asked))
    assert [one if isinstance(one, Rejection) else one.request for one in outcomes] == asked


def test_an_endless_stream_is_read_a_few_at_a_time(offline):
    """Results come while the input goes on; no more is read ahead than may be in flight."""
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        while True:
            read += 1
            yield Request(str(read), "a text", False)

    outcomes = offline(StubClassifier())(endless())
    for _ in range(10):
        next(outcomes)
    assert read <= IN_FLIGHT


def test_long_texts_are_read_fewer_ahead(offline, monkeypatch):
    """What is in flight is bounded by its characters, too."""
    monkeypatch.setattr(worker.offline, "HELD", 100_000)
    read = 0
    enough = threading.Event()

    def endless() -> Iterator[Request]:
        nonlocal read
        while True:
            read += 1
            if read >= 100:
                enough.set()
            yield Request(str(read), "a text of a thousand letters".ljust(1_000, "."), False)

    outcomes = offline(StubClassifier(lambda texts: enough.wait(20)))(endless())
    for _ in range(10):
        next(outcomes)
    assert 100 <= read <= 10 + 100 + 2 * PART
    # What has its outcome is not in flight any more.
    for _ in range(1_000):
        next(outcomes)
    assert read <= 1_010 + 100 + 2 * PART


def test_a_failure_of_the_source_comes_behind_what_came_before(offline):
    """Nothing that was read is lost."""

    def failing() -> Iterator[Request]:
        yield from requests(300)
        raise OSError("gone")

    outcomes = offline(StubClassifier())(failing())
    assert [next(outcomes).request for _ in range(300)] == requests(300)
    with pytest.raises(OSError, match="gone"):
        next(outcomes)


def test_a_slow_source_is_not_asked_again_before_its_texts_have_their_answers(offline):
    """Whoever types or sends one text at a time sees what is said of it, and not only with the next."""
    now = 0.0
    asked: list[int] = []

    def slow() -> Iterator[Request]:
        nonlocal now
        for number in range(20):
            asked.append(number)
            now += 2 * SLOW
            yield Request(str(number), "a text", False)

    for number, outcome in enumerate(offline(StubClassifier(), clock=lambda: now)(slow())):
        assert outcome.request.id == str(number)
        assert asked[-1] == number


def test_a_source_that_has_nothing_at_the_moment_is_asked_again_when_all_is_answered(offline):
    """It says so by None; however quickly what came before it came."""
    given: list[str] = []

    def in_bursts() -> Iterator[Request | None]:
        for burst in range(5):
            for number in range(burst + 2):
                given.append(f"{burst}-{number}")
                yield Request(given[-1], "a text", False)
            yield None
            assert answered == given

    answered: list[str] = []
    for outcome in offline(StubClassifier(), clock=lambda: 0.0)(in_bursts()):
        answered.append(outcome.request.id)
    assert answered == given


def test_what_comes_slowly_is_taken_in_before_a_part_is_full(offline):
    """A source that gives many texts a second, but not a part at once, keeps the lanes at work while it is read."""
    now = 0.0

    def steady() -> Iterator[Request]:
        nonlocal now
        for number in range(300):
            now += SLOW / 10
            yield Request(str(number), f"a text {number}", False)

    sizes: list[int] = []

    def watched(texts: Sequence[str]) -> list[Encoded]:
        sizes.append(len(texts))
        return tokenize(texts)

    outcomes = list(offline(StubClassifier(), watched, lambda: now)(steady()))
    assert [one.request.id for one in outcomes] == [str(number) for number in range(300)]
    assert max(sizes) <= 11


def test_nothing_gives_nothing(offline):
    """An empty input has no outcomes."""
    assert list(offline(StubClassifier())([])) == []


def test_long_texts_are_tokenized_a_few_at_a_time(offline):
    """Their tokens are not all held at once, and the lanes are at work while there is more to tokenize."""
    sizes: list[int] = []
    running = threading.Event()

    def watched(texts: Sequence[str]) -> list[Encoded]:
        assert not sizes or running.wait(20)
        sizes.append(sum(map(len, texts)))
        return tokenize(texts)

    asked = [Request(str(number), f"{number} " + "x" * 20_000, False) for number in range(60)]
    outcomes = list(offline(StubClassifier(lambda texts: running.set()), watched)(asked))
    assert [one.request for one in outcomes if isinstance(one, Result)] == asked
    assert len(sizes) > 1
    assert max(sizes) <= PORTION_CHARACTERS
