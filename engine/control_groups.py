"""The control groups this process is in: where Linux keeps limits on memory and CPU time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class ControlGroup(NamedTuple):
    """A directory that may hold limits of a group, and the version (1 or 2) of the interface its files are of."""

    folder: Path
    version: int


def control_groups(controller: str, membership: Path, hierarchy: Path) -> Iterator[ControlGroup]:
    """Every directory that may hold a limit of a controller on this process: of its own group and all those above.

    In a container the path of the process may be that of the host while only the container's own part is mounted, at
    the root; of the directories given some do not exist, and the root is among them.

    Args:
        controller: `memory`, `cpu`, …
        membership: lists the groups of the process, usually /proc/self/cgroup; may be missing.
        hierarchy: where the groups are mounted, usually /sys/fs/cgroup.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots, version = (hierarchy, hierarchy / "unified"), 2
        elif controller in controllers.split(","):
            roots, version = (hierarchy / controller, hierarchy / controllers), 1
        else:
            continue
        own = Path(path.strip("/"))
        for root in roots:
            for part in (own, *own.parents):
                yield ControlGroup(root / part, version)
