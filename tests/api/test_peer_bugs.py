"""Bugs found in other servers, each with a test that would fail if Quire had it.

| bug | test |
|---|---|
| a stream of completions adds to `max_tokens` per choice: it fails when unset, and later choices get more tokens | `test_every_choice_of_a_stream_gets_max_tokens` |
| chunks of streamed completions have a chat's id, and `model_name` in place of `model` | `test_chunks_of_completions_are_those_of_completions` |
| the id of a chat depends on whether it is streamed | `test_ids_of_chats_begin_alike` |
| `response_format` `json_object` is not recognised | `test_json_object_is_enforced` |
| what cannot be compiled is left out: an answer without any constraint | `test_what_does_not_compile_is_refused` |
| an answer that is not streamed has no `usage` | `test_usage_is_there_without_being_asked_for` |
| where the end of the reasoning is several tokens, the grammar constrains the reasoning itself | `test_a_grammar_waits_for_an_end_of_reasoning_of_several_tokens`; that the engine knows the marker by its bytes: `tests/engine/constraints/test_thinking.py::test_a_marker_spelled_in_pieces_is_one_too` |
| health remembers old errors and stays 503 | `test_health_forgets_errors_that_are_over` |
| an exception in one generation cancels all | `test_a_request_that_fails_costs_the_others_nothing`; in the engine: `tests/engine/test_core.py::test_a_step_that_raises_fails_its_requests_only` |
| image URLs are fetched from anywhere without limits | `test_no_url_is_ever_fetched` |
| log-probabilities of chunks with a tag in them are lost | `test_log_probabilities_make_up_the_content_around_tags` |
"""  # noqa: E501

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from engine.errors import RequestFailedError
from engine.types import GenerationRequest, GrammarKind
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine, Script, always, script
from tests.fakes.http import events
from tests.fakes.text import TEMPLATE, model_text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "Hi"}]
THINKS = TEMPLATE + "{# <think></think> #}"


def streamed(client: TestClient, path: str, **body: Any) -> list[Any]:
    response = client.post(path, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    return events(response.text)


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 2}])
def test_every_choice_of_a_stream_gets_max_tokens(
    client: TestClient, engine: FakeEngine, limit: dict[str, int]
) -> None:
    engine.answer = always(script(" ".join("abcdefghijklmnopqrstuvwxyz")))
    chunks = streamed(client, COMPLETIONS, prompt=["x", "y"], n=2, **limit)
    assert all("error" not in chunk for chunk in chunks)
    tokens = {
        index: sum(bool(choice["text"]) for chunk in chunks for choice in chunk["choices"] if choice["index"] == index)
        for index in range(4)
    }
    assert tokens == dict.fromkeys(range(4), limit.get("max_tokens", 16))
    assert {request.sampling.max_tokens for request in engine.requests} == {limit.get("max_tokens", 16)}


def test_chunks_of_completions_are_those_of_completions(client: TestClient) -> None:
    for chunk in streamed(client, COMPLETIONS, prompt="x"):
        assert chunk["id"].startswith("cmpl-")
        assert (chunk["object"], chunk["model"]) == ("text_completion", "fake-model")
        assert "model_name" not in chunk


def test_ids_of_chats_begin_alike(client: TestClient) -> None:
    whole = client.post(CHAT, json={"messages": USER}).json()["id"]
    assert {chunk["id"][:9] for chunk in streamed(client, CHAT, messages=USER)} == {whole[:9]} == {"chatcmpl-"}


def test_json_object_is_enforced(client: TestClient, engine: FakeEngine) -> None:
    assert client.post(CHAT, json={"messages": USER, "response_format": {"type": "json_object"}}).status_code == 200
    grammar = engine.requests[-1].sampling.grammar
    assert grammar is not None
    assert grammar.kind is GrammarKind.JSON_OBJECT


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "a(?=b)"}},
        {"structured_outputs": {"grammar": "start: nothing"}},
        {"structured_outputs": {"json": {"not": {}}}},
        {"grammar": "root ::= ("},
    ],
)
def test_what_does_not_compile_is_refused(client: TestClient, engine: FakeEngine, fields: dict[str, Any]) -> None:
    error = error_of(client.post(CHAT, json={"messages": USER, **fields}), 400)
    assert error["param"].startswith(next(iter(fields)))
    assert engine.requests == []


def test_usage_is_there_without_being_asked_for(client: TestClient) -> None:
    for path, body in ((CHAT, {"messages": USER}), (COMPLETIONS, {"prompt": "x"})):
        usage = client.post(path, json=body).json()["usage"]
        assert usage["completion_tokens"] == 3
        assert usage["total_tokens"] == usage["prompt_tokens"] + 3


def test_a_grammar_waits_for_an_end_of_reasoning_of_several_tokens(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path
) -> None:
    text = model_text(tmp_path, THINKS)
    assert len(text.tokenizer.encode("</think>", add_special_tokens=False)) == len("</think>")
    with_reasoning = make_client(text)
    engine.answer = always(script([b"<th", b"ink>not ", b"JSON</", b"think>", b"{}"]))
    body = {"messages": USER, "response_format": {"type": "json_object"}}
    message = with_reasoning.post(CHAT, json=body).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("not JSON", "{}")
    sampling = engine.requests[-1].sampling
    assert sampling.grammar is not None
    assert sampling.reasoning is not None  # so the engine holds the grammar back until it has seen the end


def test_health_forgets_errors_that_are_over(client: TestClient, engine: FakeEngine) -> None:
    engine.failure = RequestFailedError("It failed.")
    for _ in range(5):
        assert client.post(CHAT, json={"messages": USER}).status_code == 500
    engine.healthy = False
    assert client.get("/health").status_code == 503
    engine.healthy, engine.failure = True, None
    assert client.get("/health").status_code == 200


@dataclass
class OneFails(FakeEngine):
    """Fails the request whose prompt is the longest, in the middle of its answer; the others wait for that."""

    failed: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: GenerationRequest) -> Any:
        """As `FakeEngine`."""
        fails = len(request.prompt_token_ids) > 20
        async for delta in super().generate(request):
            yield delta
            if fails:
                self.failed.set()
                raise RequestFailedError("It failed.")
            await self.failed.wait()


def test_a_request_that_fails_costs_the_others_nothing(text: ModelText) -> None:
    async def scenario() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(OneFails(), text, ServerConfig()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            prompts = ["x", "y", "x" * 30, "z"]
            return await asyncio.gather(*(client.post(COMPLETIONS, json={"prompt": each}) for each in prompts))

    answers = asyncio.run(scenario())
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert {answer.json()["choices"][0]["text"] for answer in answers if answer.status_code == 200} == {
        "Hello there, world!"
    }


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    ],
)
def test_no_url_is_ever_fetched(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, part: dict[str, Any]
) -> None:
    def connect(*address: object) -> None:
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    error = error_of(client.post(CHAT, json={"messages": [{"role": "user", "content": [part]}]}), 400)
    assert error["param"].startswith("messages[0].content[0]")
    assert engine.requests == []


def test_log_probabilities_make_up_the_content_around_tags(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path
) -> None:
    client = make_client(model_text(tmp_path, THINKS))
    answer: Script = script([b"<think>", b"I see", b"</think>", b"\n\n", b"It <b", b">is", b" 4", b"."])
    engine.answer = always(answer)
    whole = client.post(CHAT, json={"messages": USER, "logprobs": True}).json()["choices"][0]
    chunks = streamed(client, CHAT, messages=USER, logprobs=True)
    parts = [choice["logprobs"]["content"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert "".join(entry["token"] for entry in whole["logprobs"]["content"]) == whole["message"]["content"]
    assert [entry for part in parts for entry in part] == whole["logprobs"]["content"]
