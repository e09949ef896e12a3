"""Takes compiled kernels apart: which machine instructions each of them has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from cuda_ext.build import PACKAGED, find_nvcc


def find_cuobjdump() -> str | None:
    """Path of cuobjdump, with nvdisasm beside it: on the path, beside nvcc, or of the packages of the same names."""
    nvcc = find_nvcc()
    places = [PACKAGED]
    if nvcc is not None:
        places.append(Path(nvcc).parent)
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, places)])
    tool = shutil.which("cuobjdump", path=search)
    return tool if tool is not None and (Path(tool).parent / "nvdisasm").is_file() else None


def instructions(tool: str, built: Path, architecture: str) -> dict[str, Counter[str]]:
    """Instructions of each kernel of an object, e.g. `HMMA.16816.F32`, and how often each stands there.

    Args:
        tool: cuobjdump.
        built: the object.
        architecture: such as `sm_90a`.
    """
    search = os.pathsep.join([str(Path(tool).parent), os.environ.get("PATH", os.defpath)])
    listing = subprocess.run(
        [tool, "--dump-sass", "--gpu-architecture", architecture, str(built)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": search},
    ).stdout
    kernels: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in listing.splitlines():
        if found := re.search(r"Function : (\S+)", line):
            current = kernels.setdefault(found[1], Counter())
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Za-z0-9_.]*)", line):
            current[found[1]] += 1
    return kernels


def count(found: Counter[str], beginning: str) -> int:
    """How many instructions begin like this, e.g. all kinds of `LDS`."""
    return sum(times for name, times in found.items() if name == beginning or name.startswith(f"{beginning}."))
