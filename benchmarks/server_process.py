"""`quire serve` in a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo" / "quire-demo"
PATIENCE = 600.0
"""Seconds; generous, since a deadline only keeps what failed from running forever."""

_BANNER = re.compile(r"^ *URL +(\S+)/v1\n *access ", re.MULTILINE)
_SERIES = re.compile(r"^quire_(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


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


class ServerProcess:
    """A server; a context manager, at whose end it is killed.

    Args:
        command: module and arguments for Python.

    Attributes:
        process: the server.
        url: of its root, once it is ready.
    """

    def __init__(self, command: Sequence[str]) -> None:
        # one for all, since making one costs as much as many requests; it keeps no connection
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.Client(timeout=PATIENCE, limits=limits)
        self._folder = tempfile.TemporaryDirectory(prefix="quire-serve-")
        # files and not pipes: nobody reads meanwhile, and a full pipe would stop the server
        with self._file("printed").open("w") as printed, self._file("log").open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=printed, stderr=log)
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        children = self.children()
        self.process.kill()
        self.process.wait()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)  # one that is stopped could not end with its parent
        self._client.close()
        self._folder.cleanup()

    @property
    def printed(self) -> str:
        """What it has printed."""
        return self._file("printed").read_text(encoding="utf-8", errors="replace")

    @property
    def log(self) -> str:
        """What it and its engine have said on the error output."""
        return self._file("log").read_text(encoding="utf-8", errors="replace")

    def _file(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def ready(self) -> Self:
        """Wait for the banner.

        Raises:
            RuntimeError: the server ended instead.
            TimeoutError: it does not come.
        """
        deadline = time.monotonic() + PATIENCE
        while (found := _BANNER.search(self.printed)) is None:
            if self.process.poll() is not None:
                raise RuntimeError(f"The server ended:\n{self.log}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"The server is not ready:\n{self.log}")
            time.sleep(0.02)
        self.url = found[1]
        return self

    def children(self) -> list[int]:
        """Process ids of the engines there are: one, or none between two. The checker of grammars is none of them."""
        pid = self.process.pid
        try:
            found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []
        return [each for each in found if _is_engine(each, of=pid)]

    @property
    def child(self) -> int:
        """Process id of the engine."""
        (pid,) = self.children()
        return pid

    @property
    def port(self) -> int:
        """Where it listens, at 127.0.0.1."""
        return urlsplit(self.url).port or 80

    def cpu_time(self) -> CpuTime:
        """As of now."""
        return CpuTime(_cpu_seconds(self.process.pid), _cpu_seconds(self.child))

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit code and what was said on the error output."""
        return self.process.wait(timeout=PATIENCE), self.log

    def stop(self) -> tuple[int, str]:
        """End it as an init system would: as `end`."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def complete(self, prompt: Any, **fields: Any) -> httpx.Response:
        """POST /v1/completions with a fixed seed and the end of text ignored, so that lengths are as asked for."""
        body = {"prompt": prompt, "seed": 7, "ignore_eos": True, **fields}
        return self._client.post(f"{self.url}/v1/completions", json=body)

    def status(self, path: str = "/health") -> int:
        """Status of a GET."""
        return self._client.get(f"{self.url}{path}").status_code

    def health(self) -> dict[str, Any]:
        """What /health says."""
        body: dict[str, Any] = self._client.get(f"{self.url}/health").json()
        return body

    def metrics(self) -> dict[str, float]:
        """Every metric without its prefix, the series of different labels summed up."""
        return summed(self._client.get(f"{self.url}/metrics").text)

    def metric(self, name: str) -> float:
        """One metric; 0 where there is no series of it yet."""
        return self.metrics().get(name, 0.0)


class DemoServer(ServerProcess):
    """The embedded demo model, served on a free port as a user would.

    Args:
        arguments: further ones of `quire serve`.
    """

    def __init__(self, *arguments: str) -> None:
        super().__init__(["quire", "serve", "--port", "0", *arguments])


class EngineServer(ServerProcess):
    """A server around an engine of one's choice, on a free port.

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
            "engine": {"model": str(DEMO), "max_queued_requests": 0, "max_queued_tokens": 0, **(engine or {})},
            "server": {"port": 0, **(server or {})},
        }
        super().__init__(["benchmarks.serve_with", json.dumps(settings)])


def summed(text: str) -> dict[str, float]:
    """Metrics in Prometheus' text format, the series of different labels summed up."""
    totals: dict[str, float] = {}
    for name, value in _SERIES.findall(text):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: it never does.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("It never came true.")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_engine(pid: int, of: int) -> bool:
    """Whether it runs an engine; a process that ends meanwhile does not, nor does one that has not got its program yet.

    Until then it has its parent's command line, and whoever stops it stops its parent, which waits for it in `vfork`.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        line, parents = (Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, of))
        return line != parents and not any(word.endswith(b".grammar_process") for word in line.split(b"\0"))
    return False


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, to the nanosecond, where Linux tells; `stat` counts in hundredths only."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def open_files(pid: int) -> int:
    """Number of descriptors a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def anonymous_memory(pid: int) -> int:
    """Bytes of memory a process has written to that belong to no file."""
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024
