"""More requests than may wait: refused before the first byte, nothing counted for ever. Deadlines, priorities."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.test_disconnect import BODY, CHAT, PATIENCE, Visitor, run, until
from tests.fakes.engine import MODEL, FakeEngine


@pytest.mark.parametrize("limit", [{"max_queued_requests": 2}, {"max_queued_tokens": 50}])
@pytest.mark.parametrize("stream", [True, False])
def test_beyond_the_limit_a_request_is_refused_at_once(text: ModelText, stream: bool, limit: dict[str, int]) -> None:
    engine = FakeEngine(model=replace(MODEL, **limit))  # type: ignore[arg-type]

    async def scenario() -> None:
        engine.gate = asyncio.Event()
        app = create_app(engine, text, ServerConfig())
        waiting = [Visitor(app, CHAT, BODY) for _ in range(2)]
        await until(lambda: len(engine.requests) == 2)
        refused = Visitor(app, CHAT, {**BODY, "stream": stream})
        await asyncio.wait_for(refused.task, PATIENCE)
        assert refused.sent[0]["status"] == 429
        assert int(dict(refused.sent[0]["headers"])[b"retry-after"]) >= 1
        error = json.loads(refused.body)["error"]
        assert (error["type"], error["code"]) == ("rate_limit_exceeded", "queue_full")
        assert len(engine.requests) == 2
        metrics = app.state.services.models.families.render().decode()
        assert 'quire_request_unfinished_total{cause="queue_full",model_name="fake-model"} 1.0' in metrics
        engine.gate.set()
        for each in (*waiting, later := Visitor(app, CHAT, BODY)):
            await asyncio.wait_for(each.task, PATIENCE)
            assert each.sent[0]["status"] == 200
        assert later.body
        assert app.state.services.models.find(None).queue.requests == 0

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_gives_its_place_to_the_next(text: ModelText, stream: bool) -> None:
    engine = FakeEngine(model=replace(MODEL, max_queued_requests=1))

    async def scenario() -> None:
        engine.gate = asyncio.Event()
        app = create_app(engine, text, ServerConfig())
        for number in range(3):
            visitor = Visitor(app, CHAT, {**BODY, "stream": stream})
            await until(lambda number=number: len(engine.requests) == number + 1)
            await visitor.leave()
            assert app.state.services.models.find(None).queue.requests == 0

    run(scenario())


@pytest.mark.parametrize("body", [BODY, {"prompt": ["a", "b"]}])
def test_deadline_and_priority_reach_the_engine(
    client: TestClient, engine: FakeEngine, body: dict[str, object]
) -> None:
    path = CHAT if "messages" in body else "/v1/completions"
    assert client.post(path, json={**body, "timeout": 2.5, "priority": -3}).status_code == 200
    assert {(each.timeout, each.priority) for each in engine.requests} == {(2.5, -3)}
    engine.requests.clear()
    assert client.post(path, json={**body, "timeout": None, "priority": None}).status_code == 200
    assert {(each.timeout, each.priority) for each in engine.requests} == {(None, 0)}
