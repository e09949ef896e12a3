"""A real server: the command a user runs, as a process of its own, on a loopback port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`quire serve` with the given arguments; `url` ends in `/v1`."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        # a file and not a pipe: nobody reads while tests run, and a full pipe would stop the server
        self._output = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "quire", "serve", *arguments, "--port", str(self.port)],
            cwd=ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"quire serve ended:\n{self._printed()}")
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.process.kill()
        self.process.wait()
        raise RuntimeError(f"quire serve did not answer:\n{self._printed()}")

    def stop(self) -> tuple[int, str]:
        """End it as an init system would; exit code and everything it printed."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        return code, self._printed()

    def _printed(self) -> str:
        """Everything it has printed; may be asked for once."""
        with self._output:
            self._output.seek(0)
            return self._output.read()


@pytest.fixture(scope="session")
def demo_server() -> Iterator[Server]:
    """The embedded demo model, served once for all tests that only ask it things."""
    server = Server()
    yield server
    server.stop()
