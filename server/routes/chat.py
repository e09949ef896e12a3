"""POST /v1/chat/completions."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.admission import admit, check_grammar, grammar_check
from server.chat.call_ids import CallIds
from server.chat.formats import ChatFormat
from server.chat.reasoning import Reasoning, WithoutThoughts, wanted_reasoning
from server.chat.reasoning_fields import Shown, reasoning_shown, thoughts_field
from server.chat.shown_prompt import PromptView
from server.chat.tool_calling import ToolCalling, tool_calling
from server.chat.tool_history import call_ids
from server.dependencies import ServicesDep
from server.observability.request_log import log_generation
from server.openapi import event_stream_of
from server.parsing.base import PlainParser, StreamParser
from server.request_prompts import prompt_of_chat
from server.respond import respond
from server.schemas.answers import ChatCompletion, ChatCompletionChunk
from server.schemas.chat import ChatCompletionRequest
from server.schemas.fields import refuse_unsupported
from server.scopes import AccessScope, access
from server.structured import wanted_grammar
from server.translate import chat_sampling
from server.validation import JsonRoute

router = APIRouter(route_class=JsonRoute, tags=["generation"])


@router.post(
    "/v1/chat/completions",
    summary="Answer a conversation",
    response_model=ChatCompletion,
    responses=event_stream_of(ChatCompletionChunk),
)
@access(AccessScope.USER)
async def create_chat_completion(body: ChatCompletionRequest, request: Request, services: ServicesDep) -> Response:
    """The next turn of a conversation, whole or as server-sent events."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    sampling = chat_sampling(body, model.text.defaults, model.limits)
    await check_grammar(body, sampling, model, services.grammars)
    calling = tool_calling(body, model.text)
    if calling is not None:
        sampling = await calling.sampling(sampling, wanted_grammar(body), grammar_check(model, services.grammars))
    prompts = await prompt_of_chat(body, model, services.config)
    reasoning = wanted_reasoning(body, prompts.rendered, model.text, services.config.reasoning_budget_message)
    shown = reasoning_shown(body)
    if reasoning is not None:
        sampling = reasoning.sampling(sampling)
    generation = admit(
        model,
        "chatcmpl",
        prompts.token_ids,
        sampling,
        prompt_param="messages",
        timeout=body.timeout,
        priority=body.priority,
        make_parser=lambda: _parser(calling, reasoning, shown),
        call_ids=CallIds(call_ids(body.messages)),
        views=[PromptView(listed=body.prompt_logprobs)],
    )
    log_generation(request, model.shown_as(body.model), generation)
    make_format = partial(ChatFormat, thoughts=thoughts_field(body, services.config.reasoning_field))
    return await respond(request, body, services, model, generation, make_format, prompts)


def _parser(calling: ToolCalling | None, reasoning: Reasoning | None, shown: Shown) -> StreamParser:
    """What reads the text of a choice: the reasoning first, then calls within the answer."""
    parser: StreamParser = PlainParser() if calling is None else calling.parser()
    if reasoning is not None:
        parser = reasoning.parser(parser)
    return WithoutThoughts(parser) if shown is Shown.NOWHERE else parser
