"""WinnowAbsent as the chart words it, against promtool: about its own release, whatever else is scraped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.monitoring import ALERTS, run_tool
from tests.deploy.rendered import needs_helm, of_values, only

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.deploy, needs_helm]

WATCHED = {"monitoring": {"rules": {"enabled": True}, "podMonitor": {"enabled": True}}}
OWN, OTHER = (f'winnow_build_info{{job="default/{name}",namespace="default",pod="a"}}' for name in ("winnow", "other"))
FIRED = {"severity": "critical", "namespace": "default", "job": "default/winnow"}


@pytest.mark.parametrize(
    ("series", "firing"),
    [
        ({OWN: "1x2000", OTHER: "1x10 stale"}, []),
        ({OWN: "1x10 stale", OTHER: "1x2000"}, [FIRED]),
        ({OTHER: "1x2000"}, [FIRED]),
    ],
    ids=["another one is scaled to zero", "gone for more than a day", "never there"],
)
def test_it_is_about_this_release(series: dict[str, str], firing: list[dict[str, str]], tmp_path: Path):
    """Nothing that others do makes it fire, or stop."""
    groups = only(of_values(WATCHED), "PrometheusRule")["spec"]["groups"]
    rule = absent(groups)
    said = {
        **rule["annotations"],
        "description": "No worker of default/winnow in default has answered a scrape for five minutes.",
    }
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "alertname": "WinnowAbsent",
                "eval_time": time,
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": said} for labels in firing],
            }
            for time in ("30m", "27h")
        ],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), "utf-8")
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [case]}), "utf-8")
    run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))
    run_tool("promtool", "test", "rules", str(tmp_path / "test.yaml"))


def test_without_the_charts_monitor_it_is_the_files():
    """Then the name of the job is somebody else's to choose."""
    written = absent(yaml.safe_load(ALERTS.read_text("utf-8"))["groups"])
    found = of_values({"monitoring": {"rules": {"enabled": True}}})
    assert absent(only(found, "PrometheusRule")["spec"]["groups"])["expr"] == written["expr"]


def absent(groups: list[dict[str, Any]]) -> dict[str, Any]:
    (rule,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == "WinnowAbsent"]
    return rule
