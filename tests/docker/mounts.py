"""What a build leaves mounted when it fails: nothing under a folder must stay so, or it cannot be deleted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def mounts_below(folder: Path, table: str) -> list[str]:
    """Mount points in a folder, the innermost first.

    Args:
        folder: the folder, which counts too.
        table: content of `/proc/self/mounts`, in which odd characters are octal numbers.
    """
    written = [line.split()[1] for line in table.splitlines()]
    points = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), each) for each in written]
    return [point for point in reversed(points) if Path(point).is_relative_to(folder)]


def unmount_below(folder: Path) -> None:
    """Unmount everything in a folder, also what is in use."""
    for point in mounts_below(folder.resolve(), Path("/proc/self/mounts").read_text()):
        subprocess.run(["umount", "--lazy", point], check=True)
