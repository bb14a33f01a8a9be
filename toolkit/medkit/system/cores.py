"""The number of cores that this process may use. A container may have fewer than the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def available_cores() -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    The least of what the machine has, what the scheduler lets the process run
    on, and what a container's CPU quota amounts to (rounded up).
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    quota = _quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _quota() -> float | None:
    """Return the container's CPU quota in cores; ``None`` where there is none."""
    try:
        if _CGROUP_V2.exists():
            limit, period = _CGROUP_V2.read_text().split()
        else:
            limit, period = (path.read_text().strip() for path in _CGROUP_V1)
        quota = float(limit) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number either
        return None
    return quota if quota > 0 else None
