"""The machine a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("torch", "fastapi", "pydantic", "uvicorn", "httptools", "sse-starlette")


def machine() -> dict[str, str | float]:
    """What it ran on; `load` is the average of the last minute, so that a shared machine shows."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        **installed(PACKAGES),
    }


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those that are there."""
    found = {each.name.lower() for each in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in packages if name in found}


def cpu_name() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
