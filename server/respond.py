"""Sends the answer to a generation: streamed, or folded into one body; and stops working when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from server.chat.best_of import best_of
from server.chat.formats import AnswerFormat, Envelope
from server.chat.pieces import WholeChoice
from server.dependencies import Services, caller_of
from server.errors import Boundary
from server.generation import Generation
from server.models.served import ServedModel
from server.observability.prefix_report import prefix_headers
from server.request_prompts import RequestPrompts
from server.schemas.base import RequestFields
from server.schemas.completion import CompletionRequest
from server.sse import DONE, event_stream, frame
from server.translate import GenerationRequestBody

CLIENT_CLOSED_REQUEST = 499
"""Status for the log; the client is gone."""


class MakeFormat(Protocol):
    """Makes the format of an answer: `ChatFormat` or `CompletionFormat`."""

    def __call__(self, envelope: Envelope, *, logprobs: bool) -> AnswerFormat:
        """A format for one answer."""
        ...


async def respond(
    request: Request,
    body: GenerationRequestBody,
    services: Services,
    model: ServedModel,
    generation: Generation,
    make_format: MakeFormat,
    prompts: RequestPrompts,
) -> Response:
    """Answer with server-sent events or with one body, as the request asks.

    Args:
        request: to be answered.
        body: of it.
        services: of the server.
        model: what answers.
        generation: the answer to be.
        make_format: how it looks.
        prompts: what it answers, which the answer may have to tell something about.

    Raises:
        QuireError: whatever the engine raises before the answer has begun.
        InvalidRequestError: its headers ask for something there is not.
    """
    options = body.stream_options
    include_usage = bool(options and options.include_usage)
    created, name = int(time.time()), model.shown_as(body.model)

    def begin() -> AnswerFormat:
        fingerprint = model.fingerprint  # which is known once the model is loaded
        envelope = Envelope(generation.answer_id, created, name, fingerprint, include_usage=include_usage)
        return make_format(envelope, logprobs=body.wants_logprobs)

    headers = {**await enter(request, body, services, model, generation), **prompts.headers}
    generation.usage.truncated_tokens = prompts.truncated_tokens
    if body.stream:
        events = _events(request.state.request_id, generation, begin, include_usage=include_usage)
        return event_stream(events, services.config, headers)
    return await respond_whole(request, _fold(generation, begin, partial(_chosen, body)), headers)


async def enter(
    request: Request, body: RequestFields, services: Services, model: ServedModel, generation: Generation
) -> dict[str, str]:
    """Note a generation where it can be cancelled and its prompt be compared with; headers that its answer has.

    Raises:
        InvalidRequestError: the request's headers ask for something there is not.
    """
    first_prompt, caller = generation.prompts[0], caller_of(request) or ""
    headers = {**services.ignored_fields.headers(body), **await prefix_headers(request, model, first_prompt)}
    names = {generation.answer_id, request.state.request_id, body.request_id or generation.answer_id}
    services.running.add(generation, caller, names)
    generation.remember(model.recent_prompts.record(caller, first_prompt))
    return headers


async def respond_whole(request: Request, answer: Coroutine[Any, Any, bytes], headers: Mapping[str, str]) -> Response:
    """Answer with one JSON body; a client that leaves before it is there ends the work."""
    work = asyncio.create_task(answer)
    watcher = asyncio.create_task(_disconnected(request.receive))
    try:
        await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return Response(work.result(), headers=dict(headers), media_type="application/json")
    finally:
        work.cancel()
        watcher.cancel()
        await asyncio.gather(work, watcher, return_exceptions=True)


async def _events(
    request_id: str, generation: Generation, begin: Callable[[], AnswerFormat], *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Framed events up to `[DONE]`. Headers are out by now, so that an error can only be an event."""
    answer: AnswerFormat | None = None
    with Boundary(request_id) as boundary:
        async with aclosing(generation.pieces()) as pieces:
            async for piece in pieces:
                answer = answer or begin()
                yield b"".join(map(frame, answer.chunks(piece)))
        if include_usage and answer is not None:
            yield frame(answer.usage_chunk(generation.usage))
    if boundary.reply is not None:
        yield frame(boundary.reply.body())
    yield DONE


async def _fold(
    generation: Generation,
    begin: Callable[[], AnswerFormat],
    chosen: Callable[[list[WholeChoice]], list[WholeChoice]],
) -> bytes:
    choices = [WholeChoice() for _ in range(generation.choices)]
    async with aclosing(generation.pieces()) as pieces:
        async for piece in pieces:
            choices[piece.choice].add(piece)
    return begin().whole(chosen(choices), generation.usage)


def _chosen(body: GenerationRequestBody, choices: list[WholeChoice]) -> list[WholeChoice]:
    """Those of the choices that were asked for."""
    keep = body.n or 1
    if isinstance(body, CompletionRequest) and body.candidates > keep:
        return best_of(choices, body.candidates, keep)
    return choices


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
