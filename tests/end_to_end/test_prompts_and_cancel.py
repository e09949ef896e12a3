"""Prompts shown, counted and cut, the best of several answers, and answers that are cancelled, with the demo model."""

from __future__ import annotations

import time
from typing import Any

import httpx
import openai
import pytest

from tests.end_to_end.conftest import Server

STORY = [{"role": "user", "content": "Tell me a story about a fox and a lantern."}]


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=demo_server.url, api_key="none", max_retries=0, timeout=600)


@pytest.fixture
def raw(demo_server: Server) -> httpx.Client:
    return httpx.Client(base_url=demo_server.url.removesuffix("/v1"), timeout=600)


def test_what_is_rendered_and_counted_is_what_is_answered(client: openai.OpenAI, raw: httpx.Client) -> None:
    body = {"messages": STORY, "temperature": 0, "max_tokens": 8}
    (shown,) = raw.post("/v1/chat/completions/render", json=body).json()["data"]
    counted = raw.post("/v1/chat/completions/input_tokens", json=body).json()["input_tokens"]
    answer = client.chat.completions.create(model="quire-demo", **body)  # type: ignore[call-overload]
    assert answer.usage.prompt_tokens == counted == shown["prompt_tokens"]
    same = client.completions.create(model="quire-demo", prompt=shown["token_ids"], temperature=0, max_tokens=8)
    as_text = client.completions.create(
        model="quire-demo",
        prompt=shown["prompt"],
        temperature=0,
        max_tokens=8,
        extra_body={"add_special_tokens": False},
    )
    assert answer.choices[0].message.content == same.choices[0].text == as_text.choices[0].text


def test_a_harness_learns_what_it_needs_of_the_tokenizer(raw: httpx.Client) -> None:
    info = raw.get("/tokenizer_info").json()
    (eos,) = raw.post("/tokenize", json={"prompt": info["eos_token"], "add_special_tokens": False}).json()["tokens"]
    assert raw.post("/detokenize", json={"tokens": [eos]}).json()["prompt"] == info["eos_token"]
    assert eos < info["vocab_size"]
    assert "messages" in info["chat_template"]


def test_the_best_of_several_is_the_likeliest_of_them(client: openai.OpenAI) -> None:
    settings = {"prompt": "Once upon a time", "temperature": 1.5, "seed": 5, "max_tokens": 12, "logprobs": 0}
    four = client.completions.create(model="quire-demo", n=4, **settings)  # type: ignore[call-overload]
    best = client.completions.create(model="quire-demo", best_of=4, n=2, **settings)  # type: ignore[call-overload]

    def mean(choice: openai.types.CompletionChoice) -> float:
        assert choice.logprobs is not None
        values = [each for each in choice.logprobs.token_logprobs or [] if each is not None]
        return sum(values) / len(values)

    ranked = sorted(four.choices, key=mean, reverse=True)
    assert len({choice.text for choice in four.choices}) == 4
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.usage.completion_tokens == four.usage.completion_tokens


def test_a_cut_prompt_is_answered_like_its_end(client: openai.OpenAI, raw: httpx.Client) -> None:
    tokens = raw.post("/tokenize", json={"prompt": "The fox ran. " * 40, "add_special_tokens": False}).json()["tokens"]
    settings = {"temperature": 0, "max_tokens": 8}
    cut = raw.post("/v1/completions", json={"prompt": tokens, "truncate_prompt_tokens": 30, **settings})
    assert cut.headers["x-quire-truncated-tokens"] == str(len(tokens) - 30)
    end = client.completions.create(model="quire-demo", prompt=tokens[-30:], **settings)  # type: ignore[call-overload]
    assert cut.json()["choices"][0]["text"] == end.choices[0].text
    assert cut.json()["usage"]["prompt_tokens"] == 30


def test_a_stream_can_be_cancelled_by_the_id_of_its_answer(client: openai.OpenAI, raw: httpx.Client) -> None:
    chunks: Any = client.chat.completions.create(
        model="quire-demo",
        messages=STORY,
        stream=True,
        extra_body={"ignore_eos": True},  # type: ignore[arg-type]
    )
    first = next(iter(chunks))
    cancelled = raw.post(f"/v1/requests/{first.id}/cancel")
    assert cancelled.json()["cancelled"] == 1
    with pytest.raises(openai.APIError, match="was cancelled"):
        for _ in chunks:
            pass
    deadline = time.monotonic() + 600
    while raw.get("/health").json()["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert raw.post(f"/v1/requests/{first.id}/cancel").status_code == 404


def test_a_model_that_fills_no_gaps_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no tokens for filling gaps"):
        client.completions.create(model="quire-demo", prompt="def f(", suffix="): pass")
