"""The alerts against promtool: each fires where it should and is silent where all is well, and leads to its runbook.

The tests in tests/deploy/rules are named `ALERT fires: …` and `ALERT is silent: …`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.monitoring import ALERTS, ROOT, documented_metrics, metrics_of, run_tool
from tests.unit.test_docs_blocks import headings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.deploy

TESTS = sorted((ROOT / "tests" / "deploy" / "rules").glob("*.yaml"))
RUNBOOK = "docs/operations.md"
PAGE = (ROOT / RUNBOOK).read_text("utf-8")
GROUPS = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDS = {rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule}
CASES = [case for file in TESTS for case in yaml.safe_load(file.read_text("utf-8"))["tests"]]
SEVERITIES = {"critical", "warning", "info"}
OF_ABSENCE = {"WinnowAbsent"}
"""What is silent because something is there."""
WITHOUT_FIGURE = {"WinnowAbsent", "WinnowNotReady"}
"""It is so or not."""
TARGET = {"job", "namespace", "pod", "instance"}


def of(alert: str, what: str) -> list[dict]:
    return [case for case in CASES if case["name"].startswith(f"{alert} {what}: ")]


def needs(alert: str) -> set[str]:
    """The metrics that an alert goes by, through recorded ones too."""
    expression = RULES[alert]["expr"]
    recorded = [RECORDS[name] for name in RECORDS if name in expression]
    return metrics_of(" ".join([expression, *recorded])) - RECORDS.keys()


def test_the_rules_are_sound():
    """promtool finds no fault and nothing to lint."""
    run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_rules_do_what_they_say(file: Path):
    """promtool: alerts, labels, descriptions with their figures, and silence, each as expected."""
    run_tool("promtool", "test", "rules", str(file))


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_fires_in_one_test_and_is_silent_in_another(alert: str):
    """And silence is not for want of figures: in one case there are those that it fires with."""
    fires, silent = of(alert, "fires"), of(alert, "is silent")
    assert fires
    assert silent
    for case in fires:
        assert any(expected.get("exp_alerts") for expected in case["alert_rule_test"]), case["name"]
    for case in silent:
        assert not any(expected.get("exp_alerts") for expected in case["alert_rule_test"]), case["name"]
    assert all(expected["alertname"] == alert for case in fires + silent for expected in case["alert_rule_test"])
    given = [metrics_of(" ".join(one["series"] for one in case["input_series"])) for case in silent]
    assert alert in OF_ABSENCE or any(metrics >= needs(alert) for metrics in given)


def test_every_test_is_of_an_alert():
    """Each is named after one, and no name comes twice."""
    names = [case["name"] for case in CASES]
    assert len(names) == len(set(names))
    assert all(re.match(rf"({'|'.join(RULES)}) (fires|is silent): .", name) for name in names)


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_tells_what_whose_and_how_much(alert: str):
    """Severity, summary, a description with job and figure, and nothing else."""
    rule = RULES[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].startswith("Winnow: ")
    assert "$labels.job" in rule["annotations"]["description"]
    assert ("$value" in rule["annotations"]["description"]) == (alert not in WITHOUT_FIGURE)


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_leads_to_its_runbook(alert: str):
    """Its address is a heading of docs/operations.md, whose section begins with its name; the table has it, too."""
    page, _, anchor = RULES[alert]["annotations"]["runbook_url"].partition("#")
    assert page == RUNBOOK
    assert anchor in headings(ROOT / RUNBOOK)
    (section,) = (part for part in re.split(r"^#+ ", PAGE, flags=re.M) if slug(part) == anchor)
    assert section.partition("\n\n")[2].startswith(f"`{alert}`")
    row = rf"^\| \[{alert}\]\(#{anchor}\) \| {RULES[alert]['labels']['severity']} \| "
    assert len(re.findall(row, PAGE, re.M)) == 1


def test_the_page_names_no_other_alerts():
    """Nor does a section stand for two."""
    assert set(re.findall(r"\bWinnow[A-Z]\w+", PAGE)) == RULES.keys()
    anchors = [rule["annotations"]["runbook_url"] for rule in RULES.values()]
    assert len(anchors) == len(set(anchors))


def test_the_page_is_named_by_runbooks_alone():
    """What serves the documentation replaces the page's name in the whole file."""
    assert ALERTS.read_text("utf-8").count(RUNBOOK) == len(RULES)


@pytest.mark.parametrize("name", [*RULES, *RECORDS])
def test_rules_go_by_metrics_that_there_are(name: str):
    """Each is in docs/metrics.md, or recorded here."""
    expression = RECORDS.get(name) or RULES[name]["expr"]
    assert metrics_of(expression) <= documented_metrics() | RECORDS.keys()


@pytest.mark.parametrize("alert", RULES)
def test_alerts_of_all_tests_keep_the_labels_of_their_target(alert: str):
    """By namespace and job, or by the worker: somebody can tell whom it is about."""
    for case in of(alert, "fires"):
        for expected in case["alert_rule_test"]:
            for fired in expected.get("exp_alerts", ()):
                named = {label for label in TARGET if any(f'{label}="' in s["series"] for s in case["input_series"])}
                assert "job" in fired["exp_labels"] or alert in OF_ABSENCE
                assert fired["exp_labels"].keys() & TARGET <= named


def slug(section: str) -> str:
    heading = section.partition("\n")[0]
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
