"""How many cores this process may use: the affinity mask and the cgroup's quota, not the host's count."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from worker.cgroup import CGROUP, quota_of

if TYPE_CHECKING:
    from pathlib import Path


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Whole cores, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_of(cgroup)
    return max(1, affinity if quota is None else min(affinity, int(quota)))
