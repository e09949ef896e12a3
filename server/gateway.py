"""What the HTTP server calls: answers from the first moment to the last, also while there is no model to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import ShuttingDownError
from server.arrivals import Arrivals, was_sent_away
from server.errors import SERVER_ERROR, ErrorReply, reply_to
from server.middleware import BoundaryMiddleware
from server.models.slot import Loading
from server.wire_json import JsonResponse

LIVE = "/health/live"
ALWAYS_OPEN = frozenset({LIVE, "/metrics"})
"""Paths that are served to the end; all others are refused as soon as the server is told to end."""

RETRY_SECONDS = 5

LOADING = ErrorReply(
    503,
    "The model is being loaded. Please try again later.",
    SERVER_ERROR,
    code="model_loading",
    headers={"Retry-After": str(RETRY_SECONDS)},
)


class Gateway:
    """An ASGI application that stands before the real one: refuses while that is not there yet, and once it ends.

    Args:
        loading: the load that goes on, for those who are refused because of it.
    """

    def __init__(self, loading: Callable[[], Loading | None]) -> None:
        self._loading = loading
        self._app: ASGIApp | None = None
        self._closing = False
        self._arrivals = Arrivals()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._without_app = BoundaryMiddleware(self._refuse)
        self._closed = BoundaryMiddleware(_closing)

    def open(self, app: ASGIApp) -> None:
        """Let requests through."""
        self._app = app

    def close(self) -> None:
        """Refuse requests from now on, those half sent included; those that run go on."""
        self._closing = True
        self._arrivals.send_away()

    async def drained(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if self._closing and scope.get("path") not in ALWAYS_OPEN:
            await self._closed(scope, receive, send)
        elif self._app is None:
            await self._without_app(scope, receive, send)
        else:
            await self._count(self._app, scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say how far loading is."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif scope["path"] == LIVE:
            await JsonResponse({"status": "ok"})(scope, receive, send)
        else:
            loading = self._loading()
            progress = None if loading is None else loading.progress._asdict()  # not the name: anybody may ask
            await replace(LOADING, extra={"progress": progress}).response()(scope, receive, send)

    async def _count(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._running += 1
        self._idle.clear()
        try:
            await app(scope, self._arrivals.watch(receive), send)
        except asyncio.CancelledError as error:
            if not was_sent_away(error):
                raise
            await self._closed(scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()


async def _closing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close"})
    else:
        await reply_to(ShuttingDownError()).response()(scope, receive, send)
