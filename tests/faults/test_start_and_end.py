"""What clients are told while the model loads and while the server ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.rude_clients import http_request
from benchmarks.server_process import PATIENCE, ServerProcess, eventually
from tests.fakes.http import events
from tests.fakes.toy_server import ToyServer
from tests.faults.conftest import Serve


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the system gives to nobody else meanwhile, and on which a server may listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def test_the_port_answers_while_the_model_loads(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    with reserved_port() as port, ToyServer(tmp_path, f"until {go_on}", server={"port": port}) as server:
        server.url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(server))
        loading = server.complete([5, 6])
        assert (loading.status_code, loading.json()["error"]["code"]) == (503, "model_loading")
        assert loading.json()["error"]["progress"].keys() == {"stage", "done", "total"}
        assert int(loading.headers["retry-after"]) >= 1
        assert loading.headers["x-request-id"]
        assert [server.status(path) for path in ("/health/live", "/health", "/health/ready", "/v1/models")] == [
            *(200, 503, 503, 503)
        ]
        go_on.touch()
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


def test_an_engine_that_is_killed_while_the_first_model_loads_ends_the_program(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "hangs") as server:
        eventually(lambda: bool(server.children()))
        os.kill(server.child, signal.SIGKILL)
        code, log = server.end()
        assert code != 0
        assert "The engine process ended while loading (killed by signal 9)" in log


def text_of(response: httpx.Response) -> str:
    """Text of a streamed answer."""
    return "".join(chunk["choices"][0]["text"] for chunk in events(response.text))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_that_run_are_finished_and_no_others_begun(serve: Serve, number: signal.Signals) -> None:
    prompts = range(3, 11)
    with serve(server={"shutdown_timeout": PATIENCE}) as server, ThreadPoolExecutor(8) as pool:

        def ask(prompt: int) -> str:
            return text_of(server.complete([prompt], max_tokens=240, stream=True))

        expected = list(pool.map(ask, prompts))
        asking = [pool.submit(ask, prompt) for prompt in prompts]
        eventually(lambda: server.metric("num_requests_running") == 8)
        server.process.send_signal(number)
        eventually(lambda: server.status() == 503)
        refused = server.complete([5, 6])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert refused.headers["retry-after"]
        assert server.status("/health/live") == 200
        assert [each.result() for each in asking] == expected
        code, log = server.end()
        assert code == 0
        assert "Traceback" not in log


def test_a_request_that_is_half_sent_is_refused_and_keeps_nobody_waiting(serve: Serve) -> None:
    with serve(server={"shutdown_timeout": PATIENCE}) as server, half_sent(server, "Hello") as connection:
        eventually(lambda: server.status() == 200)  # a round trip, so that the half is there
        server.process.send_signal(signal.SIGTERM)
        answer = b""
        while data := connection.recv(1000):
            answer += data
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code": "shutting_down"' in answer
        assert b"connection: close" in answer.lower()
        code, log = server.end()
        assert code == 0
        assert "Traceback" not in log


def half_sent(server: ServerProcess, prompt: str) -> socket.socket:
    """A connection on which a request has begun whose body does not end."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), PATIENCE)
    request = http_request(server.url, "/v1/completions", {"prompt": prompt})
    connection.sendall(request[: len(request) - 5])
    return connection


def test_a_second_signal_ends_the_waiting(tmp_path: Path) -> None:
    with ToyServer(tmp_path, server={"shutdown_timeout": 1000}).ready() as server, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(server.complete, [3], n=60, max_tokens=250)
        eventually(lambda: server.metric("num_requests_running") > 0)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.status() == 503)
        server.process.send_signal(signal.SIGTERM)
        assert asking.result().json()["error"]["code"] == "shutting_down"
        assert server.end()[0] == 0
