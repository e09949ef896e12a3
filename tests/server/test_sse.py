from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from sse_starlette import EventSourceResponse
from starlette.types import Send

from server.config import ServerConfig
from server.sse import DONE, EventStream, event_stream, frame

SCOPE: dict[str, Any] = {"type": "http", "method": "POST"}


class Events:
    """Endless events; closing them takes a moment."""

    def __init__(self) -> None:
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield frame(b"{}")
        finally:
            await asyncio.sleep(0.01)
            self.closed = True


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def _stream(events: AsyncGenerator[bytes, None], receive: Any, send: Any, **settings: Any) -> None:
    response = event_stream(events, ServerConfig(**settings), {"x-own": "1"})
    await asyncio.wait_for(response(SCOPE, receive, send), 300)


def test_events_go_out_as_they_are_and_the_answer_ends() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield frame(b"1")
        yield DONE

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(_stream(events(), never, send))
    assert sent[0]["status"] == 200
    assert (b"x-own", b"1") in sent[0]["headers"]
    assert [each["body"] for each in sent[1:]] == [b"data: 1\n\n", DONE, b""]
    assert [each["more_body"] for each in sent[1:]] == [True, True, False]


def test_the_library_still_sends_by_the_method_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that calls it no more would send every event in its own slow way again, and nothing would fail."""
    asked: list[EventSourceResponse] = []

    async def instead(response: EventSourceResponse, send: Send) -> None:
        asked.append(response)

    assert "_stream_response" in vars(EventSourceResponse)
    monkeypatch.setattr(EventStream, "_stream_response", instead)
    asyncio.run(_stream(Events()(), never, never))
    assert len(asked) == 1


def test_a_client_that_goes_away_in_the_middle_of_a_send_ends_the_work_to_its_end() -> None:
    events = Events()

    async def body() -> None:
        stuck = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                stuck.set()
                await asyncio.Event().wait()

        async def receive() -> dict[str, Any]:
            await stuck.wait()
            return {"type": "http.disconnect"}

        await _stream(events(), receive, send)

    asyncio.run(body())
    assert events.closed


def test_a_send_that_fails_ends_the_work_too() -> None:
    events = Events()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        asyncio.run(_stream(events(), never, send))
    assert events.closed


def test_a_stream_without_events_shows_that_it_lives() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        await pinged.wait()
        yield DONE

    pinged = asyncio.Event()
    bodies: list[bytes] = []

    async def send(message: dict[str, Any]) -> None:
        bodies.append(message.get("body", b""))
        if b": ping" in bodies[-1]:
            pinged.set()

    asyncio.run(_stream(events(), never, send, ping_interval=0.01))
    assert b": ping\n\n" in bodies
    assert DONE in bodies
