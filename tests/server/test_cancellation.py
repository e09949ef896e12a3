from __future__ import annotations

import asyncio
import gc

import pytest

from engine.errors import RequestCancelledError, RequestNotFoundError
from server.cancellation import Cancellation, RunningRequests


class Answer:
    """Something to be ended, once."""

    def __init__(self) -> None:
        self.running = True

    def cancel(self) -> bool:
        running, self.running = self.running, False
        return running


async def forever() -> None:
    await asyncio.Event().wait()


def test_work_that_waits_ends_at_once_and_goes_on_living() -> None:
    async def scenario() -> None:
        cancellation = Cancellation()

        async def work() -> str:
            try:
                await cancellation.wait(forever)
            except RequestCancelledError:
                await asyncio.sleep(0)  # the task is not cancelled any more
                return "told why"
            return "never"

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        cancellation.ask()
        cancellation.ask()
        assert await task == "told why"

    asyncio.run(scenario())


def test_work_that_does_not_wait_ends_when_it_would_next() -> None:
    async def scenario() -> None:
        cancellation = Cancellation()
        assert await cancellation.wait(lambda: asyncio.sleep(0, "a result")) == "a result"
        cancellation.ask()
        with pytest.raises(RequestCancelledError):
            await cancellation.wait(forever)

    asyncio.run(scenario())


@pytest.mark.parametrize("asked", [False, True])
def test_a_task_that_is_cancelled_for_another_reason_ends(asked: bool) -> None:
    async def scenario() -> None:
        cancellation = Cancellation()
        task = asyncio.create_task(cancellation.wait(forever))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        if asked:
            cancellation.ask()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_callers_end_their_own_requests_only() -> None:
    running = RunningRequests()
    mine, same_name, theirs = Answer(), Answer(), Answer()
    running.add(mine, "me", {"a", "b"})
    running.add(same_name, "me", {"a"})
    running.add(theirs, "you", {"a", "c"})
    with pytest.raises(RequestNotFoundError):
        running.cancel("c", "me")
    assert running.cancel("a", "me") == 2
    assert (mine.running, same_name.running, theirs.running) == (False, False, True)
    with pytest.raises(RequestNotFoundError):
        running.cancel("b", "me")  # has ended
    assert running.cancel("a", None) == 1
    assert not theirs.running


def test_what_nobody_holds_is_forgotten() -> None:
    running = RunningRequests()
    answer = Answer()
    running.add(answer, "me", {"a"})
    del answer
    gc.collect()
    with pytest.raises(RequestNotFoundError):
        running.cancel("a", "me")
