"""Cores by affinity and quota, in a made-up cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.cpu import cores_of_lanes, usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`cores(affinity, {file: text})`: what is usable there."""

    def count(affinity: int, files: dict[str, str]) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return usable_cores(tmp_path)

    return count


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, "max 100000\n", 8), (8, "200000 100000\n", 2), (2, "400000 100000\n", 2), (8, "350000 100000\n", 3),
     (8, "50000 100000\n", 1), (8, "", 8), (8, "nonsense\n", 8)],
)  # fmt: skip
def test_cgroup_2_bounds_the_affinity(cores, affinity: int, quota: str, usable: int):
    """The lesser of affinity and quota, in whole cores, at least one; no quota, or none that can be read, is none."""
    assert cores(affinity, {"cpu.max": quota}) == usable


@pytest.mark.parametrize(("quota", "usable"), [("-1", 8), ("300000", 3), ("50000", 1)])
def test_cgroup_1_does_too(cores, quota: str, usable: int):
    """The older hierarchy counts the same; -1 means no quota."""
    assert cores(8, {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000"}) == usable


def test_without_cgroups_the_affinity_counts(cores):
    """On a machine without cgroups, what the scheduler allows is what there is."""
    assert cores(5, {}) == 5


def test_without_affinity_the_machine_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Where the platform knows no affinity, the number of cores is taken, or one."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_this_machine_has_at_least_one():
    """The real thing gives a number that lanes can be made of."""
    assert usable_cores() >= 1
    assert usable_cores(Path("/nowhere")) >= 1


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`pinned(lanes, pin, mask, quota="")`: on a machine of eight cores."""

    def pin_them(lanes: int, pin: str, mask: set[int], quota: str = "") -> tuple[int, ...]:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: mask, raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
        (tmp_path / "cpu.max").write_text(quota)
        return cores_of_lanes(lanes, pin, tmp_path)  # type: ignore[arg-type]

    return pin_them


@pytest.mark.parametrize(
    ("lanes", "mask", "quota", "cores"),
    [(2, {6, 3}, "", (3, 6)), (1, {3, 6}, "", ()), (1, {5}, "", (5,)), (2, {3, 6}, "200000 100000", (3, 6)),
     (2, {3, 6}, "max 100000", (3, 6)), (2, {3, 6}, "150000 100000", ()), (3, {3, 6}, "", ()),
     (2, set(range(8)), "", ()), (2, set(range(8)), "200000 100000", ())],
)  # fmt: skip
def test_lanes_are_pinned_where_the_cores_are_their_own(pinned, lanes, mask, quota, cores):
    """A cpuset, a lane for every core of it, and no quota that takes some of it back."""
    assert pinned(lanes, "auto", mask, quota) == cores


@pytest.mark.parametrize(("lanes", "cores"), [(2, (0, 1)), (8, tuple(range(8))), (9, ())])
def test_lanes_can_be_pinned_to_shared_cores(pinned, lanes, cores):
    """Where the user says so; two lanes on one core are not what anybody means."""
    assert pinned(lanes, "always", set(range(8)), "100000 100000") == cores
    assert pinned(2, "never", {3, 6}) == ()


def test_a_platform_without_affinity_pins_nothing(pinned, monkeypatch: pytest.MonkeyPatch):
    """Not even where it is asked to."""
    assert pinned(1, "always", {3})
    monkeypatch.delattr(os, "sched_setaffinity")
    assert cores_of_lanes(1, "always") == ()
