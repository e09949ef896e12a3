"""An engine that outlives its process. The children run a toy engine."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import supervisor
from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from engine.errors import CheckpointError, EngineDeadError, EngineRestartingError
from engine.stats import EngineStats, continued
from engine.supervisor import SupervisedEngine
from engine.types import GenerationRequest, OutputDelta
from tests.fakes.toy_engine import choice_tokens, request

MODULE = "tests.fakes.toy_process"


def config(model: str = "toy", *, max_restarts: int = 3) -> EngineConfig:
    return EngineConfig(model=model, block_size=4, kv_cache_tokens=1024, max_num_seqs=16, max_restarts=max_restarts)


def with_engine(body: Callable[[SupervisedEngine], Awaitable[None]], settings: EngineConfig) -> None:
    async def main() -> None:
        engine = await SupervisedEngine.start(settings, module=MODULE)
        try:
            await asyncio.wait_for(body(engine), 600)
        finally:
            await engine.close()

    asyncio.run(main())


async def collect(engine: SupervisedEngine, what: GenerationRequest) -> list[OutputDelta]:
    return [delta async for delta in engine.generate(what)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def kill_and_await_restart(engine: SupervisedEngine) -> None:
    old = engine.pid
    assert engine.silent_seconds >= 0
    os.kill(old, signal.SIGKILL)
    await until(lambda: not engine.healthy)
    await until(lambda: "signal 9" in (engine.last_failure or ""))
    await until(lambda: engine.healthy)
    assert engine.pid != old


def test_a_killed_process_is_replaced_and_the_next_one_gives_the_same_tokens() -> None:
    async def body(engine: SupervisedEngine) -> None:
        before = choice_tokens(await collect(engine, request("a", [2, 3], max_tokens=20)))
        in_flight = [asyncio.create_task(collect(engine, request(str(n), [n + 2], max_tokens=250))) for n in range(20)]
        await until(lambda: engine.stats.running > 0)
        sampled = engine.stats.generation_tokens_total
        await kill_and_await_restart(engine)
        for task in in_flight:
            with pytest.raises(EngineDeadError, match="signal 9"):
                await task
        assert engine.stats.running == engine.stats.kv_blocks_used == 0
        assert engine.stats.restarts_total == 1
        assert engine.stats.generation_tokens_total >= sampled
        assert choice_tokens(await collect(engine, request("a", [2, 3], max_tokens=20))) == before
        assert engine.stats.generation_tokens_total >= sampled + 20

    with_engine(body, config("slow"))


def test_requests_during_a_restart_are_told_to_come_again() -> None:
    async def body(engine: SupervisedEngine) -> None:
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: not engine.healthy)
        assert engine.model.name == "toy"
        for _ in range(2):
            with pytest.raises(EngineRestartingError, match="restarted") as refused:
                await collect(engine, request("a", [2]))
            assert refused.value.retry_after >= 1
        await until(lambda: engine.healthy)
        assert len(choice_tokens(await collect(engine, request("a", [2], max_tokens=3)))) == 3

    with_engine(body, config())


def test_a_machine_without_room_for_a_process_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.0)
    real, attempts = subprocess.Popen, 0

    def crowded(*arguments: Any, **options: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(*arguments, **options)

    async def body(engine: SupervisedEngine) -> None:
        descriptors = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(subprocess, "Popen", crowded)
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: not engine.healthy)
        await until(lambda: engine.healthy)
        assert attempts == 3
        await until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)

    with_engine(body, config())


def test_a_restart_that_fails_unforeseen_is_the_end_and_no_endless_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("No thread can be started.")

    async def body(engine: SupervisedEngine) -> None:
        monkeypatch.setattr(AsyncEngine, "start", fail)
        os.kill(engine.pid, signal.SIGKILL)
        assert "could not be restarted (RuntimeError" in await engine.given_up()
        with pytest.raises(EngineDeadError, match="could not be restarted"):
            engine.check_available()

    with_engine(body, config())


def test_too_many_failures_are_the_end() -> None:
    async def body(engine: SupervisedEngine) -> None:
        for _ in range(2):
            await kill_and_await_restart(engine)
        os.kill(engine.pid, signal.SIGKILL)
        why = await engine.given_up()
        assert "failed 3 times within 300 seconds" in why
        assert "signal 9" in why
        assert "\n" not in why
        assert not engine.healthy
        with pytest.raises(EngineDeadError, match="given up"):
            engine.check_available()
        assert engine.stats.restarts_total == 2

    with_engine(body, config(max_restarts=2))


def test_old_failures_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(supervisor, "time", clock)

    async def body(engine: SupervisedEngine) -> None:
        for _ in range(3):
            await kill_and_await_restart(engine)
            clock.now += 301
        assert engine.stats.restarts_total == 3

    with_engine(body, config(max_restarts=1))


def test_a_model_that_no_longer_loads_is_a_failure_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.0)

    async def body(engine: SupervisedEngine) -> None:
        os.kill(engine.pid, signal.SIGKILL)
        why = await engine.given_up()
        assert "failed 3 times" in why
        assert "tensor 'x' is missing" in why

    with_engine(body, config(f"once {tmp_path / 'loaded'}", max_restarts=2))


def test_without_restarts_the_first_failure_is_the_last() -> None:
    async def body(engine: SupervisedEngine) -> None:
        os.kill(engine.pid, signal.SIGKILL)
        assert "failed 1 times" in await engine.given_up()

    with_engine(body, config(max_restarts=0))


def test_a_first_load_that_fails_is_not_tried_again() -> None:
    with pytest.raises(CheckpointError, match="tensor 'x' is missing"):
        asyncio.run(SupervisedEngine.start(config("fails"), module=MODULE))


def test_closing_is_no_failure() -> None:
    async def body(engine: SupervisedEngine) -> None:
        await engine.close()
        assert not engine.healthy
        with pytest.raises(ProcessLookupError):
            os.kill(engine.pid, 0)
        with pytest.raises(EngineDeadError, match="shut down"):
            engine.check_available()
        assert engine.stats.restarts_total == 0

    with_engine(body, config())


def test_closing_during_a_restart_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = AsyncEngine.start

    async def slow_start(settings: EngineConfig, **options: Any) -> AsyncEngine:
        engine = await start(settings, **options)
        started.append(engine.pid)
        return engine

    async def body(engine: SupervisedEngine) -> None:
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: not engine.healthy)
        await engine.close()
        for pid in {engine.pid, *started}:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    monkeypatch.setattr(AsyncEngine, "start", slow_start)
    with_engine(body, config())


def test_counters_go_on_and_gauges_do_not() -> None:
    before = EngineStats(3, 2, 100, 25, 50, 1000, 400, 900, 600, 1)
    now = EngineStats(1, 0, 100, 5, 5, 10, 4, 9, 6, 0)
    assert continued(before, now)._asdict() == now._asdict() | {
        "steps_total": 55,
        "prompt_tokens_total": 1010,
        "generation_tokens_total": 404,
        "prefix_cache_queries_total": 909,
        "prefix_cache_hits_total": 606,
        "preemptions_total": 1,
    }
