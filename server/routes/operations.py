"""GET /health/… and /metrics, for those who run the server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from engine.errors import EngineDeadError
from server.dependencies import ServicesDep
from server.errors import reply_to
from server.observability.metrics import CONTENT_TYPE
from server.scopes import AccessScope, access
from server.wire_json import JsonResponse

router = APIRouter(tags=["operations"])


@router.get("/health/live", summary="Whether the server answers at all")
@access(AccessScope.PUBLIC)
async def live() -> Response:
    """200 from the start of the program to its end; a failure is a reason to start it again. Never needs a key."""
    return JsonResponse({"status": "ok"})


@router.get("/health/ready", summary="Whether requests are taken")
@router.get("/health", summary="Whether requests are taken", name="health")
@access(AccessScope.PUBLIC)
async def ready(services: ServicesDep) -> Response:
    """200 while the engine takes requests and gives signs of life, else 503. Never needs a key."""
    try:
        services.engine.check_available()
    except EngineDeadError as error:
        return JsonResponse({"status": reply_to(error).code}, status_code=503)
    if not services.engine.responsive:
        return JsonResponse({"status": "engine_stalled"}, status_code=503)
    return JsonResponse({"status": "ok"})


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
@access(AccessScope.METRICS)
async def metrics(services: ServicesDep) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
