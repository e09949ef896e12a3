"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from server.dependencies import Services, ServicesDep
from server.scopes import AccessScope, access

router = APIRouter(tags=["models"])


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", summary="What is served here")
@access(AccessScope.USER)
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """The served model, once for each of its names."""
    return {"object": "list", "data": [_card(name, services) for name in services.names]}


@router.head("/v1/models/{model_id:path}", include_in_schema=False)
@router.get("/v1/models/{model_id:path}", summary="One model")
@access(AccessScope.USER)
async def get_model(model_id: str, services: ServicesDep) -> dict[str, Any]:
    """The model of this name, which may contain slashes."""
    return _card(services.model_name(model_id), services)


def _card(name: str, services: Services) -> dict[str, Any]:
    model = services.engine.model
    return {
        "id": name,
        "object": "model",
        "created": services.created,
        "owned_by": "quire",
        "max_model_len": model.max_model_len,
        "meta": {
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
        },
    }
