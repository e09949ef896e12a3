"""How much memory this process may still take: what the machine has left, and what its control groups leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.control_groups import control_groups
from engine.errors import CapacityError


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """Where the kernel tells about memory.

    Attributes:
        meminfo: the machine's memory.
        membership: control groups of this process.
        hierarchy: where the control groups are mounted.
    """

    meminfo: Path = Path("/proc/meminfo")
    membership: Path = Path("/proc/self/cgroup")
    hierarchy: Path = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class _GroupFiles:
    """Files of a control group, and figures in its `memory.stat`, as one version of the interface names them."""

    limit: str
    usage: str
    cache: tuple[str, ...]
    mapped: str


_VERSION_1 = _GroupFiles(
    limit="memory.limit_in_bytes",
    usage="memory.usage_in_bytes",
    cache=("total_inactive_file", "total_active_file"),
    mapped="total_mapped_file",
)
_VERSION_2 = _GroupFiles(
    limit="memory.max",
    usage="memory.current",
    cache=("inactive_file", "active_file", "slab_reclaimable"),
    mapped="file_mapped",
)


def free_memory(files: MemoryFiles | None = None) -> int:
    """Bytes this process can take without swapping and without being killed for memory.

    That is the least of the machine's `MemAvailable` and, for each control group from the process's own up to the
    root, its limit less its usage. File cache that the kernel would give up does not count as used; mapped files do,
    since weights may be used straight from them.

    Raises:
        CapacityError: the system does not tell (it is not Linux).
    """
    files = files or MemoryFiles()
    try:
        available = _figures(files.meminfo)["MemAvailable:"] * 1024
    except (OSError, KeyError) as error:
        raise CapacityError(
            f"Cannot tell how much memory is free ({files.meminfo} does not say). Set kv_cache_tokens to the size the "
            "KV cache shall have."
        ) from error
    return max(0, min([available, *_group_headrooms(files)]))


def _group_headrooms(files: MemoryFiles) -> Iterator[int]:
    for folder, version in control_groups("memory", files.membership, files.hierarchy):
        headroom = _headroom(folder, _VERSION_1 if version == 1 else _VERSION_2)
        if headroom is not None:
            yield headroom


def _headroom(group: Path, names: _GroupFiles) -> int | None:
    """Bytes a group may still take, or None where it has no limit."""
    try:
        limit = (group / names.limit).read_text().strip()
        usage = int((group / names.usage).read_text())
        figures = _figures(group / "memory.stat")
    except OSError:
        return None
    if limit == "max":
        return None
    reclaimable = sum(figures.get(name, 0) for name in names.cache) - figures.get(names.mapped, 0)
    return int(limit) - usage + max(0, reclaimable)


def _figures(path: Path) -> dict[str, int]:
    """The lines `name number …` of a file of the kernel."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2}


def readable_size(number: int) -> str:
    """Bytes for people, e.g. `3.5 GiB`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"
