"""The engine process stops answering, without ending."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.server_process import eventually
from tests.fakes.toy_server import ToyServer

HASTY = {"hang_timeout": 2}


def test_a_stopped_engine_is_replaced_and_its_requests_are_answered(tmp_path: Path) -> None:
    with ToyServer(tmp_path, engine=HASTY).ready() as server, ThreadPoolExecutor(8) as pool:
        expected = server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"]
        old = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=250) for n in range(3, 11)]
        eventually(lambda: server.metric("num_requests_running") == 8)
        os.kill(old, signal.SIGSTOP)
        for each in asking:
            assert (each.result().status_code, each.result().json()["error"]["code"]) == (503, "engine_dead")
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert not Path(f"/proc/{old}").exists()
        assert server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"] == expected
        assert server.metric("kv_cache_usage_perc") == 0


def test_a_step_that_never_ends_costs_its_requests_only(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "stuck", engine=HASTY).ready() as server:
        assert server.complete([99]).json()["error"]["code"] == "engine_dead"
        eventually(lambda: server.complete([5, 6], max_tokens=5).status_code == 200)
        assert server.metric("engine_restarts_total") == 1


def test_a_step_that_does_not_return_shows_in_the_health(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "stuck", engine={"hang_timeout": 8}).ready() as server, ThreadPoolExecutor(1) as pool:
        assert server.health()["status"] == "ok"
        stuck = pool.submit(server.complete, [99])
        eventually(lambda: server.health()["status"] == "engine_stalled")
        silent = server.health()
        assert silent["last_step_seconds"] > 2
        assert server.status("/health/live") == 200
        assert stuck.result().status_code == 503
        eventually(lambda: server.health()["status"] == "ok")
        assert server.health()["restarts"] == 1
        assert "has not answered for 8 seconds" in server.health()["last_failure"]
        assert server.health()["last_step_seconds"] < silent["last_step_seconds"]
