"""Samples of a moment, and what happened between two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.scenes import Scene
from worker.watching.snapshot import Between, Snapshot

COUNTS = st.dictionaries(st.sampled_from(["ham", "spam", "other"]), st.integers(0, 10**6), min_size=1)


def counted(at: float, **labels: float) -> Snapshot:
    """Of one counter."""
    return Snapshot(at, {"winnow_results_total": {(("label", name),): value for name, value in labels.items()}})


def test_the_registry_and_its_text_say_the_same():
    """So the page and `winnow top` show the same figures."""
    scene = Scene()
    scene.assign(3)
    scene.work(50, dead={"invalid-json": 2})
    text = generate_latest(scene.registry).decode()
    here = Snapshot.of(scene.registry.collect(), 1.0)
    there = Snapshot.of(text_string_to_metric_families(text), 1.0)
    moving = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"}
    assert {k: v for k, v in here.samples.items() if k not in moving} == {
        k: v for k, v in there.samples.items() if k not in moving
    }
    assert here.complete
    assert here.value("winnow_consumed_total") == 52
    assert not any(name.endswith("_created") for name in here.samples)


def test_equal_labels_take_room_once():
    """Snapshots that are kept share their keys."""
    scene, known = Scene(), {}
    first, second = (Snapshot.of(scene.registry.collect(), at, known) for at in (1.0, 2.0))
    name = "winnow_dead_letters_total"
    assert all(a is b for a, b in zip(first.samples[name], second.samples[name], strict=True))


@pytest.mark.parametrize("kept", [None, {}], ids=["once", "kept"])
def test_names_have_no_control_characters(kept: dict | None):
    """A label of a bundle may have any: they are spelt out, each in its own way, so that no two names become one."""
    scene = Scene(["a\x1b]0;x\x07", "a\x9b2J", "tab\t", "é 中\u3000👍"])
    scene.work(200)
    snapshot = Snapshot.of(scene.registry.collect(), 1.0, kept)
    names = {name for (name,) in snapshot.by("winnow_results_total", "label")}
    assert names == {r"a\x1b]0;x\x07", r"a\x9b2J", r"tab\x09", "é 中\u3000👍"}


@given(COUNTS, COUNTS, st.floats(1, 1000))
def test_growth_is_the_difference(before: dict[str, int], more: dict[str, int], seconds: float):
    """By label, in all, and a second; a series that is new counts from zero."""
    after = {name: before.get(name, 0) + more.get(name, 0) for name in before | more}
    between = Between(counted(100.0, **before), counted(100.0 + seconds, **after))
    assert between.by("winnow_results_total", "label") == {(name,): more.get(name, 0) for name in after}
    assert between.count("winnow_results_total") == sum(more.values())
    assert between.rate("winnow_results_total") == pytest.approx(sum(more.values()) / between.seconds)


@given(COUNTS, COUNTS)
def test_a_counter_that_fell_is_another_process(before: dict[str, int], after: dict[str, int]):
    """It follows only where nothing that only grows has fallen, gone away included."""
    fell = any(after.get(name, 0) < count for name, count in before.items())
    assert counted(2.0, **after).follows(counted(1.0, **before)) is not fell


def test_time_that_went_back_is_no_sequel():
    """Nor is another start of the process."""
    assert not counted(1.0, ham=1).follows(counted(1.0, ham=1))
    later = Snapshot(2.0, {"process_start_time_seconds": {(): 5.0}})
    assert not later.follows(Snapshot(1.0, {"process_start_time_seconds": {(): 4.0}}))


def test_gauges_may_fall():
    """What is not a counter says nothing of the process."""
    first, second = (Snapshot(at, {"winnow_lag_messages": {(): value}}) for at, value in ((1.0, 9.0), (2.0, 3.0)))
    assert second.follows(first)


def test_without_a_start_there_is_no_rate_since_then():
    """Where the machine does not tell when the process began."""
    assert Between(None, counted(5.0, ham=3)).rate("winnow_results_total") is None
    assert Between(None, counted(5.0, ham=3)).count("winnow_results_total") == 3
