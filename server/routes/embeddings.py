"""POST /v1/embeddings."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.pooling import PoolingKind, PoolingParams
from engine.types import SamplingParams
from server.admission import admit
from server.dependencies import ServicesDep
from server.embedding_answer import embedding_answer
from server.observability.request_log import log_generation
from server.request_prompts import prompts_of_embedding
from server.respond import enter, respond_whole
from server.schemas.embeddings import EmbeddingList, EmbeddingRequest
from server.schemas.fields import refuse_unsupported
from server.scopes import AccessScope, access
from server.validation import JsonRoute

ONLY_THE_PROMPT = SamplingParams(max_tokens=0)

router = APIRouter(route_class=JsonRoute, tags=["embeddings"])


@router.post("/v1/embeddings", summary="Texts to vectors", response_model=EmbeddingList)
@access(AccessScope.USER)
async def create_embeddings(body: EmbeddingRequest, request: Request, services: ServicesDep) -> Response:
    """A vector for each input, made of the hidden states of the model that generates."""
    model = await services.model(body.model)
    refuse_unsupported(body)
    inputs = await prompts_of_embedding(body, model)
    generation = admit(
        model,
        "embd",
        inputs.token_ids,
        ONLY_THE_PROMPT,
        prompt_param="input",
        timeout=body.timeout,
        priority=body.priority,
        pooling=PoolingParams(PoolingKind(body.pooling or "mean"), body.dimensions),
    )
    log_generation(request, model.shown_as(body.model), generation)
    headers = {**await enter(request, body, services, model, generation), **inputs.headers}
    answer = embedding_answer(generation, model.shown_as(body.model), as_text=body.encoding_format == "base64")
    return await respond_whole(request, answer, headers)
