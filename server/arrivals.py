"""Requests whose bodies are still on their way: nothing is known of them yet, so that they can be sent away."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive

SENT_AWAY = "sent away before the body had arrived"


class Arrivals:
    """Knows which tasks wait for a body."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()

    def watch(self, receive: Receive) -> Receive:
        """`receive`, and a note of the task that waits in it until the body is complete."""
        complete = False

        async def watched() -> Message:
            nonlocal complete
            task = asyncio.current_task()
            if complete or task is None:
                return await receive()
            self._waiting.add(task)
            try:
                message = await receive()
            finally:
                self._waiting.discard(task)
            complete = not message.get("more_body", False)
            return message

        return watched

    def send_away(self) -> None:
        """Cancel everything that waits for a body; `was_sent_away` then tells so."""
        for task in self._waiting:
            task.cancel(SENT_AWAY)


def was_sent_away(error: asyncio.CancelledError) -> bool:
    """Whether the current task was cancelled by `Arrivals.send_away`; if so, it no longer counts as cancelled."""
    task = asyncio.current_task()
    if error.args != (SENT_AWAY,) or task is None:
        return False
    return task.uncancel() == 0
