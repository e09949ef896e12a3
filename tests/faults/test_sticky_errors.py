"""Errors after which no step can succeed: the engine process ends by itself, and another takes over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.server_process import eventually
from tests.fakes.http import events
from tests.fakes.toy_server import ToyServer


def test_a_lost_device_costs_what_is_in_flight_and_restarts_the_engine(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "lost").ready() as server, ThreadPoolExecutor(20) as pool:
        old = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=250, stream=n % 2 == 0) for n in range(3, 9)]
        eventually(lambda: server.metric("num_requests_running") == 6)
        fatal = server.complete([99], max_tokens=2)
        assert (fatal.status_code, fatal.json()["error"]["code"]) == (503, "engine_dead")
        assert "CUDA error: an illegal memory access" in fatal.json()["error"]["message"]
        for number, each in enumerate(asking, 3):
            response = each.result()
            assert response.status_code == (503 if number % 2 else 200)
            error = response.json()["error"] if number % 2 else events(response.text)[-1]["error"]
            assert error["code"] == "engine_dead"
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert server.complete([5, 6], max_tokens=2).status_code == 200
        assert server.metric("engine_restarts_total") == 1


def test_an_engine_whose_steps_all_fail_is_restarted(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "faulty").ready() as server:
        old = server.child
        failed = [server.complete([98], max_tokens=2) for _ in range(3)]
        assert [each.status_code for each in failed] == [500, 500, 503]
        assert failed[-1].json()["error"]["code"] == "engine_dead"
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert server.complete([5, 6], max_tokens=2).status_code == 200
