"""The engine process from outside: streams, aborts, deaths. The child runs a toy engine."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine import async_engine, child_process
from engine.async_engine import AsyncEngine
from engine.child_process import start_child
from engine.config import EngineConfig
from engine.errors import CheckpointError, EngineDeadError, InvalidRequestError, RequestFailedError
from engine.messages import AddRequest, Load, LoadProgress, Prepare, StepOutput
from engine.transport import frame
from engine.types import FinishReason, GenerationRequest, OutputDelta
from tests.fakes.toy_engine import choice_tokens, request, run, toy_engine

MODULE = "tests.fakes.toy_process"
PATIENCE = 300.0
HASTY = 4.0
"""Seconds without an answer: longer than a machine under load makes a process wait, since tests wait for it to pass."""


def config(
    model: str = "toy",
    *,
    kv_cache_tokens: int = 1024,
    max_num_batched_tokens: int = 64,
    hang_timeout: float = PATIENCE,
    load_timeout: float = PATIENCE,
) -> EngineConfig:
    return EngineConfig(
        model=model,
        block_size=4,
        kv_cache_tokens=kv_cache_tokens,
        max_num_seqs=16,
        max_num_batched_tokens=max_num_batched_tokens,
        hang_timeout=hang_timeout,
        load_timeout=load_timeout,
    )


def with_engine(body: Callable[[AsyncEngine], Awaitable[None]], settings: EngineConfig | None = None) -> None:
    """Run `body` against a fresh engine process."""

    async def main() -> None:
        engine = await AsyncEngine.start(settings or config(), module=MODULE)
        try:
            await asyncio.wait_for(body(engine), PATIENCE)
        finally:
            await engine.close()

    asyncio.run(main())


async def collect(engine: AsyncEngine, what: GenerationRequest) -> list[OutputDelta]:
    return [delta async for delta in engine.generate(what)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_many_at_once_give_what_each_gives_alone() -> None:
    requests = [request(str(each), range(2, 4 + each), max_tokens=1 + each % 7, n=1 + each % 3) for each in range(40)]
    alone = toy_engine()

    async def body(engine: AsyncEngine) -> None:
        assert engine.healthy
        assert engine.model.vocab_size == 128
        answers = await asyncio.gather(*(collect(engine, each) for each in requests))
        for each, answer in zip(requests, answers, strict=True):
            alone.core.add(each)
            expected = run(alone.core)[0][each.request_id]
            for choice in range(each.sampling.n):
                assert choice_tokens(answer, choice) == choice_tokens(expected, choice)
            assert sum(delta.finish is not None for delta in answer) == each.sampling.n
        assert engine.stats.kv_blocks_used == 0
        asked_for = sum(each.sampling.n * (each.sampling.max_tokens or 0) for each in requests)
        assert engine.stats.generation_tokens_total == asked_for

    with_engine(body)


def test_a_seed_is_drawn_where_there_is_none() -> None:
    async def body(engine: AsyncEngine) -> None:
        answers = [await collect(engine, request(str(each), [5, 6], max_tokens=8, seed=None)) for each in range(3)]
        assert len({tuple(choice_tokens(answer)) for answer in answers}) == 3

    with_engine(body)


def test_a_bad_request_harms_no_other() -> None:
    async def body(engine: AsyncEngine) -> None:
        with pytest.raises(RequestFailedError, match="The engine failed on this request"):
            await collect(engine, request("bad", [2, 3]))
        with pytest.raises(InvalidRequestError, match="vocabulary"):
            await collect(engine, request("a", [2, 300]))
        assert len(choice_tokens(await collect(engine, request("good", [2, 3], max_tokens=5)))) == 5
        assert engine.healthy

    with_engine(body)


def test_an_id_may_be_used_again_at_once() -> None:
    async def body(engine: AsyncEngine) -> None:
        expected = choice_tokens(await collect(engine, request("a", [9, 9], max_tokens=20)))
        for _ in range(20):
            stream = engine.generate(request("a", [5, 5], max_tokens=200))
            await anext(stream, None)
            await stream.aclose()
            answer = await collect(engine, request("a", [9, 9], max_tokens=20))
            assert choice_tokens(answer) == expected
            assert {delta.request_id for delta in answer} == {"a"}

    with_engine(body)


def test_hundreds_of_random_aborts_leave_nothing_behind() -> None:
    chance = random.Random(5)

    async def one(engine: AsyncEngine, number: int) -> None:
        prompt = [2 + number % 100] * chance.randint(1, 60)
        stream = engine.generate(request(str(number), prompt, max_tokens=100, n=chance.randint(1, 4)))
        if chance.random() < 0.5:
            for _ in range(chance.randint(0, 5)):
                await anext(stream, None)
            await stream.aclose()
        else:
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(chance.random() * 0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stream.aclose()

    async def body(engine: AsyncEngine) -> None:
        await asyncio.gather(*(one(engine, each) for each in range(300)))
        last = await collect(engine, request("last", [2, 3], max_tokens=3))
        assert last[-1].finish is not None
        await until(lambda: engine.stats.running == engine.stats.waiting == 0)
        assert engine.stats.kv_blocks_used == 0

    with_engine(body, config(kv_cache_tokens=400))


def test_closing_a_stream_ends_its_request_in_the_process() -> None:
    async def body(engine: AsyncEngine) -> None:
        stream = engine.generate(request("a", [2, 3], max_tokens=250))
        await anext(stream)
        await stream.aclose()
        await until(lambda: engine.stats.running == 0)
        assert engine.stats.generation_tokens_total < 250
        assert engine.stats.kv_blocks_used == 0

    with_engine(body, config("slow"))


def test_a_slow_reader_gets_merged_deltas() -> None:
    async def body(engine: AsyncEngine) -> None:
        stream = engine.generate(request("slow", [2, 3], max_tokens=150, logprobs=1))
        deltas = [await anext(stream)]
        await until(lambda: engine.stats.running == 0)
        deltas += [delta async for delta in stream]
        assert len(deltas) <= 3
        assert len(choice_tokens(deltas)) == 150
        assert sum(len(delta.logprobs or ()) for delta in deltas) == 150
        assert b"".join(delta.data for delta in deltas) == bytes(each for each in choice_tokens(deltas) if each > 1)
        assert deltas[-1].finish == (FinishReason.LENGTH, None)

    with_engine(body)


def test_killing_the_process_fails_what_is_in_flight_and_what_comes_later() -> None:
    async def body(engine: AsyncEngine) -> None:
        async def failing(number: int) -> None:
            with pytest.raises(EngineDeadError, match="signal 9"):
                await collect(engine, request(str(number), [2, 3], max_tokens=200))

        tasks = [asyncio.create_task(failing(each)) for each in range(20)]
        await until(lambda: engine.stats.running > 0)
        os.kill(engine.pid, signal.SIGKILL)
        await asyncio.gather(*tasks)
        assert not engine.healthy
        with pytest.raises(EngineDeadError):
            await collect(engine, request("later", [2]))

    with_engine(body, config("slow"))


def test_every_request_a_death_fails_gets_an_error_of_its_own() -> None:
    async def body(engine: AsyncEngine) -> None:
        async def failure(number: int) -> EngineDeadError:
            with pytest.raises(EngineDeadError) as caught:
                await collect(engine, request(str(number), [2, 3], max_tokens=200))
            return caught.value

        tasks = [asyncio.create_task(failure(each)) for each in range(3)]
        await until(lambda: engine.stats.running > 0)
        os.kill(engine.pid, signal.SIGKILL)
        errors = [*await asyncio.gather(*tasks), await failure(3), await failure(4)]
        assert len({id(each) for each in errors}) == 5
        assert {str(each) for each in errors} == {str(errors[0])}

    with_engine(body, config("slow"))


def test_a_dead_engine_is_not_healthy_while_its_end_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: AsyncEngine) -> None:
        ended = asyncio.Event()

        async def patient(process: subprocess.Popen[bytes]) -> str:
            await ended.wait()
            return f"exit code {process.wait()}"

        monkeypatch.setattr(async_engine, "_await_exit", patient)
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: not engine.healthy)
        with pytest.raises(EngineDeadError, match="ended unexpectedly"):
            await collect(engine, request("a", [2]))
        ended.set()

    with_engine(body)


def test_a_fault_in_reading_is_logged_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: AsyncEngine, event: StepOutput) -> None:
        raise ZeroDivisionError("a bug")

    async def body(engine: AsyncEngine) -> None:
        with pytest.raises(EngineDeadError, match="lost"):
            await collect(engine, request("a", [2, 3], max_tokens=200))
        assert not engine.healthy
        assert engine._process.wait(PATIENCE) == -signal.SIGKILL

    monkeypatch.setattr(AsyncEngine, "_dispatch", broken)
    with_engine(body, config("slow"))
    assert "ZeroDivisionError: a bug" in caplog.text


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_stopped_process_is_found_and_killed(state: str) -> None:
    async def body(engine: AsyncEngine) -> None:
        if state == "busy":
            task = asyncio.create_task(collect(engine, request("a", [2, 3], max_tokens=200)))
            await until(lambda: engine.stats.running > 0)
        assert engine.responsive
        os.kill(engine.pid, signal.SIGSTOP)
        await until(lambda: not engine.responsive)
        assert engine.healthy
        assert await engine.ended() == "The engine process has not answered for 4 seconds."
        assert not engine.healthy
        if state == "busy":
            with pytest.raises(EngineDeadError, match="not answered"):
                await task
        await engine.close()
        with pytest.raises(ProcessLookupError):
            os.kill(engine.pid, 0)

    with_engine(body, config("slow", hang_timeout=HASTY))


def test_a_step_that_never_ends_is_found() -> None:
    async def body(engine: AsyncEngine) -> None:
        with pytest.raises(EngineDeadError, match="not answered"):
            await collect(engine, request("a", [99]))

    with_engine(body, config("stuck", hang_timeout=HASTY))


def test_loading_has_a_limit_of_its_own() -> None:
    with pytest.raises(EngineDeadError, match=r"no further for 0\.3 seconds"):
        asyncio.run(AsyncEngine.start(config("hangs", load_timeout=0.3), module=MODULE))


def test_loading_tells_how_far_it_is_and_waits_once_the_model_is_checked() -> None:
    seen: list[LoadProgress] = []
    checked = asyncio.Event()

    async def make_room() -> None:
        assert [each.stage for each in seen] == ["start", "checks"]
        await asyncio.sleep(0.3)
        assert [each.stage for each in seen] == ["start", "checks"]
        checked.set()

    async def main() -> None:
        engine = await AsyncEngine.start(config("late"), module=MODULE, on_progress=seen.append, when_checked=make_room)
        await engine.close()

    asyncio.run(main())
    assert checked.is_set()
    weights = [each for each in seen if each.stage == "weights"]
    assert weights[0] == LoadProgress("weights", 0, 4)
    assert [each.done for each in weights] == sorted({each.done for each in weights})
    assert len(weights) > 2


def test_loading_takes_as_long_as_its_process_needs_and_not_as_long_as_it_waits_for_room() -> None:
    async def make_room() -> None:
        await asyncio.sleep(0.5)

    async def main() -> tuple[float, float]:
        started = time.monotonic()
        engine = await AsyncEngine.start(config(), module=MODULE, when_checked=make_room)
        elapsed = time.monotonic() - started
        await engine.close()
        return engine.model.load_seconds, elapsed

    loading, elapsed = asyncio.run(main())
    # the toy itself says 0; no machine starts a process in no time
    assert 0 < loading <= elapsed - 0.5


def test_what_the_checks_find_is_found_before_room_is_made() -> None:
    asked: list[str] = []

    async def make_room() -> None:
        asked.append("room")

    for model, rooms in (("fails", 0), ("broken", 1)):
        with pytest.raises(CheckpointError):
            asyncio.run(AsyncEngine.start(config(model), module=MODULE, when_checked=make_room))
        assert len(asked) == rooms


def test_closing_fails_what_is_in_flight_and_ends_the_process() -> None:
    async def body(engine: AsyncEngine) -> None:
        task = asyncio.create_task(collect(engine, request("a", [2, 3], max_tokens=200)))
        await until(lambda: engine.stats.running > 0)
        await engine.close()
        with pytest.raises(EngineDeadError, match="shut down"):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(engine.pid, 0)
        assert not engine.healthy

    with_engine(body, config("slow"))


def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_engine, "SHUTDOWN_SECONDS", 0.3)

    async def body(engine: AsyncEngine) -> None:
        await engine.close()
        with pytest.raises(ProcessLookupError):
            os.kill(engine.pid, 0)

    with_engine(body, config("stubborn"))


def test_load_errors_keep_their_class() -> None:
    with pytest.raises(CheckpointError, match="tensor 'x' is missing"):
        asyncio.run(AsyncEngine.start(config("fails"), module=MODULE))
    with pytest.raises(EngineDeadError, match="while loading"):
        asyncio.run(AsyncEngine.start(config("crashes"), module=MODULE))


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The engine processes that are started, in order."""
    processes: list[subprocess.Popen[bytes]] = []
    spawn = start_child

    def recording(module: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
        process, connection = spawn(module)
        processes.append(process)
        return process, connection

    monkeypatch.setattr(async_engine, "start_child", recording)
    return processes


def test_giving_up_on_the_start_ends_the_process(spawned: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(AsyncEngine.start(config("hangs"), module=MODULE), 0.5))
    assert spawned[0].poll() == -signal.SIGKILL


def test_no_room_is_made_for_a_process_that_has_ended(spawned: list[subprocess.Popen[bytes]]) -> None:
    async def make_room() -> None:
        spawned[0].kill()
        await asyncio.Event().wait()

    with pytest.raises(EngineDeadError, match="signal 9"):
        asyncio.run(asyncio.wait_for(AsyncEngine.start(config(), module=MODULE, when_checked=make_room), PATIENCE))


def test_interrupts_are_the_parents_business() -> None:
    async def body(engine: AsyncEngine) -> None:
        os.kill(engine.pid, signal.SIGINT)
        os.kill(engine.pid, signal.SIGTERM)
        assert len(choice_tokens(await collect(engine, request("a", [2], max_tokens=3)))) == 3

    with_engine(body)


@pytest.mark.parametrize("state", ["loading", "idle", "busy"])
def test_the_process_ends_with_its_parent(state: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-m", MODULE, str(theirs.fileno())], pass_fds=(theirs.fileno(),))
        theirs.close()
        settings = config("hangs" if state == "loading" else "slow")
        ours.sendall(frame(Prepare(settings)) + frame(Load()))
        if state != "loading":
            assert ours.recv(1 << 16)  # it begins
        if state == "busy":
            ours.sendall(frame(AddRequest(request("a", [2], max_tokens=200), 0.0)))
            assert ours.recv(1 << 16)
    assert child.wait(PATIENCE) is not None


def test_a_folder_named_engine_where_the_user_stands_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)

    async def body(engine: AsyncEngine) -> None:
        assert engine.healthy

    with_engine(body)


def test_the_process_looks_for_packages_where_we_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = str(Path(async_engine.__file__).resolve().parents[1])
    link = tmp_path / "link"
    link.symlink_to(root)
    for path, expected in (
        (["/first", root, "/last"], ["/first", root, "/last"]),
        (["/first", str(link)], ["/first", str(link)]),
        (["", "/lib"], [root, "/lib"]),
    ):
        monkeypatch.setattr(sys, "path", path)
        assert child_process.import_path().split(os.pathsep) == expected


def test_the_client_side_does_not_load_torch() -> None:
    modules = "engine.async_engine, engine.admission, engine.client, engine.config, engine.messages"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
