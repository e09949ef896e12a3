"""The engine process is killed under load, again and again."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.server_process import eventually
from tests.fakes.http import events
from tests.fakes.toy_server import ToyServer


def test_kill_under_load_fails_what_is_in_flight_and_nothing_that_comes_later(tmp_path: Path) -> None:
    with ToyServer(tmp_path).ready() as server, ThreadPoolExecutor(20) as pool:
        expected = server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"]
        old = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=250, stream=n % 2 == 0) for n in range(3, 23)]
        eventually(lambda: server.metric("num_requests_running") == 20)
        os.kill(old, signal.SIGKILL)
        for number, each in enumerate(asking, 3):
            response = each.result()
            if number % 2 == 0:
                assert response.status_code == 200
                error = events(response.text)[-1]["error"]
            else:
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                error = response.json()["error"]
            assert error["code"] == "engine_dead"
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"] == expected
        assert server.metric("engine_restarts_total") == 1
        assert server.metric("kv_cache_usage_perc") == 0
        assert server.metric("num_requests_running") == 0


def test_health_is_false_and_requests_are_told_to_wait_while_the_engine_restarts(tmp_path: Path) -> None:
    with ToyServer(tmp_path).ready() as server:
        os.kill(server.child, signal.SIGKILL)
        eventually(lambda: server.status() == 503)
        refused = server.complete([5, 6], max_tokens=2)
        if refused.status_code != 200:  # the next process may be up already
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_restarting")
            assert int(refused.headers["retry-after"]) >= 1
        eventually(lambda: server.complete([5, 6], max_tokens=2).status_code == 200)


def test_repeated_failure_ends_the_program_with_one_clear_line(tmp_path: Path) -> None:
    with ToyServer(tmp_path, engine={"max_restarts": 1}).ready() as server:
        for restarts in (1, 2):
            os.kill(server.child, signal.SIGKILL)
            if restarts == 1:
                eventually(lambda: server.metric("engine_restarts_total") == 1)
        code, errors = server.end()
        assert code != 0
        assert "The engine failed 2 times within 300 seconds and is given up" in errors


def test_no_engine_is_left_when_the_server_is_killed(tmp_path: Path) -> None:
    with ToyServer(tmp_path).ready() as server, ThreadPoolExecutor(4) as pool:
        child = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=250) for n in range(3, 7)]
        eventually(lambda: server.metric("num_requests_running") > 0)
        os.kill(server.process.pid, signal.SIGKILL)
        eventually(lambda: not alive(child))
        for each in asking:
            assert each.exception() is not None


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
