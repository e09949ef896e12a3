"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from engine.pooling import PoolingKind
from engine.types import ModelInfo
from server.dependencies import ServicesDep
from server.models.served import ServedModel
from server.schemas.operations import ModelCard, ModelList
from server.scopes import AccessScope, access

router = APIRouter(tags=["models"])


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", summary="What is served here", response_model=ModelList)
@access(AccessScope.USER)
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """Every model there is, once for each of its names; it need not be loaded."""
    cards = [model_card(name, model) for model in services.models for name in model.names]
    return {"object": "list", "data": cards}


@router.head("/v1/models/{model_id:path}", include_in_schema=False)
@router.get("/v1/models/{model_id:path}", summary="One model", response_model=ModelCard)
@access(AccessScope.USER)
async def get_model(model_id: str, services: ServicesDep) -> dict[str, Any]:
    """The model of this name, which may contain slashes."""
    return model_card(model_id, services.models.find(model_id))


def model_card(name: str, model: ServedModel) -> dict[str, Any]:
    """What a model is, as `/v1/models` shows it; what only loading tells is null until it has been loaded once."""
    info = model.info
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "quire",
        "loaded": model.engine is not None,
        "max_model_len": None if info is None else info.max_model_len,
        "meta": None if info is None else {**_meta(info), **_text_meta(model)},
    }


def _text_meta(model: ServedModel) -> dict[str, Any]:
    """What the template does with conversations, null without one, and how the model writes its calls and reasoning."""
    if not model.has_text:
        return {"chat_template": None, "tool_format": None, "reasoning_format": None}
    capabilities = model.text.capabilities
    return {
        "chat_template": None if capabilities is None else capabilities.report(),
        "tool_format": model.text.tool_format.name,
        "reasoning_format": "none" if model.text.reasoning is None else model.text.reasoning.name,
    }


def _meta(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "architecture": model.architecture,
        "weight_format": model.weight_format,
        "bits_per_weight": round(model.bits_per_weight, 3),
        "head_bits_per_weight": round(model.head_bits_per_weight, 3),
        "n_params": model.parameters,
        "size": model.weight_bytes,
        "n_vocab": model.vocab_size,
        "n_ctx": model.max_model_len,
        "device": model.device,
        "kernels": model.kernels,
        "kv_cache_tokens": model.kv_cache_tokens,
        "kv_cache_bytes": model.kv_cache_bytes,
        "kv_cache_dtype": model.kv_cache_dtype,
        "embeddings": {
            "dimensions": model.hidden_size,
            "poolings": [kind.value for kind in PoolingKind],
            "trained_for_embeddings": False,
        },
    }
