from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from benchmarks.asking import BrokenAnswerError, Question, Reply, ask

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
CHAT = Question("chat", "/v1/chat/completions", {"messages": []})


def asked(content: bytes, *, stream: bool, status: int = 200, **headers: str) -> Reply:
    """What becomes of a fixed response."""

    async def go() -> Reply:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content, headers=headers))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await ask(client, CHAT, stream=stream)

    return asyncio.run(go())


def stream_of(*chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> bytes:
    return "".join([": ping\n\n", *(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), end]).encode()


def delta(index: int, content: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": reason}]}


def whole(*contents: str) -> bytes:
    choices = [
        {"index": index, "message": {"content": content}, "finish_reason": "stop", "logprobs": None}
        for index, content in enumerate(contents)
    ]
    return json.dumps({"choices": choices, "usage": USAGE}).encode()


def test_the_same_answer_is_equal_streamed_and_whole() -> None:
    usage = {"choices": [], "usage": USAGE}
    streamed = asked(
        stream_of(delta(1, "a"), delta(0, "b"), delta(1, "c", "stop"), delta(0, "", "stop"), usage), stream=True
    )
    assert streamed.answer == asked(whole("b", "ac"), stream=False).answer
    assert streamed.answer != asked(whole("b", "ad"), stream=False).answer
    assert len(streamed.arrivals) == 3
    assert streamed.cached_tokens == 4


def test_log_probabilities_count() -> None:
    def with_logprob(value: float) -> bytes:
        body = json.loads(whole("b"))
        body["choices"][0]["logprobs"] = {"content": [{"token": "b", "logprob": value, "top_logprobs": []}]}
        return json.dumps(body).encode()

    assert asked(with_logprob(-1), stream=False).answer == asked(with_logprob(-1), stream=False).answer
    assert asked(with_logprob(-1), stream=False).answer != asked(with_logprob(-2), stream=False).answer


def test_errors_in_a_body_and_in_a_stream() -> None:
    error = {"error": {"message": "wait", "code": "queue_full"}}
    refused = asked(json.dumps(error).encode(), stream=True, status=429, **{"retry-after": "3"})
    assert (refused.status, refused.code, refused.retry_after, refused.answer) == (429, "queue_full", "3", None)
    failed = asked(stream_of(delta(0, "a"), error), stream=True)
    assert (failed.status, failed.code, failed.answer) == (200, "queue_full", None)


@pytest.mark.parametrize(
    "content",
    [
        stream_of(delta(0, "a", "stop"), {"choices": [], "usage": USAGE}, end=""),
        stream_of(delta(0, "a", "stop"), {"choices": [], "usage": USAGE}, end="data: [DONE]"),
        stream_of(delta(0, "a"), {"choices": [], "usage": USAGE}),
        stream_of(delta(0, "a", "stop")),
    ],
    ids=["no end", "half an end", "no reason", "no usage"],
)
def test_an_answer_that_is_not_complete_is_broken(content: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        asked(content, stream=True)
