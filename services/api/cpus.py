"""How many CPUs a process may use."""

import math
import os
from pathlib import Path


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and the quota of its cgroup, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def cgroup_quota(cgroup: Path) -> float | None:
    """The CPUs that the cgroup (v2, then v1) in this folder may use; None without a quota."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
        return int(limit) / int((cgroup / "cpu/cpu.cfs_period_us").read_text()) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
