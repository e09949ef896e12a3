"""Asking an application without a connection, as fast as it answers, and what every answer must be like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message

from tests.fakes.http import events

PATIENCE = 300.0
"""Seconds an answer may take: what takes longer hangs."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes


async def ask(app: ASGIApp, path: str, content: bytes, content_type: str) -> Answer:
    """POST something.

    Raises:
        TimeoutError: no answer came.
    """
    sent: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
    got: list[Message] = []
    gone = asyncio.Event()

    async def receive() -> Message:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        got.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", content_type.encode("latin-1"))]
    scope: dict[str, Any] = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b""},
        **{"headers": [*headers, (b"content-length", str(len(content)).encode())]},
        **{"client": ("127.0.0.1", 1), "server": ("localhost", 80), "state": {}},
    }
    await asyncio.wait_for(app(scope, receive, send), PATIENCE)
    start = next(message for message in got if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in got if message["type"] == "http.response.body")
    return Answer(start["status"], {k.decode().lower(): v.decode() for k, v in start["headers"]}, body)


def check(answer: Answer) -> None:
    """An answer in shape, whatever was asked: never a 5xx.

    Raises:
        AssertionError: it is not.
    """
    assert answer.status < 500, answer
    if answer.status == 200:
        if answer.headers["content-type"].startswith("text/event-stream"):
            for event in events(answer.content.decode()):
                assert "error" not in event or event["error"]["type"] == "invalid_request_error", answer
        else:
            json.loads(answer.content)
        return
    assert answer.status in (400, 404, 409, 413, 415), answer
    error = json.loads(answer.content)["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
