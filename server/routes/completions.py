"""POST /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.admission import admit, check_grammar
from server.chat.formats import CompletionFormat
from server.dependencies import ServicesDep
from server.observability.request_log import log_generation
from server.openapi import event_stream_of
from server.request_prompts import prompts_of_completion, views_of_completion
from server.respond import respond
from server.schemas.answers import TextCompletion, TextCompletionChunk
from server.schemas.completion import CompletionRequest
from server.schemas.fields import refuse_unsupported
from server.scopes import AccessScope, access
from server.translate import completion_sampling, ending_at
from server.validation import JsonRoute

router = APIRouter(route_class=JsonRoute, tags=["generation"])


@router.post(
    "/v1/completions",
    summary="Continue a prompt",
    response_model=TextCompletion,
    responses=event_stream_of(TextCompletionChunk),
)
@access(AccessScope.USER)
async def create_completion(body: CompletionRequest, request: Request, services: ServicesDep) -> Response:
    """The continuation of one or several prompts, whole or as server-sent events."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    sampling = completion_sampling(body, model.text.defaults, model.limits)
    await check_grammar(body, sampling, model, services.grammars)
    prompts = await prompts_of_completion(body, model)
    generation = admit(
        model,
        "cmpl",
        prompts.token_ids,
        ending_at(sampling, prompts.end_token_ids),
        prompt_param="prompt",
        timeout=body.timeout,
        priority=body.priority,
        views=await views_of_completion(body, prompts, model),
    )
    log_generation(request, model.shown_as(body.model), generation)
    return await respond(request, body, services, model, generation, CompletionFormat, prompts)
