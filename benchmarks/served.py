"""A server around an engine of one's choice, and the CPU time its processes use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.server_process import ROOT, ServerProcess

DEMO = ROOT / "demo" / "quire-demo"


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds since the start of each process, user and system together."""

    server: float
    engine: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.server - earlier.server, self.engine - earlier.engine)

    @property
    def total(self) -> float:
        """Of both."""
        return self.server + self.engine


class Served(ServerProcess):
    """A server on a free port.

    Args:
        module: what the engine process runs: a scripted engine, or `engine.process`.
        step_ms: how long a step of a scripted engine sleeps.
        engine: settings of the engine.
        server: settings of the server.
    """

    def __init__(
        self,
        module: str = "benchmarks.scripted_engine",
        *,
        step_ms: float = 0.0,
        engine: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
    ) -> None:
        settings = {
            "module": module,
            "step_ms": step_ms,
            "engine": {"model": str(DEMO), "max_queued_requests": 0, **(engine or {})},
            "server": {"port": 0, **(server or {})},
        }
        super().__init__(["benchmarks.serve_with", json.dumps(settings)])

    @property
    def port(self) -> int:
        """Where it listens, at 127.0.0.1."""
        return urlsplit(self.url).port or 80

    def cpu_time(self) -> CpuTime:
        """As of now."""
        return CpuTime(_cpu_seconds(self.process.pid), _cpu_seconds(self.child))


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, to the nanosecond, where Linux tells; `stat` counts in hundredths only."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
