"""Server-sent events as OpenAI's clients read them: one `data:` line per event, comments to keep the line alive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from sse_starlette import EventSourceResponse, ServerSentEvent

from server.config import ServerConfig

DONE = b"data: [DONE]\n\n"

SPARE_SECONDS = 2.0


def frame(payload: bytes) -> bytes:
    """One event. `payload` is a single line of JSON."""
    return b"data: " + payload + b"\n\n"


def event_stream(events: AsyncIterator[bytes], config: ServerConfig, headers: Mapping[str, str]) -> EventSourceResponse:
    """A streamed answer of framed events; the headers go out at once.

    When the client goes away the task that reads `events` is cancelled. When the server is told to end, answers have
    `shutdown_timeout` seconds before they lose their engine, and a little more to say so.
    """
    return EventSourceResponse(
        events,
        headers={"Cache-Control": "no-cache", **headers},
        ping=config.ping_interval,
        ping_message_factory=_ping,
        sep="\n",
        shutdown_grace_period=config.shutdown_timeout + SPARE_SECONDS,
    )


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")
