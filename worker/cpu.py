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


def cores_of_lanes(lanes: int, pin: Literal["auto", "on", "off"], cgroup: Path = CGROUP) -> tuple[int, ...]:
    """The core of each lane, empty where they are not pinned: more lanes than cores, or a platform without affinity.

    `auto` pins where the affinity mask leaves out some of the machine's cores, as it does in a container that was given
    cores to itself: cores that others use, too, are better left to the scheduler. A quota below the mask means that
    they are not this process's own.
    """
    if pin == "off" or not hasattr(os, "sched_setaffinity"):
        return ()
    mask, quota = sorted(os.sched_getaffinity(0)), quota_of(cgroup)
    own = len(mask) < (os.cpu_count() or 1) and (quota is None or quota >= len(mask))
    return tuple(mask[:lanes]) if lanes <= len(mask) and (own or pin == "on") else ()
