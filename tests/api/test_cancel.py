"""Requests that are ended by another request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.test_disconnect import BODY, CHAT, Visitor, endless, run, until
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine
from tests.fakes.http import events

KEYS = {"api_key": ("mine", "yours"), "admin_key": ("admin",)}


@asynccontextmanager
async def connected(engine: FakeEngine, text: ModelText, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to the app directly."""
    app = create_app(engine, text, ServerConfig(**settings))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("prompts", [["a"], ["a", "b"]])
@pytest.mark.parametrize("name", ["header", "field"])
def test_a_whole_answer_that_is_cancelled_is_an_error(
    text: ModelText, queued: bool, prompts: list[str], name: str
) -> None:
    engine = FakeEngine(endless)

    async def scenario() -> None:
        if queued:
            engine.gate = asyncio.Event()  # never set: no delta ever comes
        async with connected(engine, text) as client:
            body = {"prompt": prompts, "request_id": "field"}
            asking = asyncio.create_task(client.post("/v1/completions", json=body, headers={"x-request-id": "header"}))
            await until(lambda: len(engine.requests) == len(prompts))
            cancelled = await client.post(f"/v1/requests/{name}/cancel")
            assert cancelled.json() == {"id": name, "object": "request.cancelled", "cancelled": 1}
            error = error_of(await asking, 400)
            assert (error["type"], error["code"]) == ("invalid_request_error", "request_cancelled")
            assert engine.aborted == {request.request_id for request in engine.requests}
            again = error_of(await client.post(f"/v1/requests/{name}/cancel"), 404)
            assert (again["code"], again["param"]) == ("request_not_found", "request_id")
            figures = (await client.get("/metrics")).text
            assert 'quire_request_unfinished_total{cause="abort",model_name="fake-model"} 1.0' in figures

    run(scenario())


def test_a_stream_that_is_cancelled_ends_with_an_error_event(text: ModelText) -> None:
    engine = FakeEngine(endless)

    async def scenario() -> None:
        app = create_app(engine, text, ServerConfig())
        asking = Visitor(app, CHAT, {**BODY, "stream": True})
        await until(lambda: b" and" in asking.body)
        answer_id = engine.requests[0].request_id  # which the first chunk tells
        cancelling = Visitor(app, f"/v1/requests/{answer_id}/cancel", {})
        await asyncio.gather(cancelling.task, asking.task)
        assert cancelling.sent[0]["status"] == 200
        *chunks, last = events(asking.body.decode())
        assert last["error"]["code"] == "request_cancelled"
        assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "some tokens and"
        assert {each["id"] for each in chunks} == {answer_id}
        assert engine.aborted == {answer_id}

    run(scenario())


def test_only_who_asked_and_who_runs_the_server_may_cancel(text: ModelText) -> None:
    engine = FakeEngine(endless)

    async def scenario() -> None:
        async with connected(engine, text, **KEYS) as client:

            async def begin(request_id: str) -> asyncio.Task[httpx.Response]:
                running = len(engine.requests)
                headers = {**key("mine"), "x-request-id": request_id}
                task = asyncio.create_task(client.post(CHAT, json=BODY, headers=headers))
                await until(lambda: len(engine.requests) == running + 1)
                return task

            first, second = await begin("first"), await begin("second")
            for others in ("yours", "mine"):
                path = "/v1/requests/unheard-of/cancel" if others == "mine" else "/v1/requests/first/cancel"
                error_of(await client.post(path, headers=key(others)), 404)
            assert (await client.post("/v1/requests/first/cancel")).status_code == 401
            assert not first.done()
            assert (await client.post("/v1/requests/first/cancel", headers=key("mine"))).status_code == 200
            assert (await client.post("/v1/requests/second/cancel", headers=key("admin"))).status_code == 200
            assert [error_of(await each, 400)["code"] for each in (first, second)] == ["request_cancelled"] * 2

    run(scenario())


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, 5])
def test_names_are_plain(text: ModelText, name: object) -> None:
    async def scenario() -> None:
        async with connected(FakeEngine(), text) as client:
            error = error_of(await client.post(CHAT, json={**BODY, "request_id": name}), 400)
            assert error["param"] == "request_id"

    run(scenario())
