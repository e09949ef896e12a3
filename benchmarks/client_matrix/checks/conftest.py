"""What all checks share: the server, what to ask it, and what it tells of itself. Standard library and pytest only."""

from __future__ import annotations

import asyncio
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

PATIENCE = 600.0
"""Seconds to wait for what has to happen soon."""


@dataclass(frozen=True)
class Server:
    """The server under test.

    Attributes:
        root: its address.
        key: opens it.
        model: the name of the demo model.
    """

    root: str
    key: str
    model: str

    @property
    def url(self) -> str:
        """What clients call the base URL."""
        return f"{self.root}/v1"

    @contextmanager
    def one_more_abort(self) -> Iterator[None]:
        """What is done inside makes the server stop one answer before its end, and free all it held."""
        before = self._metric("request_unfinished_total")
        yield
        deadline = time.monotonic() + PATIENCE
        while self._metric("request_unfinished_total") != before + 1 or self._metric("num_requests_running") != 0:
            assert time.monotonic() < deadline, "the answer goes on although nobody wants it"
            time.sleep(0.05)

    async def cancel(self, asking: asyncio.Task[Any]) -> None:
        """Cancel what a client waits for, once the server is at it."""
        while await asyncio.to_thread(self._metric, "num_requests_running") == 0:
            assert not asking.done(), "the server never got the request"
            await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    def _metric(self, name: str) -> float:
        asked = urllib.request.Request(f"{self.root}/metrics", headers={"x-api-key": self.key})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^quire_{name}\{{.*\}} (\S+)$", text, re.MULTILINE))


@pytest.fixture(scope="session")
def server() -> Server:
    """The server that `benchmarks.client_matrix` started."""
    return Server(os.environ["QUIRE_URL"], os.environ["QUIRE_KEY"], os.environ["QUIRE_MODEL"])
