"""What faults are done to: the toy engine by default, and the demo model among the slow tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.server_process import DemoServer, ServerProcess
from tests.fakes.toy_server import ToyServer


class Serve(Protocol):
    """Starts a server."""

    def __call__(
        self,
        engine: Mapping[str, Any] | None = None,
        server: Mapping[str, Any] | None = None,
        *,
        behaviour: str = "slow",
    ) -> ServerProcess:
        """A server with these settings, ready; `behaviour` is that of a toy."""
        ...


@pytest.fixture(params=["toy", pytest.param("demo", marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def kind(request: pytest.FixtureRequest) -> str:
    """`toy` or `demo`."""
    return str(request.param)


@pytest.fixture
def serve(kind: str, tmp_path: Path) -> Serve:
    """Starts servers of this kind."""

    def start(
        engine: Mapping[str, Any] | None = None,
        server: Mapping[str, Any] | None = None,
        *,
        behaviour: str = "slow",
    ) -> ServerProcess:
        engine, server = engine or {}, server or {}
        if kind == "toy":
            return ToyServer(tmp_path, behaviour, engine=dict(engine), server=dict(server)).ready()
        flags = [("--" + name.replace("_", "-"), str(value)) for name, value in {**engine, **server}.items()]
        return DemoServer(*(word for flag in flags for word in flag)).ready()

    return start
