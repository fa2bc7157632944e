"""Cores by affinity and quota, in a made-up cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.cpu import usable_cores


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
