"""The engine process is killed under load, again and again."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from benchmarks.server_process import ServerProcess, alive, eventually
from tests.fakes.http import events
from tests.faults.conftest import Serve

TOKENS = 250


def text_of(server: ServerProcess, prompt: int, max_tokens: int = 20) -> str:
    return str(server.complete([prompt], max_tokens=max_tokens).json()["choices"][0]["text"])


def test_kill_under_load_fails_what_is_in_flight_and_nothing_that_comes_later(serve: Serve) -> None:
    prompts = range(3, 23)
    with serve() as server, ThreadPoolExecutor(20) as pool:
        expected = dict(zip(prompts, pool.map(lambda prompt: text_of(server, prompt, TOKENS), prompts), strict=True))
        old = server.child
        asking = {n: pool.submit(server.complete, [n], max_tokens=TOKENS, stream=n % 2 == 0) for n in prompts}
        eventually(lambda: server.metric("num_requests_running") == 20)
        os.kill(old, signal.SIGKILL)
        for number, each in asking.items():
            response = each.result()
            if number % 2 == 0:
                assert response.status_code == 200
                *begun, end = events(response.text)
                error = end["error"]
                assert expected[number].startswith("".join(chunk["choices"][0]["text"] for chunk in begun))
            else:
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                error = response.json()["error"]
            assert error["code"] == "engine_dead"
        eventually(lambda: server.status() == 200)
        assert server.child != old
        assert text_of(server, 5, TOKENS) == expected[5]
        assert server.metric("engine_restarts_total") == 1
        assert server.metric("kv_cache_usage_perc") == 0
        assert server.metric("num_requests_running") == 0


def test_health_is_false_and_requests_are_told_to_wait_while_the_engine_restarts(serve: Serve) -> None:
    with serve() as server:
        os.kill(server.child, signal.SIGKILL)
        eventually(lambda: server.status() == 503)
        refused = server.complete([5, 6], max_tokens=2)
        if refused.status_code != 200:  # the next process may be up already
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_restarting")
            assert int(refused.headers["retry-after"]) >= 1
        eventually(lambda: server.complete([5, 6], max_tokens=2).status_code == 200)
        assert server.status() == 200


def test_an_engine_that_is_killed_while_it_loads_is_replaced_too(serve: Serve) -> None:
    with serve() as server:
        expected = text_of(server, 5)
        first = server.child
        os.kill(first, signal.SIGKILL)
        eventually(lambda: any(child != first for child in server.children()))
        second = server.child
        os.kill(second, signal.SIGKILL)
        eventually(lambda: server.status() == 503)
        eventually(lambda: server.status() == 200)
        assert server.child not in (first, second)
        assert text_of(server, 5) == expected


def test_repeated_failure_ends_the_program_with_one_clear_line(serve: Serve) -> None:
    with serve({"max_restarts": 1}) as server:
        os.kill(server.child, signal.SIGKILL)
        eventually(lambda: server.metric("engine_restarts_total") == 1)
        os.kill(server.child, signal.SIGKILL)
        code, log = server.end()
        assert code != 0
        assert "The engine failed 2 times within 300 seconds and is given up" in log


def test_no_engine_is_left_when_the_server_is_killed(serve: Serve) -> None:
    with serve() as server, ThreadPoolExecutor(4) as pool:
        child = server.child
        asking = [pool.submit(server.complete, [n], max_tokens=TOKENS) for n in range(3, 7)]
        eventually(lambda: server.metric("num_requests_running") > 0)
        os.kill(server.process.pid, signal.SIGKILL)
        eventually(lambda: not alive(child))
        for each in asking:
            assert each.exception() is not None
