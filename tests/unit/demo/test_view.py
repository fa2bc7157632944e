"""What the demo makes of results of every kind."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from tests.kit import record
from worker.demo.command import OUTPUT, seen
from worker.demo.tally import Tally
from worker.demo.view import render

SOURCE = {"topic": "messages", "partition": 0, "offset": 0, "timestamp": 1_000}
LABEL = {"label": "ham", "score": 0.75}
SEVERAL = {"label": "a", "score": 0.9, "labels": [{"label": "a", "score": 0.9}, {"label": "b", "score": 0.6}]}
NONE = {"label": None, "score": 0.1, "labels": []}
PERSON = {"entity_group": "PER", "score": 0.9, "word": "ann", "start": 0, "end": 3}
ENTITIES = {"entities": [PERSON, PERSON | {"entity_group": "LOC"}, PERSON]}


def shown(*results: dict) -> str:
    tally = Tally()
    for result in results:
        value = orjson.dumps({"id": "1", "source": SOURCE, **result})
        tally.add(seen(record(0, value, topic=OUTPUT, timestamp=1_010), {(0, 0): "the text"}), 1.0)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render("a broker", [], tally, {}, len(results), 2.0))
    assert tally.results == tally.total == len(results)
    return console.export_text()


@pytest.mark.parametrize(
    ("result", "labels"),
    [
        (LABEL, ["ham", "0.75"]),
        (SEVERAL, ["a, b", "0.90"]),
        (NONE, ["(none)", "0.10"]),
        (ENTITIES, ["PER, LOC"]),
        ({"entities": []}, ["(none)"]),
    ],
)
def test_results_of_every_task_are_shown(result: dict, labels: list[str]):
    """Labels with their score, types of entities, or that there are none; always the text."""
    page = shown(result)
    assert all(label in page for label in [*labels, "the text", "10 ms"])


def test_shares_are_of_messages():
    """A type that one message has twice counts once; with many labels the most frequent are shown."""
    assert "50%" in shown(ENTITIES, {"entities": []})
    many = [{"label": f"l{i}", "score": 0.5} for i in range(20)]
    assert "14 more" in shown(*many)
