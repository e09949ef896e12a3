"""POST /v1/embeddings."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.errors import InvalidRequestError
from engine.pooling import PoolingKind, PoolingParams
from engine.types import SamplingParams
from server.admission import admit
from server.chat.prompt import completion_prompts
from server.dependencies import ServicesDep, caller_of
from server.embedding_answer import embedding_answer
from server.models.served import ServedModel
from server.observability.request_log import log_generation
from server.respond import respond_whole
from server.schemas.embeddings import EmbeddingList, EmbeddingRequest
from server.schemas.fields import refuse_unsupported
from server.scopes import AccessScope, access
from server.validation import JsonRoute

MOST_INPUTS = 2048
"""Of one request, as at OpenAI."""

ONLY_THE_PROMPT = SamplingParams(max_tokens=0)

router = APIRouter(route_class=JsonRoute, tags=["embeddings"])


@router.post("/v1/embeddings", summary="Texts to vectors", response_model=EmbeddingList)
@access(AccessScope.USER)
async def create_embeddings(body: EmbeddingRequest, request: Request, services: ServicesDep) -> Response:
    """A vector for each input, made of the hidden states of the model that generates."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    generation = admit(
        model,
        "embd",
        await _inputs(body, model),
        ONLY_THE_PROMPT,
        prompt_param="input",
        timeout=body.timeout,
        priority=body.priority,
        pooling=PoolingParams(PoolingKind(body.pooling or "mean"), body.dimensions),
    )
    log_generation(request, model.shown_as(body.model), generation)
    names = {generation.answer_id, request.state.request_id, body.request_id or generation.answer_id}
    services.running.add(generation, caller_of(request) or "", names)
    answer = embedding_answer(generation, model.shown_as(body.model), as_text=body.encoding_format == "base64")
    return await respond_whole(request, answer, services.ignored_fields.headers(body))


async def _inputs(body: EmbeddingRequest, model: ServedModel) -> list[list[int]]:
    """Token ids of each input.

    Raises:
        ContextLengthError: a text is too long.
        InvalidRequestError: there are too many, none, or an empty one.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    if len(texts) > MOST_INPUTS and not isinstance(texts[0], int):
        raise InvalidRequestError(
            f"There are {len(texts)} inputs; one request may have at most {MOST_INPUTS}.", param="input"
        )
    for index, text in enumerate(texts):
        if text == "":
            where = "input" if isinstance(body.input, str) else f"input[{index}]"
            raise InvalidRequestError(f"'{where}' must not be an empty string.", param=where)
    return await completion_prompts(
        body.input,
        model.text.tokenizer,
        max_tokens=model.limits.max_model_len + 1,  # no room is needed for an answer
        add_special_tokens=True if body.add_special_tokens is None else body.add_special_tokens,
        param="input",
    )
