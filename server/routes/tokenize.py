"""POST /tokenize and /detokenize, GET /tokenizer_info."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.responses import Response

from engine.errors import InvalidRequestError
from engine.text.special_tokens import NAMES
from server.chat.prompt import chat_prompt, decode_tokens, encode_text
from server.chat.tool_use import wanted_tools
from server.dependencies import ServicesDep
from server.models.served import ServedModel
from server.request_prompts import CONTEXTS
from server.routes.render import longer_than_here
from server.schemas.chat import TemplateFields
from server.schemas.fields import refuse_unsupported
from server.schemas.render import TokenizerInfo, TokenList, TokenText
from server.schemas.tokenize import DetokenizeRequest, TokenizeRequest
from server.schemas.tools import ToolFields
from server.scopes import AccessScope, access
from server.validation import JsonRoute
from server.wire_json import JsonResponse

router = APIRouter(route_class=JsonRoute, tags=["tokens"])


@router.post("/tokenize", summary="Text or messages to token ids", response_model=TokenList)
@access(AccessScope.USER)
async def tokenize(body: TokenizeRequest, services: ServicesDep) -> Response:
    """Token ids of a text, or of a conversation as the model would see it."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    with longer_than_here():
        tokens = await _encode(body, model, repair_roles=services.config.repair_roles)
    answer = {"tokens": tokens, "count": len(tokens), "max_model_len": model.limits.max_model_len}
    return JsonResponse(answer, headers=services.ignored_fields.headers(body))


@router.post("/detokenize", summary="Token ids to text", response_model=TokenText)
@access(AccessScope.USER)
async def detokenize(body: DetokenizeRequest, services: ServicesDep) -> Response:
    """The text of token ids."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    _check_ids(body.tokens, model.limits.vocab_size)
    skipped = body.skip_special_tokens or False
    text = await decode_tokens(body.tokens, model.text.tokenizer, skip_special_tokens=skipped)
    return JsonResponse({"prompt": text}, headers=services.ignored_fields.headers(body))


@router.get("/tokenizer_info", summary="The model's special tokens and template", response_model=TokenizerInfo)
@access(AccessScope.USER)
async def tokenizer_info(services: ServicesDep, model: str | None = None) -> Response:
    """What a client needs to prepare prompts itself, or to have `/tokenize` do it."""
    served = await services.model(model)
    text = served.text
    return JsonResponse(
        {
            "model": served.shown_as(model),
            **{name: text.tokenizer.special_tokens.get(name) for name in NAMES},
            "vocab_size": text.tokenizer.vocab_size,
            "model_max_length": served.limits.max_model_len,
            "chat_template": None if text.template is None else text.template.source,
        }
    )


async def _encode(body: TokenizeRequest, model: ServedModel, *, repair_roles: bool) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequestError(
            "Give either 'prompt' or 'messages'.", param="prompt" if body.messages is None else "messages"
        )
    text, max_tokens = model.text, CONTEXTS * model.limits.max_model_len
    if body.messages is not None:
        tools = wanted_tools(body)
        prompt = await chat_prompt(
            body.messages,
            body,
            text,
            tools=() if tools is None else tools.definitions,
            max_tokens=max_tokens,
            repair_roles=repair_roles,
            add_special_tokens=body.add_special_tokens or False,
        )
        return prompt.token_ids
    _refuse_chat_fields(body)
    special = True if body.add_special_tokens is None else body.add_special_tokens
    return await encode_text(body.prompt or "", text.tokenizer, max_tokens=max_tokens, add_special_tokens=special)


def _refuse_chat_fields(body: TokenizeRequest) -> None:
    for name in (*TemplateFields.model_fields, *ToolFields.model_fields):
        if getattr(body, name) is not None:
            raise InvalidRequestError(f"'{name}' is about 'messages'; a 'prompt' is taken as it is.", param=name)


def _check_ids(ids: Sequence[int], vocab_size: int) -> None:
    for index, token in enumerate(ids):
        if token >= vocab_size:
            raise InvalidRequestError(
                f"Token id {token} is not in the vocabulary; ids go from 0 to {vocab_size - 1}.",
                param=f"tokens[{index}]",
            )
