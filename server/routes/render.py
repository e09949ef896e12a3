"""What would be sent to the model, and how long it is, without generating anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from engine.errors import ContextLengthError, InvalidRequestError
from server.chat.prompt import decode_tokens
from server.dependencies import Services, ServicesDep
from server.models.served import ServedModel
from server.request_prompts import CONTEXTS, RequestPrompts, prompt_of_chat, prompts_of_completion
from server.schemas.base import WireModel
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.fields import refuse_unsupported
from server.schemas.render import InputTokens, RenderedPrompts
from server.scopes import AccessScope, access
from server.validation import JsonRoute
from server.wire_json import JsonResponse

router = APIRouter(route_class=JsonRoute, tags=["tokens"])


@router.post("/v1/chat/completions/render", summary="The prompt of a conversation", response_model=RenderedPrompts)
@access(AccessScope.USER)
async def render_chat(body: ChatCompletionRequest, services: ServicesDep) -> Response:
    """Text and token ids of the prompt that this request would send to the model; nothing is generated."""
    return await _rendered(body, services, *await _chat_prompts(body, services))


@router.post("/v1/completions/render", summary="The prompts to be continued", response_model=RenderedPrompts)
@access(AccessScope.USER)
async def render_completion(body: CompletionRequest, services: ServicesDep) -> Response:
    """Text and token ids of each prompt that this request would send to the model; nothing is generated."""
    return await _rendered(body, services, *await _completion_prompts(body, services))


@router.post("/v1/chat/completions/input_tokens", summary="Length of a conversation", response_model=InputTokens)
@access(AccessScope.USER)
async def count_chat(body: ChatCompletionRequest, services: ServicesDep) -> Response:
    """How many tokens the prompt of this request has."""
    _, prompts = await _chat_prompts(body, services)
    return _counted(body, services, "chat.completion.input_tokens", prompts)


@router.post("/v1/completions/input_tokens", summary="Length of prompts", response_model=InputTokens)
@access(AccessScope.USER)
async def count_completion(body: CompletionRequest, services: ServicesDep) -> Response:
    """How many tokens the prompts of this request have together."""
    _, prompts = await _completion_prompts(body, services)
    return _counted(body, services, "text_completion.input_tokens", prompts)


async def _chat_prompts(body: ChatCompletionRequest, services: Services) -> tuple[ServedModel, RequestPrompts]:
    model = await services.model(body.model)
    refuse_unsupported(body)
    with longer_than_here():
        return model, await prompt_of_chat(body, model, services.config, contexts=CONTEXTS)


async def _completion_prompts(body: CompletionRequest, services: Services) -> tuple[ServedModel, RequestPrompts]:
    model = await services.model(body.model)
    refuse_unsupported(body)
    with longer_than_here():
        return model, await prompts_of_completion(body, model, contexts=CONTEXTS)


@contextmanager
def longer_than_here() -> Iterator[None]:
    """Say of a text that is longer than what is taken here that this, not the context, is the limit."""
    try:
        yield
    except ContextLengthError as error:
        raise InvalidRequestError(
            f"The text has at least {error.prompt_tokens} tokens. Texts of up to {CONTEXTS} times the model's context, "
            f"{error.max_model_len} tokens, are taken here.",
            param=error.param,
            code=error.code,
        ) from None


async def _rendered(body: WireModel, services: Services, model: ServedModel, prompts: RequestPrompts) -> Response:
    data: list[dict[str, Any]] = []
    for index, ids in enumerate(prompts.token_ids):
        text = prompts.text
        if text is None:
            text = await decode_tokens(ids, model.text.tokenizer, skip_special_tokens=False)
        data.append({"index": index, "prompt": text, "token_ids": ids, "prompt_tokens": len(ids)})
    answer = {"object": "list", "data": data, "max_model_len": model.limits.max_model_len}
    return JsonResponse(answer, headers={**services.ignored_fields.headers(body), **prompts.headers})


def _counted(body: WireModel, services: Services, kind: str, prompts: RequestPrompts) -> Response:
    answer = {"object": kind, "input_tokens": sum(map(len, prompts.token_ids))}
    return JsonResponse(answer, headers={**services.ignored_fields.headers(body), **prompts.headers})
