"""GET /health and /metrics, for those who run the server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from server.dependencies import ServicesDep
from server.observability.metrics import CONTENT_TYPE
from server.scopes import AccessScope, access
from server.wire_json import JsonResponse

router = APIRouter(tags=["operations"])


@router.get("/health", summary="Whether requests are taken")
@access(AccessScope.PUBLIC)
async def health(services: ServicesDep) -> Response:
    """200 while the engine takes requests, else 503. Never needs a key."""
    if services.engine.healthy:
        return JsonResponse({"status": "ok"})
    return JsonResponse({"status": "engine_dead"}, status_code=503)


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
@access(AccessScope.METRICS)
async def metrics(services: ServicesDep) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
