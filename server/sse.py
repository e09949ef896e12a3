"""Server-sent events as OpenAI's clients read them: one `data:` line per event, comments to keep the line alive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import cast

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Send

from server.config import ServerConfig

DONE = b"data: [DONE]\n\n"

SPARE_SECONDS = 2.0


def frame(payload: bytes) -> bytes:
    """One event. `payload` is a single line of JSON."""
    return b"data: " + payload + b"\n\n"


class EventStream(EventSourceResponse):
    """A streamed answer whose events are ready to be sent as they are.

    Pings, the client's going away and the server's end are the library's. Its own way of sending looks at the type of
    every event, writes it to the log and sets a timer for it, which costs more than making the event did.
    """

    # not a public name, but up to 3.7 there is no public one to do this with; a test watches that it is still called
    async def _stream_response(self, send: Send) -> None:
        events = cast("AsyncGenerator[bytes, None]", self.body_iterator)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        finally:  # a cancelled send leaves them open, and closing them takes a few steps of the event loop
            with anyio.CancelScope(shield=True):
                await events.aclose()
        async with self._send_lock:
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_stream(
    events: AsyncGenerator[bytes, None], config: ServerConfig, headers: Mapping[str, str]
) -> EventSourceResponse:
    """A streamed answer of framed events; the headers go out at once.

    When the client goes away the task that reads `events` is cancelled. When the server is told to end, answers have
    `shutdown_timeout` seconds before they lose their engine, and a little more to say so.
    """
    return EventStream(
        events,
        headers={"Cache-Control": "no-cache", **headers},
        ping=config.ping_interval,
        ping_message_factory=_ping,
        sep="\n",
        shutdown_grace_period=config.shutdown_timeout + SPARE_SECONDS,
    )


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")
