"""GET /health/… and /metrics, for those who run the server."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.client import EngineClient
from engine.errors import EngineDeadError
from server.dependencies import Services, ServicesDep, caller_of
from server.errors import reply_to
from server.observability.metrics import CONTENT_TYPE
from server.scopes import AccessScope, access
from server.wire_json import JsonResponse

router = APIRouter(tags=["operations"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="Whether the server answers at all")
@access(AccessScope.PUBLIC)
async def live() -> Response:
    """200 from the start of the program to its end; a failure is a reason to start it again. Never needs a key."""
    return JsonResponse({"status": "ok"})


@router.head("/health/ready", include_in_schema=False)
@router.head("/health", include_in_schema=False)
@router.get("/health/ready", summary="Whether requests are taken")
@router.get("/health", summary="Whether requests are taken", name="health")
@access(AccessScope.PUBLIC)
async def ready(request: Request, services: ServicesDep) -> Response:
    """200 while the engine takes requests and its step loop goes round, else 503. Never needs a key.

    On a server with keys only those who send one are told more than the status.
    """
    status = _status(services.engine)
    body = {"status": status} if caller_of(request) is None else {"status": status, **_details(services)}
    return JsonResponse(body, status_code=200 if status == "ok" else 503)


def _status(engine: EngineClient) -> str | None:
    try:
        engine.check_available()
    except EngineDeadError as error:
        return reply_to(error).code
    return "ok" if engine.responsive else "engine_stalled"


def _details(services: Services) -> dict[str, Any]:
    engine = services.engine
    return {
        "model": services.names[0],
        "uptime_seconds": round(time.monotonic() - services.started, 3),
        "last_step_seconds": round(engine.silent_seconds, 3),
        "running": engine.stats.running,
        "waiting": engine.stats.waiting,
        "restarts": engine.stats.restarts_total,
        "last_failure": engine.last_failure,
    }


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
@access(AccessScope.METRICS)
async def metrics(services: ServicesDep) -> Response:
    """Counters, gauges and histograms in Prometheus' text format."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
