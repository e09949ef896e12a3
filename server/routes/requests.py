"""POST /v1/requests/{id}/cancel: ends an answer that runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from server.dependencies import ServicesDep, caller_of, is_admin
from server.schemas.cancel import CancelledRequest
from server.scopes import AccessScope, access

router = APIRouter(tags=["generation"])


@router.post("/v1/requests/{request_id}/cancel", summary="End a running answer", response_model=CancelledRequest)
@access(AccessScope.USER)
async def cancel_request(request_id: str, request: Request, services: ServicesDep) -> dict[str, Any]:
    """Ends the answers to requests of this id that were made with the same key; with an admin's key, anybody's.

    The id is that of the answer, the `x-request-id` of the request, or its field `request_id`.
    """
    caller = None if is_admin(request) else caller_of(request) or ""
    return {
        "id": request_id,
        "object": "request.cancelled",
        "cancelled": services.running.cancel(request_id, caller),
    }
