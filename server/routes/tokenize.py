"""POST /tokenize and /detokenize."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from engine.errors import ContextLengthError, InvalidRequestError
from server.chat.prompt import chat_prompt, decode_tokens, encode_text
from server.dependencies import ServicesDep
from server.models.served import ServedModel
from server.schemas.fields import refuse_unsupported
from server.schemas.tokenize import DetokenizeRequest, TokenizeRequest
from server.scopes import AccessScope, access
from server.validation import JsonRoute
from server.wire_json import JsonResponse

CONTEXTS = 8
"""Texts may be this many times as long as the model's context, so that a client can see how much to cut."""

router = APIRouter(route_class=JsonRoute, tags=["tokens"])


@router.post("/tokenize", summary="Text or messages to token ids")
@access(AccessScope.USER)
async def tokenize(body: TokenizeRequest, services: ServicesDep) -> Response:
    """Token ids of a text, or of a conversation as the model would see it."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    try:
        tokens = await _encode(body, model, repair_roles=services.config.repair_roles)
    except ContextLengthError as error:
        raise InvalidRequestError(
            f"The text has at least {error.prompt_tokens} tokens. Texts of up to {CONTEXTS} times the model's context, "
            f"{error.max_model_len} tokens, are taken here.",
            param=error.param,
            code=error.code,
        ) from None
    answer = {"tokens": tokens, "count": len(tokens), "max_model_len": model.limits.max_model_len}
    return JsonResponse(answer, headers=services.ignored_fields.headers(body))


@router.post("/detokenize", summary="Token ids to text")
@access(AccessScope.USER)
async def detokenize(body: DetokenizeRequest, services: ServicesDep) -> Response:
    """The text of token ids."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    skipped = body.skip_special_tokens or False
    text = await decode_tokens(body.tokens, model.text.tokenizer, skip_special_tokens=skipped)
    return JsonResponse({"prompt": text}, headers=services.ignored_fields.headers(body))


async def _encode(body: TokenizeRequest, model: ServedModel, *, repair_roles: bool) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequestError(
            "Give either 'prompt' or 'messages'.", param="prompt" if body.messages is None else "messages"
        )
    text, max_tokens = model.text, CONTEXTS * model.limits.max_model_len
    if body.messages is not None:
        special = body.add_special_tokens or False
        prompt = await chat_prompt(
            body.messages, body, text, max_tokens=max_tokens, repair_roles=repair_roles, add_special_tokens=special
        )
        return prompt.token_ids
    special = True if body.add_special_tokens is None else body.add_special_tokens
    return await encode_text(body.prompt or "", text.tokenizer, max_tokens=max_tokens, add_special_tokens=special)
