from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive

from server.arrivals import Arrivals, was_sent_away

PART: Message = {"type": "http.request", "body": b"a", "more_body": True}
END: Message = {"type": "http.request", "body": b"b", "more_body": False}


def receiving(*messages: Message) -> Receive:
    """Gives these messages, and then waits for ever."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def outcome(receive: Receive, disturb: Callable[[Arrivals, asyncio.Task[str]], None]) -> str:
    """What becomes of a task that reads two messages, and then does what it is asked for, when it is disturbed."""
    arrivals = Arrivals()
    watched = arrivals.watch(receive)

    async def handle() -> str:
        try:
            await watched()
            await watched()
            await asyncio.sleep(0.01)
        except asyncio.CancelledError as error:
            if not was_sent_away(error):
                raise
            await asyncio.sleep(0)  # no longer cancelled
            return "sent away"
        return "handled"

    async def go() -> str:
        task = asyncio.create_task(handle())
        await asyncio.sleep(0)
        disturb(arrivals, task)
        return await task

    return asyncio.run(go())


def send_away(arrivals: Arrivals, _: asyncio.Task[str]) -> None:
    arrivals.send_away()


def test_who_waits_for_the_rest_of_a_body_is_sent_away() -> None:
    assert outcome(receiving(PART), send_away) == "sent away"


def test_who_has_it_all_is_left_alone() -> None:
    assert outcome(receiving(PART, END), send_away) == "handled"


def test_other_ends_are_not_mistaken_for_it() -> None:
    with pytest.raises(asyncio.CancelledError):
        outcome(receiving(PART), lambda _, task: task.cancel())


def test_who_waits_for_the_client_to_leave_is_left_alone() -> None:
    async def go() -> str:
        arrivals = Arrivals()
        watched = arrivals.watch(receiving(END))
        await watched()
        waiting: asyncio.Future[Message] = asyncio.ensure_future(_awaited(watched))
        await asyncio.sleep(0)
        arrivals.send_away()
        await asyncio.sleep(0.01)
        left_alone = not waiting.done()
        waiting.cancel()
        return "waiting" if left_alone else "sent away"

    assert asyncio.run(go()) == "waiting"


async def _awaited(receive: Callable[[], Awaitable[Message]]) -> Message:
    return await receive()
