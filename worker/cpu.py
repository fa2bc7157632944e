"""How many cores this process may use: the affinity mask and the cgroup's quota, not the host's count."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from worker.cgroup import CGROUP, quota_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Whole cores, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_of(cgroup)
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def cores_of_lanes(lanes: int, pin: Literal["auto", "always", "never"], cgroup: Path = CGROUP) -> tuple[int, ...]:
    """The core of each lane, empty where they are not pinned: more lanes than cores, or a platform without affinity.

    `auto` pins where there is a lane for every core of an affinity mask that leaves out some of the machine's, as a
    container has it that was given cores to itself, and no quota takes any of that back. With fewer lanes than cores
    the scheduler places them better: it knows which cores are two threads of one, and what else runs there.
    """
    if pin == "never" or not hasattr(os, "sched_setaffinity"):
        return ()
    mask, quota = sorted(os.sched_getaffinity(0)), quota_of(cgroup)
    own = lanes == len(mask) < (os.cpu_count() or 1) and (quota is None or quota >= lanes)
    return tuple(mask[:lanes]) if own or (pin == "always" and lanes <= len(mask)) else ()
