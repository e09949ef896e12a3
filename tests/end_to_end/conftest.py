"""A real server: the command a user runs, as a process of its own, on a loopback port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server_process import DemoServer

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`quire serve` with the given arguments, on a free port; `url` ends in `/v1`."""

    def __init__(self, *arguments: str) -> None:
        self._server = DemoServer(*arguments)
        self.process = self._server.process
        try:
            self.url = f"{self._server.ready().url}/v1"
        except BaseException:
            self._server.__exit__(None, None, None)
            raise

    def stop(self) -> tuple[int, str]:
        """End it as an init system would; exit code and everything it said."""
        with self._server as server:
            code, log = server.stop()
            return code, server.printed + log


@pytest.fixture(scope="session")
def demo_server() -> Iterator[Server]:
    """The embedded demo model, served once for all tests that only ask it things."""
    server = Server()
    yield server
    server.stop()
