"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.errors import EngineDeadError
from engine.pooling import PoolingKind, PoolingParams
from engine.types import GenerationRequest
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine, vector_of

PATH = "/v1/embeddings"


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post(PATH, json={"input": "ab", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def numbers(ids: list[int], dimensions: int | None = None) -> list[float]:
    vector = vector_of(ids, dimensions)
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def test_an_answer_as_the_openai_api_has_it(client: TestClient, engine: FakeEngine, text: ModelText) -> None:
    ids = text.tokenizer.encode("ab")
    assert ask(client) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": numbers(ids)}],
        "model": "fake-model",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    (request,) = engine.requests
    assert request.pooling == PoolingParams(PoolingKind.MEAN)
    assert (request.sampling.max_tokens, request.prompt_token_ids) == (0, tuple(ids))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["ab", "a"], [[0, 67, 68], [0, 67]]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5, 6], [7], [8, 9, 10]], [[5, 6], [7], [8, 9, 10]]),
    ],
)
def test_inputs_go_through_the_engine_together_and_come_back_in_order(
    client: TestClient, engine: FakeEngine, given: Any, expected: list[list[int]]
) -> None:
    answer = ask(client, input=given)
    assert [each["index"] for each in answer["data"]] == list(range(len(expected)))
    assert [each["embedding"] for each in answer["data"]] == [numbers(ids) for ids in expected]
    assert answer["usage"]["prompt_tokens"] == sum(map(len, expected))
    assert sorted(list(request.prompt_token_ids) for request in engine.requests) == sorted(expected)


def test_base64_is_the_same_numbers_in_little_endian_order(client: TestClient) -> None:
    plain = ask(client, encoding_format="float")["data"][0]["embedding"]
    coded = base64.b64decode(ask(client, encoding_format="base64")["data"][0]["embedding"], validate=True)
    assert list(struct.unpack("<4f", coded)) == plain


def test_large_answers_are_the_same(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ask(client)
    monkeypatch.setattr("server.embedding_answer.LARGE", 1)
    assert ask(client) == small


def test_what_else_may_be_asked(client: TestClient, engine: FakeEngine) -> None:
    answer = ask(
        client,
        dimensions=2,
        pooling="last",
        user="me",
        timeout=5,
        priority=3,
        add_special_tokens=False,
        model="fake-model",
    )
    (request,) = engine.requests
    assert request.pooling == PoolingParams(PoolingKind.LAST, 2)
    assert (request.timeout, request.priority, request.prompt_token_ids) == (5, 3, (67, 68))
    assert answer["data"][0]["embedding"] == numbers([67, 68], 2)


def test_an_input_may_fill_the_context(client: TestClient) -> None:
    assert ask(client, input=[5] * 256)["usage"]["total_tokens"] == 256
    error = error_of(client.post(PATH, json={"input": [5] * 257}))
    assert (error["param"], error["code"], error["n_prompt_tokens"]) == ("input", "context_length_exceeded", 257)


def test_inputs_are_cut_where_the_request_says_so(client: TestClient, engine: FakeEngine) -> None:
    response = client.post(PATH, json={"input": list(range(5, 305)), "truncate_prompt_tokens": -1})
    assert response.headers["x-quire-truncated-tokens"] == "44"
    assert engine.requests[0].prompt_token_ids == tuple(range(49, 305))
    assert response.json()["usage"]["prompt_tokens"] == 256


def test_inputs_can_be_compared_with_earlier_ones(client: TestClient) -> None:
    ask(client, input=[5, 6, 7])
    response = client.post(PATH, json={"input": [5, 6, 8]}, headers={"x-quire-debug": "prefix"})
    assert json.loads(response.headers["x-quire-prefix"])["same_tokens"] == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[5], []]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": [1000]}, "input"),
        ({"input": "a", "dimensions": 5}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "pooling": "max"}, "pooling"),
        ({"input": "a", "tools": [1]}, "tools"),
    ],
)
def test_refusals_name_the_field(client: TestClient, engine: FakeEngine, fields: dict[str, Any], param: str) -> None:
    assert error_of(client.post(PATH, json=fields))["param"] == param
    assert not engine.requests


def test_unknown_models_and_fields(client: TestClient) -> None:
    assert error_of(client.post(PATH, json={"input": "a", "model": "other"}), 404)["code"] == "model_not_found"
    response = client.post(PATH, json={"input": "a", "normalise": True})
    assert response.headers["x-quire-ignored-fields"] == "normalise"


def test_failures_are_those_of_every_route(client: TestClient, engine: FakeEngine) -> None:
    engine.failure = EngineDeadError("The engine has died.")
    assert error_of(client.post(PATH, json={"input": ["a", "b"]}), 503)["code"] == "engine_dead"
    assert engine.requests


def test_it_counts_like_any_request(make_client: MakeClient) -> None:
    client = make_client()
    ask(client, input=["ab", "c"])
    text = client.get("/metrics").text
    assert 'quire_request_success_total{finished_reason="stop",model_name="fake-model"} 2.0' in text
    assert 'quire_request_prompt_tokens_sum{model_name="fake-model"} 5.0' in text
    assert 'quire_request_generation_tokens_sum{model_name="fake-model"} 0.0' in text


def test_what_the_vectors_are_is_said_with_the_model(client: TestClient) -> None:
    meta = client.get("/v1/models/fake-model").json()["meta"]
    assert meta["embeddings"] == {"dimensions": 4, "poolings": ["mean", "last"], "trained_for_embeddings": False}


def test_an_engine_that_says_nothing_is_an_error(client: TestClient, engine: FakeEngine) -> None:
    generate = engine.generate

    async def mute(request: GenerationRequest) -> Any:
        async for delta in generate(request):
            yield delta._replace(embedding=None)

    engine.generate = mute  # type: ignore[method-assign]
    assert error_of(client.post(PATH, json={"input": "a"}), 500)["code"] == "request_failed"
