"""The dashboard: made by its definition, of metrics that there are, and each expression shows data of real workers."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import OFFSET_END, ConsumerGroupTopicPartitions, TopicPartition

from tests.deploy.monitoring import ALERTS, DASHBOARD, ROOT, documented_metrics, metrics_of
from tests.deploy.prometheus import Prometheus, TooLong
from tests.e2e.process import WorkerProcess
from worker.broker import admin
from worker.kafka.tools import Feeder
from worker.model.manifest import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.broker import Broker

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(240)]

CHOSEN = {
    "$namespace": ".*", "$group": ".*", "$job": "(mail|names)", "$pod": ".*",
    "$__rate_interval": "10s", "$__range": "1m",
}  # fmt: skip
"""What stands for the variables: everything, and times that fit a scrape every second."""
WRITTEN = json.loads(DASHBOARD.read_text("utf-8"))
PANELS = WRITTEN["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
NAMED = [f"{panel['title']} {target['refId']}" for panel in PANELS for target in panel.get("targets", ())]
OF_THE_CHOSEN = '{namespace=~"$namespace", job=~"$job", pod=~"$pod"'
QUIET = {
    "Paused A", "Paused B", "Commits B", "Done twice, lost, gone back A", "Done twice, lost, gone back C",
}  # fmt: skip
"""What is zero while all is well: panels and their targets."""
SECONDS_TO_SHOW = 45.0
PARTITIONS = 3
REFERENCE = Reference(
    texts=100,
    labels={"pro": 0.5, "con": 0.5},
    scores=dict.fromkeys(("pro", "con"), (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)),
)
NAMES = {"ann": (0, 4, 0, 0), "lee": (0, 0, 4, 0), "paris": (0, 0, 0, 4), "went": (4, 0, 0, 0), "to": (4, 0, 0, 0)}
WORDS = ("good", "bad", "dull", "ann", "lee", "paris", "rome", "went", "to", "and")


def substituted(expression: str) -> str:
    """An expression as Grafana sends it."""
    for name in sorted(CHOSEN, key=len, reverse=True):
        expression = expression.replace(name, CHOSEN[name])
    assert "$" not in expression
    return expression


def definition() -> Any:
    """The module deploy/monitoring/dashboard.py."""
    folder = str(ROOT / "deploy" / "monitoring")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("dashboard")
    finally:
        sys.path.remove(folder)


def test_the_file_is_current():
    """What is committed is what `python deploy/monitoring/dashboard.py` writes."""
    assert DASHBOARD.read_text("utf-8") == definition().text()


def test_the_panels_have_places_of_their_own():
    """Numbers once each, within the grid, and none over another."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_series_has_a_legend_of_its_own():
    """Or its panel is a single figure."""
    for panel in PANELS:
        legends = [target["legendFormat"] for target in panel.get("targets", ())]
        assert len(legends) == len(set(legends))
        assert panel["type"] == "stat" or all(legends), panel["title"]


def test_every_metric_is_used():
    """By the dashboard or an alert; and neither goes by one that docs/metrics.md does not have."""
    shown = set().union(*map(metrics_of, EXPRESSIONS))
    assert shown <= documented_metrics()
    assert documented_metrics() <= shown | metrics_of(ALERTS.read_text("utf-8"))


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=NAMED)
def test_expressions_are_promql(expression: str):
    """A parser that is not Prometheus' own takes them, and every series is of the chosen workers."""
    parser = pytest.importorskip("promql_parser", reason="needs the group deploy: ./dev deploy")
    parser.parse(substituted(expression))
    named = len(re.findall(r"\b(?:winnow|process)_", expression))
    assert expression.count(OF_THE_CHOSEN) == named
    assert named or "ALERTS" in expression


def message(number: int) -> bytes | None:
    """What a stream has: texts of several labels, repeats, long ones, some without a value, some that are no JSON."""
    if number % 17 == 0:
        return None
    if number % 19 == 0:
        return b"{"
    first, length = number % 7, 200 if number % 23 == 0 else 1 + number % 29
    text = " ".join(itertools.islice(itertools.cycle(WORDS), first, first + length))
    return orjson.dumps({"id": f"m-{number}", "text": f"{text} w{number}" if number % 2 else text})


class Stage:
    """Workers of two groups, what they read, and a Prometheus that scrapes them."""

    def __init__(self, kafka: Broker, folder: Path, stack: ExitStack) -> None:
        toys = pytest.importorskip("tests.unit.toys", reason="building a graph needs the extra [import]")
        self._kafka, self._folder, self._stack = kafka, folder, stack
        self.prometheus = stack.enter_context(Prometheus(folder))
        names = toys.write(folder / "names", "token", NAMES, ("O", "B-PER", "I-PER", "B-LOC")).path
        mail = toys.write_staged(folder / "mail", 0.75, reference=REFERENCE).path
        exactly = {"kafka__delivery": "exactly-once", "kafka__instance_id": uuid4().hex}
        self._settings = {
            "names": {"model__bundle": names, **exactly},
            "mail": {
                "model__bundle": mail, "model__long_texts": "windows", "input__max_characters": 600,
                "decision__accept_score": 0.8, "decision__min_score": 0.6, "decision__fallback_label": "unsure",
            },
        }  # fmt: skip
        for job, settings in self._settings.items():
            read, written, dead = (f"{job}-{end}-{uuid4().hex[:8]}" for end in ("in", "out", "dead"))
            kafka.create_topics({read: PARTITIONS, written: PARTITIONS, dead: 1})
            settings |= {
                "kafka__bootstrap_servers": kafka.bootstrap_servers, "kafka__group_id": read, "logging__format": "json",
                "kafka__input_topics": read, "kafka__output_topic": written, "kafka__dead_letter_topic": dead,
            }  # fmt: skip
        self._feeders = [
            Feeder(kafka.bootstrap_servers, str(each["kafka__input_topics"])) for each in self._settings.values()
        ]
        self._sent = 0

    def delete_unread(self, job: str) -> None:
        """What retention does to a group that was away: what it would read next is not stored any more."""
        self.feed()
        group, client = str(self._settings[job]["kafka__group_id"]), admin.connect(self._kafka.bootstrap_servers)
        offsets = ConsumerGroupTopicPartitions(
            group, [TopicPartition(group, number, 0) for number in range(PARTITIONS)]
        )
        ends = [TopicPartition(group, number, OFFSET_END) for number in range(PARTITIONS)]
        done = [*client.alter_consumer_group_offsets([offsets]).values(), *client.delete_records(ends).values()]
        for each in done:
            each.result(timeout=20)

    def worker(self, job: str) -> WorkerProcess:
        """One that starts; `join` waits for it."""
        return self._stack.enter_context(WorkerProcess(self._folder, wait=False, **self._settings[job]))

    def join(self, worker: WorkerProcess, job: str, pod: str) -> None:
        """Feed until the worker is ready, and have it scraped."""
        worker.until(lambda: self.feed() or worker.get("/readyz"))
        self.prometheus.scrape(worker.port, job=job, namespace="test", pod=pod)

    def feed(self) -> None:
        """Some more of everything, to all."""
        for _ in range(40):
            for feeder in self._feeders:
                feeder.send(message(self._sent), key=str(self._sent % 11).encode())
            self._sent += 1
        for feeder in self._feeders:
            feeder.flush()


@pytest.fixture(scope="module")
def shown(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, list[str]]]:
    """A Prometheus that has seen workers at work, and what has shown nothing."""
    with ExitStack() as stack:
        stage = Stage(kafka, tmp_path_factory.mktemp("dashboard"), stack)
        stage.delete_unread("names")
        first, names = stage.worker("mail"), stage.worker("names")
        stage.join(first, "mail", "mail-0")
        stage.join(names, "names", "names-0")
        second = stage.worker("mail")
        stage.join(second, "mail", "mail-1")
        without = dict(zip(NAMED, map(substituted, EXPRESSIONS), strict=True))

        def all_show() -> bool:
            stage.feed()
            for name, expression in list(without.items()):
                if stage.prometheus.values(expression) - (set() if name in QUIET else {0.0}):
                    del without[name]
            return not without

        with suppress(TooLong):
            stage.prometheus.until(all_show, SECONDS_TO_SHOW)
        yield stage.prometheus, list(without)
        assert [worker.terminate() for worker in (first, names, second)] == [0, 0, 0]


@pytest.mark.kafka
def test_every_expression_shows_data(shown: tuple[Prometheus, list[str]]):
    """Of a Prometheus that scraped workers which did it all: read, refused, repeated, waited, moved.

    More than zeros, but for what is zero while all is well.
    """
    _, without = shown
    assert without == []


@pytest.mark.kafka
def test_the_alerts_are_evaluated(shown: tuple[Prometheus, list[str]]):
    """Every rule, without an error, by the Prometheus that has real series."""
    prometheus, _ = shown
    prometheus.until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    assert {rule["name"]: rule.get("lastError") for rule in prometheus.rules() if rule["health"] != "ok"} == {}
    assert len(list(prometheus.rules())) == ALERTS.read_text("utf-8").count("        expr: ")


@pytest.mark.kafka
def test_what_should_fire_does_and_nothing_else(shown: tuple[Prometheus, list[str]]):
    """Messages were deleted before they were read, and seen before the first scrape; all else was well."""
    prometheus, _ = shown
    prometheus.until(prometheus.firing)
    assert [(alert["alertname"], alert["job"]) for alert in prometheus.firing()] == [("WinnowOffsetsReset", "names")]


@pytest.mark.kafka
def test_the_variables_offer_what_there_is(shown: tuple[Prometheus, list[str]]):
    """Namespace, group, job and pod, each within those before it."""
    prometheus, _ = shown
    offered = {}
    for variable in WRITTEN["templating"]["list"][1:]:
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
        offered[variable["name"]] = prometheus.get(f"label/{label}/values", **{"match[]": substituted(selector)})
    assert [name.partition("-")[0] for name in offered.pop("group")] == ["mail", "names"]
    assert offered == {"namespace": ["test"], "job": ["mail", "names"], "pod": ["mail-0", "mail-1", "names-0"]}
