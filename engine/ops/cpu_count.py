"""How many threads are worth starting: physical cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from engine.control_groups import control_groups

TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Physical cores in this process's affinity mask, but no more than its control group's CPU quota pays for.

    Two hardware threads of one core count once: they share the arithmetic units that kernels keep busy. A quota is
    rounded down, because threads beyond it make the group stand still for the rest of each period.
    """
    # only Linux can tell which CPUs this process may use
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_core_of(cpu, TOPOLOGY) for cpu in allowed})
    return max(1, math.floor(min(cores, cpu_quota(CGROUPS, MEMBERSHIP))))


def _core_of(cpu: int, topology: Path) -> str:
    """A name for the core of a logical CPU: the list of its hardware threads, or the CPU itself if that is unknown."""
    try:
        return (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def cpu_quota(cgroups: Path, membership: Path) -> float:
    """CPUs the control group pays for, the tightest of its ancestors counting; infinite without a limit.

    Args:
        cgroups: where control groups are mounted, usually /sys/fs/cgroup.
        membership: lists the groups of this process, usually /proc/self/cgroup.
    """
    groups = control_groups("cpu", membership, cgroups)
    quotas = (_quota_v1(folder) if version == 1 else _quota_v2(folder) for folder, version in groups)
    return min(quotas, default=math.inf)


def _quota_v2(group: Path) -> float:
    words = _words(group / "cpu.max")
    return math.inf if len(words) != 2 or words[0] == "max" else int(words[0]) / int(words[1])


def _quota_v1(group: Path) -> float:
    quota, period = _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us")
    return math.inf if not quota or not period or int(quota[0]) < 0 else int(quota[0]) / int(period[0])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
