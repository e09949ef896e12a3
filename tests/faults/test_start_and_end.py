"""What clients are told while the model loads and while the server ends."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.server_process import eventually
from tests.fakes.http import events
from tests.fakes.toy_server import ToyServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_port_answers_while_the_model_loads(tmp_path: Path) -> None:
    port = free_port()
    with ToyServer(tmp_path, "late", server={"port": port}) as server:
        server.url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(server))
        loading = server.complete([5, 6])
        assert (loading.status_code, loading.json()["error"]["code"]) == (503, "model_loading")
        assert int(loading.headers["retry-after"]) >= 1
        assert loading.headers["x-request-id"]
        assert [server.status(path) for path in ("/health/live", "/health", "/health/ready", "/v1/models")] == [
            *(200, 503, 503, 503)
        ]
        server.ready()
        assert server.status() == 200
        assert server.complete([5, 6]).status_code == 200


def answers(server: ToyServer) -> bool:
    try:
        return server.status("/health/live") == 200
    except httpx.TransportError:
        return False


def test_a_model_that_cannot_be_loaded_ends_the_program(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "fails") as server:
        code, errors = server.end()
        assert code != 0
        assert "tensor 'x' is missing" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_that_run_are_finished_and_no_others_begun(tmp_path: Path, number: signal.Signals) -> None:
    with ToyServer(tmp_path).ready() as server, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(server.complete, [n], max_tokens=240, stream=True) for n in range(3, 11)]
        eventually(lambda: server.metric("num_requests_running") == 8)
        server.process.send_signal(number)
        eventually(lambda: server.status() == 503)
        refused = server.complete([5, 6])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert refused.headers["retry-after"]
        assert server.status("/health/live") == 200
        for each in asking:
            answer = events(each.result().text)
            assert answer[-1]["choices"][0]["finish_reason"] == "length"
        code, errors = server.end()
        assert code == 0
        assert "Traceback" not in errors


def test_a_second_signal_ends_the_waiting(tmp_path: Path) -> None:
    with ToyServer(tmp_path, server={"shutdown_timeout": 1000}).ready() as server, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(server.complete, [3], n=60, max_tokens=250)
        eventually(lambda: server.metric("num_requests_running") > 0)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.status() == 503)
        server.process.send_signal(signal.SIGTERM)
        assert asking.result().json()["error"]["code"] == "engine_dead"
        assert server.end()[0] == 0
