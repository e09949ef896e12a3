"""One request and all of its answer, streamed or whole, in a form in which answers can be compared."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        kind: what it is an example of.
        path: of the route.
        body: fields of the request, without those about streaming.
    """

    kind: str
    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an answer.

    Attributes:
        text: all of it.
        finish_reason: why it ended.
        logprobs: as the API gives them, empty if not asked for.
    """

    text: str
    finish_reason: str | None
    logprobs: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: equal if the client was told the same.

    Attributes:
        choices: in order of their index.
        prompt_tokens: of the usage.
        completion_tokens: of the usage.
    """

    choices: tuple[Choice, ...]
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Reply:
    """What came of a question. Times are of `time.monotonic`.

    Attributes:
        started: when it was asked.
        ended: when the last byte was there.
        status: of HTTP.
        answer: if it was finished.
        error: the `error` object, of a body or an event.
        retry_after: the header, if there is one.
        arrivals: when each event with text came, where the answer was streamed.
        cached_tokens: prompt tokens that were not computed again.
    """

    started: float
    ended: float = 0.0
    status: int = 0
    answer: Answer | None = None
    error: Mapping[str, Any] | None = None
    retry_after: str | None = None
    arrivals: list[float] = field(default_factory=list)
    cached_tokens: int = 0

    @property
    def code(self) -> str | None:
        """Of the error."""
        return None if self.error is None else self.error.get("code")


class BrokenAnswerError(Exception):
    """An answer that keeps no promise: neither complete nor with an error in it."""


async def ask(client: httpx.AsyncClient, question: Question, *, stream: bool) -> Reply:
    """Ask and wait for all of the answer.

    Args:
        client: with the server's root as its base URL.
        question: what to ask.
        stream: whether as a stream of events.

    Raises:
        httpx.TransportError: the connection broke or nothing came for too long.
        BrokenAnswerError: the answer is no OpenAI answer.
    """
    reply = Reply(time.monotonic())
    if stream:
        body = {**question.body, "stream": True, "stream_options": {"include_usage": True}}
        async with client.stream("POST", question.path, json=body) as response:
            _note(reply, response)
            if response.status_code == 200:
                await _read_events(response.aiter_bytes(), reply)
            else:
                _read_body(await response.aread(), reply)
    else:
        response = await client.post(question.path, json=question.body)
        _note(reply, response)
        _read_body(response.content, reply)
    reply.ended = time.monotonic()
    return reply


def _note(reply: Reply, response: httpx.Response) -> None:
    reply.status = response.status_code
    reply.retry_after = response.headers.get("retry-after")


def _read_body(content: bytes, reply: Reply) -> None:
    body = json.loads(content)
    if reply.status != 200:
        reply.error = body["error"]
        return
    reply.cached_tokens = body["usage"]["prompt_tokens_details"]["cached_tokens"]
    reply.answer = _fold([body])


async def _read_events(pieces: AsyncIterator[bytes], reply: Reply) -> None:
    """Read the events of a stream up to its end."""
    chunks: list[dict[str, Any]] = []
    done, rest = False, b""
    async for piece in pieces:
        now = time.monotonic()
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            if block.startswith(b":"):
                continue
            data = block.removeprefix(b"data: ")
            if data == DONE:
                done = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                reply.error = chunk["error"]
                continue
            chunks.append(chunk)
            if any(_text(choice) for choice in chunk["choices"]):
                reply.arrivals.append(now)
    if not done or rest:
        raise BrokenAnswerError(f"a stream ended without [DONE]: {rest!r}")
    if reply.error is None:
        reply.answer = _fold(chunks)
        reply.cached_tokens = chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"]


def _fold(chunks: Iterable[Mapping[str, Any]]) -> Answer:
    """The answer that chunks make together; a whole body is one chunk."""
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    logprobs: dict[int, list[Any]] = {}
    usage: Mapping[str, Any] | None = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + _text(choice)
            reasons[index] = choice["finish_reason"] or reasons.get(index)
            logprobs.setdefault(index, []).extend(_logprobs(choice))
    if usage is None or None in reasons.values():
        raise BrokenAnswerError(f"an answer ended without a reason or its usage: {reasons} {usage}")
    choices = (Choice(texts[index], reasons[index], tuple(logprobs[index])) for index in sorted(texts))
    return Answer(tuple(choices), usage["prompt_tokens"], usage["completion_tokens"])


def _text(choice: Mapping[str, Any]) -> str:
    part = choice.get("delta") or choice.get("message") or choice
    return part.get("content") or part.get("text") or ""


def _logprobs(choice: Mapping[str, Any]) -> list[Any]:
    """The tokens' log-probabilities of a choice, each in a form that compares."""
    given = choice.get("logprobs")
    if not given:
        return []
    if "content" in given:
        return [json.dumps(each, sort_keys=True) for each in given["content"] or []]
    return list(zip(given["tokens"], given["token_logprobs"], map(_frozen, given["top_logprobs"]), strict=True))


def _frozen(alternatives: Mapping[str, float] | None) -> tuple[tuple[str, float], ...]:
    return tuple((alternatives or {}).items())
