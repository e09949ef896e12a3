"""The engine process stops answering, without ending."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.server_process import alive, eventually
from tests.fakes.toy_server import ToyServer
from tests.faults.conftest import Serve

HASTY = {"hang_timeout": 5}


def test_a_stopped_engine_is_replaced_and_its_requests_are_answered(serve: Serve) -> None:
    with serve(HASTY) as server, ThreadPoolExecutor(8) as pool:
        expected = server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"]
        old = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=250) for n in range(3, 11)]
        eventually(lambda: server.metric("num_requests_running") == 8)
        stopped = time.monotonic()
        os.kill(old, signal.SIGSTOP)
        for each in asking:
            assert (each.result().status_code, each.result().json()["error"]["code"]) == (503, "engine_dead")
        assert time.monotonic() - stopped >= HASTY["hang_timeout"] / 2  # it was not taken for dead at once
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert not alive(old)
        assert server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"] == expected
        assert server.metric("kv_cache_usage_perc") == 0


def test_an_engine_that_stops_while_it_loads_is_replaced_too(serve: Serve, kind: str) -> None:
    seconds = {"toy": 15, "demo": 60}[kind]  # within which each has to start, too
    with serve({"load_timeout": seconds}) as server:
        first = server.child
        os.kill(first, signal.SIGKILL)
        eventually(lambda: any(child != first for child in server.children()))
        second = server.child
        os.kill(second, signal.SIGSTOP)
        eventually(lambda: not alive(second))
        eventually(lambda: server.status() == 200)
        assert server.complete([5, 6], max_tokens=5).status_code == 200
        assert f"for {seconds} seconds (load_timeout)" in server.log


def test_a_step_that_never_ends_costs_its_requests_only(tmp_path: Path) -> None:
    with ToyServer(tmp_path, "stuck", engine=HASTY).ready() as server:
        assert server.complete([99]).json()["error"]["code"] == "engine_dead"
        eventually(lambda: server.complete([5, 6], max_tokens=5).status_code == 200)
        assert server.metric("engine_restarts_total") == 1
