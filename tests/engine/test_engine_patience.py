"""How long a process is waited for, in virtual time. In its place something here says what it would say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from engine import async_engine
from engine.async_engine import AsyncEngine
from engine.config import EngineConfig
from engine.errors import EngineDeadError
from engine.messages import EngineReady, LoadProgress, ModelChecked, Ping, StepOutput
from engine.stats import EngineStats
from engine.transport import ChannelClosedError, frame, read_message
from tests.fakes.toy_engine import toy_model
from tests.fakes.virtual_time import run, stand_still

CONFIG = EngineConfig(model="toy", hang_timeout=10, load_timeout=5)
ANSWER = frame(StepOutput((), (), EngineStats()))

Says = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Process:
    """Lives until it is killed, as far as its parent can see."""

    pid = 0
    killed = False

    def poll(self) -> int | None:
        return -9 if self.killed else None

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:
        return -9


async def load(writer: asyncio.StreamWriter, pauses: list[float]) -> None:
    """Say after each pause that loading has got further, and at last that it is done."""
    writer.write(frame(ModelChecked()))
    for done, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        writer.write(frame(LoadProgress("weights", done, len(pauses))))
    writer.write(frame(EngineReady(toy_model())))


def with_process(
    says: Says, body: Callable[[AsyncEngine, Process], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> Process:
    """Run `body` on an engine whose process is played by `says`."""
    process = Process()

    async def ended(_: object) -> str:
        return "ended"

    async def main() -> None:
        ours, theirs = socket.socketpair()
        monkeypatch.setattr(async_engine, "start_child", lambda _: (process, ours))
        monkeypatch.setattr(async_engine, "_await_exit", ended)
        reader, writer = await asyncio.open_connection(sock=theirs)
        saying = asyncio.ensure_future(says(reader, writer))
        try:
            engine = await AsyncEngine.start(CONFIG)
            await body(engine, process)
            await engine.close()
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
            writer.transport.abort()

    run(main())
    return process


def answering(after: Callable[[float], float]) -> Says:
    """A process that answers each ping so many seconds later; given is when the ping came."""

    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await load(writer, [])
        now = asyncio.get_running_loop().time
        while True:
            try:
                message = await read_message(reader)
            except ChannelClosedError:
                return
            if isinstance(message, Ping):
                await asyncio.sleep(after(now()))
                writer.write(ANSWER)

    return says


@pytest.mark.parametrize("delay", [0.0, 1.0, 6.0])
def test_a_process_that_answers_lives(delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: AsyncEngine, process: Process) -> None:
        await asyncio.sleep(1000)
        assert engine.healthy
        assert not process.killed

    with_process(answering(lambda _: delay), body, monkeypatch)


def test_one_that_falls_silent_is_killed_when_its_time_is_over_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: AsyncEngine, process: Process) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(100)
        assert engine.responsive
        while engine.responsive:
            await asyncio.sleep(0.25)
        assert 105 <= now() < 108
        assert engine.healthy
        assert await engine.ended() == "The engine process has not answered for 10 seconds."
        assert 110 <= now() < 113
        assert process.killed
        assert not engine.healthy

    with_process(answering(lambda now: 0.0 if now < 100 else 1e6), body, monkeypatch)


def test_a_parent_that_stood_still_does_not_blame_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: AsyncEngine, process: Process) -> None:
        for _ in range(20):
            await asyncio.sleep(30)
            stand_still(1000)
        await asyncio.sleep(30)
        assert engine.healthy
        assert not process.killed

    with_process(answering(lambda _: 1.0), body, monkeypatch)


def test_loading_that_gets_further_may_take_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await load(writer, [4.9] * 100)

    async def body(engine: AsyncEngine, process: Process) -> None:
        assert engine.healthy
        assert asyncio.get_running_loop().time() > 480

    with_process(says, body, monkeypatch)


def test_loading_that_gets_no_further_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await load(writer, [4.9, 4.9, 5.1])

    async def body(engine: AsyncEngine, process: Process) -> None:
        pytest.fail("it was loaded")

    with pytest.raises(EngineDeadError, match=r"no further for 5 seconds \(load_timeout\)"):
        with_process(says, body, monkeypatch)
