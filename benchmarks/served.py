"""A server of its own for a benchmark, and the CPU time its processes use."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.scripted_engine import STEP_MS

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo" / "quire-demo"
PATIENCE = 120.0
"""Most seconds a server may take to start."""


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


class Served:
    """A server on a free port; a context manager.

    Args:
        module: what the engine process runs: a scripted engine, or `engine.process`.
        step_ms: how long a step of a scripted engine sleeps.
        engine: settings of the engine.
        server: settings of the server.

    Attributes:
        port: where it listens, at 127.0.0.1.
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
            "engine": {"model": str(DEMO), "max_queued_requests": 0, **(engine or {})},
            "server": {"port": 0, **(server or {})},
        }
        self._output = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 — closed with the server
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serve_with", json.dumps(settings)],
            cwd=ROOT,
            env={**os.environ, STEP_MS: str(step_ms)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.port = 0

    def __enter__(self) -> Served:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self.said()
            if "curl" in said:
                self.port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", said)[0])
                return self
            time.sleep(0.05)
        self._end()
        raise RuntimeError(f"The server did not start:\n{self.said()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._output.close()

    def said(self) -> str:
        """What the server has printed."""
        return Path(self._output.name).read_text()

    @property
    def pid(self) -> int:
        """Of the server process."""
        return self._process.pid

    @property
    def engine_pid(self) -> int:
        """Of the engine process."""
        task = Path(f"/proc/{self.pid}/task")
        return int("".join((each / "children").read_text() for each in task.iterdir()).split()[0])

    def cpu_time(self) -> CpuTime:
        """As of now."""
        return CpuTime(_cpu_seconds(self.pid), _cpu_seconds(self.engine_pid))

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, to the nanosecond, where Linux tells; `stat` counts in hundredths only."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
