"""Every task, and long texts in windows, as `winnow run` on a real Kafka."""

from __future__ import annotations

import orjson
import pytest

from tests.unit import toys
from tests.unit.test_schemas import validator

pytestmark = pytest.mark.kafka

NAMES = {"ann": (0, 4, 0, 0), "lee": (0, 0, 4, 0), "paris": (0, 0, 0, 4), "went": (4, 0, 0, 0), "to": (4, 0, 0, 0)}
TASKS = {
    "multi-label": ({"good": (2, -2), "bad": (-2, 2)}, ("pro", "con")),
    "regression": ({"good": (1.5,), "bad": (-1.25,)}, ("stars",)),
    "token": (NAMES, ("O", "B-PER", "I-PER", "B-LOC")),
}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_task_from_topic_to_topic(task: str, route, start, tmp_path):
    """Short and long texts come out as the schema says, each once, the long ones whole."""
    folder = toys.write(tmp_path / "toy", task, *TASKS[task]).path
    texts = ["good", "ann lee went to paris", "went to paris " * 2_000, "bad good", "ann " * 30]
    feeder = route.feeder()
    for number, text in enumerate(texts):
        feeder.send(orjson.dumps({"id": f"t-{number}", "text": text}), key=f"k-{number}".encode())
    feeder.flush()
    worker = start(model__bundle=folder, model__long_texts="windows", input__max_characters=100_000)
    found = route.collect([f"t-{number}" for number in range(len(texts))], worker)
    assert worker.terminate() == 0
    results = {id_: orjson.loads(value) for id_, (value,) in found.items()}
    for result in results.values():
        validator("result").validate(result)
    assert (results["t-2"]["tokens"], results["t-2"]["truncated"]) == (6_002, False)
    assert results["t-2"]["windows"] == 667
    if task == "token":
        assert len(results["t-2"]["entities"]) == 2_000
        assert [one["entity_group"] for one in results["t-1"]["entities"]] == ["PER", "LOC"]
