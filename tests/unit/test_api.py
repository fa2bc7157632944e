"""Winnow from Python: one text, streams, threads, asyncio; and what may not be imported for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

import worker
from tests.unit import toys
from worker import Classified, Classifier
from worker.config import load
from worker.errors import BundleError, ConfigError, InvalidMessage
from worker.offline import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
LOGITS = {"good": (2.0, 0.0), "bad": (0.0, 3.0)}
TEXTS = [" ".join(["good", "bad", "ann", "went", "to"][: 1 + number % 5]) for number in range(700)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    toys.write(folder, "single-label", LOGITS, ("pro", "con"))
    return folder


@pytest.fixture
def classify(toy: Path) -> Iterator[Classifier]:
    with Classifier(toy, lanes=2) as made:
        yield made


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_importing_the_package_is_cheap():
    """Neither the runtime nor the Kafka client is loaded until a classifier is asked for; Kafka's not even then."""
    code = (
        "import sys, worker; print(*sorted({'onnxruntime', 'confluent_kafka', 'numpy'} & set(sys.modules)));"
        "from worker import Classifier; print(*sorted({'onnxruntime', 'confluent_kafka'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout.splitlines()) == (0, ["", "onnxruntime"])


def test_what_is_not_there_is_no_attribute():
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Clasifier'"):
        _ = worker.Clasifier  # type: ignore[attr-defined]


def test_one_text(classify: Classifier):
    """What a worker would say of it."""
    said = classify("bad ann")
    assert isinstance(said, Classified)
    assert (said.label, said.tokens, said.truncated, said.windows) == ("con", 4, False, 1)
    assert said.score == said.scores["con"] == pytest.approx(0.952574)
    assert (classify.labels, classify.model.name) == (("pro", "con"), "toy")


def test_a_stream_is_answered_in_order(classify: Classifier):
    """As many answers as texts, each what the text alone gives."""
    alone = {text: classify(text) for text in set(TEXTS)}
    assert list(classify.many(TEXTS)) == [alone[text] for text in TEXTS]
    assert list(classify.many([])) == []


def test_an_endless_stream_holds_few_texts(classify: Classifier):
    """They are read as answers are taken."""
    read = count()

    def texts() -> Iterator[str]:
        while True:
            next(read)
            yield "good"

    said = classify.many(texts())
    assert [one.label for one in islice(said, 3)] == ["pro"] * 3
    assert next(read) <= IN_FLIGHT
    said.close()  # type: ignore[attr-defined]


def test_a_text_that_cannot_be_classified(classify: Classifier):
    """Raised, or in its place; the others are answered, and the classifier goes on."""
    texts = ["good", " ", "bad", "", "\ud800", "good"]
    with pytest.raises(InvalidMessage) as caught:
        classify(" ")
    assert caught.value.reason == "empty-text"
    with pytest.raises(InvalidMessage):
        list(classify.many(texts))
    said = list(classify.many(texts, errors="return"))
    reasons = [one.reason if isinstance(one, InvalidMessage) else one.label for one in said]
    assert reasons == ["pro", "empty-text", "con", "empty-text", "invalid-utf8", "pro"]
    assert classify("good").label == "pro"


def test_mistakes_of_the_caller_are_named(classify: Classifier):
    """One text where a stream belongs, no text at all, a word that nobody knows."""
    with pytest.raises(TypeError, match="call the classifier itself"):
        classify.many("good")
    with pytest.raises(TypeError, match="A text is a str, not int"):
        classify(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'raise' or 'return'"):
        classify.many([], errors="ignore")  # type: ignore[call-overload]


def test_threads_share_a_classifier(classify: Classifier):
    """Each gets the answers to its own texts, streams among them."""
    expected = list(classify.many(TEXTS))

    def some(start: int) -> bool:
        texts, wanted = TEXTS[start::7], expected[start::7]
        return [classify(text) for text in texts[:30]] == wanted[:30] and list(classify.many(texts)) == wanted

    with ThreadPoolExecutor(7) as pool:
        assert all(pool.map(some, range(7)))


def test_settings_of_a_worker_count(toy: Path, tmp_path: Path):
    """What is said is what that worker would say; options beside them are refused."""
    settings = load(None, [f"model.bundle={toy}", "decision.accept_score=0.9", "input.max_characters=16"])
    with Classifier(settings=settings) as classify:
        said = classify("bad " + "ann " * 9)
        assert (said.action, said.truncated) == ("accept", True)
    with pytest.raises(ConfigError, match="give settings alone"):
        Classifier(toy, settings=settings)


def test_long_texts_in_windows(toy: Path):
    """Read whole, where asked for."""
    text = "good " * 30 + "bad " * 300
    with Classifier(toy) as classify:
        assert (classify(text).label, classify(text).truncated) == ("pro", True)
    with Classifier(toy, long_texts="windows") as classify:
        said = classify(text)
        assert (said.label, said.truncated, said.windows > 10) == ("con", False, True)


def test_every_kind_of_bundle(tmp_path: Path):
    """Entities, several labels, values, and an early exit: one text and a stream say the same."""
    toys.write(tmp_path / "token", "token", {"ann": (0.0, 5.0)}, ("O", "B-PER"))
    toys.write(tmp_path / "many", "multi-label", LOGITS, ("pro", "con"))
    toys.write(tmp_path / "value", "regression", {"good": (2.0,)}, ("value",))
    toys.write_staged(tmp_path / "staged", threshold=0.6)
    said = {}
    for name in ("token", "many", "value", "staged"):
        with Classifier(tmp_path / name) as classify:
            said[name] = classify("ann went good")
            assert list(classify.many(["ann went good"] * 3)) == [said[name]] * 3
    (entity,) = said["token"].entities or ()
    assert (entity.entity_group, entity.start, entity.end, said["token"].label) == ("PER", 0, 3, None)
    assert said["many"].labels == (("pro", pytest.approx(0.880797)), ("con", 0.5))
    assert (said["value"].label, said["value"].score) == ("value", 2.0)
    assert said["staged"].layer in (toys.LAYER, toys.LAYERS)


def test_what_cannot_be_opened(tmp_path: Path):
    """The same errors as the command line's."""
    with pytest.raises(BundleError, match="is not a folder"):
        Classifier(tmp_path / "none")
    with pytest.raises(ConfigError, match="lanes"):
        Classifier(lanes=-1)
    with pytest.raises(ConfigError, match=r"model\.max_length = 9999"):
        Classifier(max_length=9999)


def test_a_closed_classifier_says_so(toy: Path):
    """It may be closed again."""
    classify = Classifier(toy)
    classify("good")
    classify.close()
    classify.close()
    for use in (lambda: classify("good"), lambda: classify.many([]), lambda: classify.amany([])):
        with pytest.raises(RuntimeError, match="closed"):
            use()


# asyncio


def test_asynchronous_calls_at_once(classify: Classifier):
    """Each in a thread, answered to whom it belongs."""

    async def main() -> list[Classified]:
        return await asyncio.gather(*(classify.aclassify(text) for text in TEXTS[:40]))

    assert asyncio.run(main()) == list(classify.many(TEXTS[:40]))


def test_asynchronous_streams(classify: Classifier):
    """Of an asynchronous source as of a list: in order, one answer a text."""

    async def source() -> AsyncIterator[str]:
        for number, text in enumerate(TEXTS):
            yield text
            if number % 100 == 0:
                await asyncio.sleep(0)

    async def main() -> None:
        expected = list(classify.many(TEXTS))
        assert [said async for said in classify.amany(source())] == expected
        assert [said async for said in classify.amany(TEXTS)] == expected

    asyncio.run(main())


def test_an_asynchronous_text_is_answered_before_the_next_comes(classify: Classifier):
    """A slow source is not waited for."""

    async def main() -> list[str | None]:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def source() -> AsyncIterator[str]:
            while True:
                yield await asked.get()

        labels = []
        async with aclosing(classify.amany(source())) as answers:
            for text in ("good", "bad"):
                asked.put_nowait(text)
                labels.append((await anext(answers)).label)
        return labels

    assert asyncio.run(main()) == ["pro", "con"]


def test_what_a_source_raises_comes_after_its_answers(classify: Classifier):
    """Nothing that was read is lost; a text that cannot be classified is raised or returned, as in `many`."""

    async def source() -> AsyncIterator[str]:
        yield "good"
        yield " "
        raise KeyError("source")

    async def read(into: list[str | None], errors: Literal["raise", "return"]) -> None:
        async for said in classify.amany(source(), errors=errors):
            into.append(said.reason if isinstance(said, InvalidMessage) else said.label)

    found: list[str | None] = []
    with pytest.raises(KeyError, match="source"):
        asyncio.run(read(found, "return"))
    assert found == ["pro", "empty-text"]
    with pytest.raises(InvalidMessage):
        asyncio.run(read([], "raise"))


def test_who_is_cancelled_leaves_nothing_behind(classify: Classifier):
    """Neither a thread nor an unfinished task, and the classifier goes on."""

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "good"

    async def read() -> None:
        async for _ in classify.amany(endless()):
            pass

    async def main() -> int:
        reading = asyncio.create_task(read())
        for _ in range(50):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    assert classify("good").label == "pro"
