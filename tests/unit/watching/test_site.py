"""What is served of a worker: the page, the view, the card. Time is the test's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.kit import FakeClock
from tests.scenes import Scene
from worker.model import bundle as bundles
from worker.opening import DEFAULT_BUNDLE
from worker.watching.card import MOST_CHARACTERS, card
from worker.watching.conditions import Probe
from worker.watching.site import Answer, Site, page

WEIGHT = 100_000
"""Bytes of the page, with all that it needs, at most."""


class Served:
    def __init__(self, scene: Scene | None = None) -> None:
        self.clock = FakeClock(1_795_000_000.0)
        self.scene = scene or Scene(clock=self.clock)
        self.collected = 0
        self.site = Site(self._collect, lambda: Probe(True, True, "", 3), self.clock)

    def _collect(self) -> object:
        self.collected += 1
        return self.scene.registry.collect()

    def status(self, seconds: float = 0.0) -> dict:
        self.clock.advance(seconds)
        return json.loads(self.site.status())


def test_nobody_watching_costs_nothing():
    """Metrics are collected by requests, and at most once a second however many ask."""
    served = Served()
    assert served.collected == 0
    for _ in range(10):
        served.status(0.05)
    assert served.collected == 1
    served.status(1.0)
    assert served.collected == 2


def test_the_view_is_json_with_a_version():
    """Every figure that it names is there from the first answer on, and finite."""
    served = Served()
    served.scene.assign(3)
    served.scene.work(100)
    first = served.status()
    assert first["version"] == 1
    assert first["verdict"]["state"] == "well"
    served.scene.work(100)
    second = served.status(2.0)
    assert second.keys() == first.keys()
    assert second["rate"]["delivered"] == 50.0
    assert second["course"] == [{"at": second["at"], "rate": 50.0}]


def test_a_worker_that_has_no_metrics_yet_has_a_view():
    """While the model is loaded."""
    view = Served(Scene(empty=True)).status()
    assert (view["verdict"]["state"], view["worker"]["digest"]) == ("starting", None)


@pytest.mark.parametrize(("labels", "partitions", "most"), [(2, 6, 10_000), (250, 200, 110_000)])
def test_the_view_is_bounded(labels: int, partitions: int, most: int):
    """With 250 labels and 200 partitions, too."""
    served = Served(Scene([f"label {number:03}" for number in range(labels)]))
    served.scene.assign(partitions)
    served.scene.work(2_000)
    served.scene.lag(dict.fromkeys(range(partitions), 123_456))
    for _ in range(5):
        served.status(1.0)
    assert len(served.site.status()) < most


def test_a_clock_that_was_set_back_begins_anew():
    """Rather than to show the last view for an hour."""
    served = Served()
    first = served.status(0.0)
    assert served.status(-3_600.0)["at"] == first["at"] - 3_600.0


def test_the_page_is_small_and_names_its_parts():
    """Style and script are in it, and its policy names them by digest; nothing else may run or be loaded."""
    answer = page()
    text = answer.body.decode()
    assert len(answer.body) <= WEIGHT
    policy = answer.headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "{{style}}" not in text
    assert "{{script}}" not in text


def test_the_page_names_no_other_place():
    """No address but its own: the namespace of SVG is a name, not a place."""
    text = page().body.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z]", text)
    assert not re.search(r"\sstyle=|\son[a-z]+=|innerHTML|insertAdjacentHTML|eval\(", text)


def test_the_page_is_in_the_package():
    """As files beside the module, which the wheel takes along."""
    folder = Path(__file__).parents[3] / "worker" / "watching" / "page"
    assert {path.name for path in folder.iterdir()} == {"page.html", "page.css", "page.js"}


def test_the_card_is_the_bundles():
    """Name, digest, labels, figures, sources and README; no probes, which are texts."""
    bundle = bundles.load(DEFAULT_BUNDLE)
    served = Served()
    assert json.loads(served.site.answer("/model").body) is None
    served.site.describe(card(bundle))
    told = json.loads(served.site.answer("/model").body)
    assert (told["name"], told["digest"], told["labels"]) == ("winnow-spam", bundle.digest, ["ham", "spam"])
    assert told["evaluation"][0]["quantized"]["accuracy"] > 0.9
    assert told["readme"] == (DEFAULT_BUNDLE / "README.md").read_text("utf-8")[:MOST_CHARACTERS]
    assert "probes" not in told
    assert bundle.manifest.probes[0].text not in json.dumps(told)


def test_a_bundle_without_readme_has_none(tmp_path: Path):
    """Then the card does without."""
    bundle = bundles.load(DEFAULT_BUNDLE)
    assert card(bundles.Bundle(tmp_path, bundle.manifest, bundle.labels))["readme"] == ""


def test_there_is_nothing_else():
    """Any other path is not the page's."""
    assert isinstance(Served().site.answer("/"), Answer)
    assert Served().site.answer("/page.js") is None
