"""Clients leave at any moment: in the queue, in prefill, in decode, half way through their request or their answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest

from benchmarks.rude_clients import be_rude, draw_rudeness, http_request
from benchmarks.server_process import PATIENCE, ServerProcess, eventually, open_files, summed
from tests.faults.conftest import Serve

AT_ONCE = 24
SEQUENCES = 8
QUEUE = 40
ABORTS = {"toy": 80, "demo": 1000}
LONGEST_PROMPT = {"toy": 100, "demo": 1200}
"""Tokens, so that a prompt takes several steps."""
LONGEST_ANSWER = {"toy": 60, "demo": 600}
COMPLAINTS = ("Traceback", "ERROR", "never retrieved", "was never awaited", "exception")


@dataclass
class Peaks:
    """The most of each that was seen while clients left."""

    seen: dict[str, float] = field(default_factory=dict)

    async def watch(self, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            while True:
                for name, value in summed((await client.get("/metrics")).text).items():
                    self.seen[name] = max(value, self.seen.get(name, 0.0))
                await asyncio.sleep(0.05)


class Leavers:
    """Clients that ask and do not wait for the end."""

    def __init__(self, url: str, kind: str, draw: random.Random) -> None:
        self._url = url
        self._kind = kind
        self._draw = draw
        self._model = httpx.get(f"{url}/v1/models", timeout=PATIENCE).json()["data"][0]["id"]
        self._sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
        self._ways: list[Callable[[], Awaitable[None]]] = [self._cancel, self._cancel_stream, self._close, self._raw]

    async def leave(self, times: int) -> None:
        """So many clients, some at the same time."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with places:
                await self._draw.choice(self._ways)()

        await asyncio.gather(*(one() for _ in range(times)))
        await self._sdk.close()

    def _fields(self) -> dict[str, Any]:
        length = self._draw.randrange(1, LONGEST_PROMPT[self._kind])
        return {
            "prompt": self._draw.choices(range(3, 120), k=length),
            "max_tokens": self._draw.randrange(1, LONGEST_ANSWER[self._kind]),
            "n": self._draw.choice([1, 1, 1, 2, 4]),
            "seed": self._draw.randrange(100),
        }

    def _while(self) -> float:
        return float(10 ** self._draw.uniform(-3, 0))

    async def _after_a_while(self, asking: Awaitable[Any]) -> None:
        """Cancel it, if it is still there."""
        task = asyncio.ensure_future(asking)
        await asyncio.wait({task}, timeout=self._while())
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(outcome, Exception), outcome

    async def _cancel(self) -> None:
        await self._after_a_while(self._sdk.completions.create(model=self._model, **self._fields()))

    async def _cancel_stream(self) -> None:
        async def read_on() -> None:
            async for _ in await self._sdk.completions.create(model=self._model, stream=True, **self._fields()):
                pass

        await self._after_a_while(read_on())

    async def _close(self) -> None:
        stream = await self._sdk.completions.create(model=self._model, stream=True, **self._fields())
        left = self._draw.randrange(20)
        async for _ in stream:
            if not left:
                break
            left -= 1
        await stream.close()

    async def _raw(self) -> None:
        body = {**self._fields(), "stream": self._draw.random() < 0.5}
        await be_rude(self._url, http_request(self._url, "/v1/completions", body), draw_rudeness(self._draw))


def files(server: ServerProcess) -> tuple[int, int]:
    return open_files(server.process.pid), open_files(server.child)


def answers(server: ServerProcess) -> list[str]:
    """What some requests are answered, alone."""
    bodies: list[dict[str, Any]] = [
        {"prompt": [5, 6], "max_tokens": 60},
        {"prompt": [7] * 90, "max_tokens": 30, "temperature": 1, "n": 3},
        {"prompt": [8, 9], "max_tokens": 20, "logprobs": 2, "temperature": 0},
    ]
    return [str(server.complete(**body).json()["choices"]) for body in bodies]


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_left_of_clients_that_leave(serve: Serve, kind: str, seed: int) -> None:
    engine = {"max_num_seqs": SEQUENCES, "max_num_batched_tokens": 64, "max_queued_requests": QUEUE}
    with serve(engine, {"stall_timeout": 10}) as server:
        before = files(server)  # nobody has connected yet; later a connection might be half closed
        expected = answers(server)
        eventually(lambda: server.metric("kv_cache_usage_perc") == 0)
        peaks = Peaks()

        async def leave() -> None:
            watching = asyncio.create_task(peaks.watch(server.url))
            await Leavers(server.url, kind, random.Random(seed)).leave(ABORTS[kind])
            watching.cancel()

        asyncio.run(leave())
        eventually(lambda: server.metric("num_requests_running") == server.metric("num_requests_waiting") == 0)
        eventually(lambda: server.metric("kv_cache_usage_perc") == 0)
        eventually(lambda: files(server) == before)
        assert answers(server) == expected
        # more prompts than may wait are let in only where the queue counts nobody
        assert server.complete([[5]] * (QUEUE + 1), max_tokens=1).status_code == 200
        # clients left in the queue, and in steps
        assert peaks.seen["num_requests_waiting"] > 0
        assert 1 < peaks.seen["num_requests_running"] <= SEQUENCES
        assert server.metric("request_unfinished_total") > ABORTS[kind] / 4
        assert server.metric("engine_restarts_total") == 0
        code, log = server.stop()
    assert code == 0
    assert not [line for line in log.splitlines() if any(word in line for word in COMPLAINTS)]
