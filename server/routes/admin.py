"""/admin/models: what is loaded, and loading, unloading and giving up a load, for who runs the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from engine.errors import (
    ConfigError,
    InvalidRequestError,
    LoadConflictError,
    ModelNotFoundError,
    QuireError,
    ShuttingDownError,
)
from engine.messages import LoadProgress
from server.dependencies import ServicesDep
from server.errors import INVALID_REQUEST, SERVER_ERROR, ErrorReply, reply_to
from server.field_errors import spell
from server.models.progress import progress_of
from server.models.registry import Models
from server.models.served import ServedModel
from server.routes.models import model_card
from server.schemas.admin import CancelRequest, LoadRequest, UnloadRequest
from server.schemas.base import WireModel
from server.schemas.operations import CancelledLoad, ModelState, ModelStates
from server.scopes import AccessScope, access
from server.sse import DONE, event_stream, frame
from server.validation import JsonRoute
from server.wire_json import JsonResponse, to_json

router = APIRouter(route_class=JsonRoute, tags=["admin"])

PROGRESS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.get("/admin/models", summary="Every model and what becomes of it", response_model=ModelStates)
@access(AccessScope.ADMIN)
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """Every model with its state, and the load that goes on."""
    return state_of(services.models)


@router.post(
    "/admin/models/load",
    summary="Load a model in place of the present one",
    response_model=ModelState,
    responses=PROGRESS,
)
@access(AccessScope.ADMIN)
async def load(body: LoadRequest, services: ServicesDep) -> Response:
    """Loads a model; answers when it is loaded, or tells how far that is. A client that leaves stops nothing."""
    refuse_unknown(body)
    models = services.models
    news: asyncio.Queue[LoadProgress | None] = asyncio.Queue()
    loading = models.begin_load(body.model, body.settings or {}, news.put_nowait)
    loading.add_done_callback(lambda _: news.put_nowait(None))
    if body.stream:
        return event_stream(_events(body.model, loading, news), services.config, {})
    await asyncio.wait({loading})
    error = loading.exception()
    if error is None:
        return JsonResponse(model_state(loading.result(), models))
    return failure(error).response()


@router.post("/admin/models/unload", summary="Unload the model", response_model=ModelStates)
@access(AccessScope.ADMIN)
async def unload(body: UnloadRequest, services: ServicesDep) -> dict[str, Any]:
    """Ends the loaded model, if there is one; the next request for it loads it again."""
    refuse_unknown(body)
    await services.models.unload(force=body.force or False)
    return state_of(services.models)


@router.post("/admin/models/cancel", summary="Give up the load that goes on", response_model=CancelledLoad)
@access(AccessScope.ADMIN)
async def cancel(body: CancelRequest, services: ServicesDep) -> dict[str, Any]:
    """Gives up the load that goes on; what was loaded before is, or will be, as it was."""
    refuse_unknown(body)
    return {"cancelled": services.models.cancel()}


def state_of(models: Models) -> dict[str, Any]:
    """All models, and the load that goes on."""
    loading = models.loading
    return {
        "object": "list",
        "loading": None if loading is None else progress_of(loading.name, loading.progress),
        "data": [model_state(model, models) for model in models],
    }


def model_state(model: ServedModel, models: Models) -> dict[str, Any]:
    """The card of a model, and what only who runs the server may know."""
    known, figures, loading = model.known, model.figures, models.loading
    state = "loaded" if figures.loaded else "unloaded"
    if loading is not None and loading.name == model.name:
        state = "loading"
    elif known.error is not None and not figures.loaded:
        state = "failed"
    return {
        **model_card(model.name, model),
        "names": model.names,
        "state": state,
        "available": figures.available,
        "path": known.config.model,
        "running": figures.stats.running,
        "waiting": figures.stats.waiting + figures.waiting_for_model,
        "loads": known.loads,
        "failed_loads": known.failed_loads,
        "last_error": None if known.error is None else str(known.error),
    }


def failure(error: BaseException) -> ErrorReply:
    """What to tell who ordered a load that failed: unlike users, why."""
    match error:
        case ConfigError():
            return ErrorReply(400, str(error), INVALID_REQUEST, "settings", "invalid_value")
        case InvalidRequestError() if error.param != "messages":
            return reply_to(error)
        case ModelNotFoundError() | LoadConflictError() | ShuttingDownError():
            return reply_to(error)
        case QuireError():
            return ErrorReply(500, str(error), SERVER_ERROR, code="model_load_failed", headers=_NO_RETRY)
        case Exception():
            return reply_to(error)
        case _:
            return reply_to(ShuttingDownError())


_NO_RETRY = {"x-should-retry": "false"}


def refuse_unknown(body: WireModel) -> None:
    """Refuse fields that mean nothing: an order must not be carried out in part.

    Raises:
        InvalidRequestError: naming the first of them.
    """
    for path, _ in body.unknown_fields():
        raise InvalidRequestError(
            f"'{spell(path)}' is no field of this request. Settings of the model go into 'settings'.",
            param=spell(path),
            code="unsupported_parameter",
        )


async def _events(
    name: str, loading: asyncio.Task[ServedModel], news: asyncio.Queue[LoadProgress | None]
) -> AsyncGenerator[bytes, None]:
    """What is told while a model loads, then that it is loaded, or why not."""
    while (progress := await news.get()) is not None:
        yield frame(json.dumps(progress_of(name, progress)).encode())
    error = loading.exception()
    if error is None:
        yield frame(to_json({**progress_of(name, LoadProgress("ready")), "card": model_card(name, loading.result())}))
    else:
        yield frame(failure(error).body())
    yield DONE
