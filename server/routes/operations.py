"""GET /health/… and /metrics, for those who run the server."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import QuireError
from engine.stats import EngineStats
from server.dependencies import Services, ServicesDep, caller_of
from server.errors import reply_to
from server.models.progress import progress_of
from server.models.registry import Models
from server.observability.metrics import CONTENT_TYPE
from server.schemas.errors import ErrorBody
from server.schemas.operations import Alive, Health
from server.scopes import AccessScope, access
from server.wire_json import JsonResponse

router = APIRouter(tags=["operations"])

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Health | ErrorBody, "description": "They are not"}}
FIGURES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="Whether the server answers at all", response_model=Alive)
@access(AccessScope.PUBLIC)
async def live() -> Response:
    """200 from the start of the program to its end; a failure is a reason to start it again. Never needs a key."""
    return JsonResponse({"status": "ok"})


@router.head("/health/ready", include_in_schema=False)
@router.head("/health", include_in_schema=False)
@router.get("/health/ready", summary="Whether requests are taken", response_model=Health, responses=NOT_READY)
@router.get("/health", summary="Whether requests are taken", name="health", response_model=Health, responses=NOT_READY)
@access(AccessScope.PUBLIC)
async def ready(request: Request, services: ServicesDep) -> Response:
    """200 while requests are taken and the step loop of a loaded model goes round, else 503. Never needs a key.

    A model that is not loaded takes requests too: they wait until it is. On a server with keys only those who send one
    are told more than the status.
    """
    status = _status(services.models)
    body = {"status": status} if caller_of(request) is None else {"status": status, **_details(services)}
    return JsonResponse(body, status_code=200 if status == "ok" else 503)


def _status(models: Models) -> str | None:
    loaded = models.loaded
    if loaded is None and any(model.available for model in models):
        return "ok"
    model = loaded or models.default
    if model is None:
        return "ok"  # whoever runs the server has yet to load one
    try:
        model.check_available()
    except QuireError as error:
        return reply_to(error).code
    engine = model.engine
    return "ok" if engine is None or engine.responsive else "engine_stalled"


def _details(services: Services) -> dict[str, Any]:
    models = services.models
    loaded, loading = models.loaded, models.loading
    engine = None if loaded is None else loaded.engine
    stats = EngineStats() if engine is None else engine.stats
    return {
        "model": None if loaded is None else loaded.name,
        "loading": None if loading is None else progress_of(loading.name, loading.progress),
        "uptime_seconds": round(time.monotonic() - services.started, 3),
        "last_step_seconds": None if engine is None else round(engine.silent_seconds, 3),
        "running": stats.running,
        "waiting": stats.waiting + sum(model.waiting for model in models),
        "restarts": sum(model.figures.stats.restarts_total for model in models),
        "last_failure": None if engine is None else engine.last_failure,
    }


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Figures for Prometheus", response_class=Response, responses=FIGURES)
@access(AccessScope.METRICS)
async def metrics(services: ServicesDep) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    return Response(services.models.families.render(), headers={"Content-Type": CONTENT_TYPE})
