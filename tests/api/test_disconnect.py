"""Clients that go away, slow engines, and many streams at once, driven through the ASGI interface itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.types import GenerationRequest
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.fakes.engine import FakeEngine, Script, always, script
from tests.fakes.http import events

CHAT = "/v1/chat/completions"
PATIENCE = 300.0
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


class Visitor:
    """One request, spoken as an HTTP server would: it can leave at any time."""

    def __init__(self, app: FastAPI, path: str, body: dict[str, Any]) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": json.dumps(body).encode(), "more_body": False})
        self.sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._send))  # type: ignore[arg-type]

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        """What has been received of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent)

    async def leave(self) -> None:
        """Close the connection and wait until the server is done with it."""
        self._incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def run(test: Awaitable[None]) -> None:
    """Run a test's coroutine."""

    async def main() -> None:
        await test

    asyncio.run(main())


def endless(request: GenerationRequest, choice: int) -> Script:
    """Some tokens, and then nothing more for ever."""
    return script("some tokens and", finish=None)


def test_leaving_before_the_vectors_are_there_aborts_them(text: ModelText) -> None:
    engine = FakeEngine()

    async def scenario() -> None:
        engine.gate = asyncio.Event()
        app = create_app(engine, text, ServerConfig())
        visitor = Visitor(app, "/v1/embeddings", {"input": ["a", "b"]})
        await until(lambda: len(engine.requests) == 2)
        await visitor.leave()
        assert engine.aborted == {request.request_id for request in engine.requests}
        assert app.state.services.models.find(None).queue.requests == 0

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_leaving_aborts_at_once(text: ModelText, stream: bool, queued: bool, path: str) -> None:
    engine = FakeEngine(endless)

    async def scenario() -> None:
        if queued:
            engine.gate = asyncio.Event()  # never set: no delta ever comes
        app = create_app(engine, text, ServerConfig())
        body = BODY if path == CHAT else {"prompt": ["a", "b"]}
        visitor = Visitor(app, path, {**body, "stream": stream, "n": 2})
        await until(lambda: len(engine.requests) == (1 if path == CHAT else 2))
        await asyncio.sleep(0.01)
        assert not engine.aborted
        await visitor.leave()
        assert engine.aborted == {request.request_id for request in engine.requests}
        metrics = app.state.services.models.families.render().decode()
        assert 'quire_request_unfinished_total{cause="abort",model_name="fake-model"} 1.0' in metrics

    run(scenario())


def test_answers_that_end_are_not_aborted(text: ModelText) -> None:
    engine = FakeEngine()

    async def scenario() -> None:
        app = create_app(engine, text, ServerConfig())
        for stream in (True, False):
            visitor = Visitor(app, CHAT, {**BODY, "stream": stream})
            await asyncio.wait_for(visitor.task, PATIENCE)
            assert visitor.sent[0]["status"] == 200
        assert len(engine.finished) == 2
        assert not engine.aborted

    run(scenario())


def test_one_failing_prompt_aborts_the_others(text: ModelText) -> None:
    class HalfBroken(FakeEngine):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[Any]:
            if request.prompt_token_ids == (6,):
                self.requests.append(request)
                raise RuntimeError("a bug")
            async for delta in super().generate(request):
                yield delta

    engine = HalfBroken(endless)

    async def scenario() -> None:
        app = create_app(engine, text, ServerConfig())
        visitor = Visitor(app, "/v1/completions", {"prompt": [[5], [6]]})
        await asyncio.wait_for(visitor.task, PATIENCE)
        assert visitor.sent[0]["status"] == 500
        await until(lambda: len(engine.aborted) == 1)

    run(scenario())


def test_keep_alive_comments_before_and_between_tokens(text: ModelText) -> None:
    engine = FakeEngine()

    async def scenario() -> None:
        engine.gate = asyncio.Event()
        app = create_app(engine, text, ServerConfig(ping_interval=0.01))
        visitor = Visitor(app, CHAT, {**BODY, "stream": True})
        await until(lambda: visitor.body.count(b": ping\n\n") >= 2)
        assert visitor.sent[0]["status"] == 200  # headers are not held back for the first token
        assert b"data:" not in visitor.body
        engine.gate.set()
        await asyncio.wait_for(visitor.task, PATIENCE)
        assert len(events(visitor.body.decode())) == 5

    run(scenario())


def test_errors_of_a_dying_engine_end_the_stream(text: ModelText) -> None:
    engine = FakeEngine(always(Script((), None)))

    class Dies(FakeEngine):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[Any]:
            return
            yield

    async def scenario() -> None:
        app = create_app(Dies(), text, ServerConfig())
        visitor = Visitor(app, CHAT, {**BODY, "stream": True})
        await asyncio.wait_for(visitor.task, PATIENCE)
        assert events(visitor.body.decode())[-1]["error"]["code"] == "request_failed"

    run(scenario())
    assert not engine.requests


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def test_many_streams_at_once(text: ModelText) -> None:
    def answer(request: GenerationRequest, choice: int) -> Script:
        return script(f"{request.sampling.max_tokens} " + " ".join(f"w{index}" for index in range(30)))

    engine = FakeEngine(answer)

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        body = {**BODY, "stream": number % 2 == 0, "max_tokens": 100 + number}
        response = await client.post(CHAT, json=body)
        if number % 2 == 0:
            parts = [chunk["choices"][0]["delta"].get("content", "") for chunk in events(response.text)]
            content = "".join(parts)
        else:
            content = response.json()["choices"][0]["message"]["content"]
        assert content == f"{100 + number} " + " ".join(f"w{index}" for index in range(30))

    async def scenario() -> None:
        async with connected(create_app(engine, text, ServerConfig())) as client:
            await asyncio.gather(*(ask(client, number) for number in range(64)))
        assert len(engine.finished) == 64
        assert not engine.aborted

    run(scenario())
