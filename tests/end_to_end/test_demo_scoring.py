"""What the server says of prompts is what the engine says of them offline, to the last bit."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from quire import LLM, PoolingParams, SamplingParams
from quire.demo_model import demo_model
from tests.end_to_end.conftest import Server

TEXTS = ("The capital of Norway is Oslo.", "A young sheep is called a lamb, and a young cow a calf.", "Once")


@pytest.fixture(scope="module")
def offline() -> LLM:
    return LLM(demo_model(), max_model_len=256, gpu_memory_utilization=0.05)


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=demo_server.url, api_key="none", max_retries=0, timeout=600)


def complete(server: Server, **fields: Any) -> list[dict[str, Any]]:
    response = httpx.post(f"{server.url}/completions", json={"temperature": 0, **fields}, timeout=600)
    assert response.status_code == 200, response.text
    choices: list[dict[str, Any]] = response.json()["choices"]
    return choices


def test_the_sum_over_a_continuation_is_the_one_computed_offline(demo_server: Server, offline: LLM) -> None:
    """Asked as an evaluation harness asks: prompts as token ids, several at once, one token more."""
    judged = offline.generate(TEXTS, SamplingParams(max_tokens=0, prompt_logprobs=1))
    prompts = [each.prompt_token_ids for each in judged]

    choices = complete(demo_server, prompt=prompts, max_tokens=1, logprobs=1, seed=1234, echo=True)

    for choice, expected in zip(choices, judged, strict=True):
        assert expected.prompt_logprobs is not None
        ids, told = expected.prompt_token_ids, expected.prompt_logprobs
        own = [None if entry is None else entry[token].logprob for token, entry in zip(ids, told, strict=True)]
        shown = choice["logprobs"]
        assert len(shown["token_logprobs"]) == len(ids) + 1
        assert shown["token_logprobs"][:-1] == own
        assert sum(shown["token_logprobs"][1:-1]) == sum(each for each in own if each is not None)
        for top, entry in zip(shown["top_logprobs"][1:-1], told[1:], strict=True):
            assert entry is not None
            assert max(top.values()) == max(each.logprob for each in entry.values())


def test_an_echoed_text_is_covered_by_its_tokens(demo_server: Server) -> None:
    for text, choice in zip(
        TEXTS, complete(demo_server, prompt=list(TEXTS), max_tokens=4, logprobs=0, echo=True), strict=True
    ):
        shown = choice["logprobs"]
        assert choice["text"].startswith(text)
        ends = pairwise([*shown["text_offset"], len(choice["text"])])
        pieces = [choice["text"][start:end] for start, end in ends]
        assert "".join(pieces) == choice["text"]
        spelled = [token for token, piece in zip(shown["tokens"], pieces, strict=True) if piece]
        assert [piece for piece in pieces if piece] == spelled


def test_vectors_over_http_are_those_made_offline(client: openai.OpenAI, offline: LLM) -> None:
    expected = [each.outputs.embedding for each in offline.embed(TEXTS)]
    answer = client.embeddings.create(model="quire-demo", input=list(TEXTS), encoding_format="float")
    assert [each.embedding for each in answer.data] == expected
    decoded = client.embeddings.create(model="quire-demo", input=list(TEXTS))
    assert [each.embedding for each in decoded.data] == expected

    last = offline.embed(TEXTS[0], PoolingParams("last", dimensions=16))[0].outputs.embedding  # type: ignore[arg-type]
    raw = client.embeddings.with_raw_response.create(
        model="quire-demo",
        input=TEXTS[0],
        encoding_format="base64",
        dimensions=16,
        extra_body={"pooling": "last"},
    )
    coded = raw.http_response.json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == last
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="quire-demo", input="a", dimensions=100_000)
