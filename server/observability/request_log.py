"""One line in the log for every request, when it has ended. What was asked and answered is never in it."""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.logs import FIELDS
from server.generation import Generation
from server.respond import CLIENT_CLOSED_REQUEST
from server.scopes import AccessScope

logger = logging.getLogger(__name__)

_POLLED = (AccessScope.PUBLIC, AccessScope.METRICS)
_GENERATION = "logged_generation"


class RequestLogMiddleware:
    """Logs each request at its end; those that programs repeat all day (`/health`, `/metrics`) at level debug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = CLIENT_CLOSED_REQUEST  # unless an answer begins

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            _log(scope, status, start)


def log_generation(request: Request, model: str, generation: Generation) -> None:
    """Have the line of this request say what was generated.

    Args:
        request: whose line it is.
        model: the name the answer shows.
        generation: read when the request has ended.
    """
    setattr(request.state, _GENERATION, (model, generation))


def logged_generation(scope: Scope) -> Generation | None:
    """What was generated for this request, if it came to that."""
    logged: tuple[str, Generation] | None = scope["state"].get(_GENERATION)
    return None if logged is None else logged[1]


def _log(scope: Scope, status: int, start: float) -> None:
    state = scope.get("state", {})
    route, needed = state.get("route", (None, None))
    level = logging.DEBUG if needed in _POLLED and status < 500 else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "request_id": state.get("request_id"),
        "method": scope["method"],
        "route": route,
        "status": status,
        "total_seconds": round(time.perf_counter() - start, 6),
    }
    if _GENERATION in state:
        model, generation = state[_GENERATION]
        fields |= _figures(model, generation, start)
    logger.log(level, "request ended", extra={FIELDS: fields})


def _figures(model: str, generation: Generation, start: float) -> dict[str, Any]:
    usage, first, timings = generation.usage, generation.first_token_at, generation.timings
    return {
        "model": model,
        "answer_id": generation.answer_id,  # the engine process knows the request by it
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "first_token_seconds": None if first is None else round(first - start, 6),
        "queue_seconds": None if timings is None else round(timings.queue, 6),
        "prefill_seconds": None if timings is None else round(timings.prefill, 6),
        # an answer that was broken off has not said how long it took
        "decode_seconds": round(timings.decode, 6) if timings and any(generation.finish_reasons) else None,
        "longest_gap_seconds": None if generation.longest_gap is None else round(generation.longest_gap, 6),
        "preemptions": None if timings is None else timings.preemptions,
        "finish_reasons": generation.finish_reasons,
    }
