"""Is it well? Each condition holds in one test and does not in another, with the numbers of the alerts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.watching.looks import Looked
from worker.health import STALLED_AFTER
from worker.watching import conditions, drift
from worker.watching.judging import RULES, RUNBOOK

ROOT = Path(__file__).parents[3]
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy/helm/winnow/files/alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
# What no single worker can know of itself.
OF_A_GROUP = {"WinnowAbsent", "WinnowMixedBundles"}


def working(**options: object) -> Looked:
    """A worker that is well, looked at once."""
    looked = Looked(**options)
    looked.scene.assign(3)
    looked.scene.work(600)
    looked.scene.lag(dict.fromkeys(range(3), 0), behind=0)
    looked.look()
    return looked


def test_each_finding_is_an_alert_and_leads_to_its_runbook():
    """Names, severities and headings are those of the alerts, and every alert of one worker is judged."""
    for rule in RULES:
        alert = ALERTS[rule.alert]
        assert alert["annotations"]["runbook_url"].endswith(f"{RUNBOOK}#{rule.anchor}")
    assert {rule.alert for rule in RULES} | OF_A_GROUP == ALERTS.keys()
    weaker = {"WinnowUnassigned"}  # one worker that stands by is no fault
    stronger = {"WinnowNotReady"}  # a loop that stands still is one
    for rule in RULES:
        if rule.alert not in weaker | stronger:
            assert ALERTS[rule.alert]["labels"]["severity"] == rule.severity, rule.alert


def test_the_runbook_has_each_heading():
    """Whoever follows a finding gets there."""
    page = (ROOT / RUNBOOK).read_text("utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", page, re.M)
    }
    assert {rule.anchor for rule in RULES} <= anchors


@pytest.mark.parametrize(
    ("alert", "numbers"),
    [
        ("WinnowPartitionStuck", [conditions.STUCK]),
        ("WinnowLagGrows", [conditions.BEHIND]),
        ("WinnowPaused", [conditions.PAUSED, conditions.IDLE]),
        ("WinnowTransactionsAborted", [conditions.ABORTED]),
        ("WinnowMemory", [conditions.MEMORY]),
        ("WinnowDeadLetters", [conditions.DEAD_SHARE, conditions.DEAD_COUNT]),
        ("WinnowLatency", [conditions.LATE, conditions.LATE_COUNT]),
        ("WinnowScoreDrift", [conditions.DRIFT, drift.ENOUGH]),
        ("WinnowTruncated", [conditions.TRUNCATED, conditions.TRUNCATED_COUNT]),
    ],
)
def test_thresholds_are_those_of_the_alerts(alert: str, numbers: list[float]):
    """What the page calls wrong is what an alert would fire of."""
    for number in numbers:
        assert re.search(rf"[<>] {re.escape(f'{number:g}')}\b", ALERTS[alert]["expr"]), (alert, number)


def test_the_times_are_those_of_the_alerts():
    """Five minutes without progress, or without being ready."""
    assert "[5m]" in ALERTS["WinnowNoProgress"]["expr"]
    assert conditions.NO_PROGRESS == 300
    assert ALERTS["WinnowNotReady"]["for"] == "5m"
    assert conditions.NOT_READY == 300


def test_a_worker_that_works_is_well():
    """At the first look, and later."""
    looked = working()
    assert looked.findings() == []
    for _ in range(30):
        looked.scene.work(60)
        view = looked.after(30.0)
    assert (view.verdict.state, view.verdict.title, view.verdict.findings) == ("well", "Well.", [])


def test_an_idle_worker_is_well():
    """Nothing to do for an hour is no fault."""
    looked = working()
    assert looked.after(3_600.0).verdict.state == "well"


def test_before_the_model_is_open_it_starts():
    """There are no metrics to judge by; the same with metrics and without partitions."""
    looked = Looked(empty=True, up=5.0)
    assert (looked.look().verdict.state, looked.look().verdict.title) == ("starting", "Starting.")
    looked = Looked(up=5.0)
    assert looked.look().verdict.state == "starting"


def test_a_start_that_takes_minutes_is_worth_a_look():
    """With what `/readyz` says."""
    looked = Looked(up=400.0)
    view = looked.look()
    assert (view.verdict.state, looked.alerts()) == ("look", ["WinnowNotReady"])
    assert "starting" in view.verdict.says


def test_a_worker_that_ends_is_not_blamed():
    """Draining is what it was told to do."""
    looked = working(up=100.0)
    looked.scene.health.draining()
    assert (looked.after(1.0).verdict.state, looked.alerts()) == ("stopping", [])


def test_a_loop_that_stands_still_is_not_well():
    """The liveness probe is about to end it."""
    looked = working()
    looked.clock.advance(STALLED_AFTER + 1)
    view = looked.look()
    assert (view.verdict.state, view.verdict.title) == ("not-well", "The loop stands still.")


def test_no_broker_is_said_first_and_alone():
    """That nothing is acknowledged then is no news, nor that it is not ready."""
    looked = working()
    looked.metrics.connected(False)
    looked.scene.health.connected = False
    looked.scene.lag({0: 50})
    view = looked.after(600.0)
    assert (view.verdict.state, looked.alerts()) == ("not-well", ["WinnowBrokerDisconnected"])


def test_messages_that_wait_without_an_acknowledgement_are_no_progress():
    """A warning after half a minute, critical after the alert's five; one acknowledgement ends it."""
    looked = working()
    looked.scene.lag({0: 50})
    assert looked.after(20.0).verdict.state == "well"
    assert looked.after(20.0).verdict.state == "look"
    view = looked.after(280.0)
    assert (view.verdict.state, looked.alerts()[0]) == ("not-well", "WinnowNoProgress")
    assert "50 messages wait" in view.verdict.says
    assert "5 min 20 s ago" in view.verdict.says
    looked.scene.work(1)
    looked.metrics.state(1, False, 1)
    assert "WinnowNoProgress" not in (looked.after(1.0), looked.alerts())[1]


def test_tombstones_that_are_skipped_are_progress():
    """They are done with, and nothing is acknowledged of them."""
    looked = working()
    looked.scene.lag({0: 50})
    for _ in range(8):
        looked.metrics.tombstone()
        looked.after(10.0)
    assert "WinnowNoProgress" not in looked.alerts()


def test_a_partition_that_stands_still():
    """By the age of what was read and is not done with; which one, and how many more."""
    looked = working()
    looked.scene.lag({0: 5}, waiting=299.0)
    looked.look()
    assert "WinnowPartitionStuck" not in looked.alerts()
    looked.scene.lag({0: 5, 2: 5}, waiting=301.0)
    looked.scene.work(1)
    looked.after(1.0)
    (found,) = [one for one in looked.findings() if one.alert == "WinnowPartitionStuck"]
    assert "1 more partition likewise" in found.says


def test_lag_that_grows_beyond_ten_minutes_of_work():
    """More than the present rate works off in ten minutes, and growing; less, or falling, is no finding."""
    looked = working()
    for step in range(12):
        looked.scene.work(10)
        looked.scene.lag({0: 1_000 + 100 * step})
        looked.after(10.0)
    assert looked.alerts() == ["WinnowLagGrows"]
    for step in range(20):
        looked.scene.work(10)
        looked.scene.lag({0: max(0, 1_000 - 100 * step)})
        looked.after(60.0)
    assert looked.alerts() == []


def test_results_without_a_commit():
    """Done and not committed, and no commit for minutes; one commit ends it."""
    looked = working()
    for _ in range(8):
        looked.metrics.delivered(None, 0.1, 0.01)
        looked.scene.lag({0: 0}, behind=80)
        looked.after(60.0)
    assert looked.alerts() == ["WinnowNotCommitted"]
    looked.metrics.committed({})
    looked.after(10.0)
    assert looked.alerts() == []


@pytest.mark.parametrize(("busy", "alerts"), [(0, ["WinnowPaused"]), (2, [])])
def test_paused_with_lanes_that_are_idle(busy: int, alerts: list[str]):
    """With busy lanes a pause is only load."""
    looked = working()
    for _ in range(10):
        looked.metrics.paused(6.0)
        looked.metrics.delivered(None, 0.1, 0.01)
        looked.metrics.committed({})
        looked.metrics.state(2048, True, busy)
        looked.after(10.0)
    assert looked.alerts() == alerts


def test_a_group_that_keeps_moving():
    """Three revocations in ten minutes; what is assigned does not count, and two are a rollout."""
    looked = working()
    for kind in ("revoked", "assigned", "lost", "assigned", "assigned"):
        looked.metrics.rebalanced(kind, [("messages", 0)], 0, 0.1)
    looked.after(30.0)
    assert looked.alerts() == []
    looked.metrics.rebalanced("revoked", [("messages", 0)], 0, 0.1)
    looked.after(30.0)
    assert looked.alerts() == ["WinnowRebalances"]


@pytest.mark.parametrize(("aborted", "alerts"), [(1, []), (2, ["WinnowTransactionsAborted"])])
def test_transactions_that_keep_being_aborted(aborted: int, alerts: list[str]):
    """One of twenty is none too many."""
    looked = working()
    for _ in range(19):
        looked.metrics.committed({})
    for _ in range(aborted):
        looked.metrics.aborted()
    looked.after(30.0)
    assert looked.alerts() == alerts


@pytest.mark.parametrize(("limit", "alerts"), [(1, ["WinnowMemory"]), (1 << 44, [])])
def test_memory_near_its_bound(limit: int, alerts: list[str]):
    """Nine tenths of what the control group allows."""
    looked = working(memory_limit=limit)
    assert looked.alerts() == alerts


@pytest.mark.parametrize(
    ("refused", "alerts"), [({"missing-field": 21}, ["WinnowDeadLetters"]), ({"missing-field": 5}, []), ({}, [])]
)
def test_many_refusals_of_one_reason(refused: dict[str, int], alerts: list[str]):
    """More than two in a hundred, and more than five; the reason and the stage are named."""
    looked = working()
    looked.scene.work(200, dead=refused)
    looked.after(30.0)
    assert looked.alerts() == alerts
    assert all("missing-field (decode)" in finding.says for finding in looked.findings())


@pytest.mark.parametrize(
    ("seconds", "messages", "alerts"), [(8.0, 150, ["WinnowLatency"]), (8.0, 30, []), (0.5, 150, [])]
)
def test_results_that_come_late(seconds: float, messages: int, alerts: list[str]):
    """The ninety-ninth percentile beyond five seconds, of more than thirty messages."""
    looked = working()
    looked.scene.work(messages, seconds=seconds)
    looked.after(30.0)
    assert looked.alerts() == alerts


@pytest.mark.parametrize(("seconds", "said"), [(3.5, r"[\w.]+ s or longer"), (10_000.0, r"longer than [\w. ]+")])
def test_how_late_is_said_once(seconds: float, said: str):
    """Beyond the last bucket it is only known to be more."""
    looked = working()
    looked.scene.work(150, seconds=seconds)
    looked.after(30.0)
    (finding,) = looked.findings()
    assert re.fullmatch(rf"One message of a hundred waits {said} for its result\.", finding.says), finding.says


@pytest.mark.parametrize(
    ("event", "alert", "state"),
    [("reset", "WinnowOffsetsReset", "not-well"), ("rewound", "WinnowRewound", "look")],
)
def test_one_event_is_enough_for_a_quarter_of_an_hour(event: str, alert: str, state: str):
    """Messages that were deleted unread, offsets that went backwards."""
    looked = working()
    getattr(looked.metrics, event)(1)
    assert (looked.after(30.0).verdict.state, looked.alerts()) == (state, [alert])
    for _ in range(16):
        looked.after(60.0)
    assert looked.alerts() == []


def test_what_was_long_ago_is_not_held_against_it():
    """At the first look at an old process only the counts since its start are known: nothing is said of them."""
    looked = Looked()
    looked.scene.assign(3)
    looked.scene.work(200, seconds=8.0, dead={"invalid-json": 100})
    looked.metrics.reset(1)
    looked.metrics.rewound(1)
    looked.metrics.aborted()
    looked.scene.lag(dict.fromkeys(range(3), 0), behind=0)
    looked.look()
    assert looked.alerts() == []


@pytest.mark.parametrize(("low", "alerts"), [(0.9, ["WinnowScoreDrift"]), (0.0, [])])
def test_scores_that_moved(low: float, alerts: list[str]):
    """Against the bundle's reference, where there are results enough."""
    looked = working()
    looked.scene.work(1_200, low=low)
    looked.after(30.0)
    assert looked.alerts() == alerts


def test_without_a_reference_nothing_is_said_of_scores():
    """Older bundles have none."""
    looked = working(reference=False)
    looked.scene.work(1_200, low=0.9)
    view = looked.after(30.0)
    assert looked.alerts() == []
    assert not view.drift.has_reference


def test_standing_by_is_well():
    """A worker without partitions is told of, and not blamed."""
    looked = Looked()
    looked.scene.assign(0)
    view = looked.look()
    assert (view.verdict.state, looked.alerts()) == ("well", ["WinnowUnassigned"])


def test_the_worst_comes_first():
    """And decides what the whole is called."""
    looked = working()
    looked.scene.work(200, dead={"missing-field": 100})
    looked.metrics.reset(1)
    view = looked.after(30.0)
    assert looked.alerts() == ["WinnowOffsetsReset", "WinnowDeadLetters"]
    assert view.verdict.title == looked.findings()[0].title
