"""What surrounds every request: its id, and the boundary at which unexpected errors end."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import Boundary

REQUEST_ID = "x-request-id"

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BoundaryMiddleware:
    """Gives every answer an `x-request-id`, the client's own if sane, and turns whatever escapes into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = offered if _SANE_ID.fullmatch(offered) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with Boundary(request_id) as boundary:
            await self._app(scope, receive, send_with_id)
        # once an answer has begun, the HTTP server can only cut the connection, and does
        if boundary.reply is not None and not begun:
            await boundary.reply.response()(scope, receive, send_with_id)
